"""Metrics of whole likelihoods against the exact one: overlap and likelihood-ratio error."""

import numpy as np
from numpy.typing import NDArray

from bench.contracts import Curves, LikelihoodPrediction, Metric

Array = NDArray[np.float64]

_NODES = 65  # nodes of the common grid that two windows are compared on, per parameter
_FLOOR = -60.0  # nats; stands for −inf where curves are interpolated
_BLOCK = 256  # datasets at a time, which bounds memory


def _interpolation(origin: Array, spacing: Array, low: Array, high: Array, target: Array) -> Array:
    """Matrices of cubic Lagrange interpolation from windows to targets.

    Args:
        origin, spacing: the window's first node and spacing, (D,).
        low, high: first and last node that lies in the parameter space, (D,) int.
        target: where to interpolate, (D, T).

    Returns:
        (D, T, W); rows of targets outside the window are zero.
    """
    width = int(high.max()) + 1
    position = (target - origin[:, None]) / spacing[:, None]
    count = high - low + 1
    base = np.clip(np.floor(position) - 1, low[:, None], np.maximum(high - 3, low)[:, None])
    matrix = np.zeros((*target.shape, max(width, 4)))
    nodes = np.minimum(4, count)[:, None]
    for i in range(4):
        weight = np.ones_like(position)
        for j in range(4):
            if j != i:
                used = (j < nodes) & (i < nodes)
                factor = (position - base - j) / (i - j)
                weight = np.where(used, weight * factor, weight)
        weight = np.where(i < nodes, weight, 0.0)
        index = np.minimum(base + i, matrix.shape[2] - 1).astype(np.int64)
        np.put_along_axis(
            matrix,
            index[..., None],
            np.take_along_axis(matrix, index[..., None], 2) + weight[..., None],
            2,
        )
    inside = (position >= low[:, None] - 1e-9) & (position <= high[:, None] + 1e-9)
    return np.where(inside[..., None], matrix, 0.0)


def _on_grid(curves: Curves, rows: slice, grids: list[Array]) -> Array:
    """Joint likelihoods on common grids, relative to their maxima, (D, T, T)."""
    joint = np.maximum(curves.joint[rows].astype(np.float64), _FLOOR)
    matrices, inside = [], []
    for axis, grid in enumerate(grids):
        valid = np.isfinite(curves.joint[rows]).any(axis=2 - axis)
        low = valid.argmax(1)
        high = valid.shape[1] - 1 - valid[:, ::-1].argmax(1)
        matrix = _interpolation(
            curves.origin[rows, axis], curves.spacing[rows, axis], low, high, grid
        )
        full = np.zeros((*matrix.shape[:2], joint.shape[1]))
        full[..., : min(matrix.shape[2], joint.shape[1])] = matrix[..., : joint.shape[1]]
        matrices.append(full)
        inside.append(matrix.any(2))
    values = matrices[0] @ joint @ matrices[1].transpose(0, 2, 1)
    mask = inside[0][:, :, None] & inside[1][:, None, :]
    density: Array = np.where(mask, np.exp(np.minimum(values, 1.0)), 0.0)
    return density


def _overlaps(own: Curves, truth: Curves, names: tuple[str, ...]) -> dict[str, Array]:
    """Overlap 1 − ½ Σ |p̂ − p| of likelihoods normalised over each parameter, and jointly."""
    count, nodes = own.joint.shape[:2]
    out = {name: np.empty(count) for name in (*names, "joint")}
    for start in range(0, count, _BLOCK):
        rows = slice(start, min(start + _BLOCK, count))
        grids = []
        for axis in range(2):
            first = np.minimum(own.origin[rows, axis], truth.origin[rows, axis])
            last = np.maximum(
                own.origin[rows, axis] + (nodes - 1) * own.spacing[rows, axis],
                truth.origin[rows, axis] + (nodes - 1) * truth.spacing[rows, axis],
            )
            grids.append(np.linspace(np.maximum(first, 0), np.minimum(last, 1), _NODES, axis=1))
        densities = [_on_grid(curves, rows, grids) for curves in (own, truth)]
        p, q = (d / np.maximum(d.sum((1, 2), keepdims=True), 1e-300) for d in densities)
        out["joint"][rows] = 1 - 0.5 * np.abs(p - q).sum((1, 2))
        for axis, name in enumerate(names):
            out[name][rows] = 1 - 0.5 * np.abs((p - q).sum(2 - axis)).sum(1)
    return out


def _overlap_m(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> dict[str, Array]:
    return _overlaps(own.curves, truth.curves, own.names)


def _overlap_km(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> dict[str, Array]:
    if own.full is None or truth.full is None or own.full_set is None:
        return {}
    of_set = _overlaps(own.full, truth.full, own.names)
    # One number per set, given to each of its datasets: the mean within the set gives it back.
    row = np.searchsorted(own.full_set, own.datasets.set)
    return {name: values[row] for name, values in of_set.items()}


def _likelihood_ratio_error(
    own: LikelihoodPrediction, truth: LikelihoodPrediction
) -> dict[str, Array]:
    difference = -2 * own.curves.log_ratio_truth + 2 * truth.curves.log_ratio_truth
    return {"": difference**2 / 4}


overlap_m = Metric(
    "overlap_M",
    "overlap",
    "Overlap 1 − ½ ∫|p̂ − p| with the exact likelihood of the M observations, normalised over "
    "one parameter (the other summed out) and jointly.",
    ("independent", "bootstrap"),
    _overlap_m,
    needs_truth=True,
)
overlap_km = Metric(
    "overlap_kM",
    "overlap of all events",
    "The same overlap for all k M events of a set; our reading of the paper's overlap.",
    ("bootstrap",),
    _overlap_km,
    needs_truth=True,
)
likelihood_ratio_error = Metric(
    "likelihood_ratio_error",
    "LR error",
    "Mean squared error of the likelihood-ratio statistic at the generating parameters, each "
    "method against its own maximum, in units of Var χ²₂ = 4.",
    ("independent", "bootstrap"),
    _likelihood_ratio_error,
    needs_truth=True,
)
