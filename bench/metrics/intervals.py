"""Metrics of intervals, regions and estimates: coverage, width, bias, interval score, edges."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.contracts import LikelihoodPrediction, Metric, PlanKind
from bench.inference.intervals import region_threshold

Array = NDArray[np.float64]
Contributions = dict[str, Array]

ALPHA = float(2 * stats.norm.sf(1))
"""Nominal error rate, 1 − 0.6827, of intervals where the profile has fallen by 1/2."""

_BOTH: tuple[PlanKind, ...] = ("independent", "bootstrap")


def defined(values: Array) -> Array:
    """Replace infinite values by NaN, the mark of a dataset without a contribution.

    Examples are the loss of a context with a log-density of −inf, and a ratio to a width of 0.

    Example:
        >>> defined(np.array([1.0, np.inf, -np.inf]))
        array([ 1., nan, nan])
    """
    return np.where(np.isinf(values), np.nan, values)


def by_name(prediction: LikelihoodPrediction, values: NDArray[Any]) -> Contributions:
    """Return values (D, I) by reported parameter."""
    names = prediction.reported_names
    return {name: np.asarray(values[:, i], dtype=np.float64) for i, name in enumerate(names)}


def reported(prediction: LikelihoodPrediction, values: NDArray[Any]) -> NDArray[Any]:
    r"""Return the entries of the reported parameters, (\*B, P) to (\*B, I)."""
    return values[..., list(prediction.reported)]


def _half_width(prediction: LikelihoodPrediction) -> NDArray[np.float64]:
    length = prediction.curves.upper - prediction.curves.lower
    return np.asarray(0.5 * length, dtype=np.float64)


def _coverage(own: LikelihoodPrediction, truth: LikelihoodPrediction | None) -> Contributions:
    theta, curves = reported(own, own.datasets.theta), own.curves
    return by_name(own, (curves.lower <= theta) & (theta <= curves.upper))


def _interval_score(own: LikelihoodPrediction, truth: LikelihoodPrediction | None) -> Contributions:
    theta, curves = reported(own, own.datasets.theta), own.curves
    outside = np.maximum(curves.lower - theta, 0) + np.maximum(theta - curves.upper, 0)
    return by_name(own, curves.upper - curves.lower + (2 / ALPHA) * outside)


def _bias(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> Contributions:
    difference = reported(own, own.curves.mle - own.datasets.theta)
    return by_name(own, defined(difference / _half_width(truth)))


def _mle_distance(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> Contributions:
    distance = reported(own, np.abs(own.curves.mle - truth.curves.mle))
    return by_name(own, defined(distance / _half_width(truth)))


def _mle_edge(own: LikelihoodPrediction, truth: LikelihoodPrediction | None) -> Contributions:
    mle = own.curves.mle
    return by_name(own, reported(own, (mle <= own.low) | (mle >= own.high)))


def _cut(own: LikelihoodPrediction, truth: LikelihoodPrediction | None) -> Contributions:
    found = by_name(own, own.curves.cut_lower | own.curves.cut_upper)
    if own.window is not None:
        found["region"] = own.window.region_cut.astype(np.float64)
    return found


def _percentile_width(
    own: LikelihoodPrediction, truth: LikelihoodPrediction | None
) -> Contributions:
    mle = reported(own, own.curves.mle)
    out = np.empty_like(mle)
    for number in np.unique(own.datasets.set):
        rows = own.datasets.set == number
        low, high = np.percentile(mle[rows], [16, 84], axis=0)
        out[rows] = high - low
    return by_name(own, out)


def _region_coverage(
    own: LikelihoodPrediction, truth: LikelihoodPrediction | None
) -> Contributions:
    inside = -2 * own.curves.log_ratio_truth <= region_threshold(len(own.names))
    return {"": inside.astype(np.float64)}


def _region_area(own: LikelihoodPrediction, truth: LikelihoodPrediction | None) -> Contributions:
    return {} if own.window is None else {"": own.window.area}


coverage = Metric(
    "coverage",
    "coverage",
    "Share of 68.27 % profile-likelihood intervals that hold the generating value.",
    _BOTH,
    _coverage,
    share=True,
    against="difference",
)
width = Metric(
    "width",
    "width",
    "Length of the 68.27 % profile-likelihood interval.",
    _BOTH,
    lambda own, _: by_name(own, own.curves.upper - own.curves.lower),
    against="ratio",
)
interval_score = Metric(
    "interval_score",
    "interval score",
    "Interval length plus 2/α times the distance by which it misses, α = 0.3173 (Gneiting & "
    "Raftery 2007); lower is better.",
    _BOTH,
    _interval_score,
    against="ratio",
)
bias = Metric(
    "bias",
    "bias",
    "Maximum-likelihood estimate minus generating value, in half-widths of the exact interval.",
    _BOTH,
    _bias,
    needs_truth=True,
)
mle_distance = Metric(
    "mle_distance",
    "MLE distance",
    "Distance of the maximum-likelihood estimate to the exact one, in half-widths of the exact "
    "interval.",
    _BOTH,
    _mle_distance,
    needs_truth=True,
)
mle_edge = Metric(
    "mle_edge",
    "MLE at edge",
    "Share of maximum-likelihood estimates on a bound of the parameter space.",
    _BOTH,
    _mle_edge,
    share=True,
    against="difference",
)
cut = Metric(
    "cut",
    "cut",
    "Share of intervals, and of 95 % regions, cut by a bound of the parameter space.",
    _BOTH,
    _cut,
    share=True,
    against="difference",
)
disconnected = Metric(
    "disconnected",
    "disconnected",
    "Share of datasets whose profile rises above the threshold again outside the interval.",
    _BOTH,
    lambda own, _: by_name(own, own.curves.disconnected),
    share=True,
)
unresolved = Metric(
    "unresolved",
    "unresolved",
    "Share of datasets evaluated more coarsely than asked, or clipped by the window.",
    _BOTH,
    lambda own, _: {"": own.curves.unresolved.astype(np.float64)},
    share=True,
)
region_coverage = Metric(
    "region_coverage",
    "95 % coverage",
    "Share of 95 % Wilks regions in all parameters that hold the generating values.",
    _BOTH,
    _region_coverage,
    share=True,
    against="difference",
)
region_area = Metric(
    "region_area",
    "95 % area",
    "Area of the 95 % Wilks region.",
    _BOTH,
    _region_area,
    against="ratio",
)
percentile_width = Metric(
    "percentile_width",
    "percentile width",
    "Distance of the 16 % and 84 % percentiles of a set's bootstrapped estimates; a width only.",
    ("bootstrap",),
    _percentile_width,
    against="ratio",
)
