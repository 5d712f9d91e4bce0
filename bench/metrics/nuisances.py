"""Metrics of nuisance parameters: pulls, post-fit widths, impacts and costs.

They come from maxima and observed information, which the gradient evaluator provides. Deviations
are those of the inverse information, so that impacts are linear.
"""

import numpy as np
from numpy.typing import NDArray

from bench.contracts import LikelihoodPrediction, Metric
from bench.metrics.intervals import Contributions

ALL = "all"
"""Key of the cost of all nuisance parameters together."""


def _unit(own: LikelihoodPrediction, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Map parameters (\*B, P) to unit coordinates."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(theta / own.low) / np.log(own.high / own.low)
    return np.where(own.log_scale, log, (theta - own.low) / (own.high - own.low))


def _slope(own: LikelihoodPrediction, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Return derivatives of parameters (\*B, P) by their unit coordinates."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log = theta * np.log(own.high / own.low)
    return np.where(own.log_scale, log, own.high - own.low)


def _covariance(own: LikelihoodPrediction) -> NDArray[np.float64] | None:
    """Return inverse informations, (D, P, P) in unit coordinates, NaN unless positive definite.

    None where there are none.
    """
    information = own.curves.information
    if np.isnan(information).all():
        return None
    found = np.full(information.shape, np.nan)
    for row, each in enumerate(information):
        if np.isfinite(each).all() and np.linalg.eigvalsh(each)[0] > 0:
            found[row] = np.linalg.inv(each)
    return found


def _constrained(own: LikelihoodPrediction) -> dict[str, tuple[int, float]]:
    """Return positions and constraints' widths of constrained parameters, by name."""
    if own.constraint_width is None:
        return {}
    every = zip(own.names, own.constraint_width, strict=True)
    return {name: (j, width) for j, (name, width) in enumerate(every) if not np.isnan(width)}


def _pull(own: LikelihoodPrediction, truth: LikelihoodPrediction | None) -> Contributions:
    apart = _unit(own, own.curves.mle) - _unit(own, own.datasets.theta)
    return {name: apart[:, j] / width for name, (j, width) in _constrained(own).items()}


def _post_fit(own: LikelihoodPrediction, truth: LikelihoodPrediction | None) -> Contributions:
    covariance = _covariance(own)
    if covariance is None:
        return {}
    return {
        name: np.sqrt(covariance[:, j, j]) / width for name, (j, width) in _constrained(own).items()
    }


def _impact(own: LikelihoodPrediction, truth: LikelihoodPrediction | None) -> Contributions:
    covariance = _covariance(own)
    if covariance is None:
        return {}
    slope = _slope(own, own.curves.mle)
    return {
        f"{own.names[i]} by {name}": slope[:, i]
        * covariance[:, i, j]
        / np.sqrt(covariance[:, j, j])
        for i in own.reported
        for j, name in enumerate(own.names)
        if j not in own.reported
    }


def _cost(own: LikelihoodPrediction, truth: LikelihoodPrediction | None) -> Contributions:
    covariance = _covariance(own)
    nuisances = [j for j in range(len(own.names)) if j not in own.reported]
    if covariance is None or not nuisances:
        return {}
    known = ~np.isnan(covariance).any((-2, -1))
    fixed = {own.names[j]: [j] for j in nuisances} | {ALL: nuisances}
    costs = {}
    for name, columns in fixed.items():
        free = [j for j in range(len(own.names)) if j not in columns]
        remaining = np.linalg.inv(own.curves.information[known][:, free][:, :, free])
        for i in own.reported:
            place = free.index(i)
            cost = np.full(len(covariance), np.nan)
            cost[known] = np.sqrt(covariance[known, i, i] / remaining[:, place, place])
            costs[f"{own.names[i]} by {name}"] = cost
    return costs


pull = Metric(
    "pull",
    "pull",
    "Estimate of a nuisance parameter minus its generating value, in widths of its constraint.",
    ("independent",),
    _pull,
    target=0.0,
)
post_fit = Metric(
    "post_fit",
    "post-fit width",
    "Standard deviation of a nuisance parameter after the fit, in widths of its constraint; 1 if "
    "the data say nothing about it.",
    ("independent",),
    _post_fit,
)
impact = Metric(
    "impact",
    "impact",
    "Shift of a reported parameter's estimate if a nuisance parameter moves by its post-fit "
    "standard deviation, from the inverse observed information.",
    ("independent",),
    _impact,
)
nuisance_cost = Metric(
    "nuisance_cost",
    "cost",
    "Standard deviation of a reported parameter, in units of that with a nuisance parameter fixed, "
    "or with all of them fixed, from the observed information; 1 if they cost nothing.",
    ("independent",),
    _cost,
)
