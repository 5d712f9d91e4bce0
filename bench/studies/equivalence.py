"""The data-equivalence factor of score-augmented training, from stored scores.

The factor is the number of times more simulations that a plain method needs to match one with
scores, metric by metric, at the same network (Shen & Kuusela 2026 claim ten). A method is compared
with itself, and `NAME-sa` with `NAME`. Their identities differ only in scores and budgets.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.boards.results import Results, SavedFit
from bench.errors import UsageError
from bench.stats.equivalence import factor
from bench.storage.fit_spec import truth_among

NAME = "equivalence"
METRICS = ("score_error", "bce", "likelihood_ratio_error", "mle_distance", "interval_score")
_SCORES = "scores"  # the setting that fits with scores have, and others lack
_AUGMENTED = "-sa"  # how the name of a method ends whose plain form is another method


@dataclass(frozen=True)
class EquivalenceFactor:
    """Data-equivalence factor of one metric.

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
    """Point of a learning curve: the excess of a method over the truth at a budget.

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


def curves(results: Results, found: Sequence[EquivalenceFactor]) -> list[Point]:
    """Return the learning curves behind factors, by task, metric, method and budget."""
    compared = {(r.task, label) for r in found for label in (r.plain, r.other)}
    out = []
    for fit in results.fits:
        if (fit.task, fit.label) not in compared or not fit.members:
            continue
        for plan in results.plans:
            for metric, left in _left(results, fit, plan).items():
                n = len(left)
                error = float(left.std(ddof=1)) / n**0.5 if n > 1 else nan
                of = (fit.task, plan, fit.label, metric, fit.budget, n)
                out.append(Point(*of, float(left.mean()), error))
    return sorted(out, key=lambda p: (p.task, order(p.metric), p.plan, p.label, p.budget))


def order(metric: str) -> tuple[int, str]:
    """Return the place of a metric with its key: as METRICS are, then by key."""
    return METRICS.index(metric.partition("/")[0]), metric


def rows(results: Results) -> list[EquivalenceFactor]:
    """Measure every factor that the results allow.

    Raises:
        UsageError: if there are no two methods to compare.
    """
    learned = [fit for fit in results.fits if fit.members and not fit.oracle]
    out = []
    for other in (fit for fit in learned if _SCORES in _config(fit)):
        plain = sorted(
            (fit for fit in learned if _SCORES not in _config(fit) and _same(fit, other)),
            key=lambda fit: fit.budget,
        )
        if len(plain) > 1:
            out += list(_compare(results, plain, other))
    if not out:
        raise UsageError(
            "no two methods to compare: a learning curve needs two budgets without scores, and a "
            "fit with scores of the same network"
        )
    return sorted(out, key=lambda r: (r.task, r.plain, r.other, order(r.metric), r.plan, r.budget))


def _config(fit: SavedFit) -> Mapping[str, Any]:
    config: Mapping[str, Any] = fit.identity.get("method", {}).get("config", {})
    return config


def _same(plain: SavedFit, other: SavedFit) -> bool:
    """Return whether two fits differ only in budgets and scores."""

    def rest(fit: SavedFit) -> dict[str, Any]:
        method = dict(fit.identity.get("method", {}))
        method["name"] = fit.method.removesuffix(_AUGMENTED)
        method["config"] = {k: v for k, v in _config(fit).items() if k != _SCORES}
        return {k: v for k, v in fit.identity.items() if k != "budget"} | {"method": method}

    return rest(plain) == rest(other)


def _compare(
    results: Results, plain: Sequence[SavedFit], other: SavedFit
) -> Iterator[EquivalenceFactor]:
    for plan in results.plans:
        own = _left(results, other, plan)
        curves = [_left(results, fit, plan) for fit in plain]
        for metric in own:  # in any order: factors are sorted
            known = [(fit, c[metric]) for fit, c in zip(plain, curves, strict=True) if metric in c]
            if len(known) < 2:
                continue
            budgets = np.array([fit.budget for fit, _ in known], float)
            values = [v for _, v in known]
            found = factor(budgets, values, other.budget, own[metric])
            yield EquivalenceFactor(
                other.task,
                plan,
                plain[0].label,
                other.label,
                metric,
                other.budget,
                len(own[metric]),
                min(len(v) for v in values),
                int(budgets[-1]),
                **asdict(found),
            )


def _left(results: Results, fit: SavedFit, plan: str) -> dict[str, NDArray[np.float64]]:
    """Return the excess of each member over the truth, by metric."""
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


def shown(row: EquivalenceFactor) -> str:
    """Write a factor with its interval; "> 10" if the budgets end before it is reached."""

    def number(value: float) -> str:
        return "∞" if np.isinf(value) else f"{float(f'{value:.2g}'):g}"  # 100, not 1e+02

    if np.isnan(row.value):
        return "n/a (not finite)"
    sign = f"{row.beyond} " if row.beyond else ""
    if row.beyond and row.low == row.high:  # no replicate is within range
        return f"{sign}{number(row.value)}"
    return f"{sign}{number(row.value)} [{number(row.low)}, {number(row.high)}]"
