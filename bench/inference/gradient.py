"""Profile likelihoods of any number of parameters, by gradients.

Maxima, interval ends and statistics of many datasets are found together. Everything depends on the
data alone: searches never start from the generating parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.stats import qmc
from torch import Tensor

from bench.errors import PluginError, counted
from bench.inference.box import ROOTS
from bench.inference.ends import SLACK
from bench.inference.events import Evaluation, EventLikelihood
from bench.inference.maximum import (
    NOISE,
    TOLERANCE,
    Points,
    definite,
    free_of,
    is_definite,
    maximise,
    newton,
    restricted,
)
from bench.inference.profiling import Profiled, doubtful, mended, profiled

_RESTARTS = 2  # searches from further points of the scan
_PROBE = 0.2  # half the finite difference of gradients, in standard deviations at fixed others
_WIDEST = 0.25  # largest standard deviation of these differences, in unit coordinates
_UNEVEN = 0.25  # difference in size of gradients on both sides of a smooth maximum, at most
_DENSE = 64  # points of a denser scan, for each parameter, where a likelihood has kinks
_WEAKEST = 0.02  # least curvature by differences of gradients, in units of outer products


@dataclass(frozen=True)
class GradientProfiles:
    """Results of `profile` in the whole parameter space and in the box.

    Args:
        whole: profiles in the parameter space, at the threshold 1, or at all of the box.
        box: profiles in the box, at the thresholds `ROOTS` squared.
        information: observed information at the maxima in the space, (members, D, P, P).
        statistic: likelihood-ratio statistics of the generating values of reported parameters,
            in the box, (members, D, I).
        fixed: points of these statistics, all other parameters profiled, (members, D, I, P).
        at_truth: log-likelihoods at the generating parameters, (members, D).
        cost: forward passes per event for maxima, ends and statistics; for the scan and restarts;
            for the information, (D, 3).
    """

    whole: Profiled
    box: Profiled
    information: Tensor
    statistic: Tensor
    fixed: Tensor
    at_truth: Tensor
    cost: Tensor


def profile(
    likelihood: EventLikelihood,
    reported: Sequence[int],
    truth: Tensor,
    box: Tensor,
    *,
    every: bool = False,
) -> GradientProfiles:
    """Profile the likelihoods of datasets over all parameters but one.

    Args:
        likelihood: log-likelihoods of D datasets.
        reported: indices of the I parameters whose intervals are wanted.
        truth: generating parameters, (D, P) unit coordinates.
        box: lower and upper bounds of the box, (2, P) unit coordinates.
        every: whether profiles in the parameter space are wanted at all thresholds, not only 1.

    Raises:
        NonFiniteError: if a log-ratio is NaN or +inf.
        PluginError: if nothing depends on a parameter, or as `EventLikelihood.values`.
    """
    members, count = likelihood.members, len(likelihood.x)
    parameters = truth.shape[-1]
    everything = torch.arange(count)
    space = torch.stack([torch.zeros(parameters), torch.ones(parameters)]).double()

    scan = _scan(parameters, 8 + 4 * parameters)
    scanned = _scanned(likelihood, everything, scan)
    searching = likelihood.cost.clone()
    maximum = maximise(likelihood.of(everything), scan[scanned.argmax(-1)], space)
    found = likelihood.cost.clone()
    maximum = _restarted(likelihood, maximum, everything, scan, scanned, space)
    restarted = likelihood.cost.clone()

    informed = _informed(likelihood, maximum, everything, space)
    measured = likelihood.cost - restarted
    if len(rows := informed.rough.any(0).nonzero().squeeze(-1)):
        informed = _searched(likelihood, informed, rows, space)
    researched = likelihood.cost.clone()
    maximum, outer = informed.maximum, informed.outer
    _require_effects(likelihood, informed.information)

    outside = ((maximum.unit < box[0]) | (maximum.unit > box[1])).any(-1).any(0)
    rows = outside.nonzero().squeeze(-1)
    inner, again = maximum, torch.zeros_like(researched)
    if len(rows):
        inner = _in_box(likelihood, maximum, rows, box)
        entered = likelihood.cost.clone()
        inner = _restarted_in_box(likelihood, inner, rows, scan, scanned, box)
        again = likelihood.cost - entered
    boxed = profiled(likelihood, inner, reported, ROOTS, box)
    # Where nothing touches the box, its profiles are those of the space.
    level = ROOTS.index(1.0)
    most = len(ROOTS) if every else level + 1
    low, high = box[0] + 1e-9, box[1] - 1e-9
    reached = boxed.points[..., :most, :]
    same = ((reached > low) & (reached < high)).flatten(2).all(-1) & (
        (boxed.maximum.unit > low) & (boxed.maximum.unit < high)
    ).all(-1)
    same = same.all(0) & ~outside
    whole = boxed.to(most)
    if not bool(same.all()):
        rows = (~same).nonzero().squeeze(-1)
        apart = profiled(likelihood, maximum.of(rows), reported, ROOTS[:most], space, rows)
        whole = whole.replaced(rows, apart)
    doubt = doubtful(likelihood, whole, level, everything, reported, outer, space)
    whole = mended(likelihood, whole, level, doubt, reported, ROOTS[:most], outer, space)
    whole = whole if every else whole.at(level)
    if len(rows := (~same).nonzero().squeeze(-1)):
        doubt[:, rows] = doubtful(likelihood, boxed, level, rows, reported, outer, box)
    boxed = mended(likelihood, boxed, level, doubt, reported, ROOTS, outer, box)
    whole = replace(whole, missed=whole.missed | informed.rising)
    boxed = replace(boxed, missed=boxed.missed | informed.rising)
    statistic, fixed = _statistics(likelihood, boxed, reported, truth, box)
    intervals = likelihood.cost - researched - again + (found - searching)
    at_truth = likelihood.values(everything, truth.expand(members, -1, -1))
    restarts = searching + researched - measured - found + again
    cost = torch.stack([intervals, restarts, measured], -1)
    return GradientProfiles(whole, boxed, informed.information, statistic, fixed, at_truth, cost)


def _scan(parameters: int, points: int) -> Tensor:
    """Return the points of a scan, (points, P) unit coordinates: the centre and Sobol points."""
    drawn = qmc.Sobol(parameters, seed=0).random(1 << (points - 2).bit_length())[: points - 1]
    centre = torch.full((1, parameters), 0.5, dtype=torch.float64)
    return torch.cat([centre, torch.from_numpy(drawn)])


def _scanned(likelihood: EventLikelihood, rows: Tensor, scan: Tensor) -> Tensor:
    """Evaluate some datasets at the points of the scan, (members, n, points)."""
    datasets = rows.repeat_interleave(len(scan))
    unit = scan.repeat(len(rows), 1).expand(likelihood.members, -1, -1)
    return torch.unflatten(likelihood.values(datasets, unit), -1, (len(rows), len(scan)))


def _restarted(
    likelihood: EventLikelihood,
    maximum: Points,
    rows: Tensor,
    scan: Tensor,
    scanned: Tensor,
    space: Tensor,
) -> Points:
    """Search some datasets again from points of a scan; return the higher maxima."""
    unused = torch.ones_like(scanned, dtype=torch.bool)
    for _ in range(_RESTARTS):
        start = _unexpected(maximum, scan, scanned, unused)
        other = maximise(likelihood.of(rows), scan[start], space)
        better = other.value > maximum.value + NOISE
        maximum = maximum.replaced(torch.arange(len(rows)), better, other)
    return maximum


def _unexpected(maximum: Points, scan: Tensor, scanned: Tensor, unused: Tensor) -> Tensor:
    """Return the point of the scan that is highest relative to the parabola around the maximum.

    A second mode is higher than the parabola by far. The point is marked as used.

    Returns:
        Indices of points, (members, D).
    """
    offset = scan - maximum.unit[..., None, :]  # (members, D, points, P)
    fall = 0.5 * ((offset @ maximum.curvature) * offset).sum(-1)
    relative = (maximum.value[..., None] - scanned) / fall.clamp_min(1e-9)
    near = fall < 0.5
    chosen = torch.where(unused & ~near, relative, torch.inf).argmin(-1)
    unused.scatter_(-1, chosen[..., None], torch.zeros_like(unused[..., :1]))
    return chosen


@dataclass(frozen=True)
class _Informed:
    """Observed information of n datasets, by finite differences of gradients.

    Args:
        information: the information, (members, n, P, P).
        maximum: the maxima with the information as their curvature, made positive definite, and
            searched again where it shows that they were not reached.
        outer: outer products of scores nearby, (members, n, P, P).
        rising: whether the maximum is none, (members, n) bool: a probe is higher, or the
            information says that the likelihood rises in a direction.
        rough: whether gradients on both sides of the maximum differ in size, as beside a kink.
    """

    information: Tensor
    maximum: Points
    outer: Tensor
    rising: Tensor
    rough: Tensor

    def replaced(self, rows: Tensor, better: Tensor, other: "_Informed") -> "_Informed":
        """Replace some datasets where another's maximum is better, (members, n) bool."""
        merged: dict[str, Any] = {"maximum": self.maximum.replaced(rows, better, other.maximum)}
        for name in ("information", "outer", "rising", "rough"):
            own, new = getattr(self, name), getattr(other, name)
            where = better.view(*better.shape, *[1] * (own.dim() - 2))
            merged[name] = own.index_copy(1, rows, torch.where(where, new, own[:, rows]))
        return _Informed(**merged)


