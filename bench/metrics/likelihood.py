"""Metrics of whole likelihoods against the exact one: overlap and likelihood-ratio error."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.contracts import Curves, LikelihoodPrediction, Metric

Array = NDArray[np.float64]

_NODES = 65  # nodes of the grid over the part that two windows share, per parameter
_FLOOR = -60.0  # nats; stands for −inf where curves are interpolated
_BLOCK = 256  # datasets at a time, which bounds memory


@dataclass(frozen=True)
class _Window:
    """One parameter of windows of D datasets, and its nodes that lie in the parameter space."""

    origin: Array
    spacing: Array
    first: Array
    last: Array

    @classmethod
    def of(cls, curves: Curves, rows: slice, axis: int) -> "_Window":
        valid = np.logical_or.reduce(np.isfinite(curves.joint[rows]), axis=2 - axis)
        first = valid.argmax(1)
        last = valid.shape[1] - 1 - valid[:, ::-1].argmax(1)
        return cls(curves.origin[rows, axis], curves.spacing[rows, axis], first, last)

    @property
    def ends(self) -> tuple[Array, Array]:
        return self.origin + self.first * self.spacing, self.origin + self.last * self.spacing

    def weights(self, nodes: int) -> Array:
        """Trapezoid weights of the window's nodes, (D, nodes)."""
        index = np.arange(nodes)
        inside = (index >= self.first[:, None]) & (index <= self.last[:, None])
        edge = (index == self.first[:, None]) | (index == self.last[:, None])
        weights: Array = np.where(inside, np.where(edge, 0.5, 1.0), 0.0) * self.spacing[:, None]
        return weights

    def interpolation(self, target: Array, nodes: int) -> Array:
        """Matrices of cubic Lagrange interpolation to targets (D, T): (D, T, nodes)."""
        position = (target - self.origin[:, None]) / self.spacing[:, None]
        first, last = self.first[:, None], self.last[:, None]
        position = np.clip(position, first, last)
        base = np.clip(np.floor(position) - 1, first, np.maximum(last - 3, first))
        used = np.minimum(4, last - first + 1)
        matrix = np.zeros((*target.shape, nodes + 3))
        for i in range(4):
            weight = np.where(i < used, 1.0, 0.0) * np.ones_like(position)
            for j in range(4):
                if j != i:
                    factor = (position - base - j) / (i - j)
                    weight = np.where((j < used) & (i < used), weight * factor, weight)
            index = (base + i).astype(np.int64)[..., None]
            np.put_along_axis(matrix, index, weight[..., None], 2)
        return matrix[..., :nodes]


def _overlaps(own: Curves, truth: Curves, names: tuple[str, ...]) -> dict[str, Array]:
    """Overlaps ∫ min(p̂, p) = 1 − ½ ∫ |p̂ − p| of normalised likelihoods.

    Each is normalised on its own window; the smaller of the two is integrated where both windows
    are, which resolves the narrower one however different they are.
    """
    count, nodes = own.joint.shape[:2]
    out = {name: np.zeros(count) for name in (*names, "joint")}
    for start in range(0, count, _BLOCK):
        rows = slice(start, min(start + _BLOCK, count))
        windows = [[_Window.of(c, rows, axis) for axis in range(2)] for c in (own, truth)]
        grids, steps = [], []
        for axis in range(2):
            low = np.maximum(windows[0][axis].ends[0], windows[1][axis].ends[0])
            high = np.minimum(windows[0][axis].ends[1], windows[1][axis].ends[1])
            grids.append(np.linspace(low, high, _NODES, axis=1))
            # Windows that do not meet share nothing.
            steps.append(np.maximum(high - low, 0) / (_NODES - 1))
        joint, marginals = [], []
        for curves, window in zip((own, truth), windows, strict=True):
            raw = np.maximum(curves.joint[rows].astype(np.float64), _FLOOR)
            cells = window[0].weights(nodes)[:, :, None] * window[1].weights(nodes)[:, None, :]
            total = (np.exp(raw) * cells).sum((1, 2))
            across = [w.interpolation(g, nodes) for w, g in zip(window, grids, strict=True)]
            on_grid = np.exp(across[0] @ raw @ across[1].transpose(0, 2, 1))
            joint.append(on_grid / total[:, None, None])
            for axis in range(2):
                other = window[1 - axis].weights(nodes)
                density = np.einsum("dij,dj->di" if axis == 0 else "dji,dj->di", np.exp(raw), other)
                logs = np.log(np.maximum(density, np.exp(_FLOOR)))
                values = np.exp((across[axis] @ logs[..., None])[..., 0])
                marginals.append(values / total[:, None])
        trapezoid = np.ones(_NODES)
        trapezoid[[0, -1]] = 0.5
        shared = np.minimum(*joint) @ trapezoid @ trapezoid
        out["joint"][rows] = shared * steps[0] * steps[1]
        for axis, name in enumerate(names):
            shared = np.minimum(marginals[axis], marginals[2 + axis]) @ trapezoid
            out[name][rows] = shared * steps[axis]
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
