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
from math import comb

import torch
from torch import Tensor

_NODES = {0: 1, 1: 17, 2: 9}  # nodes per dimension of a context of at most two dimensions
_MOST_TERMS = 300  # polynomials in more dimensions


def degree_of(dimensions: int) -> int:
    """Return the largest degree of a normaliser's polynomials.

    In at most two dimensions it limits the degree in each of them; in more, the sum of all degrees.
    """
    if dimensions in _NODES:
        return _NODES[dimensions] - 1
    degree = 2
    while comb(dimensions + degree + 1, dimensions) <= _MOST_TERMS:
        degree += 1
    return degree


def number_of_contexts(dimensions: int) -> int:
    """Return the number of contexts at which a normaliser averages ratios."""
    if dimensions in _NODES:
        return int(_NODES[dimensions] ** dimensions)
    return 2 * comb(dimensions + degree_of(dimensions), dimensions)


class Normaliser:
    r"""Logarithm of :math:`E_\text{ref}[\hat r(x|\eta)]` as a polynomial in η.

    It consists of Chebyshev polynomials up to `degree_of` the dimensions.

    Args:
        coefficients: (members, terms) float64; (members, 1) is a constant.
        dimensions: d, the dimensions of the context.
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
        """Average ratios at some contexts and fit the logarithms.

        In at most two dimensions the contexts are Chebyshev nodes, between which the polynomials
        interpolate. In more they are scrambled Sobol points in angle, twice as many as polynomials,
        which are fitted by least squares (Adcock, Brugiapaglia & Webster 2022, Sparse Polynomial
        Approximation of High-Dimensional Functions, chapter 5). The same simulations are used at
        all contexts, so that the noise of the mean is smooth in η.

        Args:
            log_ratio: maps a context, (d,) in [−1, 1], to log-ratios of simulations of the
                reference, (members, n).
            dimensions: d.
            device: device of log_ratio.

        Example:
            >>> normaliser = Normaliser.estimate(
            ...     lambda eta: torch.full((1, 10), float(eta[0] ** 3)), 1, torch.device("cpu")
            ... )
            >>> [round(v, 6) for v in normaliser(torch.tensor([[0.5], [-1.0]]))[0].tolist()]
            [0.125, -1.0]
        """
        if dimensions in _NODES:
            nodes = chebyshev_nodes(_NODES[dimensions], dimensions, torch.float64).to(device)
        else:
            nodes = scattered_nodes(number_of_contexts(dimensions), dimensions).to(device)
        values = torch.stack([_log_mean(log_ratio(node).double()) for node in nodes])
        basis = _basis(nodes, dimensions)
        if dimensions in _NODES:
            return cls(torch.linalg.solve(basis, values).T.contiguous(), dimensions)
        return cls((torch.linalg.pinv(basis) @ values).T.contiguous(), dimensions)

    def __call__(self, eta: Tensor) -> Tensor:
        """Evaluate contexts scaled to [−1, 1].

        Args:
            eta: (J, d), or (members, J, d) if they differ by member.

        Returns:
            (members, J) float64.
        """
        if self.coefficients.shape[1] == 1:
            return self.coefficients.expand(-1, eta.shape[-2])
        basis = _basis(eta, self.dimensions)
        if basis.dim() == 2:
            return self.coefficients @ basis.T
        return (basis @ self.coefficients[..., None]).squeeze(-1)

    def of_runs(self, eta: Tensor) -> Tensor:
        """Evaluate contexts as a call does, but those of a run of equal ones only once.

        A dataset has one context for all its observations. The result is differentiable, once.
        """
        if self.coefficients.shape[1] == 1:
            return self(eta)
        rows = eta.detach().expand(len(self.coefficients), -1, -1)
        new = (rows[:, 1:] != rows[:, :-1]).any(-1).any(0)
        run = torch.cat([new.new_zeros(1), new]).cumsum(0)
        with torch.enable_grad():
            first = rows[:, torch.cat([new.new_ones(1), new])].requires_grad_()
            values = self(first)
            (slopes,) = torch.autograd.grad(values.sum(), first)
        change = eta - eta.detach()  # zero, with the derivative of the context
        return values.detach()[:, run] + (slopes[:, run] * change).sum(-1)


def _basis(eta: Tensor, dimensions: int) -> Tensor:
    return chebyshev(eta, degree_of(dimensions), total=dimensions not in _NODES)


def scattered_nodes(count: int, dimensions: int) -> Tensor:
    """Return points with the density in which Chebyshev polynomials are orthogonal.

    They are scrambled Sobol points in angle, the same in every call, (count, dimensions) float64.
    """
    engine = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=0)  # type: ignore[no-untyped-call]
    return (torch.pi * engine.draw(count, dtype=torch.float64)).cos()


def _log_mean(values: Tensor) -> Tensor:
    return values.logsumexp(1) - torch.tensor(float(values.shape[1])).log()


def chebyshev_nodes(count: int, dimensions: int, dtype: torch.dtype) -> Tensor:
    """Return products of the zeros of a Chebyshev polynomial, (count^dimensions, dimensions)."""
    angles = torch.pi * (torch.arange(count, dtype=dtype) + 0.5) / count
    return torch.tensor(list(product(angles.cos().tolist(), repeat=dimensions)), dtype=dtype)


def chebyshev(context: Tensor, degree: int, *, total: bool = True) -> Tensor:
    r"""Evaluate products of Chebyshev polynomials, (\*B, d) to (\*B, terms) float64.

    Polynomials come from their recurrence, whose derivatives are finite at the bounds, unlike those
    of the arccosine. Terms are in the order of `itertools.product` of the degrees.

    Args:
        context: scaled to [−1, 1]; beyond, polynomials continue.
        degree: largest degree.
        total: whether `degree` limits the sum of the degrees in all dimensions, or each of them.
    """
    x = context.double()
    single = torch.stack([torch.ones_like(x), x], -1)
    while single.shape[-1] <= degree:  # T_m+j = 2 T_m T_j − T_m−j
        doubled = 2 * single[..., -1:] * single[..., 1:] - single[..., :-1].flip(-1)
        single = torch.cat([single, doubled], -1)
    powers = torch.arange(degree + 1)
    basis, spent = x.new_ones(*x.shape[:-1], 1), torch.zeros(1, dtype=torch.long)
    for values in reversed(
        single[..., : degree + 1].unbind(-2)
    ):  # the degree of the first dimension varies slowest
        basis = (values[..., :, None] * basis[..., None, :]).flatten(-2)
        spent = (powers[:, None] + spent).flatten()
        if total:
            kept = (spent <= degree).nonzero().flatten()
            basis, spent = basis[..., kept.to(basis.device)], spent[kept]
    return basis