def _informed(
    likelihood: EventLikelihood, maximum: Points, rows: Tensor, space: Tensor
) -> _Informed:
    """Measure the observed information of some datasets at their maxima."""
    members, count, parameters = maximum.unit.shape
    width = maximum.curvature.diagonal(dim1=-2, dim2=-1).rsqrt()
    step = _PROBE * width.clamp_max(_WIDEST)
    probes = []
    for sign in (1, -1):
        shift = torch.diag_embed(sign * step)  # (members, D, P, P)
        probes.append((maximum.unit[..., None, :] + shift).clamp(space[0], space[1]))
    unit = torch.stack(probes, 2)  # (members, D, 2, P, P)
    there = likelihood(
        rows.repeat_interleave(2 * parameters), unit.reshape(members, -1, parameters)
    )
    scores = torch.unflatten(there.score, 1, (count, 2, parameters))
    change = scores[:, :, 1] - scores[:, :, 0]
    length = (unit[:, :, 0] - unit[:, :, 1]).diagonal(dim1=-2, dim2=-1)
    information = change / length.clamp_min(1e-12)[..., None]
    information = 0.5 * (information + information.mT)

    # In units of the outer products nearby, limits on eigenvalues make it definite.
    outer = definite(torch.unflatten(there.outer, 1, (count, 2 * parameters)).mean(2))
    free = free_of(maximum.unit, maximum.score, *space)
    root = torch.linalg.cholesky(restricted(outer, free))
    inverse = torch.linalg.inv(root)
    relative = inverse @ restricted(information.nan_to_num(), free) @ inverse.mT
    values, vectors = torch.linalg.eigh(0.5 * (relative + relative.mT))
    kept = vectors @ torch.diag_embed(values.clamp(_WEAKEST, 1 / _WEAKEST)) @ vectors.mT
    curvature = root @ kept @ root.mT
    both = free[..., :, None] & free[..., None, :]
    curvature = torch.where(both, 0.5 * (curvature + curvature.mT), outer)
    curvature = torch.where(is_definite(curvature)[..., None, None], curvature, outer)

    _, distance = newton(curvature, maximum.score, free, torch.zeros_like(maximum.value))
    maximum = replace(maximum, curvature=curvature)
    if len(some := (distance > TOLERANCE).any(0).nonzero().squeeze(-1)):
        own = maximum.of(some)
        other = maximise(likelihood.of(rows[some]), own.unit, space, own.curvature)
        better = other.value > own.value - NOISE
        maximum = maximum.replaced(some, better, other)
    probed = torch.unflatten(there.value, 1, (count, 2 * parameters)).amax(-1)
    rising = (values[..., 0] <= 0) | (probed > maximum.value + SLACK)
    along = scores.diagonal(dim1=-2, dim2=-1)  # slope of each probe along its parameter
    uneven = along.sum(2).abs() > _UNEVEN * along.abs().sum(2)
    inside = (length > 1.99 * step) & free
    return _Informed(information, maximum, outer, rising, (uneven & inside).any(-1))


