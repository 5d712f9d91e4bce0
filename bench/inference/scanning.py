"""Ends of profile-likelihood intervals without gradients: the other parameters are scanned.

At a kink of a likelihood no gradient vanishes, and further maxima may be near. Templates with a
floor, splines and networks of ReLU units have kinks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Values = Callable[[Tensor, Tensor], Tensor]
"""Maps indices of tracks (T,) and points (members, T, P) to log-likelihoods (members, T)."""

_TAIL = 3 * 1.15 ** torch.arange(1, 18, dtype=torch.float64)  # to 32 standard deviations
WIDE = torch.cat([-_TAIL.flip(0), torch.arange(-24, 25, dtype=torch.float64) / 8, _TAIL])
"""Offsets of a scan for further maxima, in standard deviations; bounds end it."""
_NEAR = torch.arange(-4, 5, dtype=torch.float64) / 4  # offsets where the maximum has moved a little
_ZOOM = torch.arange(-2, 3, dtype=torch.float64) / 12  # next offsets, a third closer each time
_ZOOMS = 3
_SWEEPS = 3  # most sweeps over all directions; one is enough for one direction
_STEPS = 12  # most positions that are tried for an end
_CLOSE = 2e-3  # error of the root at which the search for an end stops
_STEP = 0.5  # longest step outwards, relative to the distance from the maximum


@dataclass(frozen=True)
class Lines:
    """Parameters of T tracks that are scanned at a fixed value of the track's own.

    Args:
        parameter: index of the track's own parameter, (T,).
        directions: steps of one standard deviation in the others, (members, T, P, P − 1).
        lower, upper: bounds, broadcast to the points (members, T, P).
    """

    parameter: Tensor
    directions: Tensor
    lower: Tensor
    upper: Tensor

    @classmethod
    def of(cls, curvature: Tensor, parameter: Tensor, bounds: Tensor) -> "Lines":
        """Choose directions that are conjugate: a quadratic needs one sweep.

        Args:
            curvature: positive definite, (members, T, P, P).
            parameter: index of the track's own parameter, (T,).
            bounds: lower and upper bounds, (2, P).
        """
        parameters = curvature.shape[-1]
        others = torch.arange(parameters - 1).expand(len(parameter), -1)
        others = others + (others >= parameter[:, None])  # (T, P − 1)
        rows = others[None, :, :, None].expand(len(curvature), -1, -1, parameters)
        among = curvature.gather(2, rows)
        columns = others[None, :, None, :].expand(*among.shape[:3], -1)
        root = torch.linalg.cholesky(among.gather(3, columns))
        steps = torch.linalg.inv(root)  # rows are conjugate steps in the others
        directions = curvature.new_zeros(*curvature.shape[:3], parameters - 1)
        directions.scatter_(2, rows[..., : parameters - 1], steps.mT)
        return cls(parameter, directions, bounds[0], bounds[1])

    def some(self, tracks: Tensor) -> "Lines":
        """Return some tracks."""
        chosen = self.parameter[tracks], self.directions[:, tracks]
        return Lines(*chosen, self.lower, self.upper)

    def own(self, unit: Tensor) -> Tensor:
        """Return the entry of the track's own parameter, (members, T)."""
        return unit.gather(-1, self._index(unit)).squeeze(-1)

    def placed(self, unit: Tensor, own: Tensor) -> Tensor:
        """Return points with another value of the own parameter, (members, T)."""
        return unit.scatter(-1, self._index(unit), own[..., None])

    def beside(self, unit: Tensor, direction: int, offsets: Tensor) -> Tensor:
        """Return K points along a direction, (members, T, K, P)."""
        step = self.directions[..., None, :, direction]
        return (unit[:, :, None] + offsets[:, None] * step).clamp(self.lower, self.upper)

    def _index(self, unit: Tensor) -> Tensor:
        return self.parameter[None, :, None].expand(len(unit), -1, 1)


