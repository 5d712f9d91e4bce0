"""Leaderboards: saved scores, averaged with their errors, compared and ranked."""

from bench.leaderboard.build import Leaderboard, Row, build
from bench.leaderboard.quantities import Quantity
from bench.leaderboard.render import FORMATS, table
from bench.leaderboard.results import Results

__all__ = ["FORMATS", "Leaderboard", "Quantity", "Results", "Row", "build", "table"]
