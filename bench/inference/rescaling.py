"""Interval ends at critical values of their own, from profiles followed by gradients."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bench.inference.box import ROOTS
from bench.inference.critical import CriticalValues
from bench.inference.events import EventLikelihood
from bench.inference.profiling import Profiled, intervals_at

_SURE = 1.0  # largest wanted root whose end must not be extrapolated


def rescaled(
    likelihood: EventLikelihood,
    profiled: Profiled,
    critical: Sequence[CriticalValues],
    reported: Sequence[int],
    roots: Sequence[float],
    bounds: Tensor,
) -> Profiled:
    """Return the ends at which rescaled statistics have given values.

    Points on the profiles at the thresholds `ROOTS` squared have rescaled statistics of their own.
    The ends are interpolated between them, and extrapolated beyond the last one. Extrapolated ends
    of a wanted root up to 1 are unresolved.

    Args:
        likelihood: the likelihoods.
        profiled: profiles at all thresholds.
        critical: critical values of each member.
        reported: indices of the reported parameters.
        roots: square roots of the wanted values.
        bounds: lower and upper bounds of the profiles, (2, P).
    """
    points, top = profiled.points, profiled.maximum  # points are (members, D, I, 2, L, P)
    statistic = torch.tensor(ROOTS, dtype=torch.float64).square().expand(points.shape[:-1]).clone()
    if len(some := profiled.cut.any(0).nonzero()):  # these are at a bound, below the threshold
        at = points[:, *some.T]
        fall = top.value[:, some[:, 0]] - likelihood.values(some[:, 0], at)
        found = statistic[:, *some.T]
        statistic[:, *some.T] = torch.where(profiled.cut[:, *some.T], 2 * fall, found)
    centre = top.unit[:, :, None, None, None].expand_as(points[..., :1, :])
    path = torch.cat([centre, points], -2)
    each = [_at_root(critical, statistic, points, path, profiled, reported, r) for r in roots]
    ends, cut, error = (torch.stack(own, 4) for own in zip(*each, strict=True))
    ends = ends.clamp(bounds[0], bounds[1])
    own = intervals_at(top, ends, reported)
    return replace(profiled, ends=own, cut=cut, error=error, points=ends)


def _at_root(
    critical: Sequence[CriticalValues],
    statistic: Tensor,
    points: Tensor,
    path: Tensor,
    profiled: Profiled,
    reported: Sequence[int],
    root: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the points at one rescaled root, (members, D, I, 2, P), with their cuts and errors."""
    each = [
        [own.along_profile(s[:, i], p[:, i], j, root) for i, j in enumerate(reported)]
        for own, s, p in zip(critical, statistic, points, strict=True)
    ]
    own = torch.stack([torch.stack(one, 1) for one in each]).clamp_min(0).sqrt()
    roots = torch.cat([torch.zeros_like(own[..., :1]), own], -1).cummax(-1).values
    wanted = torch.full_like(roots[..., :1], root)
    after = torch.searchsorted(roots.contiguous(), wanted)
    beyond = after >= roots.shape[-1]
    after = after.clamp(1, roots.shape[-1] - 1)
    left, right = roots.gather(-1, after - 1), roots.gather(-1, after)
    cut = beyond & profiled.cut[..., -1:]
    share = (wanted - left) / (right - left).clamp_min(1e-12)
    share = torch.where(beyond & ~cut & (right > left), share, share.clamp(0, 1))[..., None]
    index = after[..., None].expand(*after.shape, path.shape[-1])
    ends = torch.lerp(path.gather(-2, index - 1), path.gather(-2, index), share)
    error = profiled.error.gather(-1, after - 1)
    error = torch.where(beyond & ~cut & (wanted <= _SURE), torch.inf, error)
    return ends.squeeze(-2), cut.squeeze(-1), error.squeeze(-1)
