r"""DLE: a conditional normalising flow learns the density :math:`p_k(x|\eta)` of each component.

Neural spline flows (Durkan et al. 2019, arXiv:1906.04032) with autoregressive blocks
(Papamakarios et al. 2017, arXiv:1705.07057), conditioned on an embedding of η, on zuko. Trained by
maximum likelihood, in standardised features; the density of x adds the logarithm of the Jacobian.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import zuko
from pydantic import Field
from torch import Tensor, nn

from bench.contracts import (
    Bank,
    ComponentMethod,
    Features,
    FitLog,
    Run,
    Settings,
    Task,
)
from bench.errors import NotApplicable
from bench.numerics.networks import Activation, evaluation_rows
from bench.numerics.stacks import Stack
from bench.numerics.training import SEARCH, Training, train

_COMPILE_EVALUATION = 10_000_000  # rows evaluated, after which it is worth compiling


class DLEConfig(Settings):
    """Configuration of DLE.

    Args:
        transforms: autoregressive blocks; every other one takes the features in reverse.
        bins: bins of each spline, on [−5, 5] in standardised features; the identity beyond.
        hidden: widths of the hidden layers of the networks that give the splines' parameters.
        embedding: width of the layer that embeds the context.
        activation: nonlinearity of all networks.
        budget_share: share of the budget that is spent, equally on all components.
        validation_share: share of every simulation held out for choosing the best epoch.
        training: how the flow trains.
    """

    transforms: int = Field(default=4, ge=1)
    bins: int = Field(default=8, ge=2)
    hidden: tuple[int, ...] = Field(default=(64, 64), min_length=1)
    embedding: int = Field(default=32, ge=1)
    activation: Activation = "relu"
    budget_share: float = Field(default=1.0, gt=0, le=1)
    validation_share: float = Field(default=0.1, gt=0, le=0.5)
    training: Training = Training(learning_rate=3e-3, batch_size=1024, epochs=12)


ACTIVATIONS: Mapping[Activation, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}


@dataclass(frozen=True)
class FlowShape(ABC):
    """The architecture of a conditional flow, as in `DLEConfig`, for so many features."""

    features: int
    contexts: int
    transforms: int
    bins: int
    hidden: tuple[int, ...]
    embedding: int
    activation: Activation

    @abstractmethod
    def __call__(self) -> nn.Module:
        """Creates a module that maps features and contexts, (n, …) each, to log-densities (n,)."""

    def embed(self) -> nn.Module:
        """Creates the network that embeds the context."""
        return nn.Sequential(
            nn.Linear(self.contexts, self.embedding), ACTIVATIONS[self.activation]()
        )


class ZukoFlow(FlowShape):
    """Builds the flow on zuko."""

    def __call__(self) -> nn.Module:
        flow = zuko.flows.NSF(
            self.features,
            self.embedding,
            bins=self.bins,
            transforms=self.transforms,
            hidden_features=self.hidden,
            activation=ACTIVATIONS[self.activation],
        )
        return _LogDensity(self.embed(), flow)


class _LogDensity(nn.Module):
    def __init__(self, embedding: nn.Module, flow: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding
        self.flow = flow

    def forward(self, y: Tensor, eta: Tensor) -> Tensor:
        out: Tensor = self.flow(self.embedding(eta)).log_prob(y)
        return out


class DLE(ComponentMethod):
    """Density estimation with a conditional neural spline flow, on zuko."""

    name = "dle"
    version = 1
    title = "Conditional spline flow"
    family = "generative"
    citation = "Durkan et al. (2019), arXiv:1906.04032"
    has_density = True
    Config = DLEConfig
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tuned": {},
        # The paper's flows see its component simulations alone: half of what its classifiers cost.
        "published": {
            "budget_share": 0.5,
            "training": {
                "batch_size": 1024,
                "learning_rate": 1e-3,
                "schedule": "constant",
                "epochs": 10,
            },
        },
    }
    search: ClassVar[Mapping[str, Sequence[Any]]] = {
        "activation": ("relu", "silu"),
        **SEARCH,
    }
    config: DLEConfig
    Flow: ClassVar[type[FlowShape]] = ZukoFlow
    """What builds the flow."""
    vectorise: ClassVar[bool] = True
    """Whether the flow survives torch.func.vmap, torch.compile and CUDA graphs."""

    def check(self, task: Task) -> None:
        if task.discrete:
            raise NotApplicable(f"{self.name} takes no whole numbers, as {task.name} has")
        if len(task.event_shape) != 1:
            raise NotApplicable(
                f"{self.name} takes vectors only, and observations of {task.name} have shape "
                f"{task.event_shape}"
            )

    def _flow(self, task: Task) -> FlowShape:
        return self.Flow(
            features=task.event_shape[0],
            contexts=len(task.space.context_index),
            transforms=self.config.transforms,
            bins=self.config.bins,
            hidden=self.config.hidden,
            embedding=self.config.embedding,
            activation=self.config.activation,
        )

    def fit_component(
        self,
        component: str,
        task: Task,
        bank: Bank,
        features: Features,
        members: Sequence[int],
        run: Run,
    ) -> "ConditionalDensity":
        spent = int(bank.budget * self.config.budget_share)
        own = bank.draw(component, spent // len(task.component_names))
        held_out = max(1, int(len(own) * self.config.validation_share))
        data = [t.to(run.device) for t in (features(own.x), features.context(own.context))]
        training = self.config.training
        flow = Stack.create(
            self._flow(task),
            [run.generator(m, f"{component} weights") for m in members],
            vectorise=self.vectorise,
        ).to(run.device)

        def loss(y: Tensor, eta: Tensor) -> Tensor:
            return -flow(y, eta).mean(1)

        curves = train(
            flow,
            loss,
            [t[:, held_out:] for t in data],
            [t[:, :held_out] for t in data],
            [run.generator(m, f"{component} shuffle") for m in members],
            training,
            run,
            record=self.vectorise,
            label=component,
        )
        log = FitLog(flow.count, [{"": curve} for curve in curves])
        return ConditionalDensity(flow, features, log)

    def restore_component(
        self, component: str, task: Task, features: Features, state: Mapping[str, Tensor]
    ) -> "ConditionalDensity":
        flow = Stack(self._flow(task), state, vectorise=self.vectorise)
        return ConditionalDensity(flow, features, FitLog(flow.count))


class ConditionalDensity:
    """The trained flows of one component: log p̂(x|η) = log q(y(x)|η) + log |dy/dx|."""

    def __init__(self, flow: Stack, features: Features, log: FitLog) -> None:
        self.flow = flow
        self.features = features
        self.log = log
        self._evaluated = 0

    @torch.no_grad()
    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        y, eta = self.features(x), self.features.context(context)
        members, nodes, rows = self.flow.members, len(eta), len(y) * len(eta)
        size = min(rows, evaluation_rows(x.device))
        self._evaluated += rows
        if self.flow.vectorise and self._evaluated > _COMPILE_EVALUATION:
            self.flow.compile_shape = evaluation_rows(x.device)
        parts = []
        for start in range(0, rows, size):
            # The last batch is filled up, with its last row, to the size of the others.
            index = torch.arange(start, start + size, device=x.device)
            index.clamp_(max=rows - 1)
            batch = y[index // nodes], eta[index % nodes]
            parts.append(self.flow(*(t.expand(members, -1, -1) for t in batch)))
        out = torch.cat(parts, 1)[:, :rows].view(members, len(y), nodes)
        return out + self.features.log_jacobian(x).float()[:, None]

    def state(self) -> Mapping[str, Tensor]:
        return self.flow.state()
