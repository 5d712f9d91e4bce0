"""The data-equivalence factor of score-augmented training, from stored scores.

How many times the simulations a plain method needs to match one that sees scores too, metric by
metric, at the same network (Shen & Kuusela 2026 claim ten). A method is compared with itself, and
`NAME-sa` with `NAME`; nothing in their identities may differ but scores and budgets.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import UsageError
from bench.leaderboard.columns import parenthesised
from bench.leaderboard.render import csv_of, markdown_table
from bench.leaderboard.results import Fit, Results
from bench.stats.equivalence import factor
from bench.storage.fit_spec import truth_among

NAME = "equivalence"
METRICS = ("score_error", "bce", "likelihood_ratio_error", "mle_distance", "interval_score")
_SCORES = "scores"  # the setting that fits with scores have, and others lack
_AUGMENTED = "-sa"  # how the name of a method ends whose plain form is another method


@dataclass(frozen=True)
class Row:
    """One factor.

    Args:
        task, plan, plain, other: the task, the plan, and the labels of the two methods.
        metric: its name and, after a slash, its key.
        budget: of the other method.
        members: networks of the other method.
        plain_members: the fewest networks of the plain method at any budget.
        largest: the largest budget of the plain method.
        value, low, high, beyond: as in `Factor`.
    """

    task: str
    plan: str
    plain: str
    other: str
    metric: str
    budget: int
    members: int
    plain_members: int
    largest: int
    value: float
    low: float
    high: float
    beyond: str


@dataclass(frozen=True)
class Point:
    """One point of a learning curve: what a method has left to learn at a budget.

    Args:
        task, plan, label, metric, budget, members: what was measured, on how many networks.
        value: mean over members of the metric, minus exact's where exact's is not zero.
        error: standard error over members, each with its own training set; NaN with one.
    """

    task: str
    plan: str
    label: str
    metric: str
    budget: int
    members: int
    value: float
    error: float


def curves(results: Results, found: Sequence[Row]) -> list[Point]:
    """The learning curves behind factors, by task, metric, method and budget."""
    compared = {(r.task, label) for r in found for label in (r.plain, r.other)}
    out = []
    for fit in results.fits:
        if (fit.task, fit.label) not in compared or not fit.members:
            continue
        for plan in results.plans:
            for metric, left in _left(results, fit, plan).items():
                n = len(left)
                error = float(left.std(ddof=1)) / n**0.5 if n > 1 else nan
                of = (fit.task, plan, fit.label, metric, _budget(fit), n)
                out.append(Point(*of, float(left.mean()), error))

    def order(point: Point) -> tuple[Any, ...]:
        metric = METRICS.index(point.metric.partition("/")[0])
        return point.task, metric, point.metric, point.plan, point.label, point.budget

    return sorted(out, key=order)


def rows(results: Results) -> list[Row]:
    """Measures every factor that the results allow.

    Raises:
        UsageError: if there are no two methods to compare.
    """
    learned = [fit for fit in results.fits if fit.members and not fit.oracle]
    out = []
    for other in (fit for fit in learned if _SCORES in _config(fit)):
        plain = sorted(
            (fit for fit in learned if _SCORES not in _config(fit) and _same(fit, other)),
            key=_budget,
        )
        if len(plain) > 1:
            out += list(_compare(results, plain, other))
    if not out:
        raise UsageError(
            "no two methods to compare: a learning curve needs two budgets without scores, and a "
            "fit with scores of the same network"
        )

    def order(row: Row) -> tuple[Any, ...]:
        metric = METRICS.index(row.metric.partition("/")[0])
        return row.task, row.plain, row.other, metric, row.metric, row.plan, row.budget

    return sorted(out, key=order)


def _config(fit: Fit) -> Mapping[str, Any]:
    config: Mapping[str, Any] = fit.identity.get("method", {}).get("config", {})
    return config


def _budget(fit: Fit) -> int:
    return int(fit.identity["budget"])


def _same(plain: Fit, other: Fit) -> bool:
    """Whether two fits differ in nothing but budgets and scores."""

    def rest(fit: Fit) -> dict[str, Any]:
        method = dict(fit.identity.get("method", {}))
        method["name"] = fit.method.removesuffix(_AUGMENTED)
        method["config"] = {k: v for k, v in _config(fit).items() if k != _SCORES}
        return {k: v for k, v in fit.identity.items() if k != "budget"} | {"method": method}

    return rest(plain) == rest(other)


def _compare(results: Results, plain: Sequence[Fit], other: Fit) -> Iterator[Row]:
    for plan in results.plans:
        own = _left(results, other, plan)
        curves = [_left(results, fit, plan) for fit in plain]
        for metric in sorted(own, key=lambda m: METRICS.index(m.partition("/")[0])):
            known = [(fit, c[metric]) for fit, c in zip(plain, curves, strict=True) if metric in c]
            if len(known) < 2:
                continue
            budgets = np.array([_budget(fit) for fit, _ in known], float)
            values = [v for _, v in known]
            found = factor(budgets, values, _budget(other), own[metric])
            yield Row(
                other.task,
                plan,
                plain[0].label,
                other.label,
                metric,
                _budget(other),
                len(own[metric]),
                min(len(v) for v in values),
                int(budgets[-1]),
                **asdict(found),
            )


def _left(results: Results, fit: Fit, plan: str) -> dict[str, NDArray[np.float64]]:
    """What each member has left to learn, by metric: zero for the truth, where that is known."""
    scores = results.scores(fit, plan)
    if scores is None:
        return {}
    exact = truth_among(f for f in results.fits if f.task == fit.task)
    truth = results.scores(exact, plan) if exact else None
    out = {}
    for name, values in scores.values.items():
        metric = name.partition("/")[0]
        if metric not in METRICS:
            continue
        left = values.mean(1)
        if metric == "interval_score":
            if truth is None or name not in truth.values:
                continue
            left = left - truth.values[name].mean()
        out[name] = left
    return out


def shown(row: Row) -> str:
    """A factor with its interval, "> 10" where the budgets end before it is reached."""

    def number(value: float) -> str:
        return "∞" if np.isinf(value) else f"{float(f'{value:.2g}'):g}"  # 100, not 1e+02

    if np.isnan(row.value):
        return "n/a (not finite)"
    sign = f"{row.beyond} " if row.beyond else ""
    if row.beyond and row.low == row.high:  # no replicate is within range
        return f"{sign}{number(row.value)}"
    return f"{sign}{number(row.value)} [{number(row.low)}, {number(row.high)}]"


def markdown(found: Sequence[Row]) -> str:
    """Renders a table for each task and pair of methods: metrics down, budgets across."""
    parts = []
    for pair in dict.fromkeys((r.task, r.plain, r.other) for r in found):
        chosen = [r for r in found if (r.task, r.plain, r.other) == pair]
        budgets = sorted({r.budget for r in chosen})
        lines = []
        for metric, plan in dict.fromkeys((r.metric, r.plan) for r in chosen):
            several = len({r.plan for r in chosen if r.metric == metric}) > 1
            name = metric.rstrip("/") + (f" ({plan})" if several else "")
            cells = {r.budget: shown(r) for r in chosen if (r.metric, r.plan) == (metric, plan)}
            lines.append([name, *(cells.get(b, "–") for b in budgets)])
        head = ["metric", *(f"{b:,} calls" for b in budgets)]
        parts.append(f"### {pair[0]}: {pair[2]} against {pair[1]}\n\n{markdown_table(head, lines)}")
    return "\n".join(parts)


def learning_curves(points: Sequence[Point]) -> str:
    """Renders a table for each task: metrics and methods down, budgets across."""
    parts = []
    for task in dict.fromkeys(p.task for p in points):
        chosen = [p for p in points if p.task == task]
        budgets = sorted({p.budget for p in chosen})
        lines = []
        for metric, plan, label in dict.fromkeys((p.metric, p.plan, p.label) for p in chosen):
            cells = {
                p.budget: parenthesised(p.value, p.error)
                for p in chosen
                if (p.metric, p.plan, p.label) == (metric, plan, label)
            }
            lines.append([metric.rstrip("/"), label, *(cells.get(b, "–") for b in budgets)])
        head = ["metric", "method", *(f"{b:,} calls" for b in budgets)]
        parts.append(f"### {task}: what is left to learn\n\n{markdown_table(head, lines)}")
    return "\n".join(parts)


def csv(found: Sequence[Row] | Sequence[Point]) -> str:
    """Renders comma-separated values."""
    return csv_of([asdict(row) for row in found])
