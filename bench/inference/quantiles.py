"""Quantile regression of likelihood-ratio statistics on the parameters (Koenker & Bassett 1978)."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import QuantileRegressor

from bench.inference.critical import QuantileFunction
from bench.nn.score_matching import monomials
from bench.nn.trees import boxes, nodes_of

Family = Literal["constant", "quadratic", "boosted"]
FAMILIES: tuple[Family, ...] = get_args(Family)
"""Families of functions, the simplest first."""

_FOLDS = 5
_PER_TERM = 4  # least number of different parameters for each coefficient
_PER_TREES = 100  # least number of them for boosted trees
_TREES = {"max_iter": 40, "learning_rate": 0.15, "max_leaf_nodes": 4, "early_stopping": False}

_Array = NDArray[np.float64]


def pinball(value: _Array, quantile: _Array, level: float) -> _Array:
    """Return the pinball loss, which the quantile at a level minimises in expectation.

    Example:
        >>> pinball(np.array([0.0, 2.0]), np.array([1.0, 1.0]), 0.75)
        array([0.25, 0.75])
    """
    above = value - quantile
    return np.maximum(level * above, (level - 1) * above)


def fit_quantile(position: _Array, value: _Array, level: float, family: Family) -> QuantileFunction:
    """Fit a quantile as a function of the position.

    The constant is the order statistic whose expected coverage is the level, or the largest value.

    Args:
        position: positions of n toys, −1 to 1 in each parameter, (n, P).
        value: their values, (n,).
        level: level of the quantile.
        family: family of functions.
    """
    parameters = position.shape[1]
    if family == "boosted":
        least = max(20, len(value) // 20)
        model = HistGradientBoostingRegressor(
            loss="quantile", quantile=level, min_samples_leaf=least, random_state=0, **_TREES
        ).fit(position, value)
        lower, upper, terms = boxes(*nodes_of(model), parameters)
        return QuantileFunction(torch.zeros(1, dtype=torch.float64), lower, upper, terms)
    if family == "quadratic":
        terms = monomials(torch.from_numpy(position))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = QuantileRegressor(quantile=level, alpha=0, fit_intercept=False)
            coefficients = model.fit(terms.numpy(), value).coef_
        return QuantileFunction.polynomial(torch.from_numpy(coefficients), parameters)
    constant = np.quantile(value, level, method="weibull")
    return QuantileFunction.polynomial(torch.tensor([constant], dtype=torch.float64), parameters)


def candidates(toys: int, parameters: int) -> list[Family]:
    """Return the families that toys at so many parameters can determine, the simplest first.

    Example:
        >>> candidates(30, 2), candidates(300, 2)
        (['constant', 'quadratic'], ['constant', 'quadratic', 'boosted'])
    """
    terms = 1 + parameters + parameters * (parameters + 1) // 2
    least: Mapping[Family, int] = {"quadratic": _PER_TERM * terms, "boosted": _PER_TREES}
    return [family for family in FAMILIES if toys >= least.get(family, 0)]


def choose_family(
    position: _Array, value: _Array, level: float, group: Sequence[int] | NDArray[np.int64]
) -> Family:
    """Choose the family by the pinball loss on toys that its fit has not seen.

    It is the simplest one whose loss is above the least by at most one standard error of their
    difference (Breiman et al. 1984). Toys of equal parameters are left out together.

    Args:
        position: positions of n toys, (n, P).
        value: their values, (n,).
        level: level of the quantile.
        group: number of the parameters of each toy, (n,).
    """
    members = np.unique(np.asarray(group), return_inverse=True)[1]
    sizes = np.bincount(members)
    every, fold = candidates(len(sizes), position.shape[1]), members % _FOLDS
    if len(every) == 1 or len(np.unique(fold)) < _FOLDS:
        return every[0]
    losses: dict[Family, _Array] = {family: np.empty(len(value)) for family in every}
    for left in range(_FOLDS):
        test = fold == left
        for family, loss in losses.items():
            fitted = fit_quantile(position[~test], value[~test], level, family)
            found = fitted(torch.from_numpy(position[test])).numpy()
            loss[test] = pinball(value[test], found, level)
    best = min(every, key=lambda family: losses[family].mean())
    for family in every:
        more = np.bincount(members, losses[family] - losses[best]) / sizes
        if more.mean() <= more.std(ddof=1) / np.sqrt(len(more)):
            return family
    return best
