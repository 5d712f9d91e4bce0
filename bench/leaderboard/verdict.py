"""What a leaderboard says, in sentences that claim no more than its numbers."""

from collections.abc import Iterator

from bench.leaderboard.build import Leaderboard, Row


def verdict(board: Leaderboard) -> Iterator[str]:
    """Says which methods may be best, and whose coverage is known to differ from exact's.

    Differences of rank are simultaneous at 95 %; coverage gaps are significant when their
    Bonferroni-adjusted 95 % interval, over all methods and parameters of the table, excludes 0.
    """
    ranked = [row for row in board.rows if row.rank is not None]
    if not ranked:
        return
    best = [row for row in ranked if row.rank is not None and row.rank[0] == 1]
    names = ", ".join(row.label for row in best)
    if len(ranked) == 1:
        yield f"{names} is the only method here."
    elif len(best) == 1:
        trained = ", as trained here" if any(row.members == 1 for row in ranked) else ""
        yield f"{names} has a better interval score than every other method here{trained}."
    else:
        rest = "" if len(best) == len(ranked) else "; the others are behind at least one of them"
        yield f"These data do not tell which of {names} has the best interval score{rest}."
    if board.reference == "exact":
        comparisons = len(ranked) * len(board.parameters)
        for row in best:
            yield _coverage(row, board.parameters, 1 - 0.05 / comparisons)


def _coverage(row: Row, parameters: tuple[str, ...], level: float) -> str:
    known: list[str] = []
    unknown: list[str] = []
    for name in parameters:
        quantity = row.quantities.get(f"coverage/{name}/gap")
        if quantity is None or quantity.estimate is None:
            continue
        gap = quantity.estimate
        low, high = gap.interval(level)
        points = f"{round(100 * gap.value):+d} ± {100 * gap.error:.0f} points in {name}"
        (known if low > 0 or high < 0 else unknown).append(points)
    parts = []
    if known:
        parts.append(f"covers differently from exact: {' and '.join(known)}")
    if unknown:
        parts.append(f"no difference in coverage is established: {' and '.join(unknown)}")
    return f"{row.label}: {'; '.join(parts)}." if parts else f"{row.label}: coverage is n/a."
