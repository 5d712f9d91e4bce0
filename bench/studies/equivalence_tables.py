"""Tables of data-equivalence factors, learning curves and counts of comparisons."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import attrgetter

from scipy import stats

from bench.boards.columns import parenthesised
from bench.boards.render import csv_of, markdown_table
from bench.studies.equivalence import EquivalenceFactor, Point, shown
from bench.studies.numbers import code

_BEYOND = 2.0  # errors of a difference


@dataclass(frozen=True)
class Count:
    """Comparisons of a method with and without scores, at equal budgets.

    Args:
        plain, other: labels of the method without and with scores.
        comparisons: number of metrics, tasks, plans and budgets with two networks of each.
        better: comparisons in which scores make it better by two errors of the difference.
        worse: comparisons in which they make it worse by two errors.
        chance: expected number of either if scores changed nothing.
    """

    plain: str
    other: str
    comparisons: int
    better: int
    worse: tuple[Point, ...]
    chance: float


def counts(found: Sequence[EquivalenceFactor], points: Sequence[Point]) -> list[Count]:
    """Count the comparisons in which scores make a method better and worse.

    By chance alone the difference over its error is Student's t, with n + m − 2 degrees of freedom
    for n networks against m that scatter alike.

    Args:
        found: the factors, which say what is compared with what.
        points: the learning curves.
    """
    known = {_compared(p): p for p in points if p.members > 1}
    out = []
    for plain, other in dict.fromkeys((r.plain, r.other) for r in found):
        tasks = {r.task for r in found if (r.plain, r.other) == (plain, other)}
        pairs = [
            (known[key], point)
            for point in known.values()
            if point.label == other and point.task in tasks
            if (key := _compared(replace(point, label=plain))) in known
        ]
        pulls = [(b.value - a.value) / (a.error**2 + b.error**2) ** 0.5 for a, b in pairs]
        worse = tuple(b for (_, b), pull in zip(pairs, pulls, strict=True) if pull > _BEYOND)
        better = sum(pull < -_BEYOND for pull in pulls)
        chance = sum(float(stats.t.sf(_BEYOND, a.members + b.members - 2)) for a, b in pairs)
        out.append(Count(plain, other, len(pairs), better, worse, chance))
    return out


def _compared(point: Point) -> tuple[str | int, ...]:
    return point.label, point.task, point.plan, point.metric, point.budget


def better_and_worse(found: Sequence[Count]) -> str:
    """Render a table of counts: pairs of methods down."""
    rows = []
    for c in found:
        where = "; ".join(
            f"{p.metric.rstrip('/')} on {code(p.task)} at {p.budget:,}" for p in c.worse
        )
        numbers = (str(n) for n in (c.comparisons, c.better, len(c.worse)))
        rows.append([code(c.other), code(c.plain), *numbers, f"{c.chance:.1f}", where])
    head = [
        "with scores",
        "without",
        "comparisons",
        "better",
        "worse",
        "each by chance",
        "worse in",
    ]
    table = markdown_table(head, rows)
    return f"### Better and worse by two errors, at equal budgets\n\n{table}"


def markdown(found: Sequence[EquivalenceFactor]) -> str:
    """Render a table for each task and pair of methods: metrics down, budgets across."""
    parts = []
    for (task, plain, other), group in groupby(found, attrgetter("task", "plain", "other")):
        chosen = list(group)
        plans = Counter(metric for metric, _ in {(r.metric, r.plan) for r in chosen})
        names = [
            r.metric.rstrip("/") + (f" ({r.plan})" if plans[r.metric] > 1 else "") for r in chosen
        ]
        cells = [((name,), r.budget, shown(r)) for name, r in zip(names, chosen, strict=True)]
        parts.append(f"### {task}: {other} against {plain}\n\n{_across(['metric'], cells)}")
    return "\n".join(parts)


def _across(head: Sequence[str], cells: Sequence[tuple[tuple[str, ...], int, str]]) -> str:
    """Render a table of cells with their lines' names and their budgets, budgets across."""
    budgets = sorted({budget for _, budget, _ in cells})
    lines: dict[tuple[str, ...], dict[int, str]] = {}
    for line, budget, text in cells:
        lines.setdefault(line, {})[budget] = text
    rows = [
        [*line[: len(head)], *(texts.get(b, "–") for b in budgets)] for line, texts in lines.items()
    ]
    return markdown_table([*head, *(f"{b:,} calls" for b in budgets)], rows)


def learning_curves(points: Sequence[Point]) -> str:
    """Render a table for each task: metrics and methods down, budgets across."""
    parts = []
    for task, group in groupby(points, attrgetter("task")):
        cells = [
            ((p.metric.rstrip("/"), p.label, p.plan), p.budget, parenthesised(p.value, p.error))
            for p in group
        ]
        table = _across(["metric", "method"], cells)
        parts.append(f"### {task}: what is left to learn\n\n{table}")
    return "\n".join(parts)


def csv(found: Sequence[EquivalenceFactor] | Sequence[Point]) -> str:
    """Render comma-separated values."""
    return csv_of([asdict(row) for row in found])
