"""Reduction of a lattice of log-likelihoods to intervals, regions and windows, which are saved."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from bench.contracts import LatticeWindow, ParameterSpace, ProfileSummary
from bench.inference.critical import CriticalValues
from bench.inference.lattice import DEPTH, Lattice
from bench.inference.likelihood import Axes
from bench.inference.profile import (
    crossings,
    cubic,
    on_product,
    peak,
    per_dataset,
    profiles,
    ridges,
    summed,
    trapezoid,
)

NODES = 33
"""Nodes W of a saved window per parameter, which spans about seven half-widths."""

_FAR = 40.0  # the statistic is clipped here, because steep falls spoil interpolation
_FINER = 4  # refinement of the lattice on which an area is measured
_BLOCK = 8  # datasets whose finer lattices are made at a time


@cache
def region_threshold(parameters: int) -> float:
    """Return the threshold of the likelihood-ratio statistic of a 95 % region (Wilks 1938).

    Example:
        >>> [round(region_threshold(parameters), 3) for parameters in (1, 2, 7)]
        [3.841, 5.991, 14.067]
    """
    return float(stats.chi2.ppf(0.95, parameters))


def region(values: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """Measure the region where 2 (max − log-likelihood) is at most the 95 % quantile of χ²_P.

    Args:
        values: log-likelihoods, (D, n_0) or (D, n_0, n_1).
        top: their refined maxima, (D,).

    Returns:
        The length or area in lattice cells (D,), and whether the region touches the first or last
        node of each axis, (D, P, 2).
    """
    threshold = region_threshold(values.dim() - 1)
    statistic = (2 * (per_dataset(top, values) - values)).clamp_max(_FAR)
    inside = statistic <= threshold
    touches = [
        inside.transpose(1, axis)[:, [0, -1]].reshape(len(inside), 2, -1).any(-1)
        for axis in range(1, values.dim())
    ]
    fine = [
        cubic(torch.arange((n - 1) * _FINER + 1, dtype=torch.float64) / _FINER, n)
        for n in values.shape[1:]
    ]
    sizes = []
    for part in torch.split(statistic, _BLOCK):  # all finer lattices would not fit a cache
        curve = on_product(part, fine)
        low = torch.minimum(curve[..., :-1], curve[..., 1:])
        high = torch.maximum(curve[..., :-1], curve[..., 1:])
        share = ((threshold - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
        sizes.append(torch.where(low > threshold, torch.zeros_like(share), share).sum(-1))
    size = torch.cat(sizes)  # (D,) or (D, fine n_0)
    if size.dim() == 2:
        size = (0.5 * (size[:, 1:] + size[:, :-1])).sum(-1)
    return size / _FINER ** len(fine), torch.stack(touches, 1)


def summarise(
    lattice: Lattice,
    space: ParameterSpace,
    reported: Sequence[int] | None = None,
    truth: Tensor | None = None,
    critical: CriticalValues | None = None,
) -> tuple[ProfileSummary, LatticeWindow]:
    """Reduce a lattice to the summary and the windows that are saved of every dataset.

    Args:
        lattice: the log-likelihoods.
        space: the parameter space.
        reported: positions of the reported parameters; all if None.
        truth: generating parameters, (P,); only critical values depend on them.
        critical: critical values that rescale the statistics of profiles and of the region.
            Estimates, marginal and joint likelihoods remain as they are.
    """
    chosen = list(range(len(space)) if reported is None else reported)
    values, axes = lattice.values, lattice.axes
    curves = plain = profiles(values)
    peaks = [peak(c) for c in curves]
    top = torch.stack([p for p, _ in peaks]).amax(0)
    in_region, at_truth = values, lattice.at_truth
    if critical is not None and truth is not None:
        every, above = zip(curves, ridges(values, axes), strict=True), top.unsqueeze(-1)
        curves = tuple(
            above - 0.5 * critical.along_profile(2 * (above - curve), at, i, 1.0)
            for i, (curve, at) in enumerate(every)
        )
        points = torch.cartesian_prod(*axes).view(*values.shape[1:], len(axes))
        above = per_dataset(top, values)
        in_region = above - 0.5 * critical.of_region(2 * (above - values), points)
        at_truth = top - 0.5 * critical.of_region(2 * (top - at_truth), space.to_unit(truth))
    at_bound = torch.tensor([[float(a[0]) <= 0.0, float(a[-1]) >= 1.0] for a in axes])  # (P, 2)
    ends = [crossings(c, t, p) for c, (t, p) in zip(curves, peaks, strict=True)]
    open_below, open_above, again = (torch.stack([e[i] for e in ends], -1) for i in (2, 3, 4))
    position, lower, upper = (
        space.from_unit(
            torch.stack([_unit(a, p) for a, p in zip(axes, positions, strict=True)], -1)
        ).numpy()
        for positions in ([p for _, p in peaks], [e[0] for e in ends], [e[1] for e in ends])
    )
    area, touches = region(in_region, top)
    cell = 1.0
    for axis, p in zip(axes, space.parameters, strict=True):
        length = np.log(p.high / p.low) if p.scale == "log" else p.high - p.low
        cell *= float(axis[1] - axis[0]) * length
    clipped = (
        (open_below & ~at_bound[:, 0])
        | (open_above & ~at_bound[:, 1])
        | (touches & ~at_bound).any(-1)
    ).any(-1)
    summary = ProfileSummary.from_arrays(
        {
            "mle": position,
            "lower": lower[:, chosen],
            "upper": upper[:, chosen],
            "cut_lower": (open_below & at_bound[:, 0])[:, chosen].numpy(),
            "cut_upper": (open_above & at_bound[:, 1])[:, chosen].numpy(),
            "disconnected": again[:, chosen].numpy(),
            "log_ratio_truth": (at_truth - top).numpy(),
            "unresolved": (clipped | lattice.unresolved).numpy(),
        }
    )
    window = LatticeWindow(
        area=(area * cell).numpy(),
        region_cut=(touches & at_bound).flatten(1).any(-1).numpy(),
        **_windows(values, axes, curves, plain, top),
    )
    return summary, window


def _unit(axis: Tensor, position: Tensor) -> Tensor:
    """Return unit coordinates of positions in nodes; the last node maps to the axis's exact end."""
    node = position.floor().long().clamp(0, len(axis) - 2)
    share = position - node
    return torch.where(
        share < 1, axis[node] + (axis[node + 1] - axis[node]) * share, axis[node + 1]
    )


