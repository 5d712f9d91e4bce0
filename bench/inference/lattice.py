"""Lattices of parameters with adaptive refinement around the likelihoods' maxima."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.contracts import Resolution
from bench.inference.likelihood import Axes, MixtureLikelihood
from bench.inference.profile import crossings, peak, profiles

DEPTH = 6.0
"""Depth below the maximum, in nats, down to which likelihoods are resolved: 3.5 half-widths."""


@dataclass(frozen=True)
class Lattice:
    """Log-likelihoods on the product of two axes.

    Args:
        axes: nodes of each parameter in unit coordinates, evenly spaced, float64.
        values: log-likelihoods up to a constant per dataset, (D, n_0, n_1) float64.
        at_truth: log-likelihood at the generating parameters, same constant, (D,) float64.
        unresolved: whether an axis is coarser than its resolution requires.
    """

    axes: Axes
    values: Tensor
    at_truth: Tensor
    unresolved: bool


def refine(
    events: MixtureLikelihood,
    resolution: Sequence[Resolution],
    *,
    start: Sequence[tuple[float, float]] = ((0.0, 1.0), (0.0, 1.0)),
    depth: float = DEPTH,
    levels: int = 12,
) -> Lattice:
    """Evaluate likelihoods on a lattice that is fine near their maxima.

    Coarse passes find the window where any dataset's profile is within `depth` nats of its
    maximum. They continue as long as the next pass removes more nodes from the final pass than it
    costs. In the final pass the nodes of an axis are doubled until no interval end moves by more
    than the axis's tolerance.

    Args:
        events: the datasets.
        resolution: required resolution of each parameter.
        start: first window, unit coordinates.
        depth: depth of the final window below the maximum, in nats.
        levels: upper limit on the number of coarse passes.
    """
    window = list(start)
    for _ in range(levels):
        coarse = [
            torch.linspace(low, high, r.coarse, dtype=torch.float64)
            for (low, high), r in zip(window, resolution, strict=True)
        ]
        values, _ = events.log_likelihood((coarse[0], coarse[1]))
        curves = profiles(values)
        window = [_box(c, axis, depth) for c, axis in zip(curves, coarse, strict=True)]
        spacings = [
            r.spacing * _half_width(c, axis)
            for r, c, axis in zip(resolution, curves, coarse, strict=True)
        ]
        if all(
            2 * float(axis[1] - axis[0]) < r.coarse * spacing
            for r, spacing, axis in zip(resolution, spacings, coarse, strict=True)
        ):
            break
    axes, unresolved = [], False
    for (low, high), r, spacing in zip(window, resolution, spacings, strict=True):
        wanted = 2 + int((high - low) / spacing)
        unresolved |= wanted > r.most
        nodes = min(max(wanted, r.coarse), r.most)
        axes.append(torch.linspace(low, high, nodes, dtype=torch.float64))
    values, at_truth = events.log_likelihood((axes[0], axes[1]))
    for axis, r in enumerate(resolution):
        if r.tolerance is None:
            continue
        ends = _ends(values, axes)
        while 2 * len(axes[axis]) - 1 <= r.most:
            values, axes = _double(events, values, axes, axis)
            moved, ends = ends, _ends(values, axes)
            # An interval cut at a bound can be arbitrarily short: 1/1000 of the axis is enough.
            widths = (ends[..., 1] - ends[..., 0]).clamp_min(2e-3)
            if float(((ends - moved).abs() / (0.5 * widths.unsqueeze(-1))).max()) <= r.tolerance:
                break
        else:
            unresolved = True
    return Lattice((axes[0], axes[1]), values, at_truth, unresolved)


def _double(
    events: MixtureLikelihood, values: Tensor, axes: list[Tensor], axis: int
) -> tuple[Tensor, list[Tensor]]:
    """Halve the spacing of an axis by evaluating the new nodes only."""
    old, doubled = axes[axis], list(axes)
    between = 0.5 * (old[1:] + old[:-1])
    doubled[axis] = between
    extra, _ = events.log_likelihood((doubled[0], doubled[1]))
    place = torch.arange(2 * len(old) - 1)
    order = place // 2 + place % 2 * len(old)  # old and new alternate
    doubled[axis] = torch.cat([old, between])[order]
    return torch.cat([values, extra], axis + 1).index_select(axis + 1, order), doubled


def _ends(values: Tensor, axes: Sequence[Tensor]) -> Tensor:
    """Return the interval ends of every dataset in both parameters, unit coordinates, (D, 2, 2)."""
    ends = []
    for curve, axis in zip(profiles(values), axes, strict=True):
        lower, upper, *_ = crossings(curve, *peak(curve))
        step = float(axis[1] - axis[0])
        ends.append(float(axis[0]) + step * torch.stack([lower, upper], -1))
    return torch.stack(ends, 1)


def _box(curve: Tensor, axis: Tensor, depth: float) -> tuple[float, float]:
    """Return the smallest window that holds all profiles (D, n) down to `depth`, one node wider."""
    inside = (curve >= peak(curve)[0].unsqueeze(-1) - depth).any(0)
    inside[curve.argmax(-1)] = True
    nodes = inside.nonzero().squeeze(-1)
    return (
        float(axis[max(int(nodes[0]) - 1, 0)]),
        float(axis[min(int(nodes[-1]) + 1, len(axis) - 1)]),
    )


def _half_width(curve: Tensor, axis: Tensor) -> float:
    """Return a typical half-width of the intervals of profiles (D, n), unit coordinates.

    It is the lower quartile over datasets, so that most datasets reach the required resolution. A
    side that reaches the window's edge is ignored unless both do.
    """
    top, position = peak(curve)
    lower, upper, open_below, open_above, _ = crossings(curve, top, position)
    sides = torch.stack([position - lower, upper - position])
    known = ~torch.stack([open_below, open_above])
    known |= ~known.any(0)
    width = (sides * known).sum(0) / known.sum(0)
    return max(float(width.quantile(0.25)) * float(axis[1] - axis[0]), 1e-6)