def _searched(
    likelihood: EventLikelihood, informed: _Informed, rows: Tensor, space: Tensor
) -> _Informed:
    """Search rough likelihoods for higher maxima, from points of a denser scan."""
    scan = _scan(space.shape[1], _DENSE * space.shape[1])
    own, scanned = informed.maximum.of(rows), _scanned(likelihood, rows, scan)
    other = _restarted(likelihood, own, rows, scan, scanned, space)
    better = informed.rough[:, rows] & (other.value > own.value + NOISE)
    if not len(some := better.any(0).nonzero().squeeze(-1)):
        return informed
    again = _informed(likelihood, other.of(some), rows[some], space)
    return informed.replaced(rows[some], better[:, some], again)


def _require_effects(likelihood: EventLikelihood, information: Tensor) -> None:
    """Raise PluginError if no log-likelihood depends on one of the parameters."""
    effects = (information != 0).any(-1).flatten(0, 1).any(0)
    for name, effect in zip(likelihood.space.names, effects.tolist(), strict=True):
        if not effect:
            raise PluginError(
                f"the likelihood of {counted(len(likelihood.x), 'dataset')} does not depend on "
                f"parameter {name!r}: neither weights nor log-ratios change with it, or their "
                "gradient is lost (detach, or another library)"
            )


