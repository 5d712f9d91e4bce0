r"""Log-likelihoods of many datasets: log-ratios of events, mixed and summed on a lattice.

A dataset is a row of counts over a set of events. The surrogate is evaluated once per (event,
context node). The log-likelihoods of all datasets on the whole lattice are then one matrix product,
counts (B × n) @ surface (n × nodes), accumulated over small chunks of events. Arrays of the size
events × lattice exist for one chunk at a time.
"""

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor

from bench.contracts import FitLog, HasLogProb, HasScore, ParameterSpace, Task
from bench.errors import NonFiniteError
from bench.inference.polynomials import RatioTable, Window
from bench.nn.networks import EVALUATION_BLOCK

LogRatio = Callable[[Tensor, Tensor], Tensor]
Axes = tuple[Tensor, ...]
"""Nodes of one or two parameters in unit coordinates."""

_CHUNK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Surface elements of a chunk, float32: as many as fit a CPU's cache or fill a GPU."""

_IMPOSSIBLE = -1e30  # replaces −inf, which would make 0 · (−inf) = NaN in the product
_MOST_VALUES = 1 << 27  # float32 numbers of a table of log-ratios, half a gigabyte


class ExactLikelihood:
    """Surrogate of one member that returns the exact log-densities of a task's components."""

    reference = None
    has_density = True

    def __init__(self, task: Task) -> None:
        self._simulators = [*task.components("test").values()]
        self.components = [c for c in self._simulators if isinstance(c, HasLogProb)]
        self.log = FitLog(0, [{}])

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        """Return log-densities, as Surrogate.log_ratio."""
        return torch.stack([c.log_prob(x[:, None], context[None]) for c in self.components])[None]

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        """Return log-densities of pairs, as HasPairs."""
        own = context.view(context.shape[-2:])  # there is one member
        return torch.stack([_of_pairs(c, x, own) for c in self.components])[None]

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Simulate every component in each context, as HasSamples."""
        drawn = [c.simulate(context.cpu(), generator) for c in self._simulators]
        return torch.stack(drawn)[None].to(context.device, torch.float32)

    def state(self) -> None:
        """Return None, because there is nothing to save."""
        return None


def _of_pairs(component: HasLogProb, x: Tensor, context: Tensor) -> Tensor:
    """Return log-densities of pairs, differentiable by the component's own score if it has one.

    Consecutive observations with equal contexts share what depends on the context alone.
    """
    if not isinstance(component, HasScore):
        return component.log_prob(x, context)
    with torch.no_grad():
        new = (context[1:] != context[:-1]).any(-1)
        runs = 1 + int(new.sum())
        length = len(context) // runs
        regular = length * runs == len(context) and bool(new[length - 1 :: length].all())
        rows, at = (x, context)
        if regular:
            rows, at = torch.unflatten(x, 0, (runs, length)), context[::length, None]
        values = component.log_prob(rows, at).flatten()
        if not context.requires_grad:
            return values
        score = component.score(rows, at).flatten(0, -2)
        score = torch.where(values.isfinite()[:, None], score, torch.zeros_like(score))
    return values + (score * (context - context.detach())).sum(-1)


class MixtureLikelihood:
    r"""Mixture likelihoods of the datasets resampled from one set of events.

    Args:
        log_ratio: maps events (n, \*event) and contexts (J, d) to (members, K, n, J).
        x: events, (n, \*event).
        counts: how often each dataset holds each event, (B, n) float32.
        space: the parameter space, of one or two parameters.
        weights: maps parameters (\*B, P) to mixture weights (\*B, K).
        truth: generating parameters of the set, (P,).
        members: number of members of the surrogate; it bounds the size of a chunk.
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
        if len(space) not in (1, 2):
            raise ValueError(f"a lattice has one or two parameters, not {len(space)}")
        self.log_ratio = log_ratio
        self.x = x
        self.counts = counts
        self.space = space
        self.weights = weights
        self.truth = truth
        self.members = members

    @property
    def context_axes(self) -> list[int]:
        """Axes of the parameters on which log-ratios depend, in rising order."""
        return sorted(self.space.context_index)

    def table(self, windows: Mapping[int, Window], count: int) -> RatioTable | None:
        """Evaluate all events at the Chebyshev nodes of windows of the context parameters.

        Args:
            windows: window of each context parameter, by its axis, unit coordinates.
            count: number of nodes per context parameter.

        Returns:
            The table; None if it is too large, or a log-ratio is −inf, which no polynomial is.

        Raises:
            NonFiniteError: as `log_likelihood`.
        """
        if self._too_many(count ** len(windows)):
            return None
        table = RatioTable.of(self._at_contexts, windows, count)
        return None if self._impossible(table) else table

    def doubled(self, table: RatioTable, axis: int) -> RatioTable | None:
        """Return a table of twice the degree along an axis; None as for `table`."""
        if self._too_many(2 * table.size):
            return None
        finer = table.doubled(axis, self._at_contexts)
        return None if self._impossible(finer) else finer

    def _too_many(self, contexts: int) -> bool:
        components = self.weights(self.truth).shape[-1]
        return self.members * components * len(self.x) * contexts > _MOST_VALUES

    def _impossible(self, table: RatioTable) -> bool:
        return bool((table.values < 0.1 * _IMPOSSIBLE).any())

    def _at_contexts(self, axes: list[Tensor]) -> Tensor:
        """Evaluate all events on the product of context axes, (members, K, n, J)."""
        unit = torch.full((1, len(self.space)), 0.5, dtype=torch.float64)
        product = torch.cartesian_prod(*axes).view(-1, len(axes))
        unit = unit.repeat(len(product), 1)
        unit[:, self.context_axes] = product
        contexts = self.space.context_of(self.space.from_unit(unit)).float().to(self.x.device)
        return self._evaluated(contexts)

    @cached_property
    def _at_truth(self) -> Tensor:
        """Log-ratios at the generating parameters, (members, K, n, 1)."""
        return self._evaluated(self.space.context_of(self.truth[None]).float().to(self.x.device))

    def _evaluated(self, contexts: Tensor) -> Tensor:
        """Evaluate all events at contexts (J, d), (members, K, n, J)."""
        parts = torch.split(self.x, self._events_at_once(len(contexts)))
        return torch.cat([_finite(self.log_ratio(part, contexts)) for part in parts], 2)

    def _events_at_once(self, nodes: int) -> int:
        """Return the number of events of a chunk, for which `nodes` numbers each fit the cache."""
        step = max(16, _CHUNK_ELEMENTS[self.x.device.type] // (self.members * nodes))
        block, _ = EVALUATION_BLOCK[self.x.device.type]  # surrogates may be compiled for this size
        return step - step % block if step > block else step

    def log_likelihood(self, axes: Axes, table: RatioTable | None = None) -> tuple[Tensor, Tensor]:
        """Evaluate every dataset on the product of one or two axes, and at the truth.

        Args:
            axes: nodes of each parameter, unit coordinates.
            table: log-ratios to interpolate; if None, they are evaluated at every node.

        Returns:
            (members · B, n_0) or (members · B, n_0, n_1), and (members · B,), float64, up to a
            constant per dataset.

        Raises:
            NonFiniteError: if a log-ratio is NaN or +inf.
        """
        shape, parameters = [len(axis) for axis in axes], len(self.space)
        theta = self.space.from_unit(torch.cartesian_prod(*axes).view(*shape, parameters))
        swap = self.space.context_index == (1,)  # context nodes lead
        theta = theta.transpose(0, 1) if swap else theta
        if not self.space.context_index:
            theta = theta.reshape(1, -1, parameters)
        elif len(self.space.context_index) == parameters:
            theta = theta.reshape(-1, 1, parameters)
        device = self.x.device
        nodes, mixings = theta.shape[:2]
        at = torch.cat([theta[:, 0], self.truth[None]])  # contexts, the last one the truth's
        contexts = self.space.context_of(at).float().to(device)
        weights = self.weights(theta).permute(2, 0, 1).to(device)  # (K, J, H)
        truth_weights = self.weights(self.truth).to(device)  # (K,)
        step = self._events_at_once(nodes * mixings)
        datasets = (self.members, len(self.counts))
        best_sum = torch.zeros(*datasets, nodes, dtype=torch.float64, device=device)
        mixed_sum = torch.zeros(1, device=device)
        at_truth = torch.zeros(datasets, dtype=torch.float64, device=device)
        for start in range(0, len(self.x), step):
            part = slice(start, start + step)
            if table is None:
                log_ratio = _finite(self.log_ratio(self.x[part], contexts))
            else:
                between = table.at(part, [axes[axis] for axis in self.context_axes])
                log_ratio = torch.cat([between, self._at_truth[:, :, part]], -1)
            best, mixed, truth = _mix(log_ratio, weights, truth_weights)
            counts = self.counts[:, part]
            best_sum += counts.double() @ best.double()
            at_truth += truth.double() @ counts.double().T
            if mixed is not None:
                # Values are centred at the truth: float32 sums are then accurate near the maximum.
                if start == 0:
                    mixed_sum = mixed.new_zeros(*datasets, nodes * mixings)
                repeated = counts.to(mixed.dtype).expand(self.members, -1, -1)
                mixed_sum.baddbmm_(repeated, mixed.flatten(2))
        values = best_sum.unsqueeze(-1).expand(-1, -1, -1, mixings)
        if mixed_sum.dim() == 3:
            values = values + mixed_sum.view(*datasets, nodes, mixings)
        values = values.flatten(0, 1).cpu()
        values = values.transpose(1, 2) if swap else values
        return values.reshape(-1, *shape), at_truth.flatten().cpu()


def _finite(log_ratio: Tensor) -> Tensor:
    """Raise NonFiniteError for NaN and +inf; replace −inf by a finite number."""
    if bad := int((log_ratio.isnan() | (log_ratio == torch.inf)).sum()):
        raise NonFiniteError(
            f"log_ratio returned NaN or +inf for {bad} of {log_ratio.numel()} (event, context) "
            "pairs; it must be finite or −inf"
        )
    return log_ratio.clamp_min(_IMPOSSIBLE)


def _mix(
    log_ratio: Tensor, weights: Tensor, truth_weights: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Mix the components: log Σ_k w_k exp(log_ratio_k), minus each event's constant.

    Args:
        log_ratio: (members, K, n, J + 1), the last node being the truth.
        weights: (K, J, H).
        truth_weights: (K,).

    Returns:
        Three tensors: the log-ratio of the best component, (members, n, J); the logarithm of the
        sum over components relative to the best one, (members, n, J, H), or None for one
        component; and their sum at the truth, (members, n). The first two add up to the result.
    """
    top = log_ratio.amax(1)  # (members, n, J + 1)
    # Each event's constant is its value at the truth. It is the same in every pass, so passes can
    # be interleaved, and near the maximum, so float32 resolves the differences.
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
