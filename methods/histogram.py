r"""Histogram templates, interpolated in the context: the standard before neural networks.

Every component is simulated at a grid of anchor contexts and binned. Each bin's probability is a
polynomial in the context, fitted to the anchors by least squares ("template morphing", as in
HistFactory, Cranmer et al. 2012, CERN-OPEN-2012-016). The constant is one of the polynomials, so
the probabilities still sum to one. All components share the bins, so the bin's volume is one term
in x alone.
"""

from collections.abc import Mapping
from math import comb, prod

import torch
from pydantic import Field
from torch import Tensor

from bench.contracts import (
    Draw,
    Features,
    FitContext,
    FitLog,
    Method,
    Settings,
    Surrogate,
    Task,
    Work,
)
from bench.errors import NotApplicable
from bench.nn.flops import TEMPLATES
from bench.nn.normaliser import chebyshev
from bench.nn.ratio import seen

_ANCHORS = {1: 17, 2: 7}


class HistogramConfig(Settings):
    """Configuration of the histogram.

    Args:
        anchors: anchor contexts per dimension; None for 17 in one dimension and 7 in two.
        bins: bins per feature; None for as many as leave `per_bin` simulations in each.
        per_bin: simulations per bin at each anchor.
        degree: total degree of the polynomials; at most anchors − 1. Interpolating between
            anchors instead would make the score mostly noise (docs/explanation/architecture.md).
        floor: smallest probability of a bin, as a share of its average over anchors; it keeps
            polynomials positive and empty bins finite.
    """

    anchors: int | None = Field(default=None, ge=2)
    bins: int | None = Field(default=None, ge=2)
    per_bin: float = Field(default=50.0, gt=0)
    degree: int = Field(default=4, ge=1)
    floor: float = Field(default=0.05, gt=0, lt=1)


class Histogram(Method):
    """Binned templates over the features."""

    name = "histogram"
    title = "Histogram templates"
    family = "classical"
    citation = "Cranmer, Lewis, Moneta, Shibata & Verkerke (2012), CERN-OPEN-2012-016"
    Config = HistogramConfig
    config: HistogramConfig

    def check(self, task: Task) -> None:
        numbers = prod(task.event_shape)
        if numbers > 3 and task.summaries(torch.ones(1, *task.event_shape)) is None:
            raise NotApplicable(
                f"histogram bins up to 3 features, {task.name} has {numbers} and no summaries"
            )
        if len(task.space.context_index) not in _ANCHORS:
            raise NotApplicable(
                f"histogram interpolates in 1 or 2 context parameters, and {task.name} has "
                f"{len(task.space.context_index)}"
            )

    def work(self, task: Task, budget: int) -> Work:
        numbers = 10.0 * prod(task.event_shape)
        looked_up = 2.0 * len(task.component_names)
        return Work(0, budget, numbers, looked_up, cpu=TEMPLATES, gpu=TEMPLATES)

    def _nodes(self, task: Task) -> int:
        """Return the number of anchors along each context parameter."""
        return self.config.anchors or _ANCHORS[len(task.space.context_index)]

    def _anchors(self, task: Task) -> Tensor:
        """Return the contexts of the templates, (anchors, d) float32."""
        d = len(task.space.context_index)
        nodes = torch.linspace(0, 1, self._nodes(task), dtype=torch.float64)
        unit = torch.full((len(nodes) ** d, len(task.space)), 0.5, dtype=torch.float64)
        unit[:, list(task.space.context_index)] = torch.cartesian_prod(*[nodes] * d).view(-1, d)
        return task.space.context_of(task.space.from_unit(unit)).float()

    def draws(self, task: Task, budget: int) -> list[Draw]:
        names, anchors = task.component_names, self._anchors(task)
        n = budget // (len(names) * len(anchors))
        return [Draw(name, n, anchor) for name in names for anchor in anchors]

    def fit(self, fit_context: FitContext) -> Surrogate:
        task, bank, features = fit_context.task, fit_context.bank, fit_context.features
        names, anchors = task.component_names, self._anchors(task)
        n = bank.budget // (len(names) * len(anchors))
        if n < 1:
            raise NotApplicable(
                f"histogram needs a simulation at each of {len(anchors)} anchors of "
                f"{len(names)} components, more than the budget of {bank.budget}"
            )
        y = torch.stack(
            [
                torch.stack([seen(task, features, bank.draw(name, n, at=a).x) for a in anchors], 1)
                for name in names
            ],
            1,
        )  # (members, K, anchors, n, features)
        dimension = y.shape[-1]
        auto = (n / self.config.per_bin) ** (1 / dimension)
        bins = self.config.bins or int(min(max(auto, 4), 64))
        levels = torch.linspace(0, 1, bins + 1)[1:-1]
        edges = torch.stack(
            [
                torch.stack([_quantiles(column, levels) for column in member.flatten(0, 2).T])
                for member in y
            ]
        )  # (members, features, bins - 1)
        index = _bin(y.flatten(1, 3), edges).view(y.shape[:-1])
        total = bins**dimension
        counts = torch.zeros(*y.shape[:3], total, dtype=torch.float64)
        counts.scatter_add_(3, index, torch.ones((), dtype=torch.float64).expand(index.shape))
        average = 0.99 * counts.mean(2) / n + 0.01 / total
        basis = chebyshev(features.context(anchors), min(self.config.degree, self._nodes(task) - 1))
        coefficients = torch.einsum("ca,mkab->mkcb", torch.linalg.pinv(basis), counts / n)
        log = FitLog(coefficients[0].numel(), [{} for _ in fit_context.members])
        state = {
            "edges": edges,
            "coefficients": coefficients.float(),
            "floor": (self.config.floor * average).float(),
        }
        moved = {name: value.to(fit_context.device) for name, value in state.items()}
        return Templates(task, features, moved, log)

    def restore(self, task: Task, features: Features, state: Mapping[str, Tensor]) -> Surrogate:
        log = FitLog(state["coefficients"][0].numel())
        return Templates(task, features, state, log)


