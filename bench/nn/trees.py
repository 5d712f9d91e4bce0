"""Boosted trees as boxes: conversion of grown trees, and their evaluation.

A leaf is a box in (x, η). The sum of all trees at n observations and J contexts is therefore a
matrix product of two indicator matrices: observations in leaves, times leaf values, times contexts
in leaves.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.nn.normaliser import chebyshev, chebyshev_nodes

_FARTHEST = torch.finfo(torch.float32).max  # bound of an open box: states hold finite numbers
_CELLS = 1 << 22  # observations times leaves at a time
_GRID = 300  # approximate number of contexts at which polynomials are fitted


def boxes(forest: Sequence[Any], constant: float, numbers: int) -> tuple[Tensor, Tensor, Tensor]:
    """Convert trees to boxes: a leaf is the set lower < inputs ≤ upper.

    Thresholds are rounded down to float32, which does not change decisions on float32 inputs.

    Args:
        forest: scikit-learn's nodes of each tree, with numerical splits only.
        constant: constant added to the sum of trees; it becomes a leaf without bounds.
        numbers: number of inputs.

    Returns:
        lower and upper, (leaves, numbers) float32, and value, (leaves,) float64.
    """
    leaves: list[tuple[Any, float]] = []
    open_box = np.full((2, numbers), [[-_FARTHEST], [_FARTHEST]], np.float32)
    stack = [(nodes, 0, open_box) for nodes in forest]
    while stack:
        nodes, at, box = stack.pop()
        node = nodes[at]
        if node["is_leaf"]:
            leaves.append((box, node["value"]))
            continue
        threshold = np.float32(node["num_threshold"])
        if threshold > node["num_threshold"]:
            threshold = np.nextafter(threshold, np.float32(-np.inf))
        left, right = box.copy(), box.copy()
        left[1, node["feature_idx"]] = right[0, node["feature_idx"]] = threshold
        stack += [(nodes, node["left"], left), (nodes, node["right"], right)]
    found, values = zip(*leaves, (open_box, constant), strict=True)
    lower, upper = torch.from_numpy(np.stack(found, 1))
    return lower, upper, torch.tensor(values, dtype=torch.float64)


class Leaves:
    """Sum of trees, as boxes; see `boxes`. The last inputs are contexts.

    Args:
        lower, upper, value: the boxes.
        degree: degree of polynomials in the context that replace the steps; None keeps steps.
    """

    def __init__(
        self, lower: Tensor, upper: Tensor, value: Tensor, degree: int | None = None
    ) -> None:
        self.lower = lower
        self.upper = upper
        self.value = value
        self.degree = degree

    def __call__(self, y: Tensor, eta: Tensor) -> Tensor:
        """Return log-odds of all pairs of observations (n, numbers) and contexts (J, d), (n, J)."""
        if self.degree is None:
            within = self.within(eta, self.lower.shape[1] - eta.shape[1])
        else:
            within = (chebyshev(eta, self.degree) @ self._polynomials(eta)).float()
        return self._sums(y, within * self.value.float())

    def paired(self, y: Tensor, eta: Tensor) -> Tensor:
        """Return log-odds of observations (n, numbers) at their own contexts (n, d), (n,).

        Polynomials replace the steps. For each observation they sum to one, which is evaluated.
        """
        assert self.degree is not None
        terms = self._sums(y, (self._polynomials(eta) * self.value).float())
        return (terms * chebyshev(eta, self.degree).float()).sum(-1)

    def _sums(self, y: Tensor, leaves: Tensor) -> Tensor:
        """Sum the rows of leaves (K, leaves) over those that contain each observation, (n, K)."""
        step = max(1, _CELLS // len(self.value))
        return torch.cat([self.within(p, first=0) @ leaves.T for p in torch.split(y, step)])

    def _polynomials(self, eta: Tensor) -> Tensor:
        """Fit a polynomial in the context to the steps of each leaf, (terms, leaves) float64."""
        assert self.degree is not None
        d = eta.shape[-1]
        count = max(self.degree + 1, round(_GRID ** (1 / d)))
        nodes = chebyshev_nodes(count, d, torch.float32).to(eta.device)
        steps = self.within(nodes, self.lower.shape[1] - d).double()
        fit: Tensor = torch.linalg.pinv(chebyshev(nodes, self.degree)) @ steps
        return fit

    def within(self, inputs: Tensor, first: int) -> Tensor:
        """Mark the leaves that contain each row of inputs.

        Args:
            inputs: values of consecutive inputs, (n, k).
            first: index of the first of them among all inputs.

        Returns:
            1 where the leaf contains the row in these inputs, else 0, (n, leaves) float32.
        """
        inside = torch.ones(len(inputs), len(self.value), dtype=torch.bool, device=inputs.device)
        for i, column in enumerate(inputs.T.contiguous(), first):
            inside &= column[:, None] > self.lower[:, i]
            inside &= column[:, None] <= self.upper[:, i]
        return inside.float()