def _in_box(likelihood: EventLikelihood, maximum: Points, rows: Tensor, box: Tensor) -> Points:
    """Move the maxima of some datasets into the box, from those of their parabolas in it."""
    own = maximum.of(rows)

    def parabola(tracks: Tensor, unit: Tensor) -> Evaluation:
        away = unit - own.unit[:, tracks]
        curvature = own.curvature[:, tracks]
        score = -(curvature @ away[..., None]).squeeze(-1)
        return Evaluation(0.5 * (away * score).sum(-1), score, curvature)

    start = maximise(parabola, own.unit, box, own.curvature)
    inner = maximise(likelihood.of(rows), start.unit, box, own.curvature)
    return maximum.replaced(rows, torch.ones_like(inner.value, dtype=torch.bool), inner)


def _restarted_in_box(
    likelihood: EventLikelihood,
    inner: Points,
    rows: Tensor,
    scan: Tensor,
    scanned: Tensor,
    box: Tensor,
) -> Points:
    """Search some datasets again from the highest point of the scan in the box."""
    inside = ((scan >= box[0]) & (scan <= box[1])).all(-1)
    if not bool(inside.any()):
        return inner
    best = scanned[:, rows][..., inside].argmax(-1)
    other = maximise(likelihood.of(rows), scan[inside][best], box)
    return inner.replaced(rows, other.value > inner.value[:, rows] + NOISE, other)


