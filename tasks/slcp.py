r"""SLCP, a simple likelihood with a complex posterior: four symmetric modes in five parameters.

An observation is a point in the plane, Gaussian with means :math:`\theta_1, \theta_2`, standard
deviations :math:`\theta_3^2, \theta_4^2` and correlation :math:`\tanh\theta_5` (Papamakarios,
Sterratt & Murray 2019; a benchmark task of Lueckmann et al. 2021, who observe four points). The
likelihood does not depend on the signs of :math:`\theta_3` and :math:`\theta_4`, and so has four
equal maxima.

The inner box has positive :math:`\theta_3` and :math:`\theta_4`. Profiles within the box see one
maximum. An interval in the whole parameter space is connected and belongs to one of the maxima.
That of :math:`\theta_3` misses the true value if the search ends at a maximum of the other sign.
"""

import math
from collections.abc import Mapping
from itertools import product

import torch
from torch import Tensor

from bench.contracts import Parameter, ParameterSpace, ReferenceKind, Split, Task

_LEAST = 1e-3  # standard deviation at θ = 0; at 0.1 it is 0.5 % above θ²


class Point:
    r"""Correlated Gaussian in the plane; context θ, (5,), events (2,).

    Standard deviations are :math:`\sqrt{\theta^4 + 10^{-6}}`, in simulations and densities alike.
    Densities are therefore finite where :math:`\theta_3` or :math:`\theta_4` is zero.
    """

    size = None

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        mean, deviation, fifth = _moments(context)
        first, second = torch.randn(mean.shape, generator=generator, dtype=torch.float64).unbind(-1)
        second = fifth.tanh() * first + second / fifth.cosh()
        return (mean + deviation * torch.stack([first, second], -1)).float()

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        mean, deviation, fifth = _moments(context)
        first, second = ((x.double() - mean) / deviation).unbind(-1)
        rest = second * fifth.cosh() - first * fifth.sinh()
        constant = fifth.cosh().log() - deviation.log().sum(-1) - math.log(2 * math.pi)
        return constant - 0.5 * (first.square() + rest.square())

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        mean, deviation, fifth = _moments(context)
        pull = (x.double() - mean) / deviation
        first, second = pull.unbind(-1)
        rest = second * fifth.cosh() - first * fifth.sinh()
        force = torch.stack([first - rest * fifth.sinh(), rest * fifth.cosh()], -1)
        growth = 2 * context[..., 2:4].double() ** 3 / deviation.square()  # of log-deviations
        mixed = rest * (first * fifth.cosh() - second * fifth.sinh()) + fifth.tanh()
        return torch.cat([force / deviation, (force * pull - 1) * growth, mixed[..., None]], -1)


def _moments(context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return means and standard deviations, (*B, 2) each, and the last parameter, (*B); float64."""
    context = context.double()
    deviation = (context[..., 2:4] ** 4 + _LEAST**2).sqrt()
    return context[..., :2], deviation, context[..., 4]


class SLCP(Task):
    """Datasets of M points; a mean and its standard deviation's root are reported.

    With twenty points, exact intervals of both cover 66 % instead of 68 %; with four, 58 and 56 %.
    """

    name = "slcp"
    title = "Simple likelihood, complex posterior"
    version = 1
    citation = (
        "Papamakarios, Sterratt & Murray (2019), arXiv:1805.07226; "
        "Lueckmann et al. (2021), arXiv:2101.04653"
    )
    observations = 20
    event_shape = (2,)
    feature_names = ("x₁", "x₂")
    reference: ReferenceKind = "evidence"
    reported = ("theta1", "theta3")
    space = ParameterSpace(
        [
            Parameter("theta1", -3.0, 3.0, "interest", (-1.5, 1.5), symbol="θ₁"),
            Parameter("theta2", -3.0, 3.0, "nuisance", (-1.5, 1.5), symbol="θ₂"),
            Parameter("theta3", -3.0, 3.0, "interest", (0.7, 1.7), symbol="θ₃"),
            Parameter("theta4", -3.0, 3.0, "nuisance", (0.7, 1.7), symbol="θ₄"),
            Parameter("theta5", -3.0, 3.0, "nuisance", (-1.5, 1.5), symbol="θ₅"),
        ],
        context=["theta1", "theta2", "theta3", "theta4", "theta5"],
    )
    nominal = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0])
    points = torch.tensor(
        [[0.5, -0.5, width, width, fifth] for width, fifth in product((0.9, 1.4), (-0.8, 0.8))],
        dtype=torch.float64,
    )

    def components(self, split: Split) -> Mapping[str, Point]:
        return {"point": Point()}

    def weights(self, theta: Tensor) -> Tensor:
        return torch.ones_like(theta[..., :1])
