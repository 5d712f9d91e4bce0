"""Command line of the suite, as `python -m bench`."""

from bench.cli import main

if __name__ == "__main__":  # worker processes import this file, too
    main()