def highest(
    values: Values, unit: Tensor, lines: Lines, offsets: Tensor = WIDE
) -> tuple[Tensor, Tensor]:
    """Maximise along one direction after the other, on grids that become finer.

    Args:
        values: log-likelihoods of tracks.
        unit: first points, (members, T, P).
        lines: what is scanned.
        offsets: first offsets along a direction, (K,) standard deviations.

    Returns:
        The highest points, (members, T, P), and log-likelihoods there, (members, T).
    """
    tracks = torch.arange(unit.shape[1])
    value = unit.new_full(unit.shape[:2], -torch.inf)
    directions = lines.directions.shape[-1]
    for _ in range(min(directions, _SWEEPS)):
        for direction in range(directions):
            for grid in (offsets, *(_ZOOM / 3**zoom for zoom in range(_ZOOMS))):
                trial = lines.beside(unit, direction, grid)
                found = values(tracks.repeat_interleave(len(grid)), trial.flatten(1, 2))
                value, best = torch.unflatten(found, 1, (-1, len(grid))).max(-1)
                unit = trial.take_along_dim(best[..., None, None], 2).squeeze(2)
    return unit, value


def scanned_ends(
    values: Values,
    start: tuple[Tensor, Tensor],
    maximum: tuple[Tensor, Tensor],
    direction: Tensor,
    root: float,
    lines: Lines,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the ends of intervals at one threshold by scans at positions of the own parameter.

    Args:
        values: log-likelihoods of tracks.
        start: highest points at a first position of the own parameter, and their values.
        maximum: maxima, (members, T, P), and their values, (members, T).
        direction: −1 for the lower end, +1 for the upper end, (T,).
        root: square root of the threshold of the likelihood-ratio statistic.
        lines: what is scanned.

    Returns:
        The ends, (members, T, P); whether a bound cuts the interval, (members, T) bool; and the
        error of the root, (members, T).
    """
    unit, value = (t.clone() for t in start)
    centre = direction * lines.own(maximum[0])
    bound = torch.where(direction > 0, lines.upper[lines.parameter], -lines.lower[lines.parameter])
    inside, outside = centre, torch.full_like(centre, torch.inf)
    root_inside, root_outside = torch.zeros_like(centre), torch.full_like(centre, torch.inf)
    for step in range(_STEPS + 1):
        position = direction * lines.own(unit)
        here = (2 * (maximum[1] - value)).clamp_min(0).sqrt()
        cut = (position >= bound) & (here <= root)
        error = torch.where(cut, 0.0, (here - root).abs())
        going = (error > _CLOSE).any(0).nonzero().squeeze(-1)
        if not len(going) or step == _STEPS:
            break
        below = here <= root
        inside, root_inside = (
            torch.where(below, new, old) for new, old in ((position, inside), (here, root_inside))
        )
        outside, root_outside = (
            torch.where(below, old, new) for new, old in ((position, outside), (here, root_outside))
        )
        share = ((root - root_inside) / (root_outside - root_inside)).clamp(0.1, 0.9)
        between = inside + share * (outside - inside)
        onward = (root - here).clamp_min(0) / here.clamp_min(1e-3)
        onward = position + onward.clamp_max(_STEP) * (position - centre)
        target = torch.minimum(torch.where(outside.isfinite(), between, onward), bound)
        some = lines.some(going)
        trial = some.placed(unit[:, going], direction[going] * target[:, going])
        found = highest(_of(values, going), trial, some, _NEAR)
        moved = error[:, going] > _CLOSE
        unit[:, going] = torch.where(moved[..., None], found[0], unit[:, going])
        value[:, going] = torch.where(moved, found[1], value[:, going])
    return unit, cut, error


def _of(values: Values, chosen: Tensor) -> Values:
    """Return the log-likelihoods of some tracks."""
    return lambda tracks, unit: values(chosen[tracks], unit)
