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

from bench.nn.normaliser import (
    chebyshev,
    chebyshev_nodes,
    degree_of,
    number_of_contexts,
    scattered_nodes,
)

_FARTHEST = torch.finfo(torch.float32).max  # bound of an open box: states hold finite numbers
_CELLS = 1 << 22  # observations times leaves at a time
_GRID = 300  # approximate number of contexts of a grid at which polynomials are fitted
_SCATTERED = 1024  # least number of contexts in more than two dimensions


def nodes_of(model: Any) -> tuple[list[Any], float]:
    """Return the nodes of each tree of a scikit-learn model of one output, and its constant."""
    return [tree.nodes for (tree,) in model._predictors], float(model._baseline_prediction.item())


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
        degree: total degree of polynomials in the context that replace the steps; None keeps
            steps. In more than two dimensions it is at most `degree_of` these.
    """

    def __init__(
        self, lower: Tensor, upper: Tensor, value: Tensor, degree: int | None = None
    ) -> None:
        self.lower = lower
        self.upper = upper
        self.value = value
        self.degree = degree
        self._fitted: Tensor | None = None

    def __call__(self, y: Tensor, eta: Tensor) -> Tensor:
        """Return log-odds of all pairs of observations (n, numbers) and contexts (J, d), (n, J)."""
        if self.degree is None:
            within = self.within(eta, self.lower.shape[1] - eta.shape[1])
        else:
            within = (self._basis(eta) @ self._polynomials(eta)).float()
        return self._sums(y, within * self.value.float())

    def paired(self, y: Tensor, eta: Tensor) -> Tensor:
        """Return log-odds of observations (n, numbers) at their own contexts (n, d), (n,).

        Polynomials replace the steps. For each observation they sum to one, which is evaluated.
        Without a degree they are constant, which is exact where there is no context.
        """
        terms = self._sums(y, (self._polynomials(eta) * self.value).float())
        return (terms * self._basis(eta).float()).sum(-1)

    def _sums(self, y: Tensor, leaves: Tensor) -> Tensor:
        """Sum the rows of leaves (K, leaves) over those that contain each observation, (n, K)."""
        step = max(1, _CELLS // len(self.value))
        return torch.cat([self.within(p, first=0) @ leaves.T for p in torch.split(y, step)])

    def _basis(self, eta: Tensor) -> Tensor:
        """Return the polynomials in the context, (J, terms) float64."""
        d = eta.shape[-1]
        degree = 0 if self.degree is None else self.degree
        return chebyshev(eta, min(degree, degree_of(d)) if d > 2 else degree)

    def _polynomials(self, eta: Tensor) -> Tensor:
        """Return each leaf's coefficients, fitted to its steps, (terms, leaves) float64."""
        if self._fitted is None:
            nodes = self._nodes(eta.shape[-1]).to(eta.device)
            steps = self.within(nodes, self.lower.shape[1] - eta.shape[-1]).double()
            self._fitted = torch.linalg.pinv(self._basis(nodes)) @ steps
        return self._fitted

    def _nodes(self, dimensions: int) -> Tensor:
        """Return contexts at which polynomials are fitted, (nodes, dimensions) float32."""
        if dimensions > 2:
            count = max(_SCATTERED, number_of_contexts(dimensions))
            return scattered_nodes(count, dimensions).float()
        count = max((self.degree or 0) + 1, round(_GRID ** (1 / max(dimensions, 1))))
        return chebyshev_nodes(count, dimensions, torch.float32)

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
