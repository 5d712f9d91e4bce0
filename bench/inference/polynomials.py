"""Log-ratios of events as polynomials in the context, from values at Chebyshev nodes.

A smooth surrogate is evaluated at a few contexts; its log-ratios of every event are interpolated
between them. The nodes are extrema of Chebyshev polynomials, of which each finer set contains the
coarser ones (Trefethen 2013, Approximation Theory and Approximation Practice, chapters 2 and 5).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import pi, prod

import torch
from torch import Tensor

Window = tuple[float, float]


def nodes(window: Window, count: int) -> Tensor:
    """Return the Chebyshev nodes of a window in rising order, (count,) float64; count ≥ 2.

    Example:
        >>> nodes((0.0, 1.0), 5)
        tensor([0.0000, 0.1464, 0.5000, 0.8536, 1.0000], dtype=torch.float64)
    """
    angle = torch.arange(count, dtype=torch.float64) * (pi / (count - 1))
    unit = 0.5 * (1 - angle.cos())
    return window[0] + (window[1] - window[0]) * unit


def matrix(position: Tensor, window: Window, count: int) -> Tensor:
    """Return the matrix that maps values at the nodes to values at positions, (T, count) float64.

    It is the barycentric formula (Berrut & Trefethen 2004), exact for polynomials of degree
    count − 1.

    Example:
        >>> at = torch.tensor([0.3, 0.5], dtype=torch.float64)
        >>> (matrix(at, (0.0, 1.0), 5) @ nodes((0.0, 1.0), 5) ** 4).round(decimals=6)
        tensor([0.0081, 0.0625], dtype=torch.float64)
    """
    weight = torch.ones(count, dtype=torch.float64)
    weight[1::2] = -1
    weight[[0, -1]] *= 0.5
    distance = position[:, None] - nodes(window, count)
    hit = distance == 0
    share = weight / torch.where(hit, torch.ones_like(distance), distance)
    share = share / share.sum(-1, keepdim=True)
    return torch.where(hit.any(-1, keepdim=True), hit.double(), share)


@dataclass(frozen=True)
class RatioTable:
    r"""Log-ratios of n events on the product of the Chebyshev nodes of each context parameter.

    Args:
        windows: window of each context parameter, by its axis, in rising order of the axes.
        values: (members, K, n, \*nodes), of the type that the surrogate returns.
    """

    windows: Mapping[int, Window]
    values: Tensor

    @classmethod
    def of(
        cls, evaluate: Callable[[list[Tensor]], Tensor], windows: Mapping[int, Window], count: int
    ) -> "RatioTable":
        """Evaluate log-ratios at `count` nodes per context parameter.

        Args:
            evaluate: maps nodes of each context parameter to (members, K, n, product of nodes).
            windows: as in the class.
            count: number of nodes.
        """
        axes = [nodes(window, count) for window in windows.values()]
        values = evaluate(axes)
        return cls(windows, values.view(*values.shape[:3], *(len(a) for a in axes)))

    def count(self, axis: int) -> int:
        """Return the number of nodes of an axis."""
        return self.values.shape[self._place(axis)]

    def _place(self, axis: int) -> int:
        return 3 + list(self.windows).index(axis)

    def thinned(self, axis: int) -> "RatioTable":
        """Return the table with every other node of an axis, those of half the degree."""
        place = self._place(axis)
        kept = torch.arange(0, self.values.shape[place], 2, device=self.values.device)
        return replace(self, values=self.values.index_select(place, kept))

    def doubled(self, axis: int, evaluate: Callable[[list[Tensor]], Tensor]) -> "RatioTable":
        """Return the table of twice the degree along an axis; only new nodes are evaluated."""
        place = self._place(axis)
        count = self.values.shape[place]
        axes = [
            nodes(window, self.count(other))
            if other != axis
            else nodes(window, 2 * count - 1)[1::2]
            for other, window in self.windows.items()
        ]
        new = evaluate(axes)
        new = new.view(*new.shape[:3], *map(len, axes))
        order = torch.arange(2 * count - 1)
        order = (order // 2 + order % 2 * count).to(new.device)  # old and new alternate
        values = torch.cat([self.values, new], place).index_select(place, order)
        return replace(self, values=values)

    def at(self, events: slice, axes: list[Tensor]) -> Tensor:
        """Interpolate on the product of axes, (members, K, n of the slice, product of nodes)."""
        values = self.values[:, :, events]
        for place, (window, axis) in enumerate(zip(self.windows.values(), axes, strict=True)):
            across = matrix(axis, window, values.shape[3 + place]).to(values)
            values = torch.movedim(values, 3 + place, -1) @ across.T
            values = torch.movedim(values, -1, 3 + place)
        return values.flatten(3)

    @property
    def size(self) -> int:
        """Number of contexts evaluated."""
        return prod(self.values.shape[3:])
