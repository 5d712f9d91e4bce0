"""Maxima of many log-likelihoods at once: damped quasi-Newton steps within bounds.

The first curvature is the outer product of the events' scores (Berndt, Hall, Hall & Hausman 1974).
Near a maximum it is updated by differences of gradients (Broyden, Fletcher, Goldfarb & Shanno
1970; damped as by Powell 1978), because the surrogate may be misspecified. Parameters at a bound
that the gradient presses against leave the step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.inference.events import Evaluation

Evaluate = Callable[[Tensor, Tensor], Evaluation]
"""Maps indices of tracks (T,) and points (members, T, P) to their evaluation."""

TOLERANCE = 3e-4
"""Distance to a maximum, in standard deviations, at which a search stops."""
NOISE = 1e-3
"""Differences of log-likelihoods below this, in nats, decide nothing."""

_STEPS = 60  # most steps of a search
_RIDGE = 12.0  # curvature of a uniform distribution over the whole range, added to the first one
_NEAR = 1.0  # standard deviations from the maximum within which updates replace outer products
_LEAST, _MOST = 0.2, 10.0  # factors by which an update changes the curvature along its step
_ROUNDING = 1e-10  # least eigenvalue of a definite matrix whose diagonal is 1


@dataclass(frozen=True)
class Points:
    """Points of T tracks, for each member, in unit coordinates, float64.

    Args:
        unit: their positions, (members, T, P).
        value: log-likelihoods there, (members, T).
        score: gradients there, (members, T, P).
        curvature: negative second derivatives, approximately, (members, T, P, P).
        distance: estimated distance to the maximum, in standard deviations, (members, T). Where a
            search ended because no step climbs, as at a kink, it is the length of the last one.
    """

    unit: Tensor
    value: Tensor
    score: Tensor
    curvature: Tensor
    distance: Tensor

    def of(self, tracks: Tensor) -> "Points":
        """Return some tracks."""
        return Points(*(t[:, tracks] for t in self._all()))

    def replaced(self, tracks: Tensor, better: Tensor, other: "Points") -> "Points":
        """Return the points with some of another's.

        Args:
            tracks: tracks of the other, (n,).
            better: whether to take the other's, (members, n).
            other: points of these tracks.
        """
        merged = []
        for own, new in zip(self._all(), other._all(), strict=True):
            own = own.clone()
            where = better.view(*better.shape, *[1] * (own.dim() - 2))
            own[:, tracks] = torch.where(where, new, own[:, tracks])
            merged.append(own)
        return Points(*merged)

    def joined(self, other: "Points") -> "Points":
        """Return the tracks of both."""
        return Points(*(torch.cat(b, 1) for b in zip(self._all(), other._all(), strict=True)))

    def _all(self) -> tuple[Tensor, ...]:
        return self.unit, self.value, self.score, self.curvature, self.distance


def maximise(
    evaluate: Evaluate, start: Tensor, bounds: Tensor, curvature: Tensor | None = None
) -> Points:
    """Maximise log-likelihoods within bounds.

    Args:
        evaluate: log-likelihoods of tracks.
        start: first points, (members, T, P) unit coordinates.
        bounds: lower and upper bounds, (2, …), broadcast to the points; a parameter is fixed if
            both are equal.
        curvature: first curvature, (members, T, P, P); by default the outer product of scores.

    Returns:
        The maxima. A distance above `TOLERANCE` says that the search ended early.
    """
    lower, upper = (b.expand_as(start) for b in bounds)
    unit = start.clamp(lower, upper)
    value, score, outer = evaluate(torch.arange(start.shape[1]), unit)
    curvature = definite(outer) if curvature is None else curvature.clone()
    damping, distance = torch.zeros_like(value), torch.full_like(value, torch.inf)
    for _ in range(_STEPS):
        free = free_of(unit, score, lower, upper)
        step, distance = newton(curvature, score, free, damping)
        trial = (unit + step).clamp(lower, upper)
        moved = trial - unit
        length = (moved * (curvature @ moved[..., None]).squeeze(-1)).sum(-1).clamp_min(0).sqrt()
        reached = torch.minimum(distance, length)
        going = reached > TOLERANCE
        active = going.any(0).nonzero().squeeze(-1)
        if not len(active):
            break
        there = evaluate(active, trial[:, active])
        here = Points(*(t[:, active] for t in (unit, value, score, curvature, distance)))
        new, softened = _stepped(
            here, damping[:, active], trial[:, active], there, lower[:, active], upper[:, active]
        )
        keep = ~going[:, active]
        for target, taken in (
            (unit, new.unit),
            (value, new.value),
            (score, new.score),
            (curvature, new.curvature),
            (damping, softened),
        ):
            kept = keep.view(*keep.shape, *[1] * (target.dim() - 2))
            target[:, active] = torch.where(kept, target[:, active], taken)
    else:
        free = free_of(unit, score, lower, upper)
        _, left = newton(curvature, score, free, torch.zeros_like(damping))
        reached = torch.where(going, left, reached)
    return Points(unit, value, score, curvature, reached)


def _stepped(
    here: Points,
    damping: Tensor,
    trial: Tensor,
    there: Evaluation,
    lower: Tensor,
    upper: Tensor,
) -> tuple[Points, Tensor]:
    """Take steps that climb; return the points and the next damping."""
    unit, value, score, curvature = here.unit, here.value, here.score, here.curvature
    step = trial - unit
    bend = (step * (curvature @ step[..., None]).squeeze(-1)).sum(-1)
    predicted = (score * step).sum(-1) - 0.5 * bend
    gained = there.value - value
    updated = update(curvature, step, score - there.score)
    free = free_of(trial, there.score, lower, upper)
    _, left = newton(updated, there.score, free, torch.zeros_like(damping))
    finite = there.value.isfinite() & there.score.isfinite().all(-1)
    climbs = torch.where(
        predicted.abs() > NOISE,
        gained > 0.1 * predicted,
        (left <= here.distance) & (gained > -NOISE),
    )
    good = finite & climbs
    # Far away outer products follow the likelihood; near the maximum updates are more accurate.
    far = good & (left > _NEAR)
    updated = torch.where(finite[..., None, None], updated, curvature)
    updated = torch.where(far[..., None, None], definite(there.outer), updated)
    ratio = gained / predicted.clamp_min(1e-12)
    softer = torch.where((ratio > 0.5) | (predicted < NOISE), 0.2 * damping, damping)
    softer = torch.where(softer < 1e-3, torch.zeros_like(softer), softer)
    harder = (4 * damping).clamp_min(1.0)
    taken = good[..., None]
    return (
        Points(
            torch.where(taken, trial, unit),
            torch.where(good, there.value, value),
            torch.where(taken, there.score, score),
            updated,
            left,
        ),
        torch.where(good, softer, harder),
    )


def free_of(unit: Tensor, score: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return which parameters may move: those not pressed against a bound, (…, P) bool."""
    pressed = ((unit <= lower) & (score <= 0)) | ((unit >= upper) & (score >= 0))
    return ~(pressed | (lower >= upper))


