"""Gradient boosting: boxes agree with scikit-learn's trees; ratios, states, members."""

import math

import numpy as np
import pytest
import torch
from seeded import fit_context

from bench.errors import BudgetExceeded
from bench.nn.trees import Leaves, boxes, nodes_of
from bench.registry.registry import Registry
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store
from bench.testing import asymmetric

pytest.importorskip("sklearn")
from bench.methods.gradient_boosting import GradientBoosting
from sklearn.ensemble import HistGradientBoostingClassifier

REGISTRY = Registry([asymmetric.__file__])
CPU = torch.device("cpu")


def fitted(tmp_path, task, budget, members, **config):
    method = GradientBoosting(GradientBoosting.Config(**config))
    store = Store(tmp_path)
    bank = SimulationBank(task, store, budget, members)
    features = features_of(task, store)
    given = fit_context(task, bank, features, what="test trees")
    return method, bank, features, method.fit(given)


@pytest.fixture(scope="module")
def forest():
    """Train a forest on rounded numbers, so that some inputs equal thresholds."""
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(3000, 3)), 1).astype(np.float32)
    y = rng.random(3000) < 1 / (1 + np.exp(-2 * x[:, 0] * x[:, 1] - x[:, 2]))
    model = HistGradientBoostingClassifier(max_iter=20, early_stopping=False, random_state=0)
    return model.fit(x.astype(np.float64), y), torch.from_numpy(x)


def test_boxes_are_the_leaves_to_the_last_bit(forest):
    model, x = forest
    new = torch.cat([x, torch.nextafter(x, torch.tensor(9.0)), 100 * x])
    stages = model.staged_decision_function(new.double().numpy())
    trees, constant = nodes_of(model)
    total = np.full(len(new), constant)
    for nodes, expected in zip(trees, stages, strict=True):
        leaves = Leaves(*(t[:-1] for t in boxes([nodes], 0.0, 3)))  # the last is the constant
        inside = leaves.within(new, first=0)
        assert bool((inside.sum(1) == 1).all())
        total += leaves.value[inside.argmax(1)].numpy()
        assert np.array_equal(total, expected)


def test_the_product_is_the_sum_of_the_trees(forest):
    model, x = forest
    leaves = Leaves(*boxes(*nodes_of(model), 3))
    events, contexts = x[:50, :2], x[50:57, 2:]
    grid = torch.cat([events.repeat_interleave(7, 0), contexts.repeat(50, 1)], 1)
    expected = torch.from_numpy(model.decision_function(grid.double().numpy())).view(50, 7)
    torch.testing.assert_close(leaves(events, contexts).double(), expected, atol=1e-5, rtol=0)


def test_thresholds_are_rounded_down(forest):
    """A threshold that is rounded up would change the side of inputs in between."""
    model, _ = forest
    below = np.nextafter(np.float32(0.1), np.float32(1))
    nodes = nodes_of(model)[0][0][:3].copy()
    nodes["is_leaf"] = [0, 1, 1]
    nodes[0]["left"], nodes[0]["right"], nodes[0]["feature_idx"] = 1, 2, 0
    nodes[0]["num_threshold"] = np.nextafter(np.float64(below), 0)
    nodes["value"] = [0.0, -1.0, 1.0]
    leaves = Leaves(*boxes([nodes], 0.0, 2))
    x = torch.tensor([[float(below)], [0.1]])
    assert leaves(x, torch.zeros(1, 1))[:, 0].tolist() == [1.0, -1.0]


def test_polynomials_stand_in_for_steps(forest):
    """A tree with a polynomial's steps in the context becomes the polynomial."""
    model, x = forest
    boxes_of = boxes(nodes_of(model)[0], 0.5, 3)
    steps, smooth = Leaves(*boxes_of), Leaves(*boxes_of, degree=4)
    eta = torch.linspace(-1, 1, 401)[:, None]
    rough, even = steps(x[:20, :2], eta), smooth(x[:20, :2], eta)
    weight = 1 / (1 - eta[:, 0] ** 2).clamp_min(1e-2).sqrt()  # weight of Chebyshev's nodes
    gaps = ((even - rough) * weight).mean(1) / weight.mean()
    assert float(gaps.abs().max()) < 0.02
    fifth = even.diff(n=5, dim=1)
    assert float(fifth.abs().max()) < 1e-4  # the polynomial is of fourth degree, up to rounding
    assert float((even - rough).abs().mean()) < 0.3


