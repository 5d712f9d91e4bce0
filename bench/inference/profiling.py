"""Profiles of reported parameters within bounds: both ends of every interval, and their checks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench.inference.ends import BEATEN, SLACK, Ends, follow
from bench.inference.events import EventLikelihood
from bench.inference.maximum import NOISE, Points, maximise
from bench.inference.scanning import Lines, highest, scanned_ends

_ROUNDS = 3  # most repetitions with a maximum that interval ends have found
_FALL = 0.25  # fall one standard deviation beside an end, in nats, below which it is doubtful
_EVEN = 0.65  # ratio of the falls on both sides below which they are uneven, as beside a kink
_WITHIN = 5.0  # standard deviations at fixed others within which a bound is tried
_SCANS = 3  # most repetitions of a scan that finds a higher point


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
        return self._kept(slice(level, level + 1))

    def to(self, count: int) -> "Profiled":
        """Keep the first thresholds."""
        return self._kept(slice(count))

    def _kept(self, levels: slice) -> "Profiled":
        return replace(
            self,
            ends=self.ends[..., levels],
            cut=self.cut[..., levels],
            error=self.error[..., levels],
            points=self.points[..., levels, :],
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
    own = intervals_at(maximum, points, reported)
    return Profiled(maximum, own, cut, error, points, missed)


def intervals_at(maximum: Points, points: Tensor, reported: Sequence[int]) -> Tensor:
    """Return the ends of intervals from points on the profiles (members, D, I, 2, L, P).

    Ends are (members, D, I, 2, L). An interval holds its estimate, also where the search for an
    end has failed.
    """
    own = torch.stack([points[:, :, i, :, :, p] for i, p in enumerate(reported)], 2)
    estimate = maximum.unit[..., list(reported), None]  # (members, D, I, 1)
    below, above = (torch.where(side.isnan(), estimate, side) for side in own.unbind(3))
    return torch.stack([torch.minimum(below, estimate), torch.maximum(above, estimate)], 3)


def _sides(reported: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
    """Return the parameter and the direction of tracks (D, I, 2), (D · I · 2,) each."""
    parameter = torch.tensor(reported).repeat_interleave(2).repeat(count)
    return parameter, torch.tensor([-1.0, 1.0]).repeat(len(parameter) // 2)


def _followed(
    likelihood: EventLikelihood,
    datasets: Tensor,
    maximum: Points,
    reported: Sequence[int],
    roots: tuple[float, ...],
    bounds: Tensor,
) -> Ends:
    """Follow both ends of every reported parameter; tracks are (D, I, 2)."""
    rows = torch.arange(len(datasets)).repeat_interleave(2 * len(reported))
    parameter, direction = _sides(reported, len(datasets))
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


def doubtful(
    likelihood: EventLikelihood,
    profiled: Profiled,
    level: int,
    rows: Tensor,
    reported: Sequence[int],
    outer: Tensor,
    bounds: Tensor,
) -> Tensor:
    """Return whether the ends of a threshold may be no maxima in all parameters but their own.

    A search can end beside a kink, where no gradient vanishes, or at a second maximum. The
    likelihood is tried on both sides of each end, where it should fall evenly, and at near bounds:
    a maximum there needs no rise around it.

    Args:
        likelihood: the likelihoods.
        profiled: the profiles.
        level: index of the threshold.
        rows: the datasets to check, (n,).
        reported: indices of the reported parameters.
        outer: curvature by outer products of scores, (members, D, P, P).
        bounds: lower and upper bounds, (2, P).

    Returns:
        Whether an end is doubtful, or a search has failed, (members, n) bool; never for P = 1.
    """
    if outer.shape[-1] == 1:
        return torch.zeros(len(outer), len(rows), dtype=torch.bool)
    ends = profiled.points[:, rows, :, :, level].flatten(1, 3)  # (members, n · I · 2, P)
    datasets = rows.repeat_interleave(2 * len(reported))
    there = likelihood.values(datasets, ends)
    parameter, _ = _sides(reported, len(rows))
    lines = Lines.of(outer[:, datasets], parameter, bounds)
    doubt = torch.zeros_like(there, dtype=torch.bool)
    for direction in range(ends.shape[-1] - 1):
        beside = lines.beside(ends, direction, torch.tensor([-1.0, 1.0]).double())
        value = likelihood.values(datasets.repeat_interleave(2), beside.flatten(1, 2))
        fall = there[..., None] - torch.unflatten(value, 1, (-1, 2))
        step = lines.directions[..., direction].norm(dim=-1, keepdim=True)
        share = (beside - ends[:, :, None]).norm(dim=-1) / step  # less where a bound is between
        uneven = (fall.amin(-1) < _EVEN * fall.amax(-1)) & (share > 0.999).all(-1)
        doubt |= uneven | (fall < _FALL * share.square() - NOISE).any(-1)
    width = outer[:, datasets].diagonal(dim1=-2, dim2=-1).rsqrt()
    for place in range(ends.shape[-1]):
        for bound in bounds[:, place]:
            near = (bound - ends[..., place]).abs() <= _WITHIN * width[..., place]
            near &= parameter != place
            if len(some := near.any(0).nonzero().squeeze(-1)):
                probes = ends[:, some].clone()
                probes[..., place] = bound
                rise = likelihood.values(datasets[some], probes) - there[:, some]
                doubt[:, some] |= near[:, some] & (rise > SLACK)
    error = profiled.error[:, rows, :, :, level].flatten(2).amax(-1)
    found = doubt.view(len(doubt), len(rows), -1).any(-1) | ~(error <= SLACK)
    return found | (profiled.maximum.distance[:, rows] > SLACK)


def mended(
    likelihood: EventLikelihood,
    profiled: Profiled,
    level: int,
    doubt: Tensor,
    reported: Sequence[int],
    roots: tuple[float, ...],
    outer: Tensor,
    bounds: Tensor,
) -> Profiled:
    """Search doubtful ends of a threshold by scans, and follow profiles on from those that move.

    Args:
        likelihood: the likelihoods.
        profiled: the profiles.
        level: index of the threshold.
        doubt: whether the ends of a dataset are doubtful, (members, D) bool.
        reported: indices of the reported parameters.
        roots: square roots of the thresholds, rising.
        outer: curvature by outer products of scores, (members, D, P, P).
        bounds: lower and upper bounds, (2, P).

    Returns:
        The profiles. They have missed a maximum where scans still find a higher point.
    """
    rows = doubt.any(0).nonzero().squeeze(-1)
    if not len(rows):
        return profiled
    sides = 2 * len(reported)
    datasets = rows.repeat_interleave(sides)
    parameter, direction = _sides(reported, len(rows))
    lines = Lines.of(outer[:, datasets], parameter, bounds)
    maximum, doubt = profiled.maximum.of(datasets), doubt[:, datasets]
    points, cut, error = (
        t[:, rows].flatten(1, 3) for t in (profiled.points, profiled.cut, profiled.error)
    )  # (members, n · I · 2, L, …)
    moved, beaten, higher = (torch.zeros_like(doubt) for _ in range(3))
    going = torch.arange(len(datasets))
    for scan in range(_SCANS + 1):
        values = likelihood.values_of(datasets[going])
        ends = points[:, going, level]
        unit, value = highest(values, ends, lines.some(going))
        rise = value - values(torch.arange(len(going)), ends)
        wanted = doubt[:, going] & ((rise > NOISE) | ~(error[:, going, level] <= SLACK))
        beaten[:, going] |= doubt[:, going] & (value > maximum.value[:, going] + BEATEN)
        higher[:, going] = doubt[:, going] & (rise > SLACK)
        some = wanted.any(0).nonzero().squeeze(-1)
        if not len(some) or scan == _SCANS:
            break
        going, wanted = going[some], wanted[:, some]
        top = maximum.of(going)
        found = scanned_ends(
            likelihood.values_of(datasets[going]),
            (unit[:, some], value[:, some]),
            (top.unit, top.value),
            direction[going],
            roots[level],
            lines.some(going),
        )
        for own, new in zip((points, cut, error), found, strict=True):
            own[:, going, level] = _where(wanted, new, own[:, going, level])
        moved[:, going] |= wanted
    further, some = roots[level + 1 :], moved.any(0).nonzero().squeeze(-1)
    if further and len(some):
        top, ends = maximum.of(some), points[:, some, level]
        there = likelihood(datasets[some], ends)
        start = replace(top, unit=ends, value=there.value, score=there.score)
        evaluate, towards = likelihood.of(datasets[some]), (parameter[some], direction[some])
        beyond = follow(evaluate, top, *towards, further, bounds, start)
        after = (t.movedim(1, 2) for t in (beyond.unit, beyond.cut, beyond.error))
        for own, new in zip((points, cut, error), after, strict=True):
            old = own[:, some, level + 1 :]
            own[:, some, level + 1 :] = _where(moved[:, some], new, old)
    points, cut, error = (_by_dataset(t, len(reported)) for t in (points, cut, error))
    failed = torch.unflatten(beaten | higher, 1, (-1, sides)).any(-1)
    chosen = profiled.maximum.of(rows)
    ends, missed = intervals_at(chosen, points, reported), profiled.missed[:, rows] | failed
    return profiled.replaced(rows, Profiled(chosen, ends, cut, error, points, missed))


def _where(tracks: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Replace some tracks, (members, T) bool, of values (members, T, …)."""
    return torch.where(tracks.view(*tracks.shape, *[1] * (new.dim() - 2)), new, old)
