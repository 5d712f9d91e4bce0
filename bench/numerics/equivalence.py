"""Data equivalence: how many times the simulations would make up for a difference."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

Beyond = Literal["", ">", "<"]


@dataclass(frozen=True)
class Factor:
    """How many times the budget a plain method needs for what another one reaches.

    Args:
        value: the factor, or the bound that the budgets at hand set.
        low, high: its 95 % interval; 0 or infinity where that is out of range.
        beyond: ">" or "<" where the value is a bound.
    """

    value: float
    low: float
    high: float
    beyond: Beyond


def equivalent_budget(
    budgets: NDArray[np.float64], curve: NDArray[np.float64], value: float
) -> float:
    """The budget at which a learning curve reaches a value; 0 or infinity out of its range.

    The curve is made to fall by isotonic regression. Between budgets it is interpolated in their
    logarithms, and in logarithms of what is left where that is positive.

    Args:
        budgets: (B,), rising.
        curve: what is left to learn at each, (B,); below 0 where noise says so.
        value: what another method has left.

    Example:
        >>> round(equivalent_budget(np.array([1e3, 1e4, 1e5]), np.array([1, 0.1, 0.01]), 0.03))
        33333
    """
    falling = isotonic_regression(curve, increasing=False).x
    if value > falling[0]:
        return 0.0
    if value < falling[-1]:
        return np.inf
    last = int(np.argmax(falling <= value))  # the first budget that is enough
    if last == 0:
        return float(budgets[0])
    above, below = float(falling[last - 1]), float(falling[last])
    if below > 0:
        above, below, value = np.log(above), np.log(below), np.log(value)
    share = (above - value) / (above - below)
    return float(budgets[last - 1] * (budgets[last] / budgets[last - 1]) ** share)


def factor(
    budgets: NDArray[np.float64],
    plain: list[NDArray[np.float64]],
    budget: float,
    other: NDArray[np.float64],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Factor:
    """Estimates the data-equivalence factor of a method at one budget.

    Its interval is a percentile bootstrap over the members, that is the training sets, of both
    curves; replicates that are out of range count as infinite or zero. One member tells nothing of
    their scatter: the interval is then everything. NaN if a value is not finite.

    Args:
        budgets: of the plain method, (B,), rising.
        plain: what its members have left to learn, an array (members,) for each budget.
        budget: of the other method.
        other: what its members have left, (members,).
        draws: bootstrap replicates.
        seed: of the bootstrap.
    """
    everyone = [*plain, other]
    if not all(np.isfinite(values).all() for values in everyone):
        return Factor(np.nan, np.nan, np.nan, "")
    rng = np.random.default_rng(seed)

    def mean(values: NDArray[np.float64], resample: bool) -> float:
        rows = rng.integers(len(values), size=len(values)) if resample else slice(None)
        return float(values[rows].mean())

    def one(resample: bool) -> float:
        curve = np.array([mean(values, resample) for values in plain])
        return equivalent_budget(budgets, curve, mean(other, resample)) / budget

    found = one(resample=False)
    replicates = np.sort([one(resample=True) for _ in range(draws)])
    low, high = np.quantile(replicates, [0.025, 0.975], method="inverted_cdf")
    if min(map(len, everyone)) < 2:
        low, high = 0.0, np.inf
    if np.isinf(found):
        return Factor(float(budgets[-1]) / budget, float(low), float(high), ">")
    if found == 0:
        return Factor(float(budgets[0]) / budget, float(low), float(high), "<")
    return Factor(found, float(low), float(high), "")
