"""Toy tasks of every kind of observation.

A method must run on them or refuse them.
"""

import math
from collections.abc import Mapping
from itertools import product

import torch
from torch import Tensor

from bench.contracts import Observation, Parameter, ParameterSpace, ReferenceKind, Split, Task


class Noise:
    """Independent Gaussians around the first context parameter, of any event shape.

    The second parameter, where there is one, is their standard deviation. Discrete observations are
    the absolute values times 10, rounded, with unknown density.
    """

    size = None

    def __init__(self, event_shape: tuple[int, ...], discrete: bool) -> None:
        self.event_shape, self.discrete = event_shape, discrete

    def _moments(self, context: Tensor) -> tuple[Tensor, Tensor]:
        flat = context.reshape(*context.shape[:-1], *[1] * len(self.event_shape), -1)
        mean = flat[..., 0]
        return mean, flat[..., 1] if context.shape[-1] > 1 else torch.ones_like(mean)

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        mean, scale = self._moments(context)
        noise = torch.randn(*context.shape[:-1], *self.event_shape, generator=generator)
        x = mean + scale * noise
        return (10 * x.abs()).round() if self.discrete else x


class KnownNoise(Noise):
    """Independent Gaussians with known density and score."""

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        mean, scale = self._moments(context.double())
        each = -0.5 * ((x.double() - mean) / scale).square() - scale.log()
        return (each - 0.5 * math.log(2 * math.pi)).flatten(-len(self.event_shape)).sum(-1)

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        mean, scale = self._moments(context.double())
        pull = (x.double() - mean) / scale
        slopes = [pull / scale, (pull.square() - 1) / scale][: context.shape[-1]]
        return torch.stack([s.flatten(-len(self.event_shape)).sum(-1) for s in slopes], -1)


class ToyTask(Task):
    """Toy task of one kind of observation.

    Args:
        name: of the task.
        observation: the kind of its observations.
        event_shape: their shape.
        parameters: number of context parameters, 1 or 2; with 1, the other parameter mixes two
            components.
        discrete: whether observations are whole numbers, of unknown density.
    """

    version = 1
    observations = 10

    def __init__(
        self,
        name: str,
        observation: Observation,
        event_shape: tuple[int, ...],
        parameters: int = 2,
        discrete: bool = False,
    ) -> None:
        self.name, self.observation, self.event_shape = name, observation, event_shape
        self.discrete = discrete
        self.reference: ReferenceKind = "evidence"
        names = ("mean", "spread")[:parameters]
        self.space = ParameterSpace(
            [
                Parameter("mean", -1.0, 1.0, "interest", (-0.5, 0.5)),
                Parameter("spread", 0.5, 2.0, "interest", (0.7, 1.5), scale="log")
                if parameters == 2
                else Parameter("share", 0.0, 1.0, "interest", (0.2, 0.8)),
            ],
            context=names,
        )
        self.points = torch.tensor(list(product((-0.3, 0.3), (0.75, 0.8))), dtype=torch.float64)
        self.nominal = torch.tensor([0.0, 1.0])[:parameters]
        kind = Noise if discrete else KnownNoise
        self._parts = {
            part: kind(event_shape, discrete)
            for part in (("only",) if parameters == 2 else ("first", "second"))
        }

    def components(self, split: Split) -> Mapping[str, Noise]:
        return self._parts

    def weights(self, theta: Tensor) -> Tensor:
        if len(self._parts) == 1:
            return torch.ones_like(theta[..., :1])
        share = theta[..., 1]
        return torch.stack([share, 1 - share], -1)


def toy_tasks() -> list[ToyTask]:
    """Return tasks of a vector of one number, a longer vector, a series of counts, and a field."""
    return [
        ToyTask("one-number", "vector", (1,), parameters=1),
        ToyTask("many-numbers", "vector", (7,)),
        ToyTask("counts", "series", (12,), discrete=True),
        ToyTask("field", "field", (6, 6)),
    ]
