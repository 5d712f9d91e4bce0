"""Interpolation as matrices: cubic between evenly spaced nodes, and Chebyshev's polynomials."""

from itertools import product

import torch
from torch import Tensor


def cubic(position: Tensor, nodes: int) -> Tensor:
    r"""Matrices of cubic Lagrange interpolation; exact for polynomials up to the third degree.

    Args:
        position: where to interpolate, in nodes, (\*B, T) float64; clamped to the nodes' range.
        nodes: number of nodes, at least 4.

    Returns:
        (\*B, T, nodes); multiply values at the nodes by it.

    Example:
        >>> nodes = torch.arange(6.0, dtype=torch.float64)
        >>> matrix = cubic(torch.tensor([2.5, 9.0], dtype=torch.float64), 6)
        >>> matrix @ nodes**3
        tensor([ 15.6250, 125.0000], dtype=torch.float64)
    """
    position = position.clamp(0, nodes - 1)
    first = (position.floor() - 1).clamp(0, nodes - 4)
    matrix = torch.zeros(*position.shape, nodes, dtype=position.dtype)
    for i in range(4):
        weight = torch.ones_like(position)
        for j in range(4):
            if j != i:
                weight = weight * (position - first - j) / (i - j)
        matrix.scatter_(-1, (first + i).long().unsqueeze(-1), weight.unsqueeze(-1))
    return matrix


def chebyshev(context: Tensor, degree: int) -> Tensor:
    """Products of Chebyshev polynomials up to a total degree, (J, d) to (J, coefficients)."""
    angle = context.double().clamp(-1, 1).acos()
    powers = [p for p in product(range(degree + 1), repeat=context.shape[-1]) if sum(p) <= degree]
    order = torch.tensor(powers, device=context.device)  # (coefficients, d)
    return (angle[:, None] * order).cos().prod(-1)
