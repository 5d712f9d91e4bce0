"""Leaderboards: means of saved scores with errors, comparisons and ranks."""

from bench.boards.board import Leaderboard, Row
from bench.boards.build import build
from bench.boards.quantities import Quantity
from bench.boards.render import FORMATS, table
from bench.boards.results import Results

__all__ = ["FORMATS", "Leaderboard", "Quantity", "Results", "Row", "build", "table"]
