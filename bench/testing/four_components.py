r"""Mixture of four Gaussian components in six features, with seven parameters.

Three parameters set the yields of components relative to the largest one, and four shift or widen
the features:

.. math:: w \propto (\mu, 1, \nu_2, \nu_3), \qquad
   x = m_k + \eta B_k + e^{\eta G_k} \odot \epsilon, \quad \epsilon \sim N(0, C_k),

where neighbouring features have the correlation :math:`\rho_k` and those further apart its powers.
The largest yield is fixed because a common factor of all yields would not change the weights.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.contracts import Parameter, ParameterSpace, ReferenceKind, Split, Task

NUISANCES = ("tau", "jet", "met", "smear")
"""Parameters of the context: three shifts of features, and a width of the last two."""

_SHIFTS = torch.tensor(
    [
        [0.6, 0.4, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.6, 0.4, 0.0, 0.2],
        [0.0, 0.2, 0.0, 0.0, 0.4, 0.6],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ],
    dtype=torch.float64,
)
_GROWTHS = torch.zeros_like(_SHIFTS)
_GROWTHS[3, 4:] = 0.5


class Gaussian:
    """Correlated Gaussian with mean and log-width linear in the context, (4,); events (6,).

    Args:
        mean: m, the mean at the context 0.
        sensitivity: factor of the effect of each nuisance.
        correlation: ρ, of neighbouring features.
    """

    size = None

    def __init__(
        self, mean: Sequence[float], sensitivity: Sequence[float], correlation: float
    ) -> None:
        self.mean = torch.tensor(mean, dtype=torch.float64)
        effect = torch.tensor(sensitivity, dtype=torch.float64)[:, None]
        self.shift, self.growth = effect * _SHIFTS, effect * _GROWTHS
        size = torch.arange(len(mean), dtype=torch.float64)
        covariance = correlation ** (size[:, None] - size).abs()
        self.root: Tensor = torch.linalg.cholesky(covariance)
        self.inverse_root: Tensor = torch.linalg.inv(self.root)
        self.precision: Tensor = self.inverse_root.T @ self.inverse_root
        self.constant = 0.5 * float(covariance.logdet()) + 0.5 * len(mean) * math.log(2 * math.pi)

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        mean, log_width = self._moments(context)
        noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        return (mean + log_width.exp() * (noise @ self.root.T)).to(context.dtype)

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        mean, log_width = self._moments(context)
        residual = (x.double() - mean) / log_width.exp()
        pull = residual @ self.inverse_root.T.to(x.device)
        return -0.5 * pull.square().sum(-1) - log_width.sum(-1) - self.constant

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        mean, log_width = self._moments(context)
        residual = (x.double() - mean) / log_width.exp()
        force = residual @ self.precision.to(x.device)
        by_shift: Tensor = (force / log_width.exp()) @ self.shift.T.to(x.device)
        return by_shift + (force * residual - 1) @ self.growth.T.to(x.device)

    def _moments(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-width of the features, (*B, 4) to (*B, 6) float64 each."""
        context = context.double()
        mean, shift, growth = (v.to(context.device) for v in (self.mean, self.shift, self.growth))
        return mean + context @ shift, context @ growth


class FourComponents(Task):
    """Signal and three backgrounds; the signal strength mu is reported.

    Args:
        observations: number of observations M in a dataset.
    """

    name = "four-components"
    version = 1
    title = "Four Gaussian components"
    event_shape = (6,)
    reference: ReferenceKind = "evidence"
    reported = ("mu",)
    nominal = torch.zeros(4)
    space = ParameterSpace(
        [
            Parameter("mu", 0.0, 1.0, "interest", (0.2, 0.5), symbol="μ"),
            Parameter("second", 0.0, 1.5, "nuisance", (0.3, 0.8)),
            Parameter("third", 0.0, 1.5, "nuisance", (0.3, 0.8)),
            *(Parameter(name, -1.0, 1.0, "nuisance", (-0.4, 0.4)) for name in NUISANCES),
        ],
        context=NUISANCES,
    )
    points = torch.tensor(
        [[mu, 0.5, 0.5, z, -z, z, -z] for mu in (0.25, 0.4) for z in (-0.2, 0.2)],
        dtype=torch.float64,
    )

    def __init__(self, observations: int = 1000) -> None:
        self.observations = observations

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"observations": self.observations}

    def components(self, split: Split) -> Mapping[str, Gaussian]:
        return {
            "signal": Gaussian((1.5, 0.5, 1.0, 0.0, 0.5, 0.0), (1.0, 0.5, 0.5, 1.0), 0.5),
            "first": Gaussian((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), (1.0, 0.8, 0.6, 1.0), 0.2),
            "second": Gaussian((-0.5, 1.0, 0.5, 1.5, 0.0, 1.0), (0.4, 1.0, 0.5, 0.8), -0.3),
            "third": Gaussian((0.5, -1.5, 0.0, 0.5, 1.0, 1.5), (0.7, 0.5, 1.0, 0.8), 0.4),
        }

    def weights(self, theta: Tensor) -> Tensor:
        mu, second, third = theta[..., :3].unbind(-1)
        yields = torch.stack([mu, torch.ones_like(mu), second, third], -1)
        return yields / yields.sum(-1, keepdim=True)


def four_components(observations: int = 1000) -> FourComponents:
    """Return the task with datasets of M observations.

    Example:
        >>> four_components().space.names
        ('mu', 'second', 'third', 'tau', 'jet', 'met', 'smear')
    """
    return FourComponents(observations)
