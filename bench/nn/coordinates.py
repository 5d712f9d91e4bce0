"""Inputs of flows: flattened features; cosine coefficients of fields; continuous counts."""

from math import prod

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor


def frequencies(rows: int, columns: int) -> Tensor:
    """Return the frequencies of cosines down and across, lowest first, (rows · columns, 2).

    Example:
        >>> frequencies(2, 3).tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [1, 2]]
    """
    relative = (np.arange(rows)[:, None] / rows) ** 2 + (np.arange(columns) / columns) ** 2
    order = np.argsort(relative.ravel(), kind="stable")
    return torch.from_numpy(np.stack(np.divmod(order, columns), 1))


def cosines(rows: int, columns: int) -> Tensor:
    """Create the orthonormal two-dimensional cosine transform, lowest frequencies first.

    Stationary fields are nearly uncorrelated in it (Ahmed, Natarajan & Rao 1974).

    Returns:
        (rows · columns, rows · columns), float32: of a field as a vector, row by row.

    Example:
        >>> rotation = cosines(3, 4)
        >>> torch.allclose(rotation @ rotation.T, torch.eye(12), atol=1e-6)
        True
    """
    down, across = (dct(np.eye(n), norm="ortho", axis=0) for n in (rows, columns))
    place = frequencies(rows, columns)
    order = place[:, 0] * columns + place[:, 1]
    return torch.from_numpy(np.kron(down, across))[order].float()


class Coordinates:
    """Linear coordinates of standardised features: flattened; for fields, scaled cosines.

    Args:
        observation: vector, series or field; only fields are transformed.
        event_shape: shape of an observation.
        scale: standard deviations of a field's cosines, (members, features); None for others.
    """

    def __init__(
        self, observation: str, event_shape: tuple[int, ...], scale: Tensor | None = None
    ) -> None:
        self.event_shape = event_shape
        self.scale = scale
        self._rotation = cosines(*event_shape) if observation == "field" else None

    @classmethod
    def estimate(cls, observation: str, event_shape: tuple[int, ...], y: Tensor) -> "Coordinates":
        r"""Estimate each member's scale from its features (members, n, \*event)."""
        plain = cls(observation, event_shape)
        if plain._rotation is None:
            return plain
        z = plain(y)
        scale = z.std(1) if z.shape[1] > 1 else z.new_zeros(len(z), z.shape[2])
        return cls(observation, event_shape, torch.where(scale > 0, scale, 1.0))

    def __call__(self, y: Tensor) -> Tensor:
        r"""Transform features (members or 1, n, \*event) to (members or 1, n, features)."""
        z = y.reshape(*y.shape[:2], prod(self.event_shape))
        if self._rotation is not None:
            z = z @ self._rotation.T.to(z)
        return z if self.scale is None else z / self.scale.to(z.device)[:, None]

    def inverse(self, z: Tensor) -> Tensor:
        r"""Return the features (members, n, \*event) of coordinates (members, n, features)."""
        y = z if self.scale is None else z * self.scale.to(z)[:, None]
        if self._rotation is not None:  # orthonormal
            y = y @ self._rotation.to(z)
        return y.reshape(*y.shape[:2], *self.event_shape)

    def log_jacobian(self, device: torch.device) -> Tensor | float:
        """Return log |dz/dy|, (members, 1, 1), or 0 where nothing is scaled."""
        return 0.0 if self.scale is None else -self.scale.log().sum(1)[:, None, None].to(device)


def cell_noise(draws: int, event_shape: tuple[int, ...]) -> Tensor:
    r"""Create the points of a unit cell at which a density of counts is averaged.

    They are scrambled Sobol points with a fixed seed: every count gets evenly spread noise, and
    contexts are compared at the same noise.

    Returns:
        (draws, \*event) in [0, 1), float32.
    """
    engine = torch.quasirandom.SobolEngine(prod(event_shape), scramble=True, seed=0)  # type: ignore[no-untyped-call]
    return engine.draw(draws).view(draws, *event_shape)
