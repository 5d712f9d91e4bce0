"""Log-ratios as polynomials in the context: tables, and which surrogates get them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from surfaces import DEFAULT, LogRatio, alone, normal_log_ratio, square
from torch import Tensor

from bench.inference.intervals import summarise
from bench.inference.lattice import refine
from bench.inference.likelihood import MixtureLikelihood
from bench.inference.polynomials import RatioTable, matrix, nodes

WINDOWS = {0: (0.1, 0.7), 1: (0.2, 0.9)}


def smooth(axes: list[Tensor]) -> Tensor:
    """Return (1, 1, 3, J) of three events at the product of two axes."""
    a, b = torch.cartesian_prod(*axes).T
    event = torch.tensor([0.1, 0.5, 1.2], dtype=torch.float64)[:, None]
    return ((event * a).sin() + (a * b - event).cos())[None, None]


def test_tables_interpolate_smooth_ratios() -> None:
    table = RatioTable.of(smooth, WINDOWS, 9)
    axes = [torch.linspace(*w, 6, dtype=torch.float64) for w in WINDOWS.values()]
    torch.testing.assert_close(table.at(slice(None), axes), smooth(axes), atol=1e-8, rtol=0)
    torch.testing.assert_close(
        table.at(slice(1, 2), axes), smooth(axes)[:, :, 1:2], atol=1e-8, rtol=0
    )
    assert table.size == 81


@pytest.mark.parametrize("axis", [0, 1])
def test_doubled_tables_are_those_of_more_nodes(axis: int) -> None:
    doubled = RatioTable.of(smooth, WINDOWS, 5).doubled(axis, smooth)
    other = 1 - axis
    assert (doubled.count(axis), doubled.count(other)) == (9, 5)
    both = doubled.doubled(other, smooth)
    torch.testing.assert_close(both.values, RatioTable.of(smooth, WINDOWS, 9).values)
    torch.testing.assert_close(
        doubled.thinned(axis).values, RatioTable.of(smooth, WINDOWS, 5).values
    )


def test_nodes_are_reached_exactly() -> None:
    at = nodes((0.2, 0.3), 13)
    assert at[0] == 0.2
    assert at[-1] == 0.3
    np.testing.assert_array_equal(matrix(at, (0.2, 0.3), 13).numpy(), np.eye(13))


def counted(log_ratio: LogRatio, calls: list[int]) -> LogRatio:
    def count(x: Tensor, context: Tensor) -> Tensor:
        calls.append(len(x) * len(context))
        return log_ratio(x, context)

    return count


def of_one_set(log_ratio: LogRatio, n: int = 50) -> MixtureLikelihood:
    x = 0.5 + 0.3 * torch.randn(n, 2, generator=torch.Generator().manual_seed(0)).double()
    truth = torch.tensor([0.5, 0.5], dtype=torch.float64)
    return MixtureLikelihood(log_ratio, x, torch.ones(1, n), square(), alone, truth)


def kinked(strength: float) -> LogRatio:
    """Return log-ratios with a kink per event at a random context, as of ReLU networks."""
    base = normal_log_ratio(torch.eye(2, dtype=torch.float64) / 0.3**2)

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        kinks = (context[None].double() - x[:, None].double()).abs().sum(-1)
        return base(x, context) - strength * kinks[None, None]

    return log_ratio


def test_smooth_surrogates_take_few_contexts() -> None:
    calls: list[int] = []
    events = of_one_set(counted(kinked(0.0), calls))
    curves, _ = summarise(refine(events, DEFAULT), square())
    assert not curves.unresolved.any()
    assert sum(calls) <= 50 * (2 * 49 + 2)
    estimate = events.x.mean(0).numpy()
    half = 0.3 / 50**0.5
    np.testing.assert_allclose((curves.mle[0] - estimate) / half, 0, atol=1e-3)
    np.testing.assert_allclose((curves.upper[0] - estimate) / half, 1, atol=2e-3)


def test_surrogates_with_jumps_are_evaluated_densely() -> None:
    base = kinked(0.0)

    def jumping(x: Tensor, context: Tensor) -> Tensor:
        return base(x, context).masked_fill((context[:, 0] > 0.9)[None, None, None], -torch.inf)

    calls: list[int] = []
    curves, _ = summarise(refine(of_one_set(counted(jumping, calls)), DEFAULT), square())
    smooth, _ = summarise(refine(of_one_set(base), DEFAULT), square())
    half = 0.3 / 50**0.5
    np.testing.assert_allclose((curves.lower - smooth.lower) / half, 0, atol=0.01)
    np.testing.assert_allclose((curves.upper - smooth.upper) / half, 0, atol=0.01)
    assert sum(calls) > 50 * 500


@pytest.mark.slow
def test_rough_surrogates_have_the_ends_of_a_dense_scan() -> None:
    events = of_one_set(kinked(1.0))
    lattice = refine(events, DEFAULT)
    curves, _ = summarise(lattice, square())
    fine = torch.linspace(0.2, 0.8, 601, dtype=torch.float64)
    values, _ = events.log_likelihood((fine, fine))
    half = 0.3 / 50**0.5
    for axis in range(2):
        profile = values[0].amax(1 - axis)
        inside = fine[2 * (profile.max() - profile) <= 1]
        ends = np.array([float(inside[0]), float(inside[-1])])
        found = np.array([curves.lower[0, axis], curves.upper[0, axis]])
        np.testing.assert_allclose((found - ends) / half, 0, atol=0.05)


def test_ends_do_not_depend_on_the_other_datasets() -> None:
    """The nodes of a table are those of all datasets; ends agree within the tolerance."""
    x = torch.tensor([[0.4, 0.5], [0.6, 0.45], [0.5, 0.62]], dtype=torch.float64)
    ratio = normal_log_ratio(torch.eye(2, dtype=torch.float64) / 0.04**2)
    truth = torch.tensor([0.5, 0.5], dtype=torch.float64)

    def ends(counts: Tensor) -> np.ndarray:
        events = MixtureLikelihood(ratio, x, counts, square(), alone, truth)
        curves, _ = summarise(refine(events, DEFAULT), square())
        return np.stack([curves.lower, curves.upper])

    together = ends(torch.eye(3))
    for row in range(3):
        alone_ends = ends(torch.eye(3)[row : row + 1])[:, 0]
        np.testing.assert_allclose((together[:, row] - alone_ends) / 0.04, 0, atol=0.01)
