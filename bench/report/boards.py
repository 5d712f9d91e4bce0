"""Leaderboards as tables of the report, with bars for numbers and links to fits."""

import re
from collections.abc import Callable, Sequence
from math import isfinite

import numpy as np

from bench.leaderboard import Leaderboard, Quantity, Row
from bench.leaderboard.columns import Column, sections
from bench.leaderboard.notes import heading
from bench.leaderboard.quantities import parts
from bench.report.tables import Bar, Cell, Table
from bench.stats.clustering import Estimate

_SCALE = 5.0  # limit of the bar scale, in units of the median distance from the reference


def name_of(board: Leaderboard) -> str:
    """Return a file-safe name of a leaderboard, unique within a report."""
    safe, plan = (re.sub(r"[^A-Za-z0-9]+", "-", n) for n in (board.task, board.plan_folder))
    safe = safe.strip("-").lower() or "task"
    data = "" if board.training_data in ("fresh", "none") else f"-{board.training_data}"
    seed = f"-seed{board.seed}" if board.seed else ""
    budget = f"-{board.budget}" if board.budget else ""
    return f"{safe}{budget}{data}{seed}-{plan}"


def tables_of(board: Leaderboard, link: Callable[[Row], str]) -> list[Table]:
    """Return the tables of a leaderboard, the one with verdicts and ranks first.

    Args:
        board: the leaderboard.
        link: returns the location of the fit of a row.
    """
    tables = []
    for number, (title, columns) in enumerate(sections(board)):
        cells = [_cells(board, column, link) for column in columns]
        tables.append(
            Table(
                f"{name_of(board)}-{number + 1}",
                f"{title}: {heading(board)}",
                [column.name for column in columns],
                [list(row) for row in zip(*cells, strict=True)],
                words=1 + [column.name for column in columns].index("method"),
            )
        )
    return tables


def _cells(board: Leaderboard, column: Column, link: Callable[[Row], str]) -> list[Cell]:
    if column.name == "method":
        return [Cell(r.label, link=link(r), method=r.label) for r in board.rows]
    if column.rank is not None:
        ranks = [column.rank(r) for r in board.rows]
        places = [rank and rank[0] + rank[1] / 1000 for rank in ranks]
        return [Cell(column.text(r), sort=p) for r, p in zip(board.rows, places, strict=True)]
    if not column.quantity:
        return [Cell(column.text(row)) for row in board.rows]
    found = [row.quantities.get(column.quantity, Quantity()) for row in board.rows]
    bars = _bars([q.estimate for q in found], _reference(board, column.quantity))
    return [
        _cell(column.text(row), quantity, bar)
        for row, quantity, bar in zip(board.rows, found, bars, strict=True)
    ]


def _cell(text: str, quantity: Quantity, bar: Bar | None) -> Cell:
    if quantity.estimate is None:
        return Cell(text, note=quantity.reason or ("not computed" if text == "n/a" else ""))
    return Cell(text, sort=quantity.estimate.value, bar=bar)


def _reference(board: Leaderboard, quantity: str) -> float | None:
    """Return the ideal value of a quantity, or the value expected of exact intervals."""
    metric, _, statistic = parts(quantity)
    if quantity in ("score_ratio", "price") or statistic == "ratio":
        return 1.0
    if statistic in ("gap", "worst"):
        return 0.0
    if metric == "coverage":
        return board.expected
    targets = {declared.name: declared.target for declared in board.metrics}
    return targets.get(metric) if not statistic else None


def _bars(estimates: Sequence[Estimate | None], reference: float | None) -> list[Bar | None]:
    """Return bars on one scale, whose limit outliers do not change."""
    known = {
        i: (e.value, e.error if isfinite(e.error) else 0.0)
        for i, e in enumerate(estimates)
        if e is not None and isfinite(e.value)
    }
    if reference is None or not known:
        return [None] * len(estimates)
    reach = [abs(value - reference) + error for value, error in known.values()]
    scale = min(max(reach), _SCALE * float(np.median(reach))) or 1.0
    low, high = reference - scale, reference + scale
    if all(value - error >= reference - 0.1 * scale for value, error in known.values()):
        low = reference - 0.1 * scale  # no room for better values than the reference

    def bar(value: float, error: float) -> Bar:
        at = (value, value - error, value + error, reference)
        places = [round(min(max(100 * (x - low) / (high - low), 0.0), 100.0), 2) for x in at]
        beyond = "<" if value < low else ">" if value > high else ""
        return Bar(places[0], places[1], places[2], places[3], beyond)

    return [bar(*known[i]) if i in known else None for i in range(len(estimates))]
