"""Spatial processes: densities, scores and simulators against independent computations."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from bench.tasks.gaussian_process import GaussianField, StudentField
from bench.tasks.grid import Grid
from exact_scores import assert_derivatives, assert_moments
from scipy import stats
from torch import Tensor

from bench.contracts import Task
from bench.registry.registry import Registry

REGISTRY = Registry(())
SMALL = {"gp": GaussianField(Grid(6)), "student-t": StudentField(Grid(6), 0.05)}
CONTEXTS = {
    "gp": torch.tensor([[0.05, 0.01], [0.2, 0.35], [0.6, 1.2]], dtype=torch.float64),
    "student-t": torch.tensor([[0.05, 2.5], [0.2, 6.0], [0.6, 30.0]], dtype=torch.float64),
}


def covariance(name: str, side: int, context: Tensor) -> np.ndarray:
    """Return K computed site by site; of the Student-t process, the covariance."""
    line = np.linspace(0, 1, side)
    sites = np.array(list(product(line, line)))
    distances = np.sqrt(((sites[:, None] - sites[None]) ** 2).sum(-1))
    nugget = float(context[1]) if name == "gp" else 0.05
    return np.exp(-distances / float(context[0])) + nugget * np.eye(side * side)


@pytest.mark.parametrize("side", [4, 6, 12, 16])
def test_blocks_are_the_covariance_in_an_orthonormal_basis(side: int) -> None:
    grid = Grid(side)
    basis = torch.cat([block.basis for block in grid.blocks], 1)
    torch.testing.assert_close(basis.T @ basis, torch.eye(side * side).double())
    length = torch.tensor([0.17], dtype=torch.float64)
    parts = grid.covariances(length, torch.zeros(1).double())
    full = basis.T @ torch.from_numpy(covariance("gp", side, torch.tensor([0.17, 0.0]))) @ basis
    torch.testing.assert_close(torch.block_diag(*[p[0] for p in parts]), full)
    with pytest.raises(ValueError, match="side = 5 is not allowed"):
        Grid(5)


@pytest.mark.parametrize("name", ["gp", "student-t"])
@pytest.mark.parametrize("side", [6, None])
def test_log_prob_agrees_with_scipy(name: str, side: int | None) -> None:
    task = REGISTRY.task(name)
    source = SMALL[name] if side else task.components("test")["field"]
    q = side or task.event_shape[0]
    x = source.simulate(CONTEXTS[name], torch.Generator().manual_seed(0))
    together = source.log_prob(x[:, None], CONTEXTS[name][None])
    for j, context in enumerate(CONTEXTS[name]):
        k = covariance(name, q, context)
        if name == "gp":
            exact = stats.multivariate_normal(cov=k)
        else:
            nu = float(context[1])
            exact = stats.multivariate_t(shape=(nu - 2) / nu * k, df=nu)
        expected = exact.logpdf(x.double().flatten(1).numpy())
        np.testing.assert_allclose(together[:, j], expected, rtol=1e-9)
        one = source.log_prob(x[j], context)
        np.testing.assert_allclose(one, expected[j], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gp", "student-t"])
def test_scores_are_derivatives_and_have_mean_zero(name: str) -> None:
    task = REGISTRY.task(name)
    source = task.components("test")["field"]
    rng = torch.Generator().manual_seed(0)
    context = task.space.draw_context(40, rng).double()
    x = source.simulate(context, rng)
    assert_derivatives(source, x, context, 1e-5, atol=1e-5)
    at = task.points[4]
    assert_moments(source, source.simulate(at.expand(4000, 2), rng), at, 1e-4)


@pytest.mark.parametrize("name", ["gp", "student-t"])
def test_own_and_shared_length_scales_give_the_same(name: str) -> None:
    source = SMALL[name]
    rng = torch.Generator().manual_seed(1)
    context = REGISTRY.task(name).space.draw_context(5, rng).double()
    x = source.simulate(context, rng)
    shared, own = source.log_prob(x[:, None], context[None]), source.log_prob(x, context)
    torch.testing.assert_close(shared.diagonal(), own)
    scores = source.score(x[:, None], context[None])
    assert scores.shape == (5, 5, 2)
    torch.testing.assert_close(scores[range(5), range(5)], source.score(x, context))
    assert source.simulate(context.expand(3, 5, 2), rng).shape == (3, 5, 6, 6)


def quadratic(x: Tensor, k: np.ndarray) -> np.ndarray:
    """Return x K⁻¹ x of fields (n, q, q)."""
    flat = x.double().flatten(1).numpy()
    return (flat * np.linalg.solve(k, flat.T).T).sum(1)


def test_gaussian_fields_are_simulated_as_they_should() -> None:
    context = torch.tensor([0.3, 0.2], dtype=torch.float64)
    x = SMALL["gp"].simulate(context.expand(5000, 2), torch.Generator().manual_seed(0))
    k = covariance("gp", 6, context)
    assert stats.kstest(quadratic(x, k), stats.chi2(36).cdf).pvalue > 1e-3
    white = np.linalg.solve(np.linalg.cholesky(k), x.double().flatten(1).numpy().T)
    sample = white @ white.T / 5000
    assert np.abs(sample - np.eye(36)).max() < 5 * np.sqrt(2 / 5000)
    assert stats.kstest(white[7], "norm").pvalue > 1e-3


@pytest.mark.parametrize("nu", [2.5, 5.0, 20.0])
def test_student_fields_are_simulated_as_they_should(nu: float) -> None:
    """Probability integral transforms are used, since the fourth moment is infinite for ν ≤ 4."""
    context = torch.tensor([0.3, nu], dtype=torch.float64)
    x = SMALL["student-t"].simulate(context.expand(5000, 2), torch.Generator().manual_seed(0))
    scale = (nu - 2) / nu * covariance("student-t", 6, context)
    # xᵀ S⁻¹ x / p follows F(p, ν), each site Student's t.
    assert stats.kstest(quadratic(x, scale) / 36, stats.f(36, nu).cdf).pvalue > 1e-3
    site = x[:, 2, 3].double().numpy() / np.sqrt(scale[15, 15])
    assert stats.kstest(site, stats.t(nu).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", ["sis", "gp", "student-t"])
def test_task(name: str) -> None:
    task: Task = REGISTRY.task(name)
    assert task.has_exact
    assert task.space.context_index == (0, 1)
    for point in task.points:
        for value, parameter in zip(point.tolist(), task.space.parameters, strict=True):
            assert parameter.inner[0] <= value <= parameter.inner[1]
            assert parameter.scale == "log"
    assert torch.equal(task.weights(task.points), torch.ones(9, 1).double())
    assert task.nominal.shape == (2,)
