"""Results folder: entries, their schemas, packs, simulations, and the identity of fits."""
