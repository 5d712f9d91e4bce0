"""Command line of the suite: `bench`, also installed as `nlbench`."""

from bench.cli.main import main

__all__ = ["main"]
