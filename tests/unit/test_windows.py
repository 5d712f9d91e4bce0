"""Windows of surfaces: their extent, and marginals that are densities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from surfaces import DEFAULT, Array, normal_set, square

from bench.contracts import ProfileSummary
from bench.inference.intervals import DEPTH, NODES, summarise
from bench.inference.lattice import Lattice, refine


def window(curves: ProfileSummary) -> Array:
    """Return unit coordinates of the windows' nodes, (D, 2, W)."""
    nodes: Array = curves.origin[..., None] + curves.spacing[..., None] * np.arange(NODES)
    return nodes


@pytest.mark.parametrize("rho", [0.0, 0.8, 0.97])
def test_windows_hold_the_likelihood(rho: float) -> None:
    sigma = (0.05, 0.03)
    estimates = [(0.5, 0.5), (0.45, 0.52), (0.9, 0.5), (0.5, 0.97), (1.05, 0.5)]
    events = normal_set(sigma, rho, estimates)
    curves = summarise(refine(events, DEFAULT), square())
    nodes = window(curves)
    assert (nodes > -1e-9).all()
    assert (nodes < 1 + 1e-9).all()
    assert curves.joint.max() < 1e-3
    assert curves.profile.max() < 1e-3
    # The maximum of the last, cut, dataset is at μ = 1.
    tops = [0.0, 0.0, 0.0, 0.0, -0.5]
    for d, (estimate, top) in enumerate(zip(estimates, tops, strict=True)):
        u, v = ((nodes[d, a] - estimate[a]) / sigma[a] for a in range(2))
        statistic = (u[:, None] ** 2 - 2 * rho * u[:, None] * v + v**2) / (1 - rho**2)
        expected = -0.5 * statistic - top
        near = expected > -8
        np.testing.assert_allclose(curves.joint[d][near], expected[near], atol=0.02)
        assert (curves.joint[d][~near] < -7.5).all()
        # The window extends down to DEPTH nats, or to the parameter space's bound.
        for a in range(2):
            for end, bound in ((0, 0.0), (-1, 1.0)):
                at_bound = abs(nodes[d, a, end] - bound) < 1e-9
                assert at_bound or curves.profile[d, a, end] <= -DEPTH + 1e-6


def test_marginals_are_densities() -> None:
    sigma = (0.05, 0.03)
    events = normal_set(sigma, 0.6, [(0.5, 0.5), (0.45, 0.52)])
    curves = summarise(refine(events, DEFAULT), square())
    nodes = window(curves)
    for d, estimate in enumerate([(0.5, 0.5), (0.45, 0.52)]):
        for a in range(2):
            density = stats.norm(estimate[a], sigma[a]).pdf(nodes[d, a])
            np.testing.assert_allclose(curves.marginal[d, a], density, atol=0.01 * density.max())


@pytest.mark.parametrize("axis", [0, 1])
def test_marginals_of_cut_likelihoods_are_densities(axis: int) -> None:
    """For half a Gaussian, the node at the bound has half a cell."""
    sigma = 0.05
    estimate = [0.5, 0.5]
    estimate[axis] = 0.0
    events = normal_set((sigma, sigma), 0.0, [(estimate[0], estimate[1])])
    curves = summarise(refine(events, DEFAULT), square())
    density = 2 * stats.norm(0, sigma).pdf(window(curves)[0, axis])
    np.testing.assert_allclose(curves.marginal[0, axis], density, atol=0.02 * density.max())


@pytest.mark.parametrize("nodes", range(34, 66, 3))
@pytest.mark.parametrize("end", [0, 1])
def test_windows_of_cut_likelihoods_reach_the_bound(nodes: int, end: int) -> None:
    """Windows end at the bound for any number of nodes between it and DEPTH nats."""
    sigma = 0.1
    fine = torch.arange(2 * nodes, dtype=torch.float64) * (math.sqrt(2 * DEPTH) * sigma / nodes)
    axis = fine if end == 0 else (1 - fine).flip(0)
    other = torch.linspace(0, 1, 33, dtype=torch.float64)
    values = -0.5 * ((axis - end) / sigma) ** 2
    lattice = values[:, None] - 0.5 * ((other - 0.5) / 0.12) ** 2
    curves = summarise(
        Lattice((axis, other), lattice[None], torch.zeros(1, dtype=torch.float64), False), square()
    )
    assert curves.cut_lower[0, 0] == (end == 0)
    assert curves.cut_upper[0, 0] == (end == 1)
    assert window(curves)[0, 0, -end] == pytest.approx(end, abs=1e-9)


@pytest.mark.parametrize("nodes", [33, 40, 64, 65, 100])
def test_windows_of_wide_likelihoods_reach_both_bounds(nodes: int) -> None:
    axis = torch.linspace(0, 1, nodes, dtype=torch.float64)
    fall = -0.5 * (axis - 0.5).square()
    lattice = Lattice(
        (axis, axis),
        (fall[:, None] + fall)[None],
        torch.zeros(1, dtype=torch.float64),
        False,
    )
    curves = summarise(lattice, square())
    np.testing.assert_allclose(window(curves)[0, :, [0, -1]], [[0, 0], [1, 1]], atol=1e-9)
