"""Exponential lifetimes: the smallest task, one number per observation and one parameter."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from bench.contracts import Log, Parameter, ParameterSpace, ReferenceKind, Split, Task


class Decay:
    """Lifetime of the density λ exp(−λ t); context (λ,), events (1,)."""

    size = None

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        return torch.empty_like(context).exponential_(generator=generator) / context

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        time, rate = x[..., 0].double(), context[..., 0].double()
        return torch.where(time >= 0, rate.log() - rate * time, -math.inf)

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        return 1 / context.double() - x.double()


class Exponential(Task):
    """Decay rate of M lifetimes; its estimate has a relative error of 1/√M."""

    name = "exponential"
    title = "Exponential lifetimes"
    version = 1
    observations = 100
    event_shape = (1,)
    feature_names = ("t",)
    transform = Log()
    reference: ReferenceKind = "evidence"
    space = ParameterSpace(
        [Parameter("rate", 0.2, 5.0, "interest", (0.5, 2.0), "log", "λ", "1/time")],
        context=["rate"],
    )
    nominal = torch.tensor([1.0])
    points = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64)

    def components(self, split: Split) -> Mapping[str, Decay]:
        return {"decay": Decay()}

    def weights(self, theta: Tensor) -> Tensor:
        return torch.ones_like(theta)
