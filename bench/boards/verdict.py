"""Conclusions of a leaderboard in sentences: which methods to use, which not, what is open."""

from collections.abc import Iterator

from bench.boards.board import Leaderboard, Row
from bench.errors import counted
from bench.stats.decision import CoverageVerdict

SIGNS = {"holds": "✓", "fails": "✗", "undetermined": "?", "n/a": "–"}
"""Signs of verdicts."""


def verdict(board: Leaderboard) -> Iterator[str]:
    """Yield sentences: what to use, what not to use, what is undetermined."""
    ranked = [row for row in board.rows if row.rank is not None]
    if not ranked:
        return
    yield answer(board)
    failing = [text for row in ranked if (text := _failure(row))]
    if failing:
        yield f"Do not use {'; '.join(failing)}."
    open_now = [text for row in ranked if (text := _undetermined(row))]
    if open_now:
        yield f"Undetermined: {'; '.join(open_now)}."


def answer(board: Leaderboard) -> str:
    """Return one sentence on the methods to use."""
    ranked = [row for row in board.rows if row.rank is not None]
    chosen = [row for row in ranked if row.recommended]
    if all(row.word == "n/a" for row in ranked):
        return "Coverage is n/a."
    if not chosen and len(ranked) == 1:
        return f"{ranked[0].label} is the only method here, and is not shown to hold."
    if not chosen:
        failed = all(row.word == "fails" for row in ranked)
        return (
            "None holds: the coverage of every method fails."
            if failed
            else "None holds: no method is shown to cover every parameter."
        )
    names = " or ".join(row.label for row in chosen)
    trained = ", as trained here" if any(row.members == 1 for row in chosen) else ""
    if len(chosen) > 1:
        return f"Use {names}{trained}: their coverage holds, and their lengths are tied."
    if sum(row.word == "holds" for row in ranked) > 1:
        why = "its coverage holds, and no other method that holds has shorter intervals"
    else:
        why = "its coverage holds" + (", shown of no other method" if len(ranked) > 1 else "")
    return f"Use {names}{trained}: {why}."


def _failure(row: Row) -> str:
    """Return the method with the parameters whose coverage fails, "" if there are none."""
    failed = [
        f"{name} {interval(verdict)}"
        for name, verdict in row.verdicts.items()
        if verdict.word == "fails"
    ]
    return f"{row.label} (coverage of {', '.join(failed)} points off)" if failed else ""


def _undetermined(row: Row) -> str:
    """Return a method that does not fail with its undetermined parameters, "" if none."""
    unknown = []
    for name, verdict in row.verdicts.items():
        if verdict.word == "undetermined":
            what = decides(row, verdict)
            unknown.append(f"{name} (about {what} would decide)" if what else name)
    return f"{row.label} in {' and '.join(unknown)}" if unknown and row.word != "fails" else ""


def decides(row: Row, verdict: CoverageVerdict) -> str:
    """Return what would decide an undetermined verdict; "" if nothing practical would."""
    if verdict.members is not None:
        return counted(_rounded(verdict.members - row.members), "more member")
    return "" if verdict.sets is None else f"{counted(_rounded(verdict.sets), 'dataset')} in all"


def _rounded(number: int) -> int:
    """Round a number up to two digits, since it is an estimate: 137 becomes 140."""
    unit = int(10 ** max(len(str(number)) - 2, 0))
    return -(-number // unit) * unit


def interval(verdict: CoverageVerdict) -> str:
    """Format the interval of a gap in percentage points.

    Example:
        >>> interval(CoverageVerdict("fails", -0.1623, -0.0704))
        '-16 to -7'
    """
    digits = 0 if verdict.high - verdict.low > 0.03 else 1
    return f"{100 * verdict.low:+z.{digits}f} to {100 * verdict.high:+z.{digits}f}"
