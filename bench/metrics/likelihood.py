"""Metrics of likelihoods against the exact one: overlap and likelihood-ratio error."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.contracts import BoxWindow, LatticeWindow, LikelihoodPrediction, Metric
from bench.inference.profile import cubic, on_product, per_dataset, summed, total, trapezoid
from bench.metrics.intervals import Array

_NODES = 65  # nodes per parameter of the grid on the intersection of two windows
_BLOCK = 256  # datasets per iteration, which limits memory


def _overlaps(
    own: LatticeWindow | None, truth: LatticeWindow | None, reported: Mapping[str, int]
) -> dict[str, Array]:
    """Return overlaps ∫ min(p̂, p) = 1 − ½ ∫ |p̂ − p| of normalised likelihoods.

    Each likelihood is normalised on its own window. The smaller of the two is integrated over the
    intersection of the windows, which resolves the narrower one even if widths differ greatly.

    Args:
        own: windows of the surrogate's likelihoods; without windows there is no overlap.
        truth: windows of the exact likelihoods.
        reported: axis of each reported parameter.
    """
    if own is None or truth is None:
        return {}
    count = len(own.joint)
    out = {name: np.zeros(count) for name in (*reported, "joint")}
    fine = trapezoid(_NODES)
    for start in range(0, count, _BLOCK):
        rows = slice(start, min(start + _BLOCK, count))
        both = [_Window(*windows(curves, rows)) for curves in (own, truth)]
        low = torch.maximum(both[0].low, both[1].low)  # (D, P)
        high = torch.minimum(both[0].high, both[1].high)
        # Disjoint windows have overlap zero.
        step = (high - low).clamp_min(0) / (_NODES - 1)
        grid = low.unsqueeze(-1) + step.unsqueeze(-1) * torch.arange(_NODES)
        densities = [window.on(grid) for window in both]
        joint, *marginals = (torch.minimum(a, b) for a, b in zip(*densities, strict=True))
        out["joint"][rows] = (total(joint, fine) * step.prod(-1)).numpy()
        for name, axis in reported.items():
            out[name][rows] = (marginals[axis] @ fine * step[:, axis]).numpy()
    return out


def axes(prediction: LikelihoodPrediction) -> dict[str, int]:
    """Return the axis of each reported parameter on the lattice."""
    return dict(zip(prediction.reported_names, prediction.reported, strict=True))


def windows(saved: LatticeWindow | BoxWindow, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Return ends of saved windows, (D, P) each, and log-likelihoods at their nodes.

    These are (D, W) or (D, W, W).
    """
    low, spacing, joint = (
        torch.from_numpy(np.asarray(a[rows], dtype=np.float64))
        for a in (saved.origin, saved.spacing, saved.joint)
    )
    return low, low + (joint.shape[1] - 1) * spacing, joint


def others(step: Tensor, axis: int) -> Tensor:
    """Return the product of the steps (D, P) of the other parameters, (D, 1)."""
    rest = [i for i in range(step.shape[-1]) if i != axis]
    return step[:, rest].prod(-1, keepdim=True)


@dataclass(frozen=True)
class _Window:
    """Windows of D datasets: ends (D, P), log-likelihoods (D, *W) at evenly spaced nodes."""

    low: Tensor
    high: Tensor
    joint: Tensor

    def on(self, grid: Tensor) -> tuple[Tensor, ...]:
        """Return normalised densities on grids (D, P, T): joint (D, *T), marginals (D, T)."""
        nodes = self.joint.shape[1]
        own = trapezoid(nodes)
        step = (self.high - self.low) / (nodes - 1)
        position = (grid - self.low.unsqueeze(-1)) / step.unsqueeze(-1)
        across = cubic(position, nodes)  # (D, P, T, W)
        density = self.joint.exp()
        whole = total(density, own) * step.prod(-1)
        # Interpolate log-likelihoods, because the logarithm of a Gaussian is a parabola.
        joint = on_product(self.joint, across.unbind(1)).exp()
        marginals = []
        for axis, sums in enumerate(summed(density, own)):
            logarithm = (sums * others(step, axis)).log()
            at = (across[:, axis] @ logarithm.unsqueeze(-1)).squeeze(-1).exp()
            marginals.append(at / whole[:, None])
        return joint / per_dataset(whole, joint), *marginals


def _overlap_km(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> dict[str, Array]:
    if own.full_set is None:
        return {}
    of_set = _overlaps(own.full_window, truth.full_window, axes(own))
    # Each dataset gets the value of its set, so that the mean within the set is that value.
    row = np.searchsorted(own.full_set, own.datasets.set)
    return {name: values[row] for name, values in of_set.items()}


def _likelihood_ratio_error(
    own: LikelihoodPrediction, truth: LikelihoodPrediction
) -> dict[str, Array]:
    difference = -2 * own.curves.log_ratio_truth + 2 * truth.curves.log_ratio_truth
    return {"": difference**2 / (2 * len(own.names))}


overlap_m = Metric(
    "overlap_M",
    "overlap",
    "Overlap 1 − ½ ∫|p̂ − p| with the exact likelihood of the M observations, normalised over "
    "one parameter (the other summed out) and jointly.",
    ("independent", "bootstrap"),
    lambda own, truth: _overlaps(own.window, truth.window, axes(own)),
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
    "method against its own maximum, in units of Var χ²_P = 2 P for P parameters.",
    ("independent", "bootstrap"),
    _likelihood_ratio_error,
    needs_truth=True,
    median=True,
)
