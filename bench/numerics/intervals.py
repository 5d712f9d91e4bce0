"""What is kept of a lattice of log-likelihoods: intervals, regions, windows."""

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from bench.contracts import Curves, ParameterSpace
from bench.numerics.profile import crossings, peak, profiles
from bench.numerics.surface import DEPTH, Lattice

NODES = 33
"""Nodes W of a saved window, per parameter: three and a half half-widths either side."""

REGION = float(stats.chi2.ppf(0.95, 2))
"""Threshold of the likelihood-ratio statistic of a 95 % region (Wilks 1938)."""


def region(values: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """Measures the region where 2 (max − log-likelihood) ≤ the 95 % quantile of χ²₂.

    Args:
        values: log-likelihoods, (D, n_0, n_1).
        top: their refined maxima, (D,).

    Returns:
        The area in cells (D,), and whether the region touches the first or last node of each
        axis, (D, 2, 2).
    """
    statistic = 2 * (top[:, None, None] - values)
    inner, outer = statistic[..., :-1], statistic[..., 1:]
    low, high = torch.minimum(inner, outer), torch.maximum(inner, outer)
    share = ((REGION - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    length = torch.where(low > REGION, torch.zeros_like(share), share).sum(-1)  # (D, n_0)
    area = (0.5 * (length[:, 1:] + length[:, :-1])).sum(-1)
    inside = statistic <= REGION
    touches = torch.stack(
        [
            torch.stack([inside[:, 0].any(-1), inside[:, -1].any(-1)], -1),
            torch.stack([inside[..., 0].any(-1), inside[..., -1].any(-1)], -1),
        ],
        1,
    )
    return area, touches


def summarise(lattice: Lattice, space: ParameterSpace) -> Curves:
    """Reduces a lattice to what is saved of every dataset."""
    values, axes = lattice.values, lattice.axes
    count = len(values)
    curves = profiles(values)
    peaks = [peak(c) for c in curves]
    top = torch.maximum(peaks[0][0], peaks[1][0])
    step = torch.tensor([float(a[1] - a[0]) for a in axes], dtype=torch.float64)
    first = torch.tensor([float(a[0]) for a in axes], dtype=torch.float64)
    last = torch.tensor([float(a[-1]) for a in axes], dtype=torch.float64)
    at_bound = torch.stack([first <= 0.0, last >= 1.0], -1)  # (2, 2)

    ends = [crossings(c, t, p) for c, (t, p) in zip(curves, peaks, strict=True)]
    lower, upper, open_below, open_above, again = (
        torch.stack([e[i] for e in ends], -1) for i in range(5)
    )
    position = torch.stack([p for _, p in peaks], -1)
    area, touches = region(values, top)
    scale = torch.tensor(
        [np.log(p.high / p.low) if p.scale == "log" else p.high - p.low for p in space.parameters]
    )
    clipped = (
        (open_below & ~at_bound[:, 0])
        | (open_above & ~at_bound[:, 1])
        | (touches & ~at_bound).any(-1)
    )
    window = _windows(values, curves, top, step)
    return Curves(
        mle=space.from_unit(first + step * position).numpy(),
        lower=space.from_unit(first + step * lower).numpy(),
        upper=space.from_unit(first + step * upper).numpy(),
        cut_lower=(open_below & at_bound[:, 0]).numpy(),
        cut_upper=(open_above & at_bound[:, 1]).numpy(),
        disconnected=again.numpy(),
        log_ratio_truth=(lattice.at_truth - top).numpy(),
        area=(area * (step * scale).prod()).numpy(),
        region_cut=(touches & at_bound).flatten(1).any(-1).numpy(),
        unresolved=(clipped.any(-1) | torch.full((count,), lattice.unresolved)).numpy(),
        origin=(first + step * window[0]).numpy(),
        spacing=(step * window[1]).numpy(),
        **window[2],
    )


def _windows(
    values: Tensor, curves: tuple[Tensor, Tensor], top: Tensor, step: Tensor
) -> tuple[Tensor, Tensor, dict[str, np.ndarray]]:
    """Cuts each dataset's window out of the lattice.

    Returns:
        First node and stride, (D, 2), in nodes of the lattice, and the windows by name.
    """
    starts, strides, indices, valid = [], [], [], []
    for curve in curves:
        nodes = curve.shape[-1]
        inside = curve >= top.unsqueeze(-1) - DEPTH
        inside.scatter_(-1, curve.argmax(-1, keepdim=True), True)
        low = inside.to(torch.uint8).argmax(-1)
        high = nodes - 1 - inside.flip(-1).to(torch.uint8).argmax(-1)
        stride = ((high - low + NODES - 2) // (NODES - 1)).clamp_min(1)
        start = (low + high - stride * (NODES - 1)) // 2
        index = start.unsqueeze(-1) + stride.unsqueeze(-1) * torch.arange(NODES)
        valid.append((index >= 0) & (index < nodes))
        indices.append(index.clamp(0, nodes - 1))
        starts.append(start)
        strides.append(stride)
    start, stride = torch.stack(starts, -1), torch.stack(strides, -1)
    rows = torch.arange(len(values))[:, None, None]
    joint = values[rows, indices[0][:, :, None], indices[1][:, None, :]] - top[:, None, None]
    joint = joint.masked_fill(~(valid[0][:, :, None] & valid[1][:, None, :]), -torch.inf)
    profile = torch.stack(
        [
            (c.gather(-1, i) - top.unsqueeze(-1)).masked_fill(~v, -torch.inf)
            for c, i, v in zip(curves, indices, valid, strict=True)
        ],
        1,
    )
    mass = torch.stack([joint.logsumexp(2).softmax(-1), joint.logsumexp(1).softmax(-1)], 1)
    return (
        start,
        stride,
        {
            "profile": profile.float().numpy(),
            "marginal": (mass / (stride * step).unsqueeze(-1)).float().numpy(),
            "joint": joint.float().numpy(),
        },
    )
