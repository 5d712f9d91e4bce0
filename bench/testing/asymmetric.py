r"""Mixture of two components without common terms, a task that reveals wrong denominators.

In :math:`y = (x_1, \log x_2)` both components are Gaussian, with means and scales that depend on
:math:`t = \log z` and different correlations:

.. math:: y_i \sim N(a_i + b_i t,\; s_i^2 e^{2 c_i t}), \qquad \mathrm{corr}(y_1, y_2) = \rho.

Signal is narrow and positively correlated, background is wide and negatively correlated. In the
task of rotated Gaussians, terms that a component could include by mistake (a Jacobian, a
denominator, a class size) are nearly the same for both components and cancel. Here they do not.

The file is a plugin: `Registry([path]).task("asymmetric")`, or `--plugin` on the command line.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from bench.contracts import Parameter, ParameterSpace, Split, Task, Transform


class LogSecond(Transform):
    """Logarithm of the second feature."""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.stack([x[..., 0], x[..., 1].log()], -1)

    def log_jacobian(self, x: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(x[..., 0]), -x[..., 1].log()], -1)

    def inverse(self, y: Tensor) -> Tensor:
        return torch.stack([y[..., 0], y[..., 1].exp()], -1)


@dataclass(frozen=True)
class LogGaussian:
    """Gaussian in (x_1, log x_2); d = 1, event shape (2,).

    Args:
        mean: a, the mean at z = 1.
        slope: b, the derivative of the mean with respect to log z.
        scale: s, the standard deviation at z = 1.
        growth: c, the derivative of its logarithm with respect to log z.
        correlation: ρ.
    """

    mean: tuple[float, float]
    slope: tuple[float, float]
    scale: tuple[float, float]
    growth: tuple[float, float]
    correlation: float
    size = None

    def moments(self, context: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return mean and standard deviation of (x_1, log x_2), (\*B, 1) to (\*B, 2) each."""
        log_z = context.log()
        mean, slope, scale, growth = (
            torch.tensor(v, dtype=context.dtype)
            for v in (self.mean, self.slope, self.scale, self.growth)
        )
        return mean + slope * log_z, scale * (growth * log_z).exp()

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        mean, scale = self.moments(context)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        rho = self.correlation
        second = rho * noise[..., 0] + math.sqrt(1 - rho**2) * noise[..., 1]
        y = mean + scale * torch.stack([noise[..., 0], second], -1)
        return torch.stack([y[..., 0], y[..., 1].exp()], -1)

    def _pull(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return standardised residuals of (x_1, log x_2), and the standard deviations."""
        mean, scale = self.moments(context.double())
        positive = torch.where(x[..., 1] > 0, x[..., 1], 1.0)
        y = torch.stack([x[..., 0], positive.log()], -1)
        return (y - mean) / scale, scale

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        x = x.double()
        pull, scale = self._pull(x, context)
        rest = 1 - self.correlation**2
        square = pull.square().sum(-1) - 2 * self.correlation * pull.prod(-1)
        normal = math.log(2 * math.pi) + 0.5 * math.log(rest) + scale.log().sum(-1)
        possible = x[..., 1] > 0
        jacobian = torch.where(possible, x[..., 1], 1.0).log()
        return torch.where(possible, -0.5 * square / rest - normal - jacobian, -torch.inf)

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        pull, scale = self._pull(x.double(), context)
        slope, growth = (torch.tensor(v, dtype=torch.float64) for v in (self.slope, self.growth))
        fall = slope / scale + growth * pull  # −d pull / d log z
        inner = pull - self.correlation * pull.flip(-1)
        by_log_z = (inner * fall).sum(-1) / (1 - self.correlation**2) - growth.sum()
        return by_log_z.unsqueeze(-1) / context.double()


class AsymmetricGaussians(Task):
    """Narrow signal on a wide background, both dependent on a scale z."""

    name = "asymmetric"
    version = 1
    title = "Asymmetric Gaussians"
    observations = 1000
    event_shape = (2,)
    transform = LogSecond()
    nominal = torch.tensor([1.0])
    space = ParameterSpace(
        [
            Parameter("mu", 0.0, 0.7, "interest", (0.08, 0.35), symbol="μ"),
            Parameter("z", 0.5, 2.0, "nuisance", (0.7, 1.4), scale="log", symbol="z"),
        ],
        context=["z"],
    )
    points = torch.tensor(list(product((0.1, 0.2, 0.3), (0.75, 1.0, 1.3))), dtype=torch.float64)

    @cached_property
    def reported(self) -> tuple[str, ...]:
        return self.space.names

    def components(self, split: Split) -> Mapping[str, LogGaussian]:
        return {
            "signal": LogGaussian((1.0, 0.5), (0.2, 0.6), (0.4, 0.3), (0.3, -0.2), 0.8),
            "background": LogGaussian((-0.5, 0.0), (0.3, 1.0), (1.2, 0.9), (0.0, 0.25), -0.5),
        }

    def weights(self, theta: Tensor) -> Tensor:
        mu = theta[..., 0]
        return torch.stack([mu, torch.ones_like(mu)], -1) / (1.0 + mu).unsqueeze(-1)


asymmetric = AsymmetricGaussians()
