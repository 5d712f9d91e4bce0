"""Expectations over exact posteriors of any number of parameters, by means over draws."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contracts import LikelihoodPrediction, PosteriorDraws
from bench.inference.intervals import region_threshold
from bench.inference.lattice import BOX_DEPTH
from bench.metrics.intervals import Array, defined

_FEWEST = 10  # least effective sample size that measures a ratio of integrals


def of_intervals(
    own: LikelihoodPrediction, truth: LikelihoodPrediction, quantity: str
) -> dict[str, Array]:
    """Return the probability of intervals, or the expected distance to them, (D, T) by name."""
    draws, rows = _saved(own)
    assert own.box is not None
    found = {}
    for i, (name, axis) in enumerate(zip(own.reported_names, own.reported, strict=True)):
        theta = draws.theta[:, None, :, axis].astype(np.float64)  # (U, 1, S)
        lower, upper = (ends[rows, i, :, None] for ends in (own.box.lower, own.box.upper))
        if quantity == "probability":
            values = (theta >= lower) & (theta <= upper)
        else:
            values = np.maximum(lower - theta, 0) + np.maximum(theta - upper, 0)
        found[name] = _placed(own, values.mean(-1))
    return found


def region(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> Array:
    """Return the probability of 95 % regions, (D,)."""
    draws, rows = _saved(own)
    assert own.box is not None
    factor = own.box.region_factor[rows]
    inside = -2 * draws.own * factor[:, None] <= region_threshold(len(own.names))
    return _placed(own, inside.mean(-1))


def divergences(
    own: LikelihoodPrediction, truth: LikelihoodPrediction
) -> dict[str, tuple[Array, Array]]:
    """Return joint divergences, and whether they are lower limits, (D,) each."""
    draws, _ = _saved(own)
    divergence = defined((draws.exact - draws.own).mean(-1) + draws.log_ratio)
    floored = (draws.own <= -BOX_DEPTH).any(-1) | (draws.log_ratio_size < _FEWEST)
    return {"joint": (_placed(own, divergence), _placed(own, floored))}


def overlaps(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> dict[str, Array]:
    """Return joint overlaps, (D,)."""
    draws, _ = _saved(own)
    log_share = draws.own - draws.exact - draws.log_ratio[:, None]
    overlap = np.exp(np.minimum(log_share, 0)).mean(-1)
    return {"joint": _placed(own, np.where(np.isfinite(draws.log_ratio), overlap, np.nan))}


def quantiles(
    own: LikelihoodPrediction, truth: LikelihoodPrediction, levels: Array
) -> dict[str, Array]:
    """Return quantiles of each reported parameter, (D, L) by name."""
    draws, _ = _saved(own)
    return {
        name: _placed(own, np.quantile(draws.theta[..., axis], levels, axis=-1).T)
        for name, axis in zip(own.reported_names, own.reported, strict=True)
    }


def is_truth(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> bool:
    """Return whether a prediction is that of the exact likelihood, within rounding."""
    draws, _ = _saved(own)
    return np.allclose(draws.own, draws.exact, rtol=0, atol=1e-5)


def _saved(own: LikelihoodPrediction) -> tuple[PosteriorDraws, NDArray[np.bool_]]:
    """Return the draws, and the mask of their datasets."""
    assert own.draws is not None
    return own.draws, own.datasets.point < 0


def _placed(own: LikelihoodPrediction, values: NDArray[Any]) -> Array:
    """Return values of the datasets with draws (U, …) among all datasets, (D, …)."""
    placed = np.full((len(own.datasets), *values.shape[1:]), np.nan)
    placed[own.datasets.point < 0] = values
    return placed
