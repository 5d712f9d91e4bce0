"""Metrics of held-out simulations: losses, normalisation and score error."""

import numpy as np

from bench.contracts import HeldOutPrediction, Metric
from bench.metrics.intervals import Array, defined

RATIO_EDGES = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)
"""Edges of bins of log r̂; the first and the last bin are open."""


def _by_component(prediction: HeldOutPrediction, values: Array) -> dict[str, Array]:
    """Return values (K, C) by component, with NaN for contexts where a value is infinite."""
    return dict(zip(prediction.components, defined(values), strict=True))


_LARGEST = 700.0  # of a logarithm whose exponential is finite


def _bce(own: HeldOutPrediction, truth: HeldOutPrediction | None) -> dict[str, Array]:
    if not own.values.has_reference:
        return {}
    positive = np.logaddexp(0, -own.values.own).mean(-1)
    negative = np.logaddexp(0, own.values.reference).mean(-1)
    return _by_component(own, 0.5 * (positive + negative))


def _nll(own: HeldOutPrediction, truth: HeldOutPrediction | None) -> dict[str, Array]:
    return _by_component(own, -own.values.own.mean(-1)) if own.values.has_density else {}


def _log_mean_ratio(own: HeldOutPrediction, truth: HeldOutPrediction | None) -> dict[str, Array]:
    if not own.values.has_reference:
        return {}
    top = own.values.reference.max(-1, keepdims=True)
    return _by_component(own, np.log(np.exp(own.values.reference - top).mean(-1)) + top[..., 0])


def _score_error(own: HeldOutPrediction, truth: HeldOutPrediction) -> dict[str, Array]:
    error = ((own.values.score - truth.values.score) ** 2).mean(2)  # (K, C, d)
    # One scale per component and parameter avoids large ratios at contexts without information.
    scale = (truth.values.score**2).mean((1, 2))[:, None]
    relative = defined(error / np.maximum(scale, 1e-300))
    return {
        f"{component}.{parameter}": relative[k, :, j]
        for k, component in enumerate(own.components)
        for j, parameter in enumerate(own.parameters)
    }


def _ratio_histogram(own: HeldOutPrediction, truth: HeldOutPrediction | None) -> dict[str, Array]:
    """Return shares in bins of log r̂, which are (C,) by "COMPONENT KIND BIN"."""
    if not own.values.has_reference:
        return {}
    simulated, reference = own.values.own, own.values.reference  # (K, C, n)
    ratio = np.exp(np.minimum(reference, _LARGEST))
    bins = [np.digitize(values, RATIO_EDGES) for values in (simulated, reference)]
    found = {}
    for i in range(len(RATIO_EDGES) + 1):
        there, here = (places == i for places in bins)
        weighted = (ratio * here).mean(-1)
        for kind, share in (
            ("reference", here.mean(-1)),
            ("weighted", weighted),
            ("gap", there.mean(-1) - weighted),
        ):
            for k, component in enumerate(own.components):
                found[f"{component} {kind} {i}"] = share[k]
    return found


bce = Metric(
    "bce",
    "held-out BCE",
    "Balanced binary cross-entropy of each component against the reference at held-out contexts; "
    "comparable at equal reference only.",
    ("heldout",),
    _bce,
)
nll = Metric(
    "nll",
    "held-out NLL",
    "Negative log-density of held-out simulations of each component.",
    ("heldout",),
    _nll,
    against="difference",
)
not_finite = Metric(
    "not_finite",
    "not finite",
    "Share of held-out simulations of each component whose log-density is not finite; losses leave "
    "out the contexts where there are any.",
    ("heldout",),
    lambda own, _: _by_component(own, (~np.isfinite(own.values.own)).mean(-1)),
)
log_mean_ratio = Metric(
    "log_mean_ratio",
    "log E[r̂]",
    "Logarithm of the mean estimated ratio over the reference; 0 for a normalised ratio.",
    ("heldout",),
    _log_mean_ratio,
)
ratio_histogram = Metric(
    "ratio_histogram",
    "bins of log r̂",
    "Shares in bins of log r̂: of reference observations, of weights r̂, and of simulations "
    "minus that, which is 0 on average for exact ratios.",
    ("heldout",),
    _ratio_histogram,
    kept=True,
)
score_error = Metric(
    "score_error",
    "score error",
    "Mean squared error of the score of each component, relative to the exact score's mean square.",
    ("heldout",),
    _score_error,
    needs_truth=True,
)
