"""Metrics by name, and predictions of two parameters around one truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contracts import (
    Datasets,
    LatticeWindow,
    LikelihoodPrediction,
    Metric,
    ProfileSummary,
)
from bench.registry.registry import Registry
from bench.testing import asymmetric

Array = NDArray[np.float64]
REGISTRY = Registry([asymmetric.__file__])
METRICS: dict[str, Metric] = {
    name: REGISTRY.get("metrics", name) for name in REGISTRY.names("metrics")
}
SIGMA = (0.02, 0.03)
DATASETS = 600
THETA = (0.5, 0.5)


def compute(name: str, own: Any, truth: Any = None) -> Mapping[str, NDArray[Any]]:
    """Return a metric's contributions, (D,) by key."""
    return METRICS[name].compute(own, truth)


def prediction(
    curves: ProfileSummary,
    window: LatticeWindow | None = None,
    theta: tuple[float, float] = THETA,
    sets: NDArray[np.int64] | None = None,
) -> LikelihoodPrediction:
    count = len(curves.mle)
    return LikelihoodPrediction(
        names=("mu", "z"),
        low=np.zeros(2),
        high=np.ones(2),
        log_scale=np.zeros(2, dtype=bool),
        reported=(0, 1),
        datasets=Datasets(
            theta=np.tile(theta, (count, 1)),
            point=np.zeros(count, dtype=np.int64),
            set=np.arange(count) if sets is None else sets,
            block=np.arange(count) if sets is None else sets,
        ),
        curves=curves,
        window=window,
    )


def scatter(rho: float, seed: int = 0, count: int = DATASETS) -> Array:
    """Draw estimates of exact likelihoods: θ plus noise of covariance Σ."""
    rng = np.random.default_rng(seed)
    noise = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], count)
    result: Array = np.array(THETA) + noise * np.array(SIGMA)
    return result
