"""Coverage as a function of the parameter, by a logistic regression on splines.

Averages over the parameter hide where intervals fail. Draws of the parameter given each dataset are
inside or outside an interval; their log-odds are fitted by cubic splines of the parameter. Errors
are clustered by member and dataset (Cameron, Gelbach & Miller 2011).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.interpolate import BSpline
from scipy.special import expit

from bench.stats.clustering import Array, Strata, two_way_variance

_DEGREE = 3
_INNER = (0.5,)  # inner knots, in units of the range
_COEFFICIENTS = _DEGREE + 1 + len(_INNER)
_GRID = 41
_RIDGE = 1e-6  # keeps log-odds finite where all draws are inside
_STEPS = 50


@dataclass(frozen=True)
class LocalCoverage:
    """Coverage along one parameter, with a simultaneous band.

    Args:
        theta: parameter values, (G,).
        coverage: coverage there, (G,).
        error: standard errors, (G,).
        low, high: ends of the band, (G,).
    """

    theta: Array
    coverage: Array
    error: Array
    low: Array
    high: Array

    def worst(self, nominal: float) -> int:
        """Return the index where the coverage is farthest from the nominal one."""
        return int(np.argmax(np.abs(self.coverage - nominal)))


def local_coverage(
    theta: ArrayLike, inside: ArrayLike, stratum: ArrayLike | Strata, level: float = 0.95
) -> LocalCoverage:
    """Fit the coverage as a smooth function of the parameter.

    Args:
        theta: Q equally probable values of the parameter given each of S datasets, (S, Q).
        inside: whether they are inside the interval of each of n members, (n, S, Q).
        stratum: evaluation point of each dataset, integers, (S,); or strata.
        level: probability that the band holds the whole curve.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> theta = rng.uniform(size=(400, 8))
        >>> inside = rng.uniform(size=(3, 400, 8)) < 0.4 + 0.5 * theta
        >>> found = local_coverage(theta, inside, [0] * 400)
        >>> bool(abs(found.coverage[20] - 0.65) < 0.03), found.worst(0.6827)
        (True, 0)
    """
    strata = Strata.of(stratum)
    grid, odds, influence = _fit(theta, inside)
    found = two_way_variance(np.moveaxis(influence, -1, 0), strata)
    error = np.sqrt(found.total)
    dof = np.maximum(found.dof, 1.0)
    half = np.sqrt(_COEFFICIENTS * stats.f.ppf(level, _COEFFICIENTS, dof)) * error  # Scheffé's band
    p = expit(odds)
    return LocalCoverage(grid, p, p * (1 - p) * error, expit(odds - half), expit(odds + half))


@dataclass(frozen=True)
class LocalGap:
    """Difference of two coverages along one parameter.

    Args:
        theta: parameter values, (G,).
        gap: difference there, (G,).
        error: standard errors, (G,).
    """

    theta: Array
    gap: Array
    error: Array

    @property
    def worst(self) -> int:
        """Index of the largest difference."""
        return int(np.argmax(np.abs(self.gap)))


def local_gap(
    theta: ArrayLike, inside: ArrayLike, reference: ArrayLike, stratum: ArrayLike | Strata
) -> LocalGap:
    """Compare the coverage of intervals with that of others for the same datasets.

    Args:
        theta: Q equally probable values of the parameter given each of S datasets, (S, Q).
        inside: whether they are inside the interval of each of n members, (n, S, Q).
        reference: whether they are inside the intervals to compare with, (1, S, Q).
        stratum: evaluation point of each dataset, integers, (S,); or strata.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> theta = rng.uniform(size=(400, 8))
        >>> reference = rng.uniform(size=(1, 400, 8)) < 0.7
        >>> found = local_gap(theta, reference & (theta < 0.9), reference, [0] * 400)
        >>> bool(found.theta[found.worst] > 0.9), bool(abs(found.gap[10]) < 0.1)
        (True, True)
    """
    grid, odds, influence = _fit(theta, inside)
    _, base, moved = _fit(theta, reference)
    p, q = expit(odds), expit(base)
    both = p * (1 - p) * influence - q * (1 - q) * moved
    found = two_way_variance(np.moveaxis(both, -1, 0), Strata.of(stratum))
    return LocalGap(grid, p - q, np.sqrt(found.total))


def _fit(theta: ArrayLike, inside: ArrayLike) -> tuple[Array, Array, Array]:
    """Fit the log-odds of being inside.

    Returns:
        Parameter values, (G,), log-odds there, (G,), and their influence functions, (n, S, G).
    """
    at, covered = np.asarray(theta, dtype=np.float64), np.asarray(inside, dtype=np.float64)
    low, high = float(at.min()), float(at.max())
    unit = (at - low) / (high - low or 1.0)
    basis = _basis(unit.ravel())
    mean = covered.mean(0).ravel()
    beta = np.zeros(_COEFFICIENTS)
    for _ in range(_STEPS):
        p = expit(basis @ beta)
        weight = p * (1 - p) / len(p)
        information = (basis * weight[:, None]).T @ basis + _RIDGE * np.eye(len(beta))
        step = np.linalg.solve(information, basis.T @ (mean - p) / len(p) - _RIDGE * beta)
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            break
    grid = np.linspace(0, 1, _GRID)
    there = _basis(grid)
    scores = (
        basis.reshape(*at.shape, -1) * (covered - expit(basis @ beta).reshape(at.shape))[..., None]
    )
    influence = scores.mean(2) @ np.linalg.solve(information, there.T)
    return low + (high - low) * grid, there @ beta, influence


def _basis(unit: Array) -> Array:
    knots = np.concatenate([np.zeros(_DEGREE + 1), _INNER, np.ones(_DEGREE + 1)])
    out: Array = BSpline.design_matrix(np.clip(unit, 0, 1), knots, _DEGREE).toarray()
    return out
