"""Metrics of likelihoods against the exact one: overlap and likelihood-ratio error."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.contracts import BoxSummary, LikelihoodPrediction, Metric, ProfileSummary
from bench.inference.profile import cubic, trapezoid
from bench.metrics.intervals import Array

_NODES = 65  # nodes per parameter of the grid on the intersection of two windows
_BLOCK = 256  # datasets per iteration, which limits memory


def _overlaps(
    own: ProfileSummary, truth: ProfileSummary, names: tuple[str, ...]
) -> dict[str, Array]:
    """Return overlaps ∫ min(p̂, p) = 1 − ½ ∫ |p̂ − p| of normalised likelihoods.

    Each likelihood is normalised on its own window. The smaller of the two is integrated over the
    intersection of the windows, which resolves the narrower one even if widths differ greatly.
    """
    count = len(own.joint)
    out = {name: np.zeros(count) for name in (*names, "joint")}
    fine = trapezoid(_NODES)
    for start in range(0, count, _BLOCK):
        rows = slice(start, min(start + _BLOCK, count))
        both = [_Window(*windows(curves, rows)) for curves in (own, truth)]
        low = torch.maximum(both[0].low, both[1].low)  # (D, 2)
        high = torch.minimum(both[0].high, both[1].high)
        # Disjoint windows have overlap zero.
        step = (high - low).clamp_min(0) / (_NODES - 1)
        grid = low.unsqueeze(-1) + step.unsqueeze(-1) * torch.arange(_NODES)
        densities = [window.on(grid) for window in both]
        joint, *marginals = (torch.minimum(a, b) for a, b in zip(*densities, strict=True))
        out["joint"][rows] = (joint @ fine @ fine * step.prod(-1)).numpy()
        for axis, name in enumerate(names):
            out[name][rows] = (marginals[axis] @ fine * step[:, axis]).numpy()
    return out


def windows(saved: ProfileSummary | BoxSummary, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Return ends of saved windows, (D, 2) each, and log-likelihoods at their nodes, (D, W, W)."""
    low, spacing, joint = (
        torch.from_numpy(np.asarray(a[rows], dtype=np.float64))
        for a in (saved.origin, saved.spacing, saved.joint)
    )
    return low, low + (joint.shape[1] - 1) * spacing, joint


@dataclass(frozen=True)
class _Window:
    """Windows of D datasets: ends (D, 2), log-likelihoods (D, W, W) at evenly spaced nodes."""

    low: Tensor
    high: Tensor
    joint: Tensor

    def on(self, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return normalised densities on grids (D, 2, T): joint (D, T, T), marginals (D, T)."""
        nodes = self.joint.shape[1]
        own = trapezoid(nodes)
        step = (self.high - self.low) / (nodes - 1)
        position = (grid - self.low.unsqueeze(-1)) / step.unsqueeze(-1)
        across = cubic(position, nodes)  # (D, 2, T, W)
        density = self.joint.exp()
        total = density @ own @ own * step.prod(-1)
        # Interpolate log-likelihoods, because the logarithm of a Gaussian is a parabola.
        joint = (across[:, 0] @ self.joint @ across[:, 1].transpose(1, 2)).exp()
        marginals = []
        for axis in range(2):
            summed = (density if axis == 0 else density.transpose(1, 2)) @ own
            logarithm = (summed * step[:, 1 - axis, None]).log()
            marginals.append((across[:, axis] @ logarithm.unsqueeze(-1)).squeeze(-1).exp())
        return (
            joint / total[:, None, None],
            marginals[0] / total[:, None],
            marginals[1] / total[:, None],
        )


def _overlap_km(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> dict[str, Array]:
    if own.full is None or truth.full is None or own.full_set is None:
        return {}
    of_set = _overlaps(own.full, truth.full, own.names)
    # Each dataset gets the value of its set, so that the mean within the set is that value.
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
    lambda own, truth: _overlaps(own.curves, truth.curves, own.names),
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
    median=True,
)
