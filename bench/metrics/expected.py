"""Metrics in expectation over the exact posterior, with one box for all methods.

Parameters of a dataset are drawn uniformly, in unit coordinates, from the inner box. The exact
likelihood, normalised in the box, is therefore their distribution given the dataset. The
expectation of a metric over it has the mean of the plain metric and a smaller variance (Rao 1945;
Blackwell 1947). The coverage of an interval is its posterior probability instead of 0 or 1.

Contributions are defined for datasets with parameters drawn from the box. Expectations are sums
over a lattice of one or two parameters, or means over draws from the posterior.
"""

from types import ModuleType

import numpy as np

from bench.contracts import LikelihoodPrediction, Metric
from bench.inference.box import ROOTS
from bench.metrics import posterior_draws, posterior_lattice
from bench.metrics.intervals import ALPHA, Array, by_name, reported

DRAWS = 16
"""Number of equally probable values of a parameter that are saved of every dataset."""

_WIDTH = ROOTS.index(1.0)

Contributions = dict[str, Array]


def _source(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> ModuleType | None:
    """Return the module that computes expectations; None if nothing is saved for it."""
    if own.box_window is not None and truth.box_window is not None:
        return posterior_lattice
    return posterior_draws if own.draws is not None and own.box is not None else None


def _drawn(own: LikelihoodPrediction, values: Array) -> Array:
    """Return contributions (D,), NaN for datasets whose parameters are not drawn from the box."""
    return np.where(own.datasets.point < 0, values, np.nan)


def _of_intervals(
    own: LikelihoodPrediction, truth: LikelihoodPrediction, quantity: str
) -> dict[str, Array]:
    source = _source(own, truth)
    return {} if source is None else source.of_intervals(own, truth, quantity)


def _coverage(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> Contributions:
    found = _of_intervals(own, truth, "probability")
    return {name: _drawn(own, values[:, _WIDTH]) for name, values in found.items()}


def _score(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> Contributions:
    widths, found = _width(own, None), _of_intervals(own, truth, "distance")
    return {
        name: _drawn(own, widths[name] + 2 / ALPHA * values[:, _WIDTH])
        for name, values in found.items()
    }


def _width(own: LikelihoodPrediction, truth: LikelihoodPrediction | None) -> Contributions:
    if own.box is None:
        return {}
    return by_name(own, own.box.upper[..., _WIDTH] - own.box.lower[..., _WIDTH])


def _region(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> Contributions:
    source = _source(own, truth)
    return {} if source is None else {"": _drawn(own, source.region(own, truth))}


def _divergence(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> Contributions:
    return {key: values for key, (values, _) in _divergences(own, truth).items()}


def _saturated(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> Contributions:
    return {key: values for key, (_, values) in _divergences(own, truth).items()}


def _divergences(
    own: LikelihoodPrediction, truth: LikelihoodPrediction
) -> dict[str, tuple[Array, Array]]:
    """Return divergences, and whether they are lower limits, (D,) each by key."""
    source = _source(own, truth)
    found = {} if source is None else source.divergences(own, truth)
    return {key: (_drawn(own, d), _drawn(own, floored)) for key, (d, floored) in found.items()}


def _overlap(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> Contributions:
    source = _source(own, truth)
    found = {} if source is None else source.overlaps(own, truth)
    return {key: _drawn(own, values) for key, values in found.items()}


def _at_thresholds(values: dict[str, Array]) -> Contributions:
    """Return values (D, T) by parameter and square root of the threshold."""
    return {
        f"{name} {root:g}": _rounded(found[:, i])
        for name, found in values.items()
        for i, root in enumerate(ROOTS)
    }


def _rounded(values: Array) -> Array:
    """Round to single precision, which halves the size of packs."""
    return values.astype(np.float32).astype(np.float64)


def _ends(own: LikelihoodPrediction, side: str) -> Contributions:
    if own.box is None:
        return {}
    values = getattr(own.box, side)
    return _at_thresholds({name: values[:, i] for i, name in enumerate(own.reported_names)})


def _draws(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> Contributions:
    """Return equally probable values of each parameter; nothing unless `own` is the truth."""
    source = _source(own, truth)
    if source is None or not source.is_truth(own, truth):
        return {}
    levels = (np.arange(DRAWS) + 0.5) / DRAWS
    return {
        f"{name} {i + 1}": _rounded(_drawn(own, values[:, i]))
        for name, values in source.quantiles(own, truth, levels).items()
        for i in range(DRAWS)
    }


def _information(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> Contributions:
    if np.isnan(own.curves.information).all():
        return {}
    both = [np.linalg.slogdet(p.curves.information) for p in (own, truth)]
    (sign, log), (other_sign, other) = both
    known = (sign > 0) & (other_sign > 0)
    return {"joint": np.where(known, 0.5 * (log - other) / len(own.names), np.nan)}


def _statistic(own: LikelihoodPrediction, truth: LikelihoodPrediction | None) -> Contributions:
    if own.box is None:
        return {}
    return by_name(own, own.box.statistic) | {"joint": -2 * own.box.log_ratio_truth}


def _estimate(own: LikelihoodPrediction, truth: LikelihoodPrediction | None) -> Contributions:
    if own.box is None:
        return {}
    return by_name(own, reported(own, own.box.mle))


def _generating(own: LikelihoodPrediction, truth: LikelihoodPrediction | None) -> Contributions:
    if own.box is None:
        return {}
    return {name: own.datasets.theta[:, i] for i, name in enumerate(own.names)}


expected_coverage = Metric(
    "expected_coverage",
    "coverage",
    "Posterior probability of 68.27 % profile-likelihood intervals, both restricted to the box.",
    ("independent",),
    _coverage,
    needs_truth=True,
    against="difference",
)
expected_score = Metric(
    "expected_score",
    "interval score",
    "Interval score of 68.27 % intervals in the box, in expectation over the exact posterior; "
    "lower is better.",
    ("independent",),
    _score,
    needs_truth=True,
    against="ratio",
)
box_width = Metric(
    "box_width",
    "width",
    "Length of the 68.27 % profile-likelihood interval inside the box.",
    ("independent",),
    _width,
    against="ratio",
)
expected_region = Metric(
    "expected_region",
    "95 % coverage",
    "Posterior probability of 95 % Wilks regions, both restricted to the box.",
    ("independent",),
    _region,
    needs_truth=True,
    against="difference",
)
divergence = Metric(
    "divergence",
    "divergence",
    "Kullback–Leibler divergence of the surrogate's likelihood from the exact one, in nats per "
    "dataset, both normalised in the box; falls beyond 40 nats are cut.",
    ("independent",),
    _divergence,
    needs_truth=True,
    median=True,
)
divergence_limit = Metric(
    "divergence_limit",
    "lower limits",
    "Share of divergences that are lower limits, because the surrogate has fallen by 40 nats where "
    "the exact likelihood has not.",
    ("independent",),
    _saturated,
    needs_truth=True,
    share=True,
)
box_overlap = Metric(
    "box_overlap",
    "overlap",
    "Overlap ∫ min(p, p̂) with the exact likelihood, both normalised in the box.",
    ("independent",),
    _overlap,
    needs_truth=True,
)
information = Metric(
    "information",
    "excess information",
    "Half the log-determinant of the observed information at the maximum minus that of exact's, "
    "per parameter: the mean logarithm of factors by which standard deviations are too small. 0 "
    "is right, and above is over-confident.",
    ("independent",),
    _information,
    needs_truth=True,
    target=0.0,
)
profile_lower = Metric(
    "profile_lower",
    "lower end",
    "Lower ends of profile-likelihood intervals in the box, by the root of their threshold.",
    ("independent",),
    lambda own, _: _ends(own, "lower"),
    kept=True,
)
profile_upper = Metric(
    "profile_upper",
    "upper end",
    "Upper ends of profile-likelihood intervals in the box, by the root of their threshold.",
    ("independent",),
    lambda own, _: _ends(own, "upper"),
    kept=True,
)
profile_coverage = Metric(
    "profile_coverage",
    "coverage",
    "Posterior probability of profile-likelihood intervals, by the root of their threshold.",
    ("independent",),
    lambda own, truth: {
        key: _drawn(own, values)
        for key, values in _at_thresholds(_of_intervals(own, truth, "probability")).items()
    },
    needs_truth=True,
    kept=True,
)
posterior = Metric(
    "posterior",
    "posterior",
    "Equally probable values of each parameter given the dataset, from the exact likelihood.",
    ("independent",),
    _draws,
    needs_truth=True,
    kept=True,
)
statistic = Metric(
    "statistic",
    "statistic",
    "Likelihood-ratio statistic in the box at the generating parameters, profiled and jointly.",
    ("independent",),
    _statistic,
    kept=True,
)
estimate = Metric(
    "estimate",
    "estimate",
    "Maximum-likelihood estimate in the box.",
    ("independent",),
    _estimate,
    kept=True,
)
generating = Metric(
    "generating",
    "generating value",
    "All parameters from which the dataset was simulated.",
    ("independent",),
    _generating,
    kept=True,
)
