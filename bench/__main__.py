"""`python -m bench`: the command line without its script."""

from bench.cli import main

if __name__ == "__main__":  # worker processes import this file, too
    main()
