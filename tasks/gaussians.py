r"""Rotated Gaussians: a mixture in the plane whose nuisance parameter is an angle.

Background :math:`N((r\cos z, r\sin z), I)`, signal :math:`N((-r\cos z, -r\sin z), I)`; a fraction
:math:`\mu/(1+\mu)` of events is signal. From Sluijter, Diefenbacher, Bhimji & Nachman (2025).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bench.contracts import Parameter, Split

from .signal import SignalAndBackground


class RotatedGaussian:
    """Unit Gaussian centred at a signed radius, at angle z; d = 1, event shape (2,)."""

    size = None

    def __init__(self, radius: float) -> None:
        self.radius = radius

    def _mean(self, context: Tensor) -> Tensor:
        return self.radius * torch.cat([context.cos(), context.sin()], -1)

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        mean = self._mean(context)
        return mean + torch.randn(mean.shape, generator=generator)

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        residual = x.double() - self._mean(context.double())
        return -0.5 * residual.square().sum(-1) - math.log(2 * math.pi)

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        mean = self._mean(context.double())
        tangent = torch.stack([-mean[..., 1], mean[..., 0]], -1)
        return ((x.double() - mean) * tangent).sum(-1, keepdim=True)


class RotatedGaussians(SignalAndBackground):
    """Signal and background on opposite sides of the origin, both at angle z."""

    version = 1
    citation = "Sluijter, Diefenbacher, Bhimji & Nachman (2025)"
    feature_names = ("x₁", "x₂")
    nominal = torch.tensor([0.25 * math.pi])

    def __init__(self, name: str, title: str, radius: float) -> None:
        self.name = name
        self.title = title
        self.radius = radius
        low, middle, high = (f * math.pi for f in (0.15, 0.25, 0.35))
        angle = Parameter("z", 0.0, 0.5 * math.pi, "nuisance", (low, high), symbol="z", unit="rad")
        super().__init__(angle, (low, middle, high))

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"radius": self.radius}

    def components(self, split: Split) -> Mapping[str, RotatedGaussian]:
        return {
            "signal": RotatedGaussian(-self.radius),
            "background": RotatedGaussian(self.radius),
        }


def far() -> RotatedGaussians:
    """Return the task with radius 2: signal and background hardly overlap."""
    return RotatedGaussians("gaussians-far", "Rotated Gaussians, far apart", 2.0)


def near() -> RotatedGaussians:
    """Return the task with radius 0.5: signal and background overlap almost fully."""
    return RotatedGaussians("gaussians-near", "Rotated Gaussians, close together", 0.5)
