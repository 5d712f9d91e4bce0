"""Encoders: networks that map an observation to a few numbers, the inputs of a network's head."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

from bench.contracts import Task
from bench.errors import NotApplicable


@dataclass(frozen=True)
class Encoder(ABC):
    """Factory of networks that map flattened observations (n, features) to (n, outputs).

    Args:
        event_shape: shape of an observation.
        width: factor of the width of all layers.
    """

    event_shape: tuple[int, ...]
    width: int = 16

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return 2 * self.width

    @abstractmethod
    def __call__(self) -> nn.Module:
        """Create the network, with fresh parameters."""


class VectorEncoder(Encoder):
    """Multilayer perceptron."""

    def __call__(self) -> nn.Module:
        hidden = 6 * self.width
        return nn.Sequential(
            nn.Linear(prod(self.event_shape), hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, self.outputs),
        )


class SeriesEncoder(Encoder):
    """Convolutional network for a series."""

    def __call__(self) -> nn.Module:
        (length,), w = self.event_shape, self.width
        shortened = (length + 3) // 4  # two strides of two
        return nn.Sequential(
            nn.Unflatten(1, (1, length)),
            nn.Conv1d(1, w, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv1d(w, 2 * w, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(2 * w * shortened, 4 * w),
            nn.SiLU(),
            nn.Linear(4 * w, self.outputs),
        )


class FieldEncoder(Encoder):
    """Convolutional network for a field.

    Averages over the field follow the convolutions, because the signal does not depend on the
    position.
    """

    def __call__(self) -> nn.Module:
        w = self.width
        return nn.Sequential(
            nn.Unflatten(1, (1, *self.event_shape)),
            nn.Conv2d(1, w, 3),
            nn.SiLU(),
            nn.Conv2d(w, 2 * w, 3, stride=2),
            nn.SiLU(),
            nn.Conv2d(2 * w, 4 * w, 3, stride=2),
            nn.SiLU(),
            _Average(),
            nn.Linear(4 * w, 4 * w),
            nn.SiLU(),
            nn.Linear(4 * w, self.outputs),
        )


class _Average(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1))


def encoder_of(task: Task, width: int = 16) -> Encoder:
    """Return the encoder for a task's kind of observation.

    Raises:
        NotApplicable: if the kind is unknown, or its shape another one.
    """
    kind, shape = task.observation, task.event_shape
    if kind == "vector":
        return VectorEncoder(shape, width)
    if kind == "series" and len(shape) == 1:
        return SeriesEncoder(shape, width)
    if kind == "field" and len(shape) == 2 and min(shape) >= 9:
        return FieldEncoder(shape, width)
    raise NotApplicable(
        f"{task.name}: an observation of kind {kind!r} and shape {shape} has no encoder: a series "
        "has one dimension, a field two of at least 9"
    )
