"""Leaderboards as tables of the report, with numbers as pictures and links to fits."""

import re
from collections.abc import Callable, Sequence
from math import isfinite

import numpy as np

from bench.leaderboard import Leaderboard, Quantity, Row
from bench.leaderboard.columns import Column, sections
from bench.leaderboard.notes import heading
from bench.leaderboard.quantities import parts
from bench.report.tables import Bar, Cell, Table

_SCALE = 5.0  # a bar reaches this many times the typical distance from the reference


def name_of(board: Leaderboard) -> str:
    """A file-safe name of a leaderboard that no other of a report has."""
    safe, plan = (re.sub(r"[^A-Za-z0-9]+", "-", n) for n in (board.task, board.plan_folder))
    safe = safe.strip("-").lower() or "task"
    data = "" if board.training_data in ("fresh", "none") else f"-{board.training_data}"
    seed = f"-seed{board.seed}" if board.seed else ""
    budget = f"-{board.budget}" if board.budget else ""
    return f"{safe}{budget}{data}{seed}-{plan}"


def tables_of(board: Leaderboard, link: Callable[[Row], str]) -> list[Table]:
    """A leaderboard's tables: the first says which intervals are short and cover.

    Args:
        board: the leaderboard.
        link: where the fit behind a row is.
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
    if column.name == "rank":
        return [Cell(column.text(r), sort=_rank(r)) for r in board.rows]
    if not column.quantity:
        return [Cell(column.text(row)) for row in board.rows]
    found = [row.quantities.get(column.quantity) for row in board.rows]
    bars = _bars(found, _reference(board, column.quantity))
    return [
        _cell(column.text(row), quantity, bar)
        for row, quantity, bar in zip(board.rows, found, bars, strict=True)
    ]


def _rank(row: Row) -> float | None:
    return None if row.rank is None else row.rank[0] + row.rank[1] / 1000


def _cell(text: str, quantity: Quantity | None, bar: Bar | None) -> Cell:
    if quantity is None or quantity.estimate is None:
        reason = quantity.reason if quantity is not None else ""
        return Cell(text, note=reason or ("not computed" if text == "n/a" else ""))
    return Cell(text, sort=quantity.estimate.value, bar=bar)


def _reference(board: Leaderboard, quantity: str) -> float | None:
    """What is ideal, or expected of exact intervals."""
    metric, _, statistic = parts(quantity)
    if quantity == "score_ratio" or statistic == "ratio":
        return 1.0
    if statistic in ("gap", "worst"):
        return 0.0
    if metric == "coverage":
        return board.expected
    targets = {declared.name: declared.target for declared in board.metrics}
    return targets.get(metric) if not statistic else None


def _bars(quantities: Sequence[Quantity | None], reference: float | None) -> list[Bar | None]:
    """Bars on one scale; a few numbers far off must not squeeze all others."""
    nothing: list[Bar | None] = [None] * len(quantities)
    if reference is None:
        return nothing
    known = [
        (i, q.estimate.value, q.estimate.error)
        for i, q in enumerate(quantities)
        if q is not None and q.estimate is not None and isfinite(q.estimate.value)
    ]
    if not known:
        return nothing
    reach = [abs(v - reference) + (e if isfinite(e) else 0.0) for _, v, e in known]
    scale = min(max(reach), _SCALE * float(np.median(reach))) or 1.0
    low, high = reference - scale, reference + scale
    if all(v - (e if isfinite(e) else 0.0) >= reference - 0.1 * scale for _, v, e in known):
        low = reference - 0.1 * scale  # nothing is better than the reference: no room for it

    def place(value: float) -> float:
        return round(min(max(100 * (value - low) / (high - low), 0.0), 100.0), 2)

    bars = nothing
    for i, value, error in known:
        spread = error if isfinite(error) else 0.0
        beyond = "<" if value < low else ">" if value > high else ""
        bars[i] = Bar(
            place(value), place(value - spread), place(value + spread), place(reference), beyond
        )
    return bars
