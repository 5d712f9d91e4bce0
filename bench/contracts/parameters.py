"""Parameters of a statistical model: names, bounds, scale, of interest or nuisance."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Parameter:
    """Parameter: its range, the inner box of evaluation datasets, and its scale.

    Args:
        name: name used in tables and columns.
        low: lower bound of the training range and of the parameter space.
        high: upper bound.
        kind: whether the parameter is of interest or a nuisance.
        inner: the inner box, where parameters of evaluation datasets are drawn uniformly.
        scale: grid nodes and training parameters are uniform on this scale.
        symbol: how the parameter is written in figures and tables.
        unit: physical unit, empty for a pure number.
    """

    name: str
    low: float
    high: float
    kind: Literal["interest", "nuisance"]
    inner: tuple[float, float]
    scale: Literal["linear", "log"] = "linear"
    symbol: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        if not -inf < self.low < self.high < inf:
            raise ValueError(
                f"parameter {self.name!r}: the bounds [{self.low}, {self.high}] must be finite, "
                "the lower below the upper"
            )
        if not self.low <= self.inner[0] < self.inner[1] <= self.high:
            raise ValueError(
                f"parameter {self.name!r}: inner box {self.inner} must lie within "
                f"[{self.low}, {self.high}]"
            )
        for name, allowed in (("kind", ("interest", "nuisance")), ("scale", ("linear", "log"))):
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(
                    f"parameter {self.name!r}: its {name} is {value!r}, and must be "
                    f"{' or '.join(allowed)}"
                )
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"parameter {self.name!r}: a log scale needs a positive lower bound")


class ParameterSpace:
    r"""Box :math:`\Theta` of all parameters of a task, in a fixed order.

    The *unit coordinates* :math:`u \in [0, 1]^P` are each parameter on its own scale between its
    bounds; grids, windows and uniform draws use them.

    Example:
        >>> import torch
        >>> space = ParameterSpace(
        ...     [Parameter("mu", 0.0, 0.5, "interest", (0.1, 0.4)),
        ...      Parameter("z", 1.0, 100.0, "nuisance", (2.0, 50.0), scale="log")],
        ...     context=["z"])
        >>> space.from_unit(torch.tensor([0.5, 0.5]))
        tensor([ 0.2500, 10.0000])
        >>> space.context_of(torch.tensor([0.25, 10.0]))
        tensor([10.])
    """

    def __init__(self, parameters: Sequence[Parameter], context: Sequence[str]) -> None:
        self.parameters = tuple(parameters)
        self.names = tuple(p.name for p in self.parameters)
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"parameter names {self.names} are not distinct")
        unknown = set(context) - set(self.names)
        if unknown:
            raise ValueError(f"context names {sorted(unknown)} are not among {self.names}")
        self.context_index = tuple(self.names.index(name) for name in context)
        self._log = torch.tensor([p.scale == "log" for p in self.parameters], dtype=torch.bool)
        self._low = torch.tensor([p.low for p in self.parameters], dtype=torch.float64)
        self._high = torch.tensor([p.high for p in self.parameters], dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def context(self) -> tuple[Parameter, ...]:
        """Parameters on which the components are conditioned."""
        return tuple(self.parameters[i] for i in self.context_index)

    def context_of(self, theta: Tensor) -> Tensor:
        r"""Return the context :math:`\eta` of parameters, (\*B, P) to (\*B, d)."""
        return theta[..., list(self.context_index)]

    def _bounds(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (
            self._log.to(like.device),
            self._low.to(like.device, like.dtype),
            self._high.to(like.device, like.dtype),
        )

    def from_unit(self, unit: Tensor) -> Tensor:
        r"""Map unit coordinates (\*B, P) to parameters (\*B, P); 0 and 1 give the bounds."""
        log, low, high = self._bounds(unit)
        ratio = torch.where(log, high / low, torch.ones_like(low))
        value = torch.where(log, low * ratio**unit, low + (high - low) * unit)
        return torch.where(unit <= 0, low, torch.where(unit >= 1, high, value))

    def slope(self, unit: Tensor) -> Tensor:
        r"""Return the derivatives of parameters by their unit coordinates, (\*B, P) to (\*B, P).

        Automatic differentiation of `from_unit` gives 0 at the bounds, where its result is set.

        Example:
            >>> import torch
            >>> space = ParameterSpace([Parameter("mu", 0.0, 0.5, "interest", (0.1, 0.4))], [])
            >>> space.slope(torch.tensor([0.0]))
            tensor([0.5000])
        """
        log, low, high = self._bounds(unit)
        ratio = torch.where(log, high / low, torch.ones_like(low))
        return torch.where(log, low * ratio**unit * ratio.log(), high - low)

    def to_unit(self, theta: Tensor) -> Tensor:
        r"""Map parameters (\*B, P) to unit coordinates (\*B, P)."""
        log, low, high = self._bounds(theta)
        # The unused branch must be finite too: its gradient would be NaN at a bound of zero.
        safe = torch.where(log, theta, torch.ones_like(theta)) / torch.where(
            log, low, torch.ones_like(low)
        )
        ratio = torch.where(log, high / low, torch.full_like(low, 2.0))
        return torch.where(log, torch.log(safe) / torch.log(ratio), (theta - low) / (high - low))

    def draw_context(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n contexts uniformly (on each scale) from the training range, (n, d) float32."""
        unit = torch.rand(n, len(self), generator=generator, dtype=torch.float64)
        return self.context_of(self.from_unit(unit)).float()

    @property
    def box(self) -> Tensor:
        """Lower and upper bounds of the inner box in unit coordinates, (2, P) float64."""
        inner = torch.tensor([p.inner for p in self.parameters], dtype=torch.float64)
        return self.to_unit(inner.T)
