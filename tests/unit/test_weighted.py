"""Weighted ensembles: weights and their covariance against repeated simulations, and in runs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.contracts import FitContext
from bench.errors import NotApplicable
from bench.registry.registry import Registry
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store
from bench.testing import asymmetric
from bench.wrappers.held_out import HeldOutPairs
from bench.wrappers.weighted import Weighted, fit_weights

PLUGIN = Path(__file__).parents[1] / "plugins" / "distorted.py"
CPU = torch.device("cpu")
BLOCK = 16


def drawn(seed, n=1600):
    """Simulate x ~ N(c, 1) with c ~ N(0, 1), and evaluate two rough log-ratios at all pairs."""
    rng = np.random.default_rng(seed)
    context = rng.standard_normal(n)
    x = context + rng.standard_normal(n)

    def features(x, context):
        exact = -0.5 * (x - context) ** 2 + 0.25 * x**2 + 0.5 * np.log(2)
        return np.stack([exact + 0.3 * np.sin(x), 0.5 * exact + 0.2 * context])

    together, apart, own, others = [], [], [], []
    for block in range(n // BLOCK):
        rows = slice(block * BLOCK, (block + 1) * BLOCK)
        i, j = np.nonzero(~np.eye(BLOCK, dtype=bool))
        together.append(features(x[rows], context[rows]))
        apart.append(features(x[rows][i], context[rows][j]))
        own += [block] * BLOCK
        others += [block] * len(i)
    arrays = (np.concatenate(together, 1), np.concatenate(apart, 1), own, others)
    return HeldOutPairs(*map(torch.as_tensor, arrays), n)


def test_weights_scatter_by_their_covariance():
    fits = [fit_weights(drawn(seed)) for seed in range(300)]
    weights = np.stack([w for w, _ in fits])
    quoted = np.stack([c for _, c in fits]).mean(0)
    true = np.cov(weights.T)
    # 300 repetitions: 8 % on variances
    np.testing.assert_allclose(np.diag(quoted), np.diag(true), rtol=0.25)
    np.testing.assert_allclose(quoted[0, 1], true[0, 1], rtol=0.3)
    pulls = [(w - weights.mean(0)) @ np.linalg.solve(c, w - weights.mean(0)) for w, c in fits]
    assert np.mean(pulls) == pytest.approx(2, abs=0.4)


def test_equal_surrogates_share_their_weight():
    pairs = drawn(0)
    exact = (pairs.together[1] * 2, pairs.apart[1] * 2)
    equal = HeldOutPairs(
        *(one.expand(3, -1) for one in exact), pairs.blocks_together, pairs.blocks_apart, 1600
    )
    weights, covariance = fit_weights(equal)
    np.testing.assert_allclose(weights, weights[0], rtol=1e-6)
    total = np.ones(3) @ covariance @ np.ones(3)
    alone, variance = fit_weights(
        HeldOutPairs(*(one[None] for one in exact), pairs.blocks_together, pairs.blocks_apart, 1600)
    )
    assert weights.sum() == pytest.approx(alone[0], rel=1e-3)
    assert total == pytest.approx(variance[0, 0], rel=1e-3)


@pytest.fixture
def fit(tmp_path):
    """Return a function that fits distorted exact ratios of one task."""
    registry = Registry([PLUGIN, asymmetric.__file__])

    def fitted(slopes, task, budget=4_000, reference="evidence", **config):
        task, method = registry.task(task), registry.method("distorted")
        settings = [method.Config(slope=slope, reference=reference) for slope in slopes]
        nothing = {"nothing": torch.zeros(1, 1)}
        surrogates = [method(own).restore(task, None, nothing) for own in settings]
        wrapper = Weighted(Weighted.Config(members=len(slopes), **config))

        def random(number, purpose):
            return torch.Generator().manual_seed(number + len(purpose))

        bank = SimulationBank(task, Store(tmp_path), budget, [0])
        features = features_of(task, bank.simulations)
        context = FitContext(task, bank, features, CPU, random, lambda **_: None)
        state = wrapper.fit(surrogates, context)
        return surrogates, state["weights"], wrapper.restore(surrogates, state)

    return fitted


@pytest.mark.parametrize("task", ["gaussians-far", "asymmetric"])
@pytest.mark.parametrize("reference", ["evidence", "fixed"])
def test_weights_undo_slopes_of_exact_ratios(fit, task, reference):
    surrogates, weights, whole = fit([2.0, 0.25], task, reference=reference)
    components = len(surrogates[0].task.component_names)
    assert weights.shape == (1, 2, components)
    assert weights.dtype == torch.float64
    slope = 2 * weights[0, 0] + 0.25 * weights[0, 1]
    torch.testing.assert_close(slope, torch.ones_like(slope), atol=0.2, rtol=0)
    space = surrogates[0].task.space
    x, context = torch.randn(5, 2).abs(), space.draw_context(3, torch.Generator())
    own = [s.log_ratio(x, context) for s in surrogates]
    expected = sum(weights[:, i, :, None, None] * r for i, r in enumerate(own))
    torch.testing.assert_close(whole.log_ratio(x, context), expected.float())
    paired = whole.log_ratio_paired(x[:3], context)
    torch.testing.assert_close(paired, expected.diagonal(dim1=2, dim2=3)[:, :, :3].float())


def test_draws_differ_and_surround_the_fitted_weights(fit):
    best = fit([1.0, 0.5], "gaussians-far")[1][0, :, 0]
    drawn = torch.stack([fit([1.0, 0.5], "gaussians-far", draw=1)[1][0, :, 0] for _ in range(2)])
    torch.testing.assert_close(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], best)


def test_a_density_is_not_weighted(fit):
    with pytest.raises(NotApplicable, match="weighted takes ratios to a reference"):
        fit([1.0, 1.0], "gaussians-far", reference="none")


def test_too_small_a_budget_is_refused(fit):
    with pytest.raises(NotApplicable, match="too few to calibrate"):
        fit([1.0, 1.0], "gaussians-far", budget=1)
