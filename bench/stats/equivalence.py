"""Data equivalence: factor in simulations that compensates a difference between methods."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from bench.stats.clustering import Array

Beyond = Literal["", ">", "<"]


@dataclass(frozen=True)
class Factor:
    """Data-equivalence factor: simulations that a plain method needs relative to another method.

    Args:
        value: the factor, or a bound on it from the smallest or largest budget.
        low, high: ends of its 95 % interval; 0 or infinity where an end is out of range.
        beyond: ">" or "<" where the value is a bound.
    """

    value: float
    low: float
    high: float
    beyond: Beyond


def equivalent_budget(budgets: ArrayLike, curve: ArrayLike, value: ArrayLike) -> Array:
    """Return the budget at which a learning curve reaches a value; 0 or infinity out of range.

    The curve is made to fall by isotonic regression. Between budgets it is interpolated in their
    logarithms, and in logarithms of the curve where it is positive.

    Args:
        budgets: (B,), rising, at least two.
        curve: excess over the truth at each budget, (..., B); noise may make it negative.
        value: excess over the truth of another method, (...).

    Returns:
        Budgets, (...).

    Example:
        >>> print(f"{equivalent_budget([1e3, 1e4, 1e5], [1, 0.1, 0.01], 0.03):.0f}")
        33333
    """
    known, wanted = np.asarray(budgets, float), np.asarray(value, float)
    falling = _levelled(np.asarray(curve, float))
    enough = (falling > wanted[..., None]).sum(-1)  # the first budget that is enough
    last = np.clip(enough, 1, len(known) - 1)[..., None]
    above = np.take_along_axis(falling, last - 1, -1)[..., 0]
    below = np.take_along_axis(falling, last, -1)[..., 0]
    positive = (below > 0) & (wanted > 0)
    upper, lower, middle = (np.log(x, out=x.copy(), where=positive) for x in (above, below, wanted))
    span = upper - lower
    share = np.divide(upper - middle, span, out=np.zeros_like(span), where=span != 0)
    before, after = known[last[..., 0] - 1], known[last[..., 0]]
    found = before * (after / before) ** np.clip(share, 0, 1)
    found = np.where(wanted > falling[..., 0], 0.0, found)
    return np.where(wanted < falling[..., -1], np.inf, found)


def _levelled(curve: Array) -> Array:
    """Make curves decrease along the last axis by isotonic regression.

    The min-max formula gives the smallest, over the starts of a block, of the largest mean of
    blocks with that start that contain the budget (R. E. Barlow et al., Statistical Inference under
    Order Restrictions (1972) 19).
    """
    budgets = range(curve.shape[-1])
    largest = [
        [np.max([curve[..., a : b + 1].mean(-1) for b in budgets[i:]], axis=0) for i in budgets[a:]]
        for a in budgets
    ]
    levels = [np.min([largest[a][i - a] for a in budgets[: i + 1]], axis=0) for i in budgets]
    return np.stack(levels, axis=-1)


def factor(
    budgets: Array,
    plain: list[Array],
    budget: float,
    other: Array,
    *,
    draws: int = 4000,
    seed: int = 0,
) -> Factor:
    """Estimate the data-equivalence factor of a method at one budget.

    Its interval is a bootstrap over the members, that is the training sets, of both curves, widened
    for their small numbers. Ends out of range are infinite or zero. With one member the scatter is
    unknown and the interval is (0, inf). NaN if a value is not finite.

    Args:
        budgets: of the plain method, (B,), rising.
        plain: excess over the truth of its members, an array (members,) for each budget.
        budget: of the other method.
        other: excess over the truth of the other method's members, (members,).
        draws: bootstrap replicates.
        seed: of the bootstrap.
    """
    groups = [*plain, other]
    if not all(np.isfinite(values).all() for values in groups):
        return Factor(np.nan, np.nan, np.nan, "")
    mean = np.array([values.mean() for values in groups])
    found = float(equivalent_budget(budgets, mean[:-1], mean[-1]))
    low, high = 0.0, np.inf
    if min(map(len, groups)) > 1:
        rng = np.random.default_rng(seed)
        low, high = (float(end) / budget for end in _interval(budgets, groups, draws, rng))
    if np.isinf(found):
        return Factor(float(budgets[-1]) / budget, low, high, ">")
    if found == 0:
        return Factor(float(budgets[0]) / budget, low, high, "<")
    return Factor(found / budget, low, high, "")


def _interval(budgets: Array, groups: list[Array], draws: int, rng: np.random.Generator) -> Array:
    """Return a 95 % interval of the equivalent budget, (2,).

    The mean of n resampled members scatters by √((n − 1)/n) of the standard error, and percentiles
    assume a known variance. So the deviation of each group's mean is widened by √(n/(n − 1)), and
    all of them by Student's t over the normal quantile, in logarithms where all values are
    positive. With one source of scatter that is t·√(n/(n − 1)) of n − 1 degrees of freedom. With
    several the degrees are Satterthwaite's (Biometrics Bulletin 2 (1946) 110), where a group's
    share of the variance is its squared correlation with the rank of the budget, which may be
    infinite.
    """
    size = np.array([len(values) for values in groups], float)
    mean = np.array([values.mean() for values in groups])
    resampled = np.stack(
        [values[rng.integers(len(values), size=(draws, len(values)))].mean(1) for values in groups],
        axis=-1,
    )
    positive = np.array([bool((values > 0).all()) for values in groups])
    ratio = np.divide(resampled, mean, out=np.ones_like(resampled), where=positive)
    unbiased = np.sqrt(size / (size - 1))

    def reached(widening: Array) -> Array:
        means = np.where(positive, mean * ratio**widening, mean + widening * (resampled - mean))
        return equivalent_budget(budgets, means[:, :-1], means[:, -1])

    rank = stats.rankdata(reached(unbiased))
    centred = resampled - resampled.mean(0)
    variance = centred.var(0)
    covariance = (centred * (rank - rank.mean())[:, None]).mean(0)
    share = np.divide(covariance**2, variance, out=np.zeros_like(mean), where=variance > 0)
    degrees = size.min() - 1
    if share.sum() > 0:
        degrees = share.sum() ** 2 / (share**2 / (size - 1)).sum()
    student = stats.t.ppf(0.975, degrees) / stats.norm.ppf(0.975)
    return np.quantile(reached(student * unbiased), [0.025, 0.975], method="inverted_cdf")