def newton(
    curvature: Tensor, score: Tensor, free: Tensor, damping: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the damped Newton step of free parameters, and the distance to the maximum.

    Args:
        curvature: positive definite, (…, P, P).
        score: gradients, (…, P).
        free: which parameters may move, (…, P).
        damping: factor of the curvature's diagonal that is added to it, (…).

    Returns:
        Steps (…, P), zero where a parameter is not free, and the square roots of the undamped
        quadratic forms of the gradients, in standard deviations, (…).
    """
    matrix = restricted(curvature, free)
    gradient = torch.where(free, score, torch.zeros_like(score))
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    raised = matrix + torch.diag_embed(damping[..., None] * diagonal)
    step = torch.linalg.solve(raised, gradient)
    plain = torch.linalg.solve(matrix, gradient) if bool((damping > 0).any()) else step
    decrement = (plain * gradient).sum(-1).clamp_min(0)
    return torch.where(free, step, torch.zeros_like(step)), decrement.sqrt()


def restricted(curvature: Tensor, free: Tensor) -> Tensor:
    """Return curvatures with unit rows and columns for parameters that are not free."""
    both = free[..., :, None] & free[..., None, :]
    scale = curvature.diagonal(dim1=-2, dim2=-1)
    alone = torch.diag_embed(torch.where(free, torch.zeros_like(scale), torch.ones_like(scale)))
    return torch.where(both, curvature, alone)


def update(curvature: Tensor, step: Tensor, change: Tensor) -> Tensor:
    """Update curvatures by a step and the fall of the gradient along it (BFGS).

    Changes that would make a curvature indefinite are damped (Powell 1978), and so are those by
    more than a factor, as beside a kink.

    Args:
        curvature: positive definite, (…, P, P).
        step: steps, (…, P).
        change: gradients before the step minus after, (…, P).
    """
    along = (curvature @ step[..., None]).squeeze(-1)
    bend, seen = (step * along).sum(-1), (step * change).sum(-1)
    usable = (bend > 0) & change.isfinite().all(-1)
    bend = torch.where(usable, bend, torch.ones_like(bend))
    share = torch.ones_like(bend)
    for low, limit in ((True, _LEAST), (False, _MOST)):
        beyond = seen < limit * bend if low else seen > limit * bend
        share = torch.where(beyond, (limit - 1) * bend / (seen - bend), share)
    damped = share[..., None] * change + (1 - share[..., None]) * along
    rise = (step * damped).sum(-1)
    new = (
        curvature
        - along[..., :, None] * along[..., None, :] / bend[..., None, None]
        + damped[..., :, None]
        * damped[..., None, :]
        / torch.where(usable, rise, torch.ones_like(rise))[..., None, None]
    )
    new = 0.5 * (new + new.mT)
    kept = usable & is_definite(new)
    return torch.where(kept[..., None, None], new, curvature)


def is_definite(matrix: Tensor) -> Tensor:
    """Return whether matrices (…, P, P) are positive definite within rounding, (…) bool."""
    finite: Tensor = matrix.isfinite().flatten(-2).all(-1)
    scale = matrix.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300).rsqrt()
    scaled = (scale[..., :, None] * matrix * scale[..., None, :]).nan_to_num(0.0, 0.0, 0.0)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype)
    _, failed = torch.linalg.cholesky_ex(scaled - _ROUNDING * eye)
    definite: Tensor = finite & (failed == 0)
    return definite


def definite(outer: Tensor) -> Tensor:
    """Return outer products of scores, made positive definite."""
    outer = outer.nan_to_num(0.0, 0.0, 0.0)
    ridge = _RIDGE + _ROUNDING * outer.diagonal(dim1=-2, dim2=-1)
    return outer + torch.diag_embed(ridge)
