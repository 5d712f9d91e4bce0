r"""Histogram templates, interpolated in the context: what the field used before networks.

Every component is simulated at a grid of anchor contexts and binned; between anchors the bin
probabilities are interpolated linearly, which keeps them normalised ("vertical" template morphing,
as in HistFactory, Cranmer et al. 2012, CERN-OPEN-2012-016). All components share the bins, so that
the bin's volume is one term in x alone.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from bench.contracts import (
    Bank,
    Features,
    FitLog,
    Method,
    Run,
    Settings,
    Surrogate,
    Task,
)
from bench.errors import NotApplicable

_ANCHORS = {1: 17, 2: 7}


class HistogramConfig(Settings):
    """Configuration of the histogram.

    Args:
        anchors: anchor contexts per dimension; 17 for one dimension and 7 for two where None.
        bins: bins per feature; as many as leave `per_bin` simulations in each where None.
        per_bin: simulations per bin at each anchor.
        smoothing: pseudo-counts, as a share of the simulations, of the template averaged over
            anchors; they keep empty bins finite.
    """

    anchors: int | None = Field(default=None, ge=2)
    bins: int | None = Field(default=None, ge=2)
    per_bin: float = Field(default=10.0, gt=0)
    smoothing: float = Field(default=0.01, gt=0, lt=1)


class Histogram(Method):
    """Binned templates over the features."""

    name = "histogram"
    version = 1
    title = "Histogram templates"
    family = "classical"
    citation = "Cranmer, Lewis, Moneta, Shibata & Verkerke (2012), CERN-OPEN-2012-016"
    Config = HistogramConfig
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    config: HistogramConfig

    def check(self, task: Task) -> None:
        if prod(task.event_shape) > 3:
            raise NotApplicable(
                f"histogram bins up to 3 features, and {task.name} has {prod(task.event_shape)}"
            )
        if len(task.space.context_index) not in _ANCHORS:
            raise NotApplicable(
                f"histogram interpolates in 1 or 2 context parameters, and {task.name} has "
                f"{len(task.space.context_index)}"
            )

    def fit(
        self, task: Task, bank: Bank, features: Features, members: Sequence[int], run: Run
    ) -> Surrogate:
        names, d = task.component_names, len(task.space.context_index)
        nodes = torch.linspace(0, 1, self.config.anchors or _ANCHORS[d], dtype=torch.float64)
        unit = torch.full((len(nodes) ** d, len(task.space)), 0.5, dtype=torch.float64)
        unit[:, list(task.space.context_index)] = torch.cartesian_prod(*[nodes] * d).view(-1, d)
        anchors = task.space.context_of(task.space.from_unit(unit)).float()
        n = bank.budget // (len(names) * len(anchors))
        if n < 1:
            raise NotApplicable(
                f"histogram needs a simulation at each of {len(anchors)} anchors of "
                f"{len(names)} components, more than the budget of {bank.budget}"
            )
        y = torch.stack(
            [
                torch.stack([features(bank.draw(name, n, at=anchor).x) for anchor in anchors], 1)
                for name in names
            ],
            1,
        ).flatten(4)  # (members, K, anchors, n, features)
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
        share = self.config.smoothing
        average = 0.99 * counts.mean(2, keepdim=True) / n + 0.01 / total
        templates = (1 - share) * counts / n + share * average
        log = FitLog(templates[0].numel(), [{} for _ in members])
        return Templates(features, edges.to(run.device), templates.float().to(run.device), d, log)

    def restore(self, task: Task, features: Features, state: Mapping[str, Tensor]) -> Surrogate:
        templates = state["templates"]
        return Templates(
            features,
            state["edges"],
            templates,
            len(task.space.context_index),
            FitLog(templates[0].numel()),
        )


def _quantiles(column: Tensor, levels: Tensor) -> Tensor:
    """Quantiles by sorting: torch.quantile refuses more than 16 million values."""
    ordered = column.sort().values
    return ordered[(levels * (len(ordered) - 1)).round().long()]


def _bin(y: Tensor, edges: Tensor) -> Tensor:
    """Numbers the bins of features (members, n, features): (members, n). Outer bins are open."""
    bins = edges.shape[-1] + 1
    index = torch.zeros(y.shape[:2], dtype=torch.long, device=y.device)
    for feature in range(y.shape[-1]):
        column = y[..., feature].contiguous()
        index = index * bins + torch.searchsorted(edges[:, feature].contiguous(), column)
    return index


class Templates:
    """Bin probabilities at the anchors, (members, K, anchors, bins), and the bins' edges."""

    reference = None
    has_density = False

    def __init__(
        self, features: Features, edges: Tensor, templates: Tensor, dimension: int, log: FitLog
    ) -> None:
        self.features = features
        self.edges = edges
        self.templates = templates
        self.dimension = dimension
        self.log = log

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        y = self.features(x).flatten(1).expand(len(self.edges), -1, -1)
        index = _bin(y, self.edges)  # (members, n)
        weights = self._hats(context).to(self.templates)  # (J, anchors)
        table = torch.einsum("ja,mkab->mkbj", weights, self.templates).log()
        return torch.stack([t[:, i] for t, i in zip(table, index, strict=True)])

    def _hats(self, context: Tensor) -> Tensor:
        """Weights of multilinear interpolation between anchors, (J, anchors)."""
        per_axis = round(self.templates.shape[2] ** (1 / self.dimension))
        position = (self.features.context(context) + 1) / 2 * (per_axis - 1)  # (J, d)
        nodes = torch.arange(per_axis, device=context.device)
        hats = (1 - (position[..., None] - nodes).abs()).clamp_min(0)  # (J, d, per_axis)
        weights = hats[:, 0]
        for axis in range(1, self.dimension):
            weights = (weights[:, :, None] * hats[:, axis, None, :]).flatten(1)
        return weights

    def state(self) -> Mapping[str, Tensor]:
        return {"edges": self.edges, "templates": self.templates}