@pytest.mark.parametrize(
    ("dimensions", "degree", "error"), [(3, 4, 0.02), (7, 3, 0.1), (20, 2, 0.2)]
)
def test_a_step_in_many_contexts_becomes_its_projection(dimensions, degree, error):
    """The Chebyshev series of the sign of x is 4/π (T₁ − T₃/3 + …)."""
    lower = torch.full((2, 1 + dimensions), -torch.inf)
    upper = torch.full((2, 1 + dimensions), torch.inf)
    upper[0, 3] = lower[1, 3] = 0.0  # the third context
    leaves = Leaves(lower, upper, torch.tensor([-1.0, 1.0], dtype=torch.float64), degree=4)
    rng = torch.Generator().manual_seed(0)
    eta = 2 * torch.rand(500, dimensions, generator=rng) - 1
    x = eta[:, 2].double()
    expected = 4 / math.pi * (x - ((4 * x**3 - 3 * x) / 3 if degree > 2 else 0))
    paired = leaves.paired(torch.zeros(500, 1), eta)
    assert float((paired - expected).square().mean().sqrt()) < error
    torch.testing.assert_close(leaves(torch.zeros(1, 1), eta)[0], paired, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["default", "smooth"])
def test_ratios_share_their_denominator(tmp_path, configuration):
    """The test uses the asymmetric task, on which separate denominators differ."""
    task = REGISTRY.task("asymmetric")
    config = GradientBoosting.configurations[configuration]
    _, bank, _, surrogate = fitted(tmp_path, task, 20_000, [0], **config)
    assert bank.spent == 20_000
    assert (surrogate.reference, surrogate.has_density) == ("evidence", False)
    rng = torch.Generator().manual_seed(9)
    parts = list(task.components("test").values())
    nodes = task.space.draw_context(400, rng)
    context = torch.tensor([[0.8], [1.0], [1.25]])
    for k, part in enumerate(parts):
        x = part.simulate(context[1].expand(2000, -1), rng)
        both = torch.cat([p.log_prob(x[:, None], nodes[None]) for p in parts], 1)
        evidence = both.logsumexp(1) - math.log(2 * len(nodes))
        exact = part.log_prob(x[:, None], context[None]) - evidence[:, None]
        error = surrogate.log_ratio(x, context)[0, k] - exact
        assert abs(float(error[:, 1].median())) < 0.2  # 2 nats with separate denominators
        assert float(error[:, 1].square().mean().sqrt()) < 0.5
    log = surrogate.log.curves[0]["signal"]
    assert log.validation_loss[log.best_epoch - 1] == min(log.validation_loss)
    assert len(log.validation_loss) == log.steps > log.best_epoch
    assert log.validation_loss[log.best_epoch - 1] < 0.69


@pytest.mark.slow
def test_state_members_and_seeds(tmp_path):
    task = REGISTRY.task("gaussians-far")
    config = {"trees": 5, "calibration": "platt"}
    method, _, features, surrogate = fitted(tmp_path, task, 1500, [0, 1], **config)
    state = surrogate.state()
    assert all(len(tensor) == 2 and bool(tensor.isfinite().all()) for tensor in state.values())
    x, context = torch.randn(30, 2), task.space.draw_context(4, torch.Generator())
    expected = surrogate.log_ratio(x, context)
    assert expected.shape == (2, 2, 30, 4)
    assert torch.equal(method.restore(task, features, state).log_ratio(x, context), expected)
    # A member depends only on its own number.
    *_, alone = fitted(tmp_path, task, 1500, [1], **config)
    torch.testing.assert_close(alone.log_ratio(x, context)[0], expected[1], atol=1e-5, rtol=0)
    assert not torch.equal(expected[0], expected[1])
    *_, again = fitted(tmp_path, task, 1500, [0, 1], **config)
    assert torch.equal(again.log_ratio(x, context), expected)
    # Padding of the shorter member has no effect, and distant inputs give finite values.
    assert bool(surrogate.log_ratio(1e6 * x, context).isfinite().all())


@pytest.mark.slow
def test_series_and_fields_through_their_summaries(tmp_path):
    task = REGISTRY.task("sis")
    *_, surrogate = fitted(tmp_path, task, 300, [0], trees=2)
    rng = torch.Generator().manual_seed(0)
    context = task.space.draw_context(3, rng)
    (part,) = task.components("test").values()
    x = part.simulate(context, rng).float()
    assert surrogate.log_ratio(x, context).shape == (1, 1, 3, 3)
    inputs = surrogate.state()[f"{task.component_names[0]}/lower"].shape[2]
    assert inputs == task.summaries(x.double()).shape[1] + 2


def test_a_budget_without_simulations_is_refused(tmp_path):
    task = REGISTRY.task("gaussians-far")
    with pytest.raises(BudgetExceeded, match="no simulation to train"):
        fitted(tmp_path, task, 4, [0])
