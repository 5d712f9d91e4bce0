"""Conditional normalising flows: their architecture, and how zuko builds it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import zuko
from torch import Tensor, nn

from bench.numerics.networks import Activation

ACTIVATIONS: Mapping[Activation, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}


@dataclass(frozen=True)
class FlowShape(ABC):
    """The architecture of a conditional flow.

    Args:
        features, contexts: how many numbers it sees of an observation and of a context.
        transforms: autoregressive blocks; every other one takes the features in reverse.
        bins: of each spline, on [−5, 5]; None for blocks that are affine.
        hidden: widths of the hidden layers of the networks that give the blocks' parameters.
        embedding: width of the layer that embeds the context.
        activation: nonlinearity of all networks.
    """

    features: int
    contexts: int
    transforms: int
    bins: int | None
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
        options: dict[str, Any] = {
            "transforms": self.transforms,
            "hidden_features": self.hidden,
            "activation": ACTIVATIONS[self.activation],
        }
        if self.bins is None:
            flow = zuko.flows.MAF(self.features, self.embedding, **options)
        else:
            flow = zuko.flows.NSF(self.features, self.embedding, bins=self.bins, **options)
        return _LogDensity(self.embed(), flow)


class _LogDensity(nn.Module):
    def __init__(self, embedding: nn.Module, flow: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding
        self.flow = flow

    def forward(self, y: Tensor, eta: Tensor) -> Tensor:
        out: Tensor = self.flow(self.embedding(eta)).log_prob(y)
        return out
