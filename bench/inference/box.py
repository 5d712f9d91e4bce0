"""Likelihoods restricted to the box from which the parameters of datasets are drawn.

Every method, the exact likelihood included, gets the same box. A method then gains nothing by
knowing it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.contracts import BoxSummary, BoxWindow, ParameterSpace
from bench.inference.critical import CriticalValues
from bench.inference.lattice import BOX_DEPTH, Lattice
from bench.inference.profile import (
    crossings,
    cubic,
    on_product,
    peak,
    per_dataset,
    profiles,
    ridges,
)

BOX_NODES = 49
"""Nodes G per parameter of a saved likelihood, which spans at most 18 standard deviations."""

ROOTS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
"""Square roots of the thresholds at which interval ends are saved: standard deviations."""

_FINER = 4  # refinement of profiles between nodes
_MARGIN = 1.5  # depth of interpolated values, in units of that of saved ones


def summarise_box(
    lattice: Lattice,
    space: ParameterSpace,
    reported: Sequence[int] | None,
    truth: Tensor,
    critical: CriticalValues | None = None,
) -> tuple[BoxSummary, BoxWindow]:
    """Reduce a lattice to the likelihoods inside the box, which are saved of every dataset.

    Args:
        lattice: log-likelihoods that end at the bounds of the box, or BOX_DEPTH below their maxima.
        space: the parameter space.
        reported: positions of the reported parameters; all if None.
        truth: generating parameters, (P,).
        critical: critical values that rescale statistics, as of `summarise`.
    """
    chosen = list(range(len(space)) if reported is None else reported)
    whole = [torch.stack([a[0], a[-1]]).expand(len(lattice.values), 2) for a in lattice.axes]
    rough, _ = _restricted(lattice, whole)
    windows = [
        _within_reach(curve, around) for curve, around in zip(profiles(rough), whole, strict=True)
    ]
    joint, top = _restricted(lattice, windows)
    fine = cubic(torch.arange((BOX_NODES - 1) * _FINER + 1).double() / _FINER, BOX_NODES)
    mle, lower, upper, statistic = [], [], [], []
    unit, share = space.to_unit(truth), torch.linspace(0, 1, BOX_NODES, dtype=torch.float64)
    axes = [w[:, :1] + (w[:, 1:] - w[:, :1]) * share for w in windows]
    points = ridges(joint, axes)
    for i, (curve, window, at) in enumerate(zip(profiles(joint), windows, unit, strict=True)):
        curve = curve @ fine.T
        best, position = peak(curve)
        step = (window[:, 1] - window[:, 0]) / (curve.shape[-1] - 1)
        along = fine @ points[i]
        first, last = _crossed(curve, best, position, along, i, critical)
        mle.append(window[:, 0] + step * position)
        lower.append(window[:, :1] + step[:, None] * first.T)
        upper.append(window[:, 1:] - step[:, None] * (curve.shape[-1] - 1 - last.T))
        there = cubic(((at - window[:, 0]) / step)[:, None], curve.shape[-1])[:, 0]
        fall = 2 * (best - (there * curve).sum(-1))
        outside = (at < window[:, 0] - 1e-9) | (at > window[:, 1] + 1e-9)
        fall = torch.where(outside, 2 * BOX_DEPTH, fall).clamp(0, 2 * BOX_DEPTH)
        if critical is not None:
            fall = critical.of_profile(fall, (there[..., None] * along).sum(-2), i)
        statistic.append(fall.clamp_max(2 * BOX_DEPTH))
    origin = torch.stack([w[:, 0] for w in windows], -1)
    end = torch.stack([w[:, 1] for w in windows], -1)
    falls, factor = lattice.at_truth - top, torch.ones_like(top)
    if critical is not None:
        falls = -0.5 * critical.of_region(-2 * falls, unit)
        factor = critical.factor_of_region(torch.stack(mle, -1))
    falls = falls.clamp(-BOX_DEPTH, 0)
    summary = BoxSummary(
        mle=space.from_unit(torch.stack(mle, -1)).numpy(),
        lower=space.from_unit(torch.stack(lower, -1)).transpose(1, 2)[:, chosen].numpy(),
        upper=space.from_unit(torch.stack(upper, -1)).transpose(1, 2)[:, chosen].numpy(),
        statistic=torch.stack(statistic, -1)[:, chosen].numpy(),
        log_ratio_truth=falls.numpy(),
        unresolved=lattice.unresolved.numpy(),
        region_factor=factor.numpy(),
    )
    inside = BoxWindow(
        origin=origin.numpy(),
        spacing=((end - origin) / (BOX_NODES - 1)).numpy(),
        joint=joint.clamp_min(-BOX_DEPTH).float().numpy(),
    )
    return summary, inside


def _crossed(
    curve: Tensor,
    best: Tensor,
    position: Tensor,
    points: Tensor,
    parameter: int,
    critical: CriticalValues | None,
) -> tuple[Tensor, Tensor]:
    """Return the ends of intervals of a parameter at all thresholds, in nodes, (T, D) each."""
    if critical is None:
        thresholds = torch.tensor(ROOTS, dtype=torch.float64).square()
        first, last, *_ = crossings(curve, best, position, thresholds)
        return first, last
    fall, found = 2 * (best.unsqueeze(-1) - curve), []
    for root in ROOTS:
        own = best.unsqueeze(-1) - 0.5 * critical.along_profile(fall, points, parameter, root)
        found.append(crossings(own, best, position, root**2)[:2])
    first, last = (torch.stack(each) for each in zip(*found, strict=True))
    return first, last


def _restricted(lattice: Lattice, windows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Interpolate on evenly spaced nodes of each dataset's windows (D, 2).

    Returns:
        Log-likelihoods minus their maxima, (D, G) or (D, G, G), and the maxima (D,).
    """
    share = torch.linspace(0, 1, BOX_NODES, dtype=torch.float64)
    across = []
    for axis, window in zip(lattice.axes, windows, strict=True):
        at = window[:, :1] + (window[:, 1:] - window[:, :1]) * share
        across.append(cubic((at - axis[0]) / (axis[1] - axis[0]), len(axis)))
    # Steep falls far below the maximum would spoil the interpolation beside them.
    top = lattice.values.flatten(1).amax(-1)
    deepest = on_product(lattice.values, across)
    floor = deepest.flatten(1).amax(-1) - _MARGIN * BOX_DEPTH
    lowest = per_dataset(torch.minimum(floor, top), lattice.values)
    joint = on_product(torch.maximum(lattice.values, lowest), across)
    best = torch.stack([peak(curve)[0] for curve in profiles(joint)]).amax(0)
    return joint - per_dataset(best, joint), best


def _within_reach(curve: Tensor, window: Tensor) -> Tensor:
    """Return the part of windows where profiles (D, G) are within BOX_DEPTH, one node wider."""
    inside = curve >= curve.amax(-1, keepdim=True) - BOX_DEPTH
    last = curve.shape[-1] - 1
    first = (inside.to(torch.uint8).argmax(-1) - 1).clamp_min(0)
    final = (last + 1 - inside.flip(-1).to(torch.uint8).argmax(-1)).clamp_max(last)
    step = (window[:, 1] - window[:, 0]) / last
    ends = torch.stack([window[:, 0] + first * step, window[:, 1] - (last - final) * step], -1)
    return torch.where(torch.stack([first == 0, final == last], -1), window, ends)
