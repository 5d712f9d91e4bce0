"""True coverage of intervals as `bench trust` judges them, to check its verdicts."""

import numpy as np

from bench.contracts import LikelihoodPrediction, Metric
from bench.metrics import posterior_draws, posterior_lattice

_LEVELS = np.linspace(0, 1, 513)


def _coverage(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> dict[str, np.ndarray]:
    source = posterior_lattice if own.box_window is not None else posterior_draws
    found = {}
    for i, (name, values) in enumerate(source.quantiles(own, truth, _LEVELS).items()):
        lower, upper = own.curves.lower[:, i], own.curves.upper[:, i]
        found[name] = np.array(
            [
                np.interp(high, theta, _LEVELS) - np.interp(low, theta, _LEVELS)
                for low, high, theta in zip(lower, upper, values, strict=True)
            ]
        )
    return found


delivered_coverage = Metric(
    "delivered_coverage",
    "coverage",
    "Posterior probability of 68.27 % intervals in the whole parameter space, in the box.",
    ("independent",),
    _coverage,
    needs_truth=True,
)
