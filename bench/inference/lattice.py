r"""Log-likelihoods of many datasets on a lattice of parameters.

A dataset is a row of counts over a set of events. The surrogate is evaluated once per (event,
context node); all datasets times the whole lattice are then ONE product, counts (B × n) @ surface
(n × nodes), accumulated over small chunks of events. Nothing of the size events × lattice is ever
held for more than a chunk.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.contracts import ParameterSpace, Resolution
from bench.errors import NonFiniteError
from bench.inference.profile import crossings, peak, profiles
from bench.nn.networks import EVALUATION_BLOCK

LogRatio = Callable[[Tensor, Tensor], Tensor]
Axes = tuple[Tensor, Tensor]

_CHUNK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Surface elements of a chunk, float32: about a cache on a CPU, enough to fill a GPU."""
DEPTH = 6.0
"""How far below the maximum likelihoods are followed, in nats: three and a half half-widths."""

_IMPOSSIBLE = -1e30  # stands for −inf, which would make 0 · (−inf) = NaN in the product


@dataclass(frozen=True)
class Lattice:
    """Log-likelihoods on the product of two axes.

    Args:
        axes: nodes of each parameter in unit coordinates, evenly spaced, float64.
        values: log-likelihoods up to a constant per dataset, (D, n_0, n_1) float64.
        at_truth: log-likelihood at the generating parameters, same constant, (D,) float64.
        unresolved: whether an axis is coarser than asked.
    """

    axes: Axes
    values: Tensor
    at_truth: Tensor
    unresolved: bool


