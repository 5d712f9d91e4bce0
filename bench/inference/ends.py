"""Ends of profile-likelihood intervals, followed outwards from the maxima.

Each end solves two conditions at once: the likelihood-ratio statistic has a given value, and the
gradient in all other parameters is zero (Venzon & Moolgavkar 1988, Applied Statistics 37). Ends of
rising thresholds are found one after the other, each from the one before. The interval is therefore
the connected one around the maximum. A bracket in the parameter keeps every step between a point
known to be inside and the nearest one known to be outside.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from bench.inference.events import Evaluation
from bench.inference.maximum import Evaluate, Points, free_of, newton, update

SLACK = 0.01
"""Error of an end, in standard deviations, above which it is unresolved."""
BEATEN = 0.005
"""Rise above the maximum, in nats, that shows that it was not the maximum."""

_STEPS = 25  # most evaluations of an end
_CLOSE = 5e-3  # standard deviations from an end within which it follows from the slope
_MODEL = 1.5e-3  # largest correction of the root by the quadratic model of other parameters
_LOOSE = 0.5  # standard deviations from the profile above which a step is refused
_FAR = 1.0  # standard deviations from the profile above which the parameter waits
_REACH = 1.5  # longest step in the parameter, in units of the step of a Gaussian likelihood
_ONWARD = 0.25  # step where the profile rises outwards, in standard deviations
_FLAT = 1e-3  # rise of the root below which the profile counts as flat, relative to a Gaussian
_SMALL = 0.05  # root below which its slope is that of a parabola


@dataclass(frozen=True)
class Ends:
    """Ends of T profile intervals at L thresholds, for each member.

    Args:
        unit: points on the profile, (members, L, T, P) unit coordinates.
        cut: whether the interval is cut by the bound, (members, L, T) bool.
        error: estimated error of each end, in standard deviations, (members, L, T).
        beaten: whether a point was higher than the maximum, (members, T) bool.
        better: the highest such point, else the maximum, (members, T, P).
    """

    unit: Tensor
    cut: Tensor
    error: Tensor
    beaten: Tensor
    better: Tensor


def follow(
    evaluate: Evaluate,
    maximum: Points,
    parameter: Tensor,
    direction: Tensor,
    roots: tuple[float, ...],
    bounds: Tensor,
    start: Points | None = None,
) -> Ends:
    """Follow profiles outwards to the ends of their intervals.

    Args:
        evaluate: log-likelihoods of tracks.
        maximum: maximum of each track.
        parameter: index of the parameter whose interval is wanted, (T,) int64.
        direction: −1 for the lower end, +1 for the upper end, (T,).
        roots: square roots of the thresholds of the likelihood-ratio statistic, rising.
        bounds: lower and upper bounds, (2, …), broadcast to the points.
        start: points inside the intervals from which the profiles are followed; the maxima if None.
    """
    tracks = _Tracks.of(maximum, parameter, direction.double(), bounds)
    start = maximum if start is None else start
    points = Points(*(getattr(start, f.name).clone() for f in fields(start)))
    bracket = _Bracket.at(tracks.outwards(points.unit))
    beaten = torch.zeros_like(bracket.inside, dtype=torch.bool)
    better, highest = maximum.unit.clone(), maximum.value + BEATEN
    cut = torch.zeros_like(beaten)
    found, cuts, errors = [], [], []
    for root in roots:
        bracket.outside.fill_(torch.inf)
        finished = cut | beaten
        for _ in range(_STEPS):
            profile = tracks.measure(points)
            arrived, at_bound = tracks.arrived(points, profile, root)
            cut = cut | (at_bound & ~finished)
            finished = finished | arrived | at_bound
            active = (~finished).any(0).nonzero().squeeze(-1)
            if not len(active):
                break
            trial = tracks.step(points, profile, root, bracket)[:, active]
            there = evaluate(active, trial)
            some = tracks.some(active)
            distance = profile.distance[:, active]
            some.take(points, bracket, active, ~finished[:, active], trial, there, distance, root)
            better = torch.where((points.value > highest)[..., None], points.unit, better)
            beaten = beaten | (points.value > highest)
            highest = torch.maximum(highest, points.value)
            finished = finished | beaten
        profile = tracks.measure(points)
        found.append(tracks.extrapolated(points, profile, root, cut))
        cuts.append(cut)
        errors.append(tracks.error(points, profile, root))
    return Ends(torch.stack(found, 1), torch.stack(cuts, 1), torch.stack(errors, 1), beaten, better)


@dataclass(frozen=True)
class _Bracket:
    """Positions of the parameter between which an end lies, rising outwards, (members, T) each.

    Args:
        inside: the farthest position known to be inside.
        outside: the nearest one known to be outside, infinite if none is.
        share: share of the next step, halved after a refused one.
    """

    inside: Tensor
    outside: Tensor
    share: Tensor

    @classmethod
    def at(cls, position: Tensor) -> "_Bracket":
        """Start at a position inside."""
        return cls(position, torch.full_like(position, torch.inf), torch.ones_like(position))


@dataclass(frozen=True)
class _Profile:
    """Profile at points, by a quadratic model in the other parameters.

    Args:
        root: square root of the likelihood-ratio statistic, (members, T).
        rate: its rise per unit of the parameter outwards, (members, T).
        width: standard deviation of the parameter by the curvature, (members, T).
        distance: distance to the profile, in standard deviations of the others, (members, T).
        correction: step of the others to the profile, (members, T, P).
        tangent: movement of all parameters per unit of the parameter, (members, T, P).
    """

    root: Tensor
    rate: Tensor
    width: Tensor
    distance: Tensor
    correction: Tensor
    tangent: Tensor


@dataclass(frozen=True)
class _Tracks:
    """Parameters and directions that tracks follow, with their bounds and maxima.

    Args:
        parameter: index of the parameter, (T,).
        direction: −1 or +1, (T,).
        lower, upper: bounds, (members, T, P).
        top: log-likelihoods at the maxima, (members, T).
        start: the maxima, (members, T, P).
    """

    parameter: Tensor
    direction: Tensor
    lower: Tensor
    upper: Tensor
    top: Tensor
    start: Tensor

    @classmethod
    def of(cls, maximum: Points, parameter: Tensor, direction: Tensor, bounds: Tensor) -> "_Tracks":
        lower, upper = (b.expand_as(maximum.unit) for b in bounds)
        return cls(parameter, direction, lower, upper, maximum.value, maximum.unit.clone())

    def some(self, active: Tensor) -> "_Tracks":
        """Return some tracks."""
        others = (t[:, active] for t in (self.lower, self.upper, self.top, self.start))
        return _Tracks(self.parameter[active], self.direction[active], *others)

    def own(self, points: Tensor) -> Tensor:
        """Return the parameter's entry of (members, T, P), (members, T)."""
        index = self.parameter[None, :, None].expand(len(points), -1, 1)
        return points.gather(-1, index).squeeze(-1)

    def outwards(self, points: Tensor) -> Tensor:
        """Return positions of the parameter, rising outwards, (members, T)."""
        return self.direction * self.own(points)

    def is_own(self, points: Tensor) -> Tensor:
        """Mark the track's parameter, (members, T, P) bool."""
        mark = torch.nn.functional.one_hot(self.parameter, points.shape[-1]).bool()
        return mark.expand_as(points)

    @property
    def bound(self) -> Tensor:
        """Position of the bound outwards, (members, T)."""
        return self.outwards(torch.where((self.direction > 0)[:, None], self.upper, self.lower))

    def measure(self, points: Points) -> _Profile:
        """Measure the profile at points."""
        own, none = self.is_own(points.unit), torch.zeros_like(points.value)
        free = free_of(points.unit, points.score, self.lower, self.upper) & ~own
        correction, distance = newton(points.curvature, points.score, free, none)
        # Along the profile the others follow the parameter by −(B_nn)⁻¹ B_nj.
        index = self.parameter[None, :, None, None].expand(*points.curvature.shape[:-1], 1)
        column = points.curvature.gather(-1, index).squeeze(-1)
        following, _ = newton(points.curvature, column, free, none)
        tangent = torch.where(own, torch.ones_like(following), -following)
        bend = self.own((points.curvature @ tangent[..., None]).squeeze(-1))
        width = bend.clamp_min(1e-12).rsqrt()
        root = (2 * (self.top - points.value) - distance.square()).clamp_min(0).sqrt()
        slope = -self.direction * (points.score * tangent).sum(-1)  # fall per unit outwards
        # At the maximum both fall and root vanish: their ratio is that of a parabola.
        rate = torch.where(root < _SMALL, 1 / width, slope / root.clamp_min(1e-12))
        return _Profile(root, rate, width, distance, correction, tangent)

    def _off(self, points: Points, profile: _Profile, root: float) -> tuple[Tensor, Tensor]:
        """Return the distance to the end along the profile, and the model's share of the root.

        Both are in standard deviations of the parameter, (members, T). Away from the maximum these
        are distances from it per unit of the root, because its curvature may be that of a kink.
        """
        moved = self.outwards(points.unit) - self.outwards(self.start)
        width = torch.where(profile.root < _SMALL, profile.width, moved / profile.root)
        steepness = (profile.rate * width).clamp_min(1e-6)  # 1 for a Gaussian likelihood
        model = profile.distance.square() / (2 * root)
        return (root - profile.root).abs() / steepness, model / steepness

    def arrived(self, points: Points, profile: _Profile, root: float) -> tuple[Tensor, Tensor]:
        """Return whether the end is near, and whether the bound cuts the interval before it."""
        off, model = self._off(points, profile, root)
        near = (model <= _MODEL) & (off <= _CLOSE) & (profile.rate > 0)
        on_profile = profile.distance.square() <= 2 * root * _MODEL
        at_bound = self.outwards(points.unit) >= self.bound
        return near, on_profile & at_bound & (profile.root <= root)

    def error(self, points: Points, profile: _Profile, root: float) -> Tensor:
        """Return estimated errors of ends, in standard deviations, (members, T)."""
        off, model = self._off(points, profile, root)
        near, at_bound = self.arrived(points, profile, root)
        error = torch.where(near, 0.1 * off + 0.3 * model, off + model)
        return torch.where(at_bound, torch.zeros_like(error), error)

    def step(self, points: Points, profile: _Profile, root: float, bracket: _Bracket) -> Tensor:
        """Return the next points, (members, T, P)."""
        here = self.outwards(points.unit)
        wanted = root - profile.root
        gaussian = wanted.abs().clamp_min(_SMALL) * profile.width
        rises = profile.rate * profile.width > _FLAT
        # Where the profile rises outwards again, its slope leads to no end.
        elsewhere = torch.where(wanted > 0, _ONWARD * profile.width, -gaussian)
        move = torch.where(rises, wanted / torch.where(rises, profile.rate, 1.0), elsewhere)
        move = torch.minimum(torch.maximum(move, -_REACH * gaussian), _REACH * gaussian)
        move = torch.where(profile.distance > _FAR, 0.0, bracket.share * move)
        target = here + move
        beyond = (target >= bracket.outside) | ((target <= bracket.inside) & (move < 0))
        middle = 0.5 * (bracket.inside + bracket.outside)
        target = torch.where(beyond & middle.isfinite(), middle, target)
        # A refused step may have shown that a position ahead is inside, yet must be shortened.
        least = torch.minimum(bracket.inside, torch.maximum(here, target))
        target = torch.maximum(torch.minimum(target, self.bound), least)
        along = profile.tangent * (self.direction * (target - here))[..., None]
        trial = points.unit + bracket.share[..., None] * profile.correction + along
        placed = (self.direction * target)[..., None].expand_as(trial)
        trial = torch.where(self.is_own(trial), placed, trial)
        return trial.clamp(self.lower, self.upper)

    def take(
        self,
        points: Points,
        bracket: _Bracket,
        active: Tensor,
        going: Tensor,
        trial: Tensor,
        there: Evaluation,
        distance: Tensor,
        root: float,
    ) -> None:
        """Move points and brackets, in place, where a step stays near the profile.

        Args:
            points: current points of all tracks.
            bracket: their brackets.
            active: indices of these tracks.
            going: whether a member's track is still on its way, (members, active).
            trial: the next points.
            there: their evaluation.
            distance: distance of the former points to the profile.
            root: the wanted root.
        """
        step = trial - points.unit[:, active]
        change = points.score[:, active] - there.score
        curvature = update(points.curvature[:, active], step, change)
        profile = self.measure(Points(trial, there.value, there.score, curvature, distance))
        finite = there.value.isfinite() & there.score.isfinite().all(-1)
        near = finite & (profile.distance <= torch.maximum(0.9 * distance, 0 * distance + _LOOSE))
        taken = going & near
        position = self.outwards(trial)
        # The profile is at least as high as a point: one with a small statistic is inside.
        inside = going & finite & (2 * (self.top - there.value) < root**2)
        excess = (profile.root - root).clamp_min(0) * root
        outside = taken & (profile.root > root) & (profile.distance.square() < 0.3 * excess + 1e-4)
        for values, where, new in (
            (bracket.inside, inside, torch.maximum(bracket.inside[:, active], position)),
            (bracket.outside, outside, torch.minimum(bracket.outside[:, active], position)),
            (bracket.share, going, torch.where(taken, 1.0, 0.5 * bracket.share[:, active])),
            (points.unit, taken, trial),
            (points.value, taken, there.value),
            (points.score, taken, there.score),
            (points.curvature, going & finite, curvature),
        ):
            mask = where.view(*where.shape, *[1] * (values.dim() - 2))
            values[:, active] = torch.where(mask, new, values[:, active])

    def extrapolated(self, points: Points, profile: _Profile, root: float, cut: Tensor) -> Tensor:
        """Return points on the profile where the root has its value, by the last slope."""
        off = (root - profile.root) / torch.where(profile.rate > 0, profile.rate, torch.inf)
        off = torch.minimum(torch.maximum(off, -0.1 * profile.width), 0.1 * profile.width)
        along = profile.tangent * (self.direction * off)[..., None]
        ends = (points.unit + profile.correction + along).clamp(self.lower, self.upper)
        return torch.where(cut[..., None], points.unit, ends)
