r"""Normalisation of ratios: an exact ratio has mean 1 over the reference at every context.

.. math:: \int p_\text{ref}(x)\, \frac{p(x|\eta)}{p_\text{ref}(x)}\, dx = 1

A density is normalised by construction. The ratio of a classifier is wrong by a factor that depends
on η. The log-likelihood of a dataset contains this factor once per observation: a slope of 0.01 per
unit of η, invisible for one observation, is 10 nats for a thousand. Dividing by the mean over
simulations of the reference removes the factor (expectation calibration, Brehmer et al. 2018,
arXiv:1805.00020).
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

NODES = {1: 17, 2: 9}
"""Nodes per dimension of the context, by the context's dimensions."""


class Normaliser:
    r"""Logarithm of :math:`E_\text{ref}[\hat r(x|\eta)]` as a polynomial in η.

    It consists of Chebyshev polynomials up to one degree less than the number of nodes in each
    dimension.

    Args:
        coefficients: (members, nodes^d) float64, d the dimensions of the context; (members, 1) is
            a constant.
        dimensions: d.
    """

    def __init__(self, coefficients: Tensor, dimensions: int) -> None:
        self.coefficients = coefficients
        self.dimensions = dimensions

    @classmethod
    def constant(cls, value: float, members: int, device: torch.device) -> "Normaliser":
        """Create the same constant for every member."""
        return cls(torch.full((members, 1), value, dtype=torch.float64, device=device), 1)

    @classmethod
    def estimate(
        cls,
        log_ratio: Callable[[Tensor], Tensor],
        dimensions: int,
        device: torch.device,
    ) -> "Normaliser":
        """Average ratios at Chebyshev nodes and interpolate the logarithms.

        The same simulations are used at all nodes, so that the noise of the mean is smooth in η.

        Args:
            log_ratio: maps a context, (d,) in [−1, 1], to log-ratios of simulations of the
                reference, (members, n).
            dimensions: d, a key of `NODES`.
            device: device of log_ratio.

        Example:
            >>> normaliser = Normaliser.estimate(
            ...     lambda eta: torch.full((1, 10), float(eta[0] ** 3)), 1, torch.device("cpu")
            ... )
            >>> [round(v, 6) for v in normaliser(torch.tensor([[0.5], [-1.0]]))[0].tolist()]
            [0.125, -1.0]
        """
        count = NODES[dimensions]
        nodes = chebyshev_nodes(count, dimensions, torch.float64).to(device)
        values = torch.stack([_log_mean(log_ratio(node).double()) for node in nodes])
        basis = chebyshev(nodes, count - 1, total=False)
        return cls(torch.linalg.solve(basis, values).T.contiguous(), dimensions)

    def __call__(self, eta: Tensor) -> Tensor:
        """Evaluate contexts (J, d), scaled to [−1, 1], to (members, J) float64."""
        if self.coefficients.shape[1] == 1:
            return self.coefficients.expand(-1, len(eta))
        count = round(self.coefficients.shape[1] ** (1 / self.dimensions))
        return self.coefficients @ chebyshev(eta, count - 1, total=False).T


def _log_mean(values: Tensor) -> Tensor:
    return values.logsumexp(1) - torch.tensor(float(values.shape[1])).log()


def chebyshev_nodes(count: int, dimensions: int, dtype: torch.dtype) -> Tensor:
    """Return products of the zeros of a Chebyshev polynomial, (count^dimensions, dimensions)."""
    angles = torch.pi * (torch.arange(count, dtype=dtype) + 0.5) / count
    return torch.cartesian_prod(*[angles.cos()] * dimensions).view(-1, dimensions)


def chebyshev(context: Tensor, degree: int, *, total: bool = True) -> Tensor:
    """Evaluate products of Chebyshev polynomials, (J, d) to (J, coefficients) float64.

    Args:
        context: scaled to [−1, 1].
        degree: largest degree.
        total: whether `degree` limits the sum of the degrees in all dimensions, or each of them.
    """
    angle = context.double().clamp(-1, 1).acos()
    powers = [
        p
        for p in product(range(degree + 1), repeat=context.shape[-1])
        if not total or sum(p) <= degree
    ]
    order = torch.tensor(powers, device=context.device)  # (coefficients, d)
    return (angle[:, None] * order).cos().prod(-1)
