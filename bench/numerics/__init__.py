"""Mathematics without input or output: seeds, networks, surfaces, intervals, errors, ranks."""