def _windows(
    values: Tensor, axes: Axes, curves: Sequence[Tensor], plain: Sequence[Tensor], top: Tensor
) -> dict[str, np.ndarray]:
    """Return each dataset's window: the nodes within DEPTH nats of its maximum, and one more.

    They are within DEPTH on the profiles that are saved, or on those before they were rescaled.
    """
    origins, spacings, matrices, profile = [], [], [], []
    for curve, own, axis in zip(curves, plain, axes, strict=True):
        nodes = curve.shape[-1]
        inside = torch.maximum(curve, own) >= top.unsqueeze(-1) - DEPTH
        inside.scatter_(-1, curve.argmax(-1, keepdim=True), True)
        low = (inside.to(torch.uint8).argmax(-1) - 1).clamp_min(0)
        high = (nodes - inside.flip(-1).to(torch.uint8).argmax(-1)).clamp_max(nodes - 1)
        position = low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, NODES).double()
        matrix = cubic(position, nodes)
        fall = (curve - top.unsqueeze(-1)).clamp_min(-_FAR)
        profile.append((matrix @ fall.unsqueeze(-1)).squeeze(-1))
        matrices.append(matrix)
        origins.append(axis[low])
        spacings.append((axis[high] - axis[low]) / (NODES - 1))
    spacing = torch.stack(spacings, -1)
    fall = (values - per_dataset(top, values)).clamp_min(-_FAR)
    joint = on_product(fall, matrices)
    weights = trapezoid(NODES)
    sums = torch.stack(summed(joint.exp(), weights), 1)  # (D, P, W)
    marginal = sums / ((sums @ weights) * spacing).unsqueeze(-1)
    return {
        "origin": torch.stack(origins, -1).numpy(),
        "spacing": spacing.numpy(),
        "profile": torch.stack(profile, 1).float().numpy(),
        "marginal": marginal.float().numpy(),
        "joint": joint.float().numpy(),
    }
