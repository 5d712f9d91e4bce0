"""Encoders: networks that map an observation to a few numbers, the inputs of a network's head."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import torch
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


@dataclass(frozen=True)
class VariogramEncoder(Encoder):
    """Multilayer perceptron of the logarithmic variogram and of a narrow convolutional network.

    The variogram is the mean squared difference of elements at a distance (Matheron 1963, Econ.
    Geol. 58, 1246), here 1, 2, 4 and 8. A field has one along its axes and diagonals. A series may
    change with time and has one in each quarter. Mean squares of quarters are added. Convolutional
    networks learn such averages of squares from many simulations only.

    Args:
        event_shape: shape of a series or a field.
        width: factor of the width of all layers; that of the convolutional network is a quarter.
        narrow: the convolutional network.
    """

    narrow: Encoder = field(kw_only=True)

    @classmethod
    def of(cls, task: Task, width: int = 16) -> "VariogramEncoder":
        """Return the encoder of a task's series or fields.

        Raises:
            NotApplicable: as `encoder_of`.
        """
        return cls(task.event_shape, width, narrow=encoder_of(task, max(1, width // 4)))

    def __call__(self) -> nn.Module:
        numbers = self.narrow.outputs + 4 * (1 + len(_lags(self.event_shape)))
        return nn.Sequential(
            _Beside(self.narrow(), _Variogram(self.event_shape)),
            nn.Linear(numbers, 4 * self.width),
            nn.SiLU(),
            nn.Linear(4 * self.width, self.outputs),
        )


def _lags(event_shape: Sequence[int]) -> list[int]:
    """Return distances at which every quarter of a series has a difference."""
    return [lag for lag in (1, 2, 4, 8) if lag + 4 <= min(event_shape)]


class _Variogram(nn.Module):
    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = event_shape

    def forward(self, x: Tensor) -> Tensor:
        y = x.reshape(*x.shape[:-1], *self.event_shape)
        parts = _of_series(y) if len(self.event_shape) == 1 else _of_field(y)
        squares = [part.square().flatten(x.dim() - 1).mean(-1) for part in parts]
        return (torch.stack(squares, -1) + 1e-3).log()  # squares of constant observations are 0


def _of_series(y: Tensor) -> list[Tensor]:
    """Return quarters of a series and of its differences."""
    differences = [y[..., lag:] - y[..., :-lag] for lag in _lags(y.shape[-1:])]
    return [part for values in (y, *differences) for part in values.tensor_split(4, -1)]


def _of_field(y: Tensor) -> list[Tensor]:
    """Return quarters of a field, and its differences along axes and diagonals."""
    parts = [part for half in y.tensor_split(2, -1) for part in half.tensor_split(2, -2)]
    for lag in _lags(y.shape[-2:]):
        parts += [
            y[..., lag:, :] - y[..., :-lag, :],
            y[..., :, lag:] - y[..., :, :-lag],
            y[..., lag:, lag:] - y[..., :-lag, :-lag],
            y[..., lag:, :-lag] - y[..., :-lag, lag:],
        ]
    return parts


class _Beside(nn.Module):
    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.both = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([module(x) for module in self.both], -1)


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
