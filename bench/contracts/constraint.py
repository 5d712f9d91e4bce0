"""Constraints: measurements of a parameter by other data, one per dataset."""

from dataclasses import dataclass
from math import inf, log, pi
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Constraint:
    r"""Auxiliary measurement of one parameter.

    Every dataset has a measurement of its own, :math:`a \sim N(\theta, \sigma)`, or
    :math:`\log a \sim N(\log\theta, \sigma)` if it is log-normal. Its density is a factor of the
    likelihood, the same for all methods. True values of the parameter in the inner box follow the
    same distribution around `centre`, as measured in an earlier experiment (Cranmer 2015,
    arXiv:1503.07622).

    Args:
        parameter: name of the parameter.
        centre: centre of the distribution of true values, in the parameter's unit.
        width: standard deviation σ, of the logarithm if the constraint is log-normal.
        kind: "normal" or "log-normal".

    Example:
        >>> import torch
        >>> constraint = Constraint("scale", centre=1.0, width=0.01)
        >>> constraint.log_prob(torch.tensor(1.02), torch.tensor(1.0)).item()
        1.68...
    """

    parameter: str
    centre: float
    width: float
    kind: Literal["normal", "log-normal"] = "normal"

    def __post_init__(self) -> None:
        what = f"the constraint of {self.parameter!r}"
        if self.kind not in ("normal", "log-normal"):
            raise ValueError(f"{what}: its kind is {self.kind!r}, not 'normal' or 'log-normal'")
        if not 0 < self.width < inf:
            raise ValueError(f"{what}: its width is {self.width}, and must be positive and finite")
        if not (0 if self.kind == "log-normal" else -inf) < self.centre < inf:
            positive = "positive and " if self.kind == "log-normal" else ""
            raise ValueError(f"{what}: its centre is {self.centre}, and must be {positive}finite")

    def location(self, theta: Tensor) -> Tensor:
        r"""Return the scale on which measurements are Gaussian, (\*B) to (\*B) float64."""
        return theta.double().log() if self.kind == "log-normal" else theta.double()

    def measure(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        r"""Draw a measurement for each value of the parameter, (\*B) to (\*B) float64."""
        noise = torch.randn(theta.shape, generator=generator, dtype=torch.float64)
        return self._value(self.location(theta) + self.width * noise)

    def log_prob(self, measured: Tensor, theta: Tensor) -> Tensor:
        r"""Return the log-density of measurements, (\*B) float64; of log a if log-normal."""
        pull = (self.location(measured) - self.location(theta)) / self.width
        return -0.5 * pull.square() - log(self.width) - 0.5 * log(2 * pi)

    def log_prior(self, theta: Tensor) -> Tensor:
        r"""Return the log-density of true values, (\*B) float64; of log θ if log-normal."""
        return self.log_prob(torch.tensor(self.centre), theta)

    def true_value(self, uniform: Tensor, low: float, high: float) -> Tensor:
        r"""Map uniform numbers to true values between bounds, (\*B) in [0, 1] to (\*B) float64."""
        centre, *bounds = (
            self.location(torch.tensor(value, dtype=torch.float64))
            for value in (self.centre, low, high)
        )
        below, above = (torch.special.ndtr((bound - centre) / self.width) for bound in bounds)
        normal = torch.special.ndtri(below + (above - below) * uniform.double())
        return self._value(centre + self.width * normal).clamp(low, high)

    def _value(self, location: Tensor) -> Tensor:
        return location.exp() if self.kind == "log-normal" else location
