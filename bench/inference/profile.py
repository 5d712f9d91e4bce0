"""Profile likelihoods on evenly spaced nodes: interpolation, maxima, profiles, interval ends."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

_CLIFF = 1e6  # nats; a larger curvature comes from an impossible node


def cubic(position: Tensor, nodes: int) -> Tensor:
    r"""Return matrices of cubic Lagrange interpolation, exact for polynomials up to degree three.

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


def trapezoid(nodes: int) -> Tensor:
    """Return weights of the trapezoidal rule at evenly spaced nodes, in units of their distance."""
    weights = torch.ones(nodes, dtype=torch.float64)
    weights[[0, -1]] = 0.5
    return weights


def peak(values: Tensor) -> tuple[Tensor, Tensor]:
    r"""Refine the maximum along the last axis by the parabola through its three nodes.

    Args:
        values: (\*B, n) at evenly spaced nodes, n ≥ 3.

    Returns:
        The maximum (\*B) and its position in nodes (\*B); at least the best node's value.

    Example:
        >>> value, position = peak(-(torch.arange(5.0) - 1.75) ** 2)
        >>> float(position), abs(float(value)) < 1e-6
        (1.75, True)
    """
    best, node = values.max(-1)
    last = values.shape[-1] - 1
    middle = node.clamp(1, last - 1)
    around = (middle.unsqueeze(-1) + torch.arange(-2, 3)).clamp_(0, last)
    before, left, centre, right, behind = values.gather(-1, around).unbind(-1)
    curvature = 2 * centre - left - right
    # Beside an impossible node a parabola is meaningless.
    concave = (curvature > 0) & (curvature < _CLIFF)
    slope = 0.5 * (right - left)
    shift = (slope / torch.where(concave, curvature, torch.ones_like(curvature))).clamp(-1, 1)
    vertex = centre + slope * shift - 0.5 * curvature * shift.square()
    # A concave curve lies below its chords: beside a kink the parabola must not exceed them.
    from_left = left + (left - before) * (1 + shift)
    from_right = right + (right - behind) * (1 - shift)
    chord = torch.where(
        shift < 0,
        torch.where(middle >= 2, from_left, torch.inf),
        torch.where(middle <= last - 2, from_right, torch.inf),
    )
    vertex = torch.minimum(vertex, torch.maximum(chord, best))
    refined = concave & (vertex >= best)
    return (
        torch.where(refined, vertex, best),
        torch.where(refined, middle + shift, node.to(values.dtype)),
    )


def profiles(values: Tensor) -> tuple[Tensor, ...]:
    """Profile a lattice over the other parameter.

    Args:
        values: log-likelihoods of one parameter, (D, n_0), or of two, (D, n_0, n_1).

    Returns:
        The profile of each parameter, (D, n_0) and, with two, (D, n_1).
    """
    if values.dim() == 2:
        return (values,)
    return peak(values)[0], peak(values.transpose(1, 2))[0]


