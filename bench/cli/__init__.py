"""The command line: `bench`, also installed as `nlbench`."""

from bench.cli.main import main

__all__ = ["main"]
