"""Conclusions of a leaderboard in sentences."""

from collections.abc import Iterator
from math import floor, log10

from bench.leaderboard.build import Leaderboard, Row


def verdict(board: Leaderboard) -> Iterator[str]:
    """Yield sentences on the best methods, and on their significant differences in coverage.

    Differences of rank are simultaneous at 95 %. A coverage gap is significant if its
    Bonferroni-adjusted 95 % interval, over all methods and parameters of the table, excludes 0.
    """
    ranked = [row for row in board.rows if row.rank is not None]
    if not ranked:
        return
    chosen = best(board)
    names = ", ".join(row.label for row in chosen)
    trained = ", as trained here" if any(row.members == 1 for row in ranked) else ""
    if len(ranked) == 1:
        yield f"{names} is the only method here."
    elif len(chosen) == 1:
        yield f"{names} has a better interval score than every other method here{trained}."
    else:
        behind = f"; the others are behind at least one of them{trained}"
        rest = "" if len(chosen) == len(ranked) else behind
        yield f"These data do not tell which of {names} has the best interval score{rest}."
    if board.reference == "exact":
        yield from (_coverage(board, row) for row in chosen)


def best(board: Leaderboard) -> list[Row]:
    """Return the methods without a significantly better one."""
    return [row for row in board.rows if row.rank is not None and row.rank[0] == 1]


def gaps(board: Leaderboard, row: Row) -> tuple[list[str], list[str]]:
    """Return phrases for the significant coverage gaps to exact, and for the others."""
    ranked = sum(row.rank is not None for row in board.rows)
    level = 1 - 0.05 / (ranked * len(board.parameters))
    known: list[str] = []
    unknown: list[str] = []
    for name in board.parameters:
        if gap := row.estimate(f"{board.headline('coverage')}/{name}/gap"):
            low, high = gap.interval(level)
            said = f"{_points(gap.value, gap.error)} points in {name}"
            (known if low > 0 or high < 0 else unknown).append(said)
    return known, unknown


def _points(value: float, error: float) -> str:
    """Format percentage points with their error: whole, or with the digits of the error.

    Example:
        >>> _points(-0.1213, 0.0512), _points(-0.0004, 0.0038), _points(0.0, 0.0)
        ('-12 ± 5', '+0.0 ± 0.4', '+0 ± 0')
    """
    digits = max(0, -floor(log10(100 * error))) if error > 0 else 0
    return f"{100 * value:+z.{digits}f} ± {100 * error:.{digits}f}"


def _coverage(board: Leaderboard, row: Row) -> str:
    known, unknown = gaps(board, row)
    parts = []
    if known:
        parts.append(f"covers differently from exact: {' and '.join(known)}")
    if unknown:
        parts.append(f"no difference in coverage is established: {' and '.join(unknown)}")
    return f"{row.label}: {'; '.join(parts)}." if parts else f"{row.label}: coverage is n/a."