def ridges(values: Tensor, axes: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return where the profiles of a lattice are.

    Args:
        values: log-likelihoods of one parameter, (D, n_0), or of two, (D, n_0, n_1).
        axes: nodes of each parameter, evenly spaced, (n_i,) or of each dataset, (D, n_i).

    Returns:
        The point of each node of the profile of each parameter, (D, n_0, P) and, with two,
        (D, n_1, P), in the coordinates of the axes.
    """
    nodes = [axis.expand(len(values), -1) for axis in axes]
    if len(nodes) == 1:
        return (nodes[0].unsqueeze(-1),)
    found = []
    for own, lattice in enumerate((values, values.transpose(1, 2))):
        other = nodes[1 - own]
        step = (other[:, -1:] - other[:, :1]) / (other.shape[-1] - 1)
        along = other[:, :1] + step * peak(lattice)[1]
        pair = (nodes[own], along) if own == 0 else (along, nodes[own])
        found.append(torch.stack(pair, -1))
    return tuple(found)


def summed(values: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    """Sum densities over the other parameter: the marginals, of the shapes of `profiles`.

    Args:
        values: (D, n) or (D, n, n).
        weights: of the nodes, (n,).
    """
    if values.dim() == 2:
        return (values,)
    return values @ weights, values.transpose(1, 2) @ weights


def total(values: Tensor, weights: Tensor) -> Tensor:
    r"""Sum over all axes but the first, (D, \*n) to (D,), with the same weights (n,) on each."""
    while values.dim() > 1:
        values = values @ weights
    return values


def on_product(values: Tensor, across: Sequence[Tensor]) -> Tensor:
    r"""Interpolate on the product of one or two axes.

    Args:
        values: at the nodes, (D, n_0) or (D, n_0, n_1).
        across: a matrix of interpolation for each axis, (T_i, n_i) or (D, T_i, n_i).

    Returns:
        (D, T_0) or (D, T_0, T_1).
    """
    if len(across) == 1:
        return (across[0] @ values.unsqueeze(-1)).squeeze(-1)
    first, second = across
    return first @ values @ second.transpose(-1, -2)


def per_dataset(numbers: Tensor, like: Tensor) -> Tensor:
    r"""Append axes of size one to numbers (D,), so that they broadcast against (D, \*n)."""
    return numbers.view(-1, *[1] * (like.dim() - 1))


def crossings(
    curve: Tensor, top: Tensor, position: Tensor, threshold: float | Tensor = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Find the connected interval around the maximum where 2 (max − curve) ≤ threshold.

    It interpolates the signed root of 2 (max − curve), which is linear in the parameter for a
    Gaussian likelihood, so the interpolation is then exact at any spacing.

    Args:
        curve: profile log-likelihoods at evenly spaced nodes, (D, n).
        top: their refined maxima, (D,).
        position: positions of the maxima in nodes, (D,).
        threshold: fall of the likelihood-ratio statistic; 1 gives 68.27 %. Several, (T,), give
            results (T, D).

    Returns:
        Lower and upper end in nodes, whether each reaches the first or last node, and whether the
        curve rises above the threshold again outside; each (D,).
    """
    nodes = curve.shape[-1]
    index = torch.arange(nodes)
    offset = index - position.unsqueeze(-1)
    root = (2 * (top.unsqueeze(-1) - curve)).clamp_min(0).sqrt() * offset.sign()
    if isinstance(threshold, Tensor):
        root = root.expand(len(threshold), *root.shape)
        limit = threshold.sqrt()[:, None, None]
    else:
        limit = torch.tensor(threshold**0.5)
    outside_above = (root > limit) & (offset > 0)
    outside_below = (root < -limit) & (offset < 0)
    open_above = ~outside_above.any(-1)
    open_below = ~outside_below.any(-1)
    first_above = torch.where(
        open_above, torch.tensor(nodes - 1), outside_above.to(torch.uint8).argmax(-1)
    )
    first_below = torch.where(
        open_below,
        torch.tensor(0),
        nodes - 1 - outside_below.flip(-1).to(torch.uint8).argmax(-1),
    )

    def end(outer: Tensor, inner: Tensor, level: Tensor) -> Tensor:
        outer_root, inner_root = (
            root.gather(-1, i.clamp(0, nodes - 1).unsqueeze(-1)).squeeze(-1) for i in (outer, inner)
        )
        gap = outer_root - inner_root
        share = (level.squeeze(-1) - inner_root) / torch.where(gap == 0, torch.ones_like(gap), gap)
        return inner + (outer - inner) * share.clamp(0, 1)

    upper = torch.where(
        open_above, torch.tensor(nodes - 1.0), end(first_above, first_above - 1, limit)
    )
    lower = torch.where(open_below, torch.tensor(0.0), end(first_below, first_below + 1, -limit))
    beyond = (index > upper.unsqueeze(-1)) | (index < lower.unsqueeze(-1))
    again = (beyond & (root.abs() <= limit)).any(-1)
    return lower, upper, open_below, open_above, again


def fall_at(
    profile: NDArray[np.float32], origin: ArrayLike, spacing: ArrayLike, unit: ArrayLike
) -> NDArray[np.float64]:
    r"""Return the likelihood-ratio statistic 2 (max − profile) at a parameter, from saved windows.

    It is infinite outside a window, which reaches 6 nats below the maximum.

    Args:
        profile: profile log-likelihood minus its maximum at evenly spaced nodes, (\*B, W).
        origin: the first node, (\*B).
        spacing: the distance between nodes, (\*B).
        unit: the parameter, in the same coordinates, (\*B).

    Returns:
        (\*B), not negative.
    """
    nodes = profile.shape[-1]
    position = (np.asarray(unit) - np.asarray(origin)) / np.asarray(spacing)
    across = cubic(torch.from_numpy(position), nodes).numpy()
    statistic = -2 * (across * profile).sum(-1)
    slack = 1e-6  # a truth on a bound may miss the window by rounding
    outside = (position < -slack) | (position > nodes - 1 + slack)
    return np.where(outside, np.inf, np.maximum(statistic, 0.0))