def _statistics(
    likelihood: EventLikelihood,
    boxed: Profiled,
    reported: Sequence[int],
    truth: Tensor,
    box: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the statistics of the generating values in the box, (members, D, I), and their points.

    Each is one maximisation at a fixed value, which starts between the nearest points of the
    profile.
    """
    members, _, parameters = boxed.maximum.unit.shape
    size = len(reported)
    wanted = truth[:, list(reported)]  # (D, I)
    maximum = boxed.maximum.unit[:, :, None, None].expand(-1, -1, size, -1, -1)
    path = torch.cat([boxed.points[:, :, :, 0].flip(-2), maximum, boxed.points[:, :, :, 1]], -2)
    position = torch.stack([path[:, :, i, :, p] for i, p in enumerate(reported)], 2)
    position = position.cummax(-1).values.contiguous()
    right = torch.searchsorted(position, wanted.expand(members, -1, -1)[..., None].contiguous())
    right = right.clamp(1, path.shape[-2] - 1)
    left_at, right_at = (position.gather(-1, i) for i in (right - 1, right))
    share = (wanted[None, ..., None] - left_at) / (right_at - left_at).clamp_min(1e-12)
    index = right[..., None].expand(-1, -1, -1, 1, parameters)
    before, after = (path.gather(-2, i).squeeze(-2) for i in (index - 1, index))
    start = before + share.clamp(0, 1) * (after - before)  # (members, D, I, P)
    found, points = _fixed(likelihood, boxed.maximum, start, wanted, reported, box)
    return 2 * (boxed.maximum.value[..., None] - found), points


def _fixed(
    likelihood: EventLikelihood,
    maximum: Points,
    start: Tensor,
    wanted: Tensor,
    reported: Sequence[int],
    box: Tensor,
) -> tuple[Tensor, Tensor]:
    """Maximise log-likelihoods where each reported parameter in turn has a value (D, I).

    Searches start at points (members, D, I, P). Returns the maxima, (members, D, I), and where
    they are, (members, D, I, P).
    """
    count, size = wanted.shape
    start, bounds = start.clone(), box[:, None, None].repeat(1, count, size, 1)  # (2, D, I, P)
    for i, p in enumerate(reported):
        start[:, :, i, p] = wanted[:, i]
        bounds[:, :, i, p] = wanted[:, i]
    rows = torch.arange(count).repeat_interleave(size)
    curvature = maximum.curvature[:, rows]
    found = maximise(likelihood.of(rows), start.flatten(1, 2), bounds.flatten(1, 2), curvature)
    value, unit = (torch.unflatten(own, 1, (count, size)) for own in (found.value, found.unit))
    return value, unit


def statistics(
    likelihood: EventLikelihood, reported: Sequence[int], truth: Tensor
) -> tuple[Tensor, Tensor]:
    """Return likelihood-ratio statistics at parameters, with maxima in the parameter space.

    Args:
        likelihood: log-likelihoods of D datasets.
        reported: indices of I parameters.
        truth: the parameters, (D, P) unit coordinates.

    Returns:
        Statistics of the reported parameters, all others profiled, (members, D, I), and of all
        parameters, (members, D).
    """
    members, everything = likelihood.members, torch.arange(len(truth))
    parameters = truth.shape[-1]
    space = torch.stack([torch.zeros(parameters), torch.ones(parameters)]).double()
    scan = _scan(parameters, 8 + 4 * parameters)
    scanned = _scanned(likelihood, everything, scan)
    maximum = maximise(likelihood.of(everything), scan[scanned.argmax(-1)], space)
    maximum = _restarted(likelihood, maximum, everything, scan, scanned, space)
    wanted, starts = truth[:, list(reported)], []
    for i, p in enumerate(reported):
        # The others follow along the ridge of the parabola around the maximum.
        free = torch.ones_like(maximum.unit, dtype=torch.bool)
        free[..., p] = False
        column = maximum.curvature[..., p]
        following, _ = newton(maximum.curvature, column, free, torch.zeros_like(maximum.value))
        following[..., p] = -1.0
        away = (wanted[:, i] - maximum.unit[..., p])[..., None]
        starts.append((maximum.unit - following * away).clamp(0, 1))
    found, _ = _fixed(likelihood, maximum, torch.stack(starts, 2), wanted, reported, space)
    at_truth = likelihood.values(everything, truth.expand(members, -1, -1))
    top = torch.maximum(maximum.value, torch.maximum(found.amax(-1), at_truth))
    return 2 * (top[..., None] - found), 2 * (top - at_truth)