class MixtureLikelihood:
    """A set of events, the datasets resampled from it, and the surrogate that weighs them.

    Args:
        log_ratio: maps events (n, \\*event) and contexts (J, d) to (members, K, n, J).
        x: events, (n, \\*event).
        counts: how often each dataset holds each event, (B, n) float32.
        space: the parameter space; likelihoods are evaluated in two parameters.
        weights: maps parameters (\\*B, P) to mixture weights (\\*B, K).
        truth: generating parameters of the set, (P,).
        members: how many members the surrogate has; it bounds the size of a chunk.
    """

    def __init__(
        self,
        log_ratio: LogRatio,
        x: Tensor,
        counts: Tensor,
        space: ParameterSpace,
        weights: Callable[[Tensor], Tensor],
        truth: Tensor,
        members: int = 1,
    ) -> None:
        if len(space) != 2:
            raise ValueError(f"likelihoods are evaluated in two parameters, not {len(space)}")
        self.log_ratio = log_ratio
        self.x = x
        self.counts = counts
        self.space = space
        self.weights = weights
        self.truth = truth
        self.members = members

    def log_likelihood(self, axes: Axes) -> tuple[Tensor, Tensor]:
        """Evaluates every dataset on the product of two axes, and at the truth.

        Returns:
            (members · B, n_0, n_1) and (members · B,), float64, up to a constant per dataset.

        Raises:
            NonFiniteError: if a log-ratio is NaN or +inf.
        """
        shape = (len(axes[0]), len(axes[1]))
        theta = self.space.from_unit(torch.cartesian_prod(*axes)).view(*shape, 2)
        swap = self.space.context_index == (1,)  # context nodes lead
        if len(self.space.context_index) == 1:
            theta = theta.transpose(0, 1) if swap else theta
        else:
            theta = theta.reshape(-1, 1, 2)
        device = self.x.device
        nodes, mixings = theta.shape[:2]
        contexts = torch.cat(
            [self.space.context_of(theta[:, 0]), self.space.context_of(self.truth)[None]]
        )
        contexts = contexts.float().to(device)
        weights = self.weights(theta).permute(2, 0, 1).to(device)  # (K, J, H)
        truth_weights = self.weights(self.truth).to(device)  # (K,)
        elements = _CHUNK_ELEMENTS[device.type]
        step = max(16, elements // (self.members * nodes * mixings))
        block, _ = EVALUATION_BLOCK[device.type]  # which surrogates may have been compiled for
        step -= step % block if step > block else 0
        datasets = (self.members, len(self.counts))
        best_sum = torch.zeros(*datasets, nodes, dtype=torch.float64, device=device)
        mixed_sum = torch.zeros(1, device=device)
        at_truth = torch.zeros(datasets, dtype=torch.float64, device=device)
        for start in range(0, len(self.x), step):
            part = slice(start, start + step)
            log_ratio = _finite(self.log_ratio(self.x[part], contexts))
            best, mixed, truth = _mix(log_ratio, weights, truth_weights)
            counts = self.counts[:, part]
            best_sum += counts.double() @ best.double()
            at_truth += truth.double() @ counts.double().T
            if mixed is not None:
                # Values are centred at the truth, so that float32 sums are exact where it matters.
                if start == 0:
                    mixed_sum = mixed.new_zeros(*datasets, nodes * mixings)
                repeated = counts.to(mixed.dtype).expand(self.members, -1, -1)
                mixed_sum.baddbmm_(repeated, mixed.flatten(2))
        values = best_sum.unsqueeze(-1).expand(-1, -1, -1, mixings)
        if mixed_sum.dim() == 3:
            values = values + mixed_sum.view(*datasets, nodes, mixings)
        values = values.flatten(0, 1).cpu()
        if len(self.space.context_index) == 1:
            values = values.transpose(1, 2) if swap else values
        return values.reshape(-1, *shape), at_truth.flatten().cpu()


def _finite(log_ratio: Tensor) -> Tensor:
    """Refuses NaN and +inf; replaces −inf by a number that keeps products finite."""
    if bool((log_ratio.isnan() | (log_ratio == torch.inf)).any()):
        bad = int((log_ratio.isnan() | (log_ratio == torch.inf)).sum())
        raise NonFiniteError(
            f"log_ratio returned NaN or +inf for {bad} of {log_ratio.numel()} (event, context) "
            "pairs; it must be finite or −inf"
        )
    return log_ratio.clamp_min(_IMPOSSIBLE)


def _mix(
    log_ratio: Tensor, weights: Tensor, truth_weights: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Mixes the components: log Σ_k w_k exp(log_ratio_k), each event's own constant removed.

    Args:
        log_ratio: (members, K, n, J + 1), the last node being the truth.
        weights: (K, J, H).
        truth_weights: (K,).

    Returns:
        The best component's part (members, n, J), to which the logarithm of the sum over
        components, each relative to the best, is added: (members, n, J, H), or None for one
        component; and the whole at the truth, (members, n).
    """
    top = log_ratio.amax(1)  # (members, n, J + 1)
    # Each event's value at the truth is its constant: the same in every pass, so that passes can
    # be interleaved, and near the maximum, so that float32 holds the differences that matter.
    constant = torch.where(top[..., -1:] > 0.1 * _IMPOSSIBLE, top[..., -1:], 0.0)
    if log_ratio.shape[1] == 1:
        return (top - constant)[..., :-1], None, top[..., -1] - constant[..., 0]
    # A component 80 nats below another matters only where the other has weight zero.
    scaled = (log_ratio - top[:, None]).clamp_min(-80.0).exp()
    at_truth = torch.einsum("mkn,k->mn", scaled[..., -1], truth_weights.to(scaled))
    scaled = scaled[..., :-1] / at_truth[:, None, :, None]
    weights = weights.to(scaled)
    mixed = scaled[:, 0, :, :, None] * weights[0]
    for k in range(1, scaled.shape[1]):
        mixed.addcmul_(scaled[:, k, :, :, None], weights[k])
    return (top - constant)[..., :-1], mixed.log_(), top[..., -1] - constant[..., 0]


def refine(
    events: MixtureLikelihood,
    resolution: Sequence[Resolution],
    *,
    start: Sequence[tuple[float, float]] = ((0.0, 1.0), (0.0, 1.0)),
    depth: float = DEPTH,
    levels: int = 12,
) -> Lattice:
    """Evaluates likelihoods finely where they matter.

    Coarse passes find the window where any dataset's profile is within `depth` nats of its
    maximum, as long as the next one trims more nodes from the final pass than it costs. In the
    final pass the nodes of an axis are doubled until no interval end moves by more than the
    axis's tolerance.

    Args:
        events: the datasets.
        resolution: how finely, per parameter.
        start: first window, unit coordinates.
        depth: how far below the maximum the final window reaches, in nats.
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
        while True:
            if 2 * len(axes[axis]) - 1 > r.most:
                unresolved = True
                break
            values, axes = _double(events, values, axes, axis)
            moved, ends = ends, _ends(values, axes)
            # An interval cut at a bound can be as short as nothing: 1/1000 of the axis is enough.
            widths = (ends[..., 1] - ends[..., 0]).clamp_min(2e-3)
            if float(((ends - moved).abs() / (0.5 * widths.unsqueeze(-1))).max()) <= r.tolerance:
                break
    return Lattice((axes[0], axes[1]), values, at_truth, unresolved)


def _double(
    events: MixtureLikelihood, values: Tensor, axes: list[Tensor], axis: int
) -> tuple[Tensor, list[Tensor]]:
    """Halves the spacing of an axis; only the new nodes are evaluated."""
    old = axes[axis]
    between = 0.5 * (old[1:] + old[:-1])
    new_axes = [between if i == axis else a for i, a in enumerate(axes)]
    extra, _ = events.log_likelihood((new_axes[0], new_axes[1]))
    nodes = 2 * len(old) - 1
    shape = list(values.shape)
    shape[axis + 1] = nodes
    merged = values.new_empty(shape)
    merged.movedim(axis + 1, -1)[..., 0::2] = values.movedim(axis + 1, -1)
    merged.movedim(axis + 1, -1)[..., 1::2] = extra.movedim(axis + 1, -1)
    merged_axis = torch.empty(nodes, dtype=old.dtype)
    merged_axis[0::2], merged_axis[1::2] = old, between
    return merged, [merged_axis if i == axis else a for i, a in enumerate(axes)]


def _ends(values: Tensor, axes: Sequence[Tensor]) -> Tensor:
    """Interval ends of every dataset in both parameters, unit coordinates, (D, 2, 2)."""
    ends = []
    for curve, axis in zip(profiles(values), axes, strict=True):
        lower, upper, *_ = crossings(curve, *peak(curve))
        step = float(axis[1] - axis[0])
        ends.append(float(axis[0]) + step * torch.stack([lower, upper], -1))
    return torch.stack(ends, 1)


def _box(curve: Tensor, axis: Tensor, depth: float) -> tuple[float, float]:
    """The smallest window, one node wider, that holds every profile (D, n) down to `depth`."""
    inside = (curve >= peak(curve)[0].unsqueeze(-1) - depth).any(0)
    inside[curve.argmax(-1)] = True
    nodes = inside.nonzero().squeeze(-1)
    return (
        float(axis[max(int(nodes[0]) - 1, 0)]),
        float(axis[min(int(nodes[-1]) + 1, len(axis) - 1)]),
    )


def _half_width(curve: Tensor, axis: Tensor) -> float:
    """A typical half-width of the intervals of profiles (D, n), unit coordinates.

    The lower quartile over datasets, so that most are resolved as finely as asked. A side that
    runs into the window says nothing of the width unless both do.
    """
    top, position = peak(curve)
    lower, upper, open_below, open_above, _ = crossings(curve, top, position)
    sides = torch.stack([position - lower, upper - position])
    known = ~torch.stack([open_below, open_above])
    known |= ~known.any(0)
    width = (sides * known).sum(0) / known.sum(0)
    return max(float(width.quantile(0.25)) * float(axis[1] - axis[0]), 1e-6)