def _quantiles(column: Tensor, levels: Tensor) -> Tensor:
    """Return quantiles by sorting, because torch.quantile accepts at most 16 million values."""
    ordered = column.sort().values
    return ordered[(levels * (len(ordered) - 1)).round().long()]


def _bin(y: Tensor, edges: Tensor) -> Tensor:
    """Return bin numbers (members, n) of features (members, n, features); outer bins are open."""
    bins = edges.shape[-1] + 1
    index = torch.zeros(y.shape[:2], dtype=torch.long, device=y.device)
    for feature in range(y.shape[-1]):
        column = y[..., feature].contiguous()
        index = index * bins + torch.searchsorted(edges[:, feature].contiguous(), column)
    return index


class Templates:
    """Bin probabilities as polynomials in the context.

    Args:
        task: the task.
        features: binned variables, unless the task declares summaries.
        state: `edges` (members, features, bins − 1), `coefficients` (members, K, coefficients,
            bins^features) and `floor` (members, K, bins^features).
        log: losses and size of the fit.
    """

    reference = None
    has_density = False

    def __init__(
        self, task: Task, features: Features, state: Mapping[str, Tensor], log: FitLog
    ) -> None:
        self.task = task
        self.features = features
        self.edges, self.coefficients, self.floor = (
            state[k] for k in ("edges", "coefficients", "floor")
        )
        self.log = log

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        y = seen(self.task, self.features, x).expand(len(self.edges), -1, -1)
        index = _bin(y, self.edges)  # (members, n)
        d = context.shape[-1]
        degree = next(g for g in range(64) if comb(g + d, d) == self.coefficients.shape[2])
        basis = chebyshev(self.features.context(context), degree).to(self.coefficients)
        table = torch.einsum("jc,mkcb->mkbj", basis, self.coefficients)
        table = torch.maximum(table, self.floor[..., None])
        table = (table / table.sum(2, keepdim=True)).log()
        return torch.stack([t[:, i] for t, i in zip(table, index, strict=True)])

    def state(self) -> Mapping[str, Tensor]:
        return {"edges": self.edges, "coefficients": self.coefficients, "floor": self.floor}
