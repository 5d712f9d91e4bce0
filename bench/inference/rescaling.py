"""Interval ends at critical values of their own, from profiles followed by gradients."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bench.inference.box import ROOTS
from bench.inference.critical import CriticalValues
from bench.inference.events import EventLikelihood
from bench.inference.profiling import Profiled

_SURE = 2.0  # largest wanted root whose end must not be extrapolated


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
    of a wanted root up to 2 are unresolved.

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
    rescaled = torch.stack(
        [
            torch.stack(
                [own.of_profile(s[:, i], p[:, i], index) for i, index in enumerate(reported)], 1
            )
            for own, s, p in zip(critical, statistic, points, strict=True)
        ]
    )
    start = torch.zeros_like(rescaled[..., :1])
    root = torch.cat([start, rescaled.clamp_min(0).sqrt()], -1).cummax(-1).values
    centre = top.unit[:, :, None, None, None].expand_as(points[..., :1, :])
    path = torch.cat([centre, points], -2)
    wanted = torch.tensor(roots, dtype=torch.float64).expand(*root.shape[:-1], -1).contiguous()
    after = torch.searchsorted(root.contiguous(), wanted)
    beyond = after >= root.shape[-1]
    after = after.clamp(1, root.shape[-1] - 1)
    left, right = root.gather(-1, after - 1), root.gather(-1, after)
    cut = beyond & profiled.cut[..., -1:]
    share = (wanted - left) / (right - left).clamp_min(1e-12)
    share = torch.where(beyond & ~cut & (right > left), share, share.clamp(0, 1))[..., None]
    index = after[..., None].expand(*after.shape, path.shape[-1])
    ends = torch.lerp(path.gather(-2, index - 1), path.gather(-2, index), share)
    ends = ends.clamp(bounds[0], bounds[1])
    error = profiled.error.gather(-1, after - 1)
    error = torch.where(beyond & ~cut & (wanted <= _SURE), torch.inf, error)
    own = torch.stack([ends[:, :, i, ..., p] for i, p in enumerate(reported)], 2)
    return replace(profiled, ends=own, cut=cut, error=error, points=ends)
