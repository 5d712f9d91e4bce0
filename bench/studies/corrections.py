"""Corrected intervals at equal numbers of simulator calls: coverage bought, length paid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.boards.board import Leaderboard, Row
from bench.boards.render import csv_of, markdown_table
from bench.stats.clustering import Estimate
from bench.studies.numbers import both, code, number

NAME = "corrections"
COLUMNS: Mapping[str, type] = (
    dict.fromkeys(("task", "parameter", "method", "where", "verdict"), str)
    | dict.fromkeys(("calls", "members"), int)
    | {f"{name}{end}": float for name in ("gap", "worst", "length") for end in ("", "_error")}
)
"""Columns of the table as CSV."""
_POINTS = 100.0


@dataclass(frozen=True)
class Line:
    """One line of the table: intervals of one parameter by one method.

    Args:
        task, method, parameter: the intervals.
        calls: simulator calls of one member, those of toys and of all averaged networks included.
        members: number of members.
        gap: mean coverage minus that of exact intervals, in points.
        worst: coverage minus that of exact intervals, in points, where the two differ most.
        where: value of the parameter there.
        length: mean length relative to exact intervals.
        word: verdict on the coverage.
    """

    task: str
    method: str
    parameter: str
    calls: int
    members: int
    gap: Estimate | None
    worst: Estimate | None
    where: str
    length: Estimate | None
    word: str


def lines(boards: Sequence[Leaderboard]) -> list[Line]:
    """List the intervals of all methods on boards of independent plans, by task and calls."""
    found = [
        _line(board, row, parameter)
        for board in boards
        if board.plan["kind"] == "independent"
        for row in board.rows
        for parameter in sorted({name for one in board.rows for name in one.verdicts})
    ]
    return sorted(
        dict.fromkeys(found), key=lambda one: (one.task, one.parameter, one.calls, one.method)
    )


def _line(board: Leaderboard, row: Row, parameter: str) -> Line:
    worst = row.quantities.get(f"local_gap/{parameter}")
    return Line(
        board.task,
        row.label,
        parameter,
        int(row.cost.get("calls") or 0),
        row.members,
        _scaled(row.estimate(f"{board.headline('coverage')}/{parameter}/gap")),
        _scaled(worst.estimate if worst else None),
        worst.where if worst else "",
        row.estimate(f"{board.headline('width')}/{parameter}/ratio"),
        row.verdicts[parameter].word if parameter in row.verdicts else "",
    )


def _scaled(estimate: Estimate | None) -> Estimate | None:
    """Return an estimate in points."""
    if estimate is None:
        return None
    return replace(estimate, value=_POINTS * estimate.value, error=_POINTS * estimate.error)


def markdown(found: Sequence[Line]) -> str:
    """Render the table."""
    head = [
        "task",
        "parameter",
        "calls",
        "method",
        "members",
        "coverage gap, points",
        "worst place, points",
        "length",
        "coverage",
    ]
    rows = [
        [
            code(one.task),
            code(one.parameter),
            f"{one.calls:,}",
            code(one.method),
            str(one.members),
            number(one.gap, "+"),
            f"{number(one.worst, '+')} {one.where}".strip(),
            number(one.length),
            one.word,
        ]
        for one in found
    ]
    return markdown_table(head, rows)


def csv(found: Sequence[Line]) -> str:
    """Render all lines as CSV."""
    return csv_of(
        [
            {
                "task": one.task,
                "parameter": one.parameter,
                "calls": one.calls,
                "method": one.method,
                "members": one.members,
                **both("gap", one.gap),
                **both("worst", one.worst),
                "where": one.where,
                **both("length", one.length),
                "verdict": one.word,
            }
            for one in found
        ]
    )
