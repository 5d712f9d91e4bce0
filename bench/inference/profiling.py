"""Profiles of reported parameters within bounds: both ends of every interval, and their checks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench.inference.ends import SLACK, Ends, follow
from bench.inference.events import EventLikelihood
from bench.inference.maximum import NOISE, Points, maximise

_ROUNDS = 3  # most repetitions with a maximum that interval ends have found
_BESIDE = 0.3  # distance of points beside an end, in standard deviations at fixed others
_WITHIN = 5.0  # the same distance within which a bound is tried


@dataclass(frozen=True)
class Profiled:
    """Profile likelihoods of D datasets within bounds, for each member, in unit coordinates.

    Args:
        maximum: the maxima.
        ends: lower and upper ends of I parameters at L thresholds, (members, D, I, 2, L).
        cut: whether a bound cuts the interval there, (members, D, I, 2, L) bool.
        error: estimated errors of the ends, standard deviations, (members, D, I, 2, L).
        points: points on the profiles, (members, D, I, 2, L, P).
        missed: whether the maximum is not the highest point, or no maximum, (members, D) bool.
    """

    maximum: Points
    ends: Tensor
    cut: Tensor
    error: Tensor
    points: Tensor
    missed: Tensor

    @property
    def lower(self) -> Tensor:
        """Lower ends, (members, D, I, L)."""
        return self.ends[..., 0, :]

    @property
    def upper(self) -> Tensor:
        """Upper ends, (members, D, I, L)."""
        return self.ends[..., 1, :]

    @property
    def cut_lower(self) -> Tensor:
        """Lower ends that a bound cuts, (members, D, I, L) bool."""
        return self.cut[..., 0, :]

    @property
    def cut_upper(self) -> Tensor:
        """Upper ends that a bound cuts, (members, D, I, L) bool."""
        return self.cut[..., 1, :]

    def at(self, level: int) -> "Profiled":
        """Keep one threshold."""
        one = slice(level, level + 1)
        return replace(
            self,
            ends=self.ends[..., one],
            cut=self.cut[..., one],
            error=self.error[..., one],
            points=self.points[..., one, :],
        )

    def replaced(self, rows: Tensor, other: "Profiled") -> "Profiled":
        """Replace the profiles of some datasets."""
        everywhere = torch.ones(other.maximum.value.shape, dtype=torch.bool)
        merged: dict[str, Any] = {"maximum": self.maximum.replaced(rows, everywhere, other.maximum)}
        for name in ("ends", "cut", "error", "points", "missed"):
            merged[name] = getattr(self, name).index_copy(1, rows, getattr(other, name))
        return Profiled(**merged)


def profiled(
    likelihood: EventLikelihood,
    maximum: Points,
    reported: Sequence[int],
    roots: tuple[float, ...],
    bounds: Tensor,
    rows: Tensor | None = None,
) -> Profiled:
    """Follow the profiles of reported parameters, again where a higher maximum appears.

    Args:
        likelihood: the likelihoods.
        maximum: maxima of the datasets, which are tracks of their own.
        reported: indices of the reported parameters.
        roots: square roots of the thresholds, rising.
        bounds: lower and upper bounds, (2, P).
        rows: indices of the datasets; all if None.
    """
    datasets = torch.arange(len(likelihood.x)) if rows is None else rows
    ends = _followed(likelihood, datasets, maximum, reported, roots, bounds)
    for _ in range(_ROUNDS):
        beaten = _by_dataset(ends.beaten, len(reported)).flatten(2).any(-1)  # (members, D)
        wanted = beaten.any(0).nonzero().squeeze(-1)
        if not len(wanted):
            break
        start = _highest(ends, len(reported))[:, wanted]
        other = maximise(likelihood.of(datasets[wanted]), start, bounds)
        better = other.value > maximum.value[:, wanted] + NOISE
        maximum = maximum.replaced(wanted, better, other)
        again = _followed(likelihood, datasets[wanted], maximum.of(wanted), reported, roots, bounds)
        ends = _placed(ends, wanted, again, len(reported), len(datasets))
    missed = _by_dataset(ends.beaten, len(reported)).flatten(2).any(-1)
    points = _by_dataset(ends.unit.movedim(1, 2), len(reported))  # (members, D, I, 2, L, P)
    cut = _by_dataset(ends.cut.movedim(1, 2), len(reported))
    error = _by_dataset(ends.error.movedim(1, 2), len(reported))
    own = torch.stack([points[:, :, i, :, :, p] for i, p in enumerate(reported)], 2)
    # An interval holds its estimate, also where the search for an end has failed.
    estimate = maximum.unit[..., list(reported), None]  # (members, D, I, 1)
    below, above = (torch.where(side.isnan(), estimate, side) for side in own.unbind(3))
    both = torch.stack([torch.minimum(below, estimate), torch.maximum(above, estimate)], 3)
    return Profiled(maximum, both, cut, error, points, missed)


def _followed(
    likelihood: EventLikelihood,
    datasets: Tensor,
    maximum: Points,
    reported: Sequence[int],
    roots: tuple[float, ...],
    bounds: Tensor,
) -> Ends:
    """Follow both ends of every reported parameter; tracks are (D, I, 2)."""
    sides = 2 * len(reported)
    rows = torch.arange(len(datasets)).repeat_interleave(sides)
    parameter = torch.tensor(reported).repeat_interleave(2).repeat(len(datasets))
    direction = torch.tensor([-1.0, 1.0]).repeat(len(rows) // 2)
    evaluate = likelihood.of(datasets[rows])
    return follow(evaluate, maximum.of(rows), parameter, direction, roots, bounds)


def _by_dataset(tracks: Tensor, reported: int) -> Tensor:
    """Unflatten tracks (members, D · I · 2, …) to (members, D, I, 2, …)."""
    return torch.unflatten(tracks, 1, (-1, reported, 2))


def _highest(ends: Ends, reported: int) -> Tensor:
    """Return the highest point found beside the maximum, (members, D, P): of the first such end."""
    beaten = torch.unflatten(ends.beaten, 1, (-1, 2 * reported))
    points = torch.unflatten(ends.better, 1, (-1, 2 * reported))
    first = beaten.to(torch.uint8).argmax(-1)[..., None, None].expand(-1, -1, 1, points.shape[-1])
    return points.gather(2, first).squeeze(2)


def _placed(ends: Ends, rows: Tensor, again: Ends, reported: int, count: int) -> Ends:
    """Replace the ends of some datasets."""
    tracks = torch.arange(count * 2 * reported).view(count, -1)[rows].flatten()
    merged = []
    for name, axis in (("unit", 2), ("cut", 2), ("error", 2), ("beaten", 1), ("better", 1)):
        merged.append(getattr(ends, name).index_copy(axis, tracks, getattr(again, name)))
    return Ends(*merged)


def off_profile(
    likelihood: EventLikelihood,
    profiled: Profiled,
    rows: Tensor,
    reported: Sequence[int],
    width: Tensor,
    bounds: Tensor,
) -> Tensor:
    """Check that the ends of one threshold are maxima in all parameters but the reported one.

    A search can end beside a kink, where no gradient vanishes, or at a second maximum. Each
    parameter is tried beside the end, on the side where its gradient points upwards, and at those
    of its bounds that are near: a maximum there needs no rise around it.

    Args:
        likelihood: the likelihoods.
        profiled: profiles at one threshold.
        rows: the datasets to check, (n,).
        reported: indices of the reported parameters.
        width: standard deviations of each parameter at fixed others, (members, D, P).
        bounds: lower and upper bounds, (2, P).

    Returns:
        Whether one of these points is higher than its end by more than `SLACK`, (members, n) bool.
    """
    parameters = width.shape[-1]
    if parameters == 1:
        return torch.zeros(len(width), len(rows), dtype=torch.bool)
    ends = profiled.points[:, rows, :, :, 0].flatten(1, 3)  # (members, n · I · 2, P)
    datasets = rows.repeat_interleave(2 * len(reported))
    there = likelihood(datasets, ends)
    uphill = there.score.sign() * _BESIDE * width[:, datasets]
    others = torch.tensor([[p for p in range(parameters) if p != own] for own in reported])
    others = others.repeat_interleave(2, 0).repeat(len(rows), 1)  # (n · I · 2, P − 1)
    moved = torch.nn.functional.one_hot(others, parameters).bool()  # one per point
    ends, uphill = (t[:, :, None].expand(-1, *moved.shape) for t in (ends, uphill))
    tracks = datasets.repeat_interleave(parameters - 1)
    beside = (ends + torch.where(moved, uphill, 0)).clamp(bounds[0], bounds[1])
    highest = likelihood.values(tracks, beside.flatten(1, 2))
    within = _WITHIN * width[:, datasets, None]
    for bound in bounds:
        near = ~(moved & ((bound - ends).abs() > within)).any(-1).flatten(1)  # a member's own
        if len(some := near.any(0).nonzero().squeeze(-1)):
            probes = torch.where(moved, bound, ends).flatten(1, 2)
            found = likelihood.values(tracks[some], probes[:, some])
            found = torch.where(near[:, some], found, -torch.inf)
            highest[:, some] = torch.maximum(highest[:, some], found)
    rise = highest.view(*there.value.shape, -1) - there.value[..., None]
    return (rise > SLACK).view(len(highest), len(rows), -1).any(-1)
