"""Conditional normalising flows: their architecture, and its implementation on zuko."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import zuko
from torch import Tensor, nn

from bench.nn.autoregressive import paired
from bench.nn.networks import Activation

ACTIVATIONS: Mapping[Activation, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}


@dataclass(frozen=True)
class FlowShape(ABC):
    """Architecture of a conditional flow.

    Args:
        features, contexts: number of features of an observation and of a context.
        transforms: autoregressive blocks; every other one takes the features in reverse.
        bins: bins of each spline, on [−5, 5]; None for affine blocks.
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
        """Create a module that maps features and contexts, (n, …) each, to log-densities (n,).

        The module also maps (n, 1, features) and (1, J, contexts) to log-densities of all pairs,
        (n, J). Its method `inverse` maps standard normal numbers (n, features) and contexts (n,
        contexts) to features (n, features).
        """

    def embed(self) -> nn.Module:
        """Create the network that embeds the context."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element")  # without a context
            linear = nn.Linear(self.contexts, self.embedding)
        return nn.Sequential(linear, ACTIVATIONS[self.activation]())


class ZukoFlow(FlowShape):
    """Conditional flow, built with zuko."""

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
    def __init__(self, embedding: nn.Module, flow: zuko.lazy.Flow) -> None:
        super().__init__()
        self.embedding = embedding
        self.flow = flow
        self._paired = paired(flow)

    def forward(self, y: Tensor, eta: Tensor) -> Tensor:
        if y.dim() == 2 or self._paired is None:
            return over_pairs(self._of_rows, y, eta)
        context, total = self.embedding(eta[0]), y.new_zeros(())
        y = y.expand(-1, len(context), -1)
        for block in self._paired:
            y, log_slope = block(y, context)
            total = total + log_slope
        out: Tensor = total + self.flow.base(context).log_prob(y)
        return out

    def _of_rows(self, y: Tensor, eta: Tensor) -> Tensor:
        out: Tensor = self.flow(self.embedding(eta)).log_prob(y)
        return out

    def inverse(self, noise: Tensor, eta: Tensor) -> Tensor:
        out: Tensor = self.flow(self.embedding(eta)).transform.inv(noise)
        return out


def over_pairs(density: Callable[[Tensor, Tensor], Tensor], y: Tensor, eta: Tensor) -> Tensor:
    """Evaluate a density of rows on rows, or on all pairs of (n, 1, …) and (1, J, …)."""
    if y.dim() == 2:
        return density(y, eta)
    pairs = len(y), eta.shape[1]
    rows = (t.expand(*pairs, -1).flatten(0, 1) for t in (y, eta))
    return density(*rows).view(pairs)
