"""Scores: every metric's contributions, averaged within each set of events.

Sets are drawn whole from blocks, the unit of resampling, so nothing that errors need is lost.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contracts import HeldOutPrediction, LikelihoodPrediction, Metric
from bench.errors import PluginError, message_of

Prediction = LikelihoodPrediction | HeldOutPrediction


def score(
    metrics: Sequence[Metric], prediction: Prediction | None, truth: Prediction | None
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Computes every metric of one member's prediction.

    Args:
        metrics: metrics defined for the prediction's plan.
        prediction: the member's prediction.
        truth: the exact likelihood's prediction of the same datasets, if there is one.

    Returns:
        `point`, `set` and `block` (S,) and, as `metric/key`, the mean contribution of each set
        (S,); and the reason of each metric that is not defined.

    Raises:
        PluginError: if a metric fails or returns contributions of a wrong shape.
    """
    assert prediction is not None
    point, number, block = _units(prediction)
    order, first, row = np.unique(number, return_index=True, return_inverse=True)
    arrays: dict[str, NDArray[Any]] = {"point": point[first], "set": order, "block": block[first]}
    undefined: dict[str, str] = {}
    for metric in metrics:
        if metric.needs_truth and truth is None:
            undefined[metric.name] = "needs an exact likelihood, and there is none"
            continue
        try:
            contributions = dict(metric.compute(prediction, truth))
            found = {key: np.asarray(v, dtype=np.float64) for key, v in contributions.items()}
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"metric {metric.name!r} fails: {type(error).__name__}: {message_of(error)}"
            ) from error
        if not found:
            undefined[metric.name] = "not defined for this method"
        for key, values in found.items():
            if values.shape != number.shape:
                raise PluginError(
                    f"metric {metric.name!r} returned shape {values.shape} for {key!r}; "
                    f"it must be one contribution per dataset, {number.shape}"
                )
            arrays[f"{metric.name}/{key}"] = _mean_within(values, row, len(order))
    return arrays, undefined


def _units(prediction: Prediction) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Point, set and block of every dataset; held-out contexts are blocks at no point."""
    if isinstance(prediction, HeldOutPrediction):
        contexts = np.arange(len(prediction.values.context))
        return np.full(len(contexts), -1), contexts, contexts
    datasets = prediction.datasets
    return datasets.point, datasets.set, datasets.block


def _mean_within(values: NDArray[Any], row: NDArray[Any], sets: int) -> NDArray[Any]:
    """Means of the defined contributions of each set; NaN where a set has none."""
    defined = np.isfinite(values)
    total = np.bincount(row[defined], values[defined], minlength=sets)
    count = np.bincount(row[defined], minlength=sets)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
