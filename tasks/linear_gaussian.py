r"""Linear Gaussian tasks of any number of parameters, with closed-form profile likelihoods.

An observation is a linear function of all parameters with unit noise,
:math:`x = A\theta + \epsilon`. Each element compares a parameter with its predecessor,

.. math:: x_1 = \theta_1 + \epsilon_1, \qquad
   x_j = \frac{\theta_j - \rho_j \theta_{j-1}}{\sqrt{1 - \rho_j^2}} + \epsilon_j.

The estimates of all parameters then have the variance 1/M, and neighbours have the correlation
:math:`\rho_j`, which rises from 0.3 to 0.7. Closed forms ignore the bounds of the parameters, which
are ten standard deviations of the estimates from the centre.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.contracts import Parameter, ParameterSpace, ReferenceKind, Split, Task

_BOUND = 10.0  # bounds of the parameters, in standard deviations of the estimates
_INNER = 5.0  # bounds of the inner box
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def mixing(parameters: int) -> Tensor:
    """Return the matrix A of the observations, (P, P) float64.

    Example:
        >>> a = mixing(3)
        >>> torch.linalg.inv(a.T @ a)
        tensor([[1.0000, 0.3000, 0.2100],
                [0.3000, 1.0000, 0.7000],
                [0.2100, 0.7000, 1.0000]], dtype=torch.float64)
    """
    correlation = torch.linspace(0.3, 0.7, parameters - 1, dtype=torch.float64)
    matrix = torch.eye(parameters, dtype=torch.float64)
    innovation = (1 - correlation.square()).sqrt()
    matrix.diagonal()[1:] /= innovation
    matrix.diagonal(-1).copy_(-correlation / innovation)
    return matrix


class Linear:
    """Unit Gaussian around A θ; context θ, (P,), events (P,).

    Args:
        matrix: A, (P, P) float64.
    """

    size = None

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def _mean(self, context: Tensor) -> Tensor:
        return context @ self.matrix.T.to(context)

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        mean = self._mean(context)
        return mean + torch.randn(mean.shape, generator=generator, dtype=mean.dtype)

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        residual = x.double() - self._mean(context.double())
        return -0.5 * residual.square().sum(-1) - 0.5 * x.shape[-1] * math.log(2 * math.pi)

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        return (x.double() - self._mean(context.double())) @ self.matrix.to(x.device)


class LinearGaussian(Task):
    """Linear Gaussian task; all parameters are in the context of its only component.

    The methods below are the closed forms of datasets x, (*B, M, P), in float64. They ignore the
    bounds of the parameters.

    Args:
        parameters: number of parameters P, called theta1 to thetaP.
        observations: number of observations M in a dataset.
        reported: names of the parameters that are reported; the others are nuisances.
    """

    version = 1
    reference: ReferenceKind = "evidence"

    def __init__(self, parameters: int, observations: int, reported: Sequence[str]) -> None:
        names = tuple(f"theta{j + 1}" for j in range(parameters))
        self.name, self.title = f"linear-gaussian-{parameters}", "Linear Gaussian"
        self.observations, self.event_shape = observations, (parameters,)
        self.reported = tuple(reported)
        bound, inner = _BOUND / math.sqrt(observations), _INNER / math.sqrt(observations)
        self.space = ParameterSpace(
            [
                Parameter(
                    name,
                    -bound,
                    bound,
                    "interest" if name in self.reported else "nuisance",
                    (-inner, inner),
                    symbol=name.replace("theta", "θ").translate(_SUBSCRIPTS),
                )
                for name in names
            ],
            context=names,
        )
        self.nominal = torch.zeros(parameters)
        centre = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)
        self.points = inner * centre[:, None].expand(-1, parameters)
        self.matrix = mixing(parameters)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"observations": self.observations, "reported": list(self.reported)}

    def components(self, split: Split) -> Mapping[str, Linear]:
        return {"only": Linear(self.matrix)}

    def weights(self, theta: Tensor) -> Tensor:
        return torch.ones_like(theta[..., :1])

    def maximum(self, x: Tensor) -> Tensor:
        """Return the maximum-likelihood estimates, (*B, P)."""
        mean: Tensor = x.double().mean(-2)
        solved: Tensor = torch.linalg.solve(self.matrix, mean.unsqueeze(-1))
        return solved.squeeze(-1)

    def standard_deviation(self, x: Tensor) -> Tensor:
        """Return the standard deviations of the estimates, all nuisances profiled, (P,)."""
        covariance: Tensor = torch.linalg.inv(x.shape[-2] * self.matrix.T @ self.matrix)
        return covariance.diagonal().sqrt()

    def information(self, x: Tensor) -> Tensor:
        """Return the observed information in unit coordinates, (P, P), equal for all datasets."""
        scaled = self.matrix * torch.tensor([p.high - p.low for p in self.space.parameters])
        return x.shape[-2] * scaled.T @ scaled

    def profile_interval(self, x: Tensor, threshold: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the ends of every parameter's profile-likelihood interval.

        Args:
            x: the datasets, (*B, M, P).
            threshold: of the likelihood-ratio statistic; 1 gives 68.27 % intervals.

        Returns:
            Lower and upper ends, (*B, P) each.
        """
        centre, half = self.maximum(x), math.sqrt(threshold) * self.standard_deviation(x)
        return centre - half, centre + half

    def profile_statistic(self, x: Tensor, theta: Tensor) -> Tensor:
        """Return every parameter's likelihood-ratio statistic, the others profiled.

        Args:
            x: the datasets, (*B, M, P).
            theta: values of the parameters, (*B, P).

        Returns:
            The statistics, (*B, P); element j depends on element j of theta alone.
        """
        return ((theta - self.maximum(x)) / self.standard_deviation(x)).square()

    def log_likelihood_ratio(self, x: Tensor, theta: Tensor) -> Tensor:
        """Return the log-likelihood at theta, (*B, P), minus its maximum, (*B,)."""
        shift = (theta - self.maximum(x)) @ self.matrix.T
        return -0.5 * x.shape[-2] * shift.square().sum(-1)


def linear_gaussian(
    parameters: int, observations: int = 100, reported: Sequence[str] = ("theta1",)
) -> LinearGaussian:
    """Return the linear Gaussian task of P parameters theta1 to thetaP.

    Args:
        parameters: number of parameters P, at least 1.
        observations: number of observations M in a dataset.
        reported: names of the parameters that are reported.

    Example:
        >>> task = linear_gaussian(7)
        >>> task.space.names[-1], task.reported
        ('theta7', ('theta1',))
    """
    return LinearGaussian(parameters, observations, reported)


two, five, ten, twenty = (partial(linear_gaussian, parameters) for parameters in (2, 5, 10, 20))
"""The registered tasks, by their number of parameters."""
