"""Leaderboards: means of saved scores with errors, comparisons and ranks."""

from bench.leaderboard.board import Leaderboard, Row
from bench.leaderboard.build import build
from bench.leaderboard.quantities import Quantity
from bench.leaderboard.render import FORMATS, table
from bench.leaderboard.results import Results

__all__ = ["FORMATS", "Leaderboard", "Quantity", "Results", "Row", "build", "table"]
