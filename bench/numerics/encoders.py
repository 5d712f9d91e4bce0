"""Encoders: what turns a series or a field into a few numbers that a network's head can use."""

from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

WIDTH = 32
"""How many numbers an encoder gives."""


@dataclass(frozen=True)
class SeriesEncoder:
    """Creates a convolutional network of a series, (n, T) to (n, WIDTH).

    Args:
        length: T.
    """

    length: int

    def __call__(self) -> nn.Module:
        shortened = (self.length + 3) // 4  # by two strides of two
        return nn.Sequential(
            nn.Unflatten(1, (1, self.length)),
            nn.Conv1d(1, 16, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv1d(16, 32, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(32 * shortened, 64),
            nn.SiLU(),
            nn.Linear(64, WIDTH),
        )


@dataclass(frozen=True)
class FieldEncoder:
    """Creates a convolutional network of a field, (n, rows · columns) to (n, WIDTH).

    Averages over the field follow the convolutions: what is sought does not depend on the place.

    Args:
        rows, columns: of the field.
    """

    rows: int
    columns: int

    def __call__(self) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, (1, self.rows, self.columns)),
            nn.Conv2d(1, 16, 3),
            nn.SiLU(),
            nn.Conv2d(16, 32, 3, stride=2),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2),
            nn.SiLU(),
            _Average(),
            nn.Linear(64, 64),
            nn.SiLU(),
            nn.Linear(64, WIDTH),
        )


class _Average(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1))


def encoder_of(
    observation: str, event_shape: tuple[int, ...]
) -> SeriesEncoder | FieldEncoder | None:
    """The encoder for a kind of observation; None where the numbers are few enough as they are.

    Raises:
        ValueError: if the kind is unknown, or its shape another one.
    """
    if observation == "vector":
        return None
    if observation == "series" and len(event_shape) == 1:
        return SeriesEncoder(event_shape[0])
    if observation == "field" and len(event_shape) == 2 and min(event_shape) >= 9:
        return FieldEncoder(*event_shape)
    raise ValueError(
        f"an observation of kind {observation!r} and shape {event_shape} has no encoder: a series "
        "has one dimension, a field two of at least 9"
    )


def inputs_of(event_shape: tuple[int, ...], observation: str) -> int:
    """How many numbers a head sees of an observation."""
    return prod(event_shape) if observation == "vector" else WIDTH
