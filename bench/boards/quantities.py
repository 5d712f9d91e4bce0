"""Quantities of a leaderboard: means of metrics, gaps to the truth, worst points."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray

from bench.boards.results import Scores
from bench.boards.units import ResamplingUnits
from bench.contracts import Metric
from bench.stats.clustering import Array, Estimate, mean, median, ratio, resampled

_FEWEST = 100  # datasets for a score of the FAIR Universe challenge
_NOMINAL = 0.6827  # coverage at which it has no penalty
_EPSILON = 0.01  # added to lengths

STATISTICS = {
    "gap": "gap",
    "worst": "gap at worst point",
    "ratio": "ratio",
    "median": "median",
}
"""Statistics of a metric other than its mean: last part of the quantity's name, and its heading."""


def parts(name: str) -> tuple[str, str, str]:
    """Split the name of a quantity into metric, key and statistic; "" for missing parts.

    Example:
        >>> parts("coverage/mu/worst"), parts("width/z"), parts("score_ratio")
        (('coverage', 'mu', 'worst'), ('width', 'z', ''), ('score_ratio', '', ''))
    """
    metric, _, rest = name.partition("/")
    key, slash, statistic = rest.rpartition("/")
    return (metric, key, statistic) if slash and statistic in STATISTICS else (metric, rest, "")


@dataclass(frozen=True)
class Quantity:
    """Number of a leaderboard, or the reason why it is not defined."""

    estimate: Estimate | None = None
    reason: str = ""
    where: str = ""


def quantities_of(
    metric: Metric, name: str, scores: Scores, truth: Scores | None, units: ResamplingUnits
) -> Iterator[tuple[str, Quantity]]:
    """Yield a metric's mean, its comparison with the truth, and its worst point."""
    values, headline = scores.values[name], units.headline
    yield name, estimated(values, units, headline, share=metric.share)
    if metric.median:
        yield f"{name}/median", _median(values, units, headline)
    other = truth.values.get(name) if truth is not None else None
    if other is None or metric.against == "nothing":
        return
    if metric.against == "ratio":
        yield f"{name}/ratio", estimated(values, units, headline, other)
        return
    gap = values - other
    yield f"{name}/gap", estimated(gap, units, headline, share=metric.share)
    at = [
        (int(p), estimated(gap, units, units.point == p, share=metric.share))
        for p in np.unique(units.point[units.point >= 0])
        if (units.point == p).sum() > 1  # one dataset has no variance
    ]
    known = [(abs(q.estimate.value), p, q) for p, q in at if q.estimate is not None]
    if known:
        _, worst, quantity = max(known, key=lambda item: item[0])
        yield f"{name}/worst", Quantity(quantity.estimate, where=f"point {worst + 1}")


def fair_universe(
    scores: Scores, parameters: Sequence[str], units: ResamplingUnits
) -> Iterator[tuple[str, Quantity]]:
    """Yield the score of the FAIR Universe challenge for each parameter, higher is better.

    It is the members' mean of −ln((w + ε) f(c)) for the mean length w and the coverage c of plain
    68.27 % intervals (Bhimji et al. 2024, arXiv:2410.02867). Boards with fewer than 100 datasets
    have none.
    """
    used = units.headline
    found = units[used]
    if int(used.sum()) < _FEWEST or found.shared:
        return
    for name in parameters:
        both = [scores.values.get(f"{metric}/{name}") for metric in ("width", "coverage")]
        tables = [table[:, used] for table in both if table is not None]
        if len(tables) == 2 and all(np.isfinite(table).all() for table in tables):
            estimate = resampled(_challenge, tables, found.point)
            yield f"fair_universe_score/{name}", Quantity(estimate)


def _challenge(width: Array, covered: Array) -> float:
    sigma = sqrt((1 - _NOMINAL) * _NOMINAL / width.shape[1])
    beyond = (np.abs(covered.mean(1) - _NOMINAL) - 2 * sigma).clip(0) / sigma
    penalty = 1 + np.where(covered.mean(1) < _NOMINAL, beyond**4, beyond**3)
    return float(-np.log((width.mean(1) + _EPSILON) * penalty).mean())


def _median(values: Array, units: ResamplingUnits, used: NDArray[np.bool_]) -> Quantity:
    defined = used & np.isfinite(values).all(0)
    if not defined.any():
        return Quantity(reason="no dataset has it")
    found = units[defined]
    estimate = median(values[:, defined], found.point)
    unknown = found.shared or not found.enough
    return Quantity(replace(estimate, error=nan) if unknown else estimate)


def estimated(
    values: Array,
    units: ResamplingUnits,
    used: NDArray[np.bool_],
    denominator: Array | None = None,
    share: bool = False,
) -> Quantity:
    """Estimate a mean, or a ratio of means, over the sets that are used and defined.

    Args:
        values: contributions, (members, S).
        units: the sets as units of resampling.
        used: the sets to average over, (S,).
        denominator: contributions to divide by, (members, S) or (1, S); none for a mean.
        share: whether contributions are yes or no; see `not_certain`.
    """
    parts = [values] if denominator is None else [values, denominator]
    defined = used & np.all([np.isfinite(p).all(0) for p in parts], axis=0)
    if not defined.any():
        return Quantity(reason="no dataset has it")
    found = units[defined]
    selected = [found.average(p[:, defined]) for p in parts]
    try:
        if denominator is None:
            estimate = mean(selected[0], found.strata)
            estimate = not_certain(estimate, found.strata.sets) if share else estimate
        else:
            estimate = ratio(selected[0], selected[1], found.strata)
    except ValueError as error:
        return Quantity(reason=str(error))
    return Quantity(estimate if found.enough else Estimate(estimate.value, nan, nan, nan, nan))


def not_certain(estimate: Estimate, sets: int) -> Estimate:
    """Return a share of equal answers with the error of Agresti & Coull (1998) instead of 0."""
    if estimate.error > 0:
        return estimate
    error = sqrt(2 * (sets + 2) / (sets + 4) ** 3)
    return Estimate(estimate.value, error, max(sets - 1.0, 1.0), nan, error)
