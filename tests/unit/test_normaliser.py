"""Normalised ratios have mean 1 over the reference, between nodes and for every member."""

from __future__ import annotations

import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor

from bench.nn.normaliser import NODES, Normaliser

CPU = torch.device("cpu")


@pytest.mark.parametrize("dimensions", sorted(NODES))
def test_the_mean_ratio_between_the_nodes(dimensions: int) -> None:
    """Ratios are of a normal density with location and slope in η."""
    x = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def log_ratio(eta: Tensor) -> Tensor:
        return 0.5 * x * eta[0] - 0.1 * x**2 * (eta[-1] + 0.3 * eta[0] ** 2)

    normaliser = Normaliser.estimate(log_ratio, dimensions, CPU)
    assert normaliser.coefficients.shape == (2, NODES[dimensions] ** dimensions)
    at = 2 * torch.rand(50, dimensions, generator=torch.Generator().manual_seed(1)) - 1
    expected = [logsumexp(log_ratio(eta.double()).numpy(), axis=1, b=1 / 4000) for eta in at]
    for row, value in zip(normaliser(at).T.tolist(), expected, strict=True):
        assert row == pytest.approx(value.tolist(), abs=1e-4)


def test_a_constant_is_one_coefficient() -> None:
    """An unnormalised ratio is corrected by the class sizes alone."""
    constant = Normaliser(torch.tensor([[0.5], [2.0]], dtype=torch.float64), 2)
    assert constant(torch.zeros(3, 2)).tolist() == [[0.5] * 3, [2.0] * 3]
