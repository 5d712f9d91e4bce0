r"""Log-likelihoods of many datasets at points of their own, with the score of every event.

The context of every event is a leaf of the computation. One backward pass through a surrogate then
gives the log-likelihood of a dataset and the scores :math:`s_i` of all its events. Their outer
products :math:`\sum_i s_i s_i^T` are a first estimate of the curvature (Berndt, Hall, Hall &
Hausman 1974, Annals of Economic and Social Measurement 3).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bench.contracts import HasPairs, ParameterSpace, Surrogate, log_ratio_paired
from bench.errors import NonFiniteError, PluginError, assigned
from bench.inference.auxiliary import Auxiliary

FORWARD, BACKWARD = 1.0, 2.0
"""Cost of a pass through a surrogate, in forward passes."""

_ROWS = {"cpu": 1 << 14, "cuda": 1 << 19}
"""Events times members that are evaluated at a time."""


class Evaluation(NamedTuple):
    """Log-likelihoods at points of T tracks, for each member, in unit coordinates, float64.

    Args:
        value: log-likelihood, (members, T).
        score: its gradient, (members, T, P).
        outer: sum over events of outer products of their scores, and the expected information of
            auxiliary factors, (members, T, P, P).
    """

    value: Tensor
    score: Tensor
    outer: Tensor


class EventLikelihood:
    r"""Mixture log-likelihoods of D datasets of M events each, or of fewer.

    Args:
        surrogate: log-ratios of pairs of events and contexts.
        x: events, (D, M, \*event).
        space: the parameter space.
        weights: maps parameters (\*B, P) to mixture weights (\*B, K).
        members: number of members.
        sizes: number of events of each dataset, (D,) int64; the others are padding. M if None.
        auxiliary: further factors of the likelihoods, where there are any.
        powers: power to which each dataset's likelihood is raised, (D,) float64; 1 if None.
    """

    def __init__(
        self,
        surrogate: Surrogate | HasPairs,
        x: Tensor,
        space: ParameterSpace,
        weights: Callable[[Tensor], Tensor],
        members: int = 1,
        sizes: Tensor | None = None,
        auxiliary: Auxiliary | None = None,
        powers: Tensor | None = None,
    ) -> None:
        self.surrogate = surrogate
        self.x = x
        self.space = space
        self.weights = weights
        self.members = members
        self.auxiliary = auxiliary
        self._powers = torch.ones(len(x), dtype=torch.float64) if powers is None else powers
        self._padding = None  # (D, M) bool, where sizes differ
        if sizes is not None and bool((sizes < x.shape[1]).any()):
            self._padding = (torch.arange(x.shape[1]) >= sizes.cpu()[:, None]).to(x.device)
        self.cost = torch.zeros(len(x), dtype=torch.float64)
        """Cost of each dataset so far, in forward passes per event."""

    def values(self, datasets: Tensor, unit: Tensor) -> Tensor:
        """Evaluate log-likelihoods.

        Args:
            datasets: the dataset of each track, (T,) int64.
            unit: points, (members, T, P) unit coordinates.

        Returns:
            (members, T) float64; −inf where an event is impossible.

        Raises:
            NonFiniteError: if a log-ratio is NaN or +inf.
            PluginError: if weights or log-ratios break their contract.
        """
        self._count(datasets, FORWARD)
        parts = []
        with torch.no_grad():
            for rows in self._chunks(len(datasets)):
                context, weights, _ = self._at(unit[:, rows], slopes=False)
                log_ratio = self._pairs(datasets[rows], self._of_events(context))
                each, _ = _mixed(log_ratio, weights, self._padded(datasets[rows]))
                parts.append(each.sum(-1).cpu())
        found = torch.cat(parts, 1)
        if self.auxiliary is not None:
            found = found + self.auxiliary.values(datasets, unit)
        return self._powers[datasets] * found

    def __call__(self, datasets: Tensor, unit: Tensor) -> Evaluation:
        """Evaluate log-likelihoods and the scores of their events; arguments as in `values`."""
        self._count(datasets, FORWARD + BACKWARD)
        parts = [
            self._with_scores(datasets[rows], unit[:, rows]) for rows in self._chunks(len(datasets))
        ]
        found = [torch.cat(each, 1) for each in zip(*parts, strict=True)]
        if self.auxiliary is not None:
            further = self.auxiliary(datasets, unit)
            found = [own + more for own, more in zip(found, further, strict=True)]
        value, score, outer = found
        power = self._powers[datasets]
        return Evaluation(power * value, power[:, None] * score, power[:, None, None] * outer)

    def of(self, datasets: Tensor) -> Callable[[Tensor, Tensor], Evaluation]:
        """Return the evaluation of tracks, given the dataset of each track, (T,) int64."""
        return lambda tracks, unit: self(datasets[tracks], unit)

    def values_of(self, datasets: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the log-likelihoods of tracks, given the dataset of each track, (T,) int64."""
        return lambda tracks, unit: self.values(datasets[tracks], unit)

    def _padded(self, datasets: Tensor) -> Tensor | None:
        """Return where the events of tracks are padding, (T, M) bool; None if nowhere."""
        return None if self._padding is None else self._padding[datasets.to(self._padding.device)]

    def _count(self, datasets: Tensor, passes: float) -> None:
        self.cost += passes * torch.bincount(datasets, minlength=len(self.x))

    def _chunks(self, tracks: int) -> list[slice]:
        at_once = max(1, _ROWS[self.x.device.type] // (self.members * self.x.shape[1]))
        return [slice(start, start + at_once) for start in range(0, tracks, at_once)]

    def _at(self, unit: Tensor, *, slopes: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return contexts (members, T, d), weights (members, T, K) and their slopes (…, P, K)."""
        device = self.x.device
        theta = self.space.from_unit(unit)
        context = self.space.context_of(theta).to(device)
        if not slopes:
            return context, self._weights(theta).to(device), theta
        with torch.enable_grad():
            leaf = theta.detach().requires_grad_()
            weights = self._weights(leaf)
            each = [
                torch.autograd.grad(w.sum(), leaf, retain_graph=True, allow_unused=True)[0]
                if w.requires_grad
                else None
                for w in weights.unbind(-1)
            ]
        gradient = torch.stack([torch.zeros_like(theta) if g is None else g for g in each], -1)
        gradient = gradient * self.space.slope(unit)[..., None]
        return context, weights.detach().to(device), gradient.to(device)

    def _weights(self, theta: Tensor) -> Tensor:
        """Return checked mixture weights (members, T, K), float64."""
        weights = self.weights(theta)
        if not isinstance(weights, Tensor) or weights.shape[:-1] != theta.shape[:-1]:
            came = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
            raise PluginError(
                f"weights returned {came} for parameters {tuple(theta.shape)}; the contract is a "
                "tensor with the components in place of the parameters"
            )
        if bool((bad := ~(weights.detach() >= 0).all(-1)).any()):
            where = assigned(self.space.names, theta.detach()[bad][0].tolist())
            raise PluginError(f"weights are negative or NaN at {where}; they must be at least 0")
        return weights.double()

    def _pairs(self, datasets: Tensor, context: Tensor) -> Tensor:
        """Return log-ratios (members, K, T, M) at contexts (members, T · M, d), float64."""
        x = self.x[datasets.to(self.x.device)].flatten(0, 1)
        found = log_ratio_paired(self.surrogate, x, context)
        allowed = isinstance(found, Tensor) and found.dim() == 3
        if not allowed or (len(found), found.shape[-1]) != (self.members, len(x)):
            came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise PluginError(
                f"log_ratio_paired returned {came}; the contract is (members, components, pairs) = "
                f"({self.members}, components, {len(x)})"
            )
        log_ratio = torch.unflatten(found.double(), -1, (len(datasets), -1))
        if bool((log_ratio.isnan() | (log_ratio == torch.inf)).any()):
            self._refuse(log_ratio.detach(), context.detach())
        return log_ratio

    def _of_events(self, context: Tensor) -> Tensor:
        """Repeat contexts (members, T, d) for all events, (members, T · M, d)."""
        repeated = context[:, :, None].expand(-1, -1, self.x.shape[1], -1)
        return repeated.reshape(len(context), -1, context.shape[-1])

    def _refuse(self, log_ratio: Tensor, context: Tensor) -> None:
        bad = log_ratio.isnan() | (log_ratio == torch.inf)
        member, _, row = bad.flatten(2).nonzero()[0].tolist()
        names = [p.name for p in self.space.context]
        where = assigned(names, context[member, row].tolist())
        raise NonFiniteError(
            f"log_ratio_paired returned NaN or +inf for {int(bad.sum())} of {bad.numel()} pairs of "
            f"events and contexts, first at {where}; it must be finite or −inf"
        )

    def _with_scores(self, datasets: Tensor, unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        context, weights, slopes = self._at(unit, slopes=True)
        index = list(self.space.context_index)
        with torch.enable_grad():
            leaf = self._of_events(context).requires_grad_()
            log_ratio = self._pairs(datasets, leaf)
            value, shares = _mixed(log_ratio, weights, self._padded(datasets))
            possible = value > -torch.inf
            pull = None
            if index and log_ratio.requires_grad:
                total = torch.where(possible, value, torch.zeros_like(value)).sum()
                (pull,) = torch.autograd.grad(total, leaf, allow_unused=True)
        value = value.detach()
        scores = torch.einsum("sktm,stpk->stmp", shares, slopes)
        if pull is not None:
            per_unit = self.space.slope(unit)[..., index].to(pull.device)
            own = torch.unflatten(pull.double(), 1, (len(datasets), -1)) * per_unit[:, :, None]
            scores[..., index] += torch.where(possible[..., None], own, torch.zeros_like(own))
        outer = scores.mT @ scores
        return value.sum(-1).cpu(), scores.sum(-2).cpu(), outer.cpu()


def _mixed(
    log_ratio: Tensor, weights: Tensor, padding: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mix components of log-ratios (members, K, T, M) with weights (members, T, K).

    Returns:
        log Σ_k w_k exp(log_ratio_k), (members, T, M), and its slope in each weight, detached,
        (members, K, T, M). Both are 0 where `padding`, (T, M) bool, is true.
    """
    if padding is not None:
        log_ratio = log_ratio.masked_fill(padding, 0.0)
    top = log_ratio.detach().amax(1, keepdim=True)
    top = torch.where(top == -torch.inf, torch.zeros_like(top), top)
    ratio = (log_ratio - top).exp()
    total = (ratio * weights.movedim(-1, 1)[..., None]).sum(1, keepdim=True)
    shares = torch.where(total > 0, ratio / total, torch.zeros_like(ratio))
    value = (total.log() + top).squeeze(1)
    if padding is not None:
        value, shares = value.masked_fill(padding, 0.0), shares.masked_fill(padding, 0.0)
    return value, shares.detach()
