"""Tasks with a density: simulators, densities and scores against each other and scipy."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from bench.tasks.higgs import BACKGROUND, SHIFT, SIGNAL
from scipy import stats
from torch import Tensor

from bench.contracts import Component, HasLogProb, HasScore, Task
from bench.registry.registry import Registry
from bench.testing import asymmetric

PLUGIN = Path(asymmetric.__file__)
REGISTRY = Registry([PLUGIN])
TASKS = ["gaussians-far", "gaussians-near", "asymmetric", "higgs"]
COMPONENTS = [(name, component) for name in TASKS for component in ("signal", "background")]
REACH = 9
"""Range of integration on each side, in standard deviations of a feature."""
PLACES = (0.13, 0.5, 0.87)
"""Positions of test contexts between the bounds of z, on its scale."""


def component(task: Task, name: str) -> Component:
    source = task.components("test")[name]
    assert isinstance(source, HasLogProb)
    assert isinstance(source, HasScore)
    return source


def contexts(task: Task, places: tuple[float, ...] = PLACES) -> Tensor:
    """Return contexts (n, 1) between the bounds, float64."""
    unit = torch.tensor([[0.5, place] for place in places], dtype=torch.float64)
    return task.space.context_of(task.space.from_unit(unit))


def simulate(source: Component, context: Tensor, n: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return source.simulate(context.float().expand(n, 1), rng)


def cells(task: Task, source: Component, context: Tensor, y: Tensor, bins: int) -> Tensor:
    """Return probabilities (bins, bins) of y = t(x) within mean ± REACH standard deviations.

    The midpoint rule has 12 × 12 nodes per bin, in y, so that it includes the transform's Jacobian.
    """
    fine = 12 * bins
    share = (torch.arange(fine, dtype=torch.float64) + 0.5) / fine
    mean, scale = y.mean(0), y.std(0)
    axes = [m + REACH * s * (2 * share - 1) for m, s in zip(mean, scale, strict=True)]
    nodes = torch.cartesian_prod(*axes)
    x = nodes.exp() if task.name == "higgs" else nodes
    if task.name == "asymmetric":
        x = torch.stack([nodes[:, 0], nodes[:, 1].exp()], -1)
    log_density = source.log_prob(x, context) - task.transform.log_jacobian(x).sum(-1)
    mass = log_density.exp() * (2 * REACH * scale / fine).prod()
    return mass.view(bins, 12, bins, 12).sum((1, 3))


def p_value(task: Task, source: Component, context: Tensor, x: Tensor) -> float:
    """Return the p-value of a χ² test of simulations against the density.

    Raises:
        AssertionError: if the density does not integrate to 1.
    """
    y = task.transform(x.double())
    bins = 48
    expected = cells(task, source, context, y, bins)
    assert expected.sum() == pytest.approx(1, abs=2e-6)
    unit = (y - y.mean(0)) / (2 * REACH * y.std(0)) + 0.5
    index = (unit * bins).long().clamp(0, bins - 1)
    seen = torch.bincount(index[:, 0] * bins + index[:, 1], minlength=bins**2).double()
    expected = len(x) * expected.flatten()
    big = expected >= 8
    observed = torch.cat([seen[big], seen[~big].sum()[None]])
    wanted = torch.cat([expected[big], expected[~big].sum()[None]])
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    return float(stats.chi2.sf(statistic, len(wanted) - 1))


@pytest.mark.parametrize(("name", "part"), COMPONENTS)
def test_simulations_follow_the_density(name: str, part: str) -> None:
    task = REGISTRY.task(name)
    source = component(task, part)
    for i, context in enumerate(contexts(task)):
        x = simulate(source, context, 40_000, i)
        assert p_value(task, source, context, x) > 1e-3


@pytest.mark.parametrize(("name", "part"), COMPONENTS)
def test_that_test_has_power(name: str, part: str) -> None:
    task = REGISTRY.task(name)
    source = component(task, part)
    near, wrong = contexts(task, (0.5, 0.6))
    assert p_value(task, source, wrong, simulate(source, near, 40_000, 0)) < 1e-4


@pytest.mark.parametrize(("name", "part"), COMPONENTS)
def test_log_prob_agrees_with_scipy(name: str, part: str) -> None:
    task = REGISTRY.task(name)
    source = component(task, part)
    for context in contexts(task):
        x = simulate(source, context, 200, 1)
        z = float(context)
        if name == "asymmetric":
            (a, b, s, c, rho) = (
                np.array(v)
                for v in (
                    source.mean,
                    source.slope,
                    source.scale,
                    source.growth,
                    source.correlation,
                )
            )
            scale = s * z**c
            covariance = np.diag(scale) @ np.array([[1, rho], [rho, 1]]) @ np.diag(scale)
            exact = stats.multivariate_normal(a + b * math.log(z), covariance)
            values = x.double().numpy()
            y = np.stack([values[:, 0], np.log(values[:, 1])], -1)
            expected = exact.logpdf(y) - np.log(values[:, 1])
        elif name == "higgs":
            y = np.log(x.double().numpy())
            shift = math.log(z) * np.array([0.5, -1.0])
            parts = [
                math.log(weight)
                + stats.multivariate_normal(mean + shift, [[a, c], [c, b]]).logpdf(y)
                for weight, mean, (a, b, c) in {"signal": SIGNAL, "background": BACKGROUND}[part]
            ]
            expected = np.logaddexp.reduce(parts) - y.sum(1)
        else:
            radius = {"gaussians-far": 2.0, "gaussians-near": 0.5}[name]
            sign = -1 if part == "signal" else 1
            mean = sign * radius * np.array([math.cos(z), math.sin(z)])
            expected = stats.multivariate_normal(mean, np.eye(2)).logpdf(x.double().numpy())
        got = source.log_prob(x, context)
        assert got.dtype == torch.float64
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "part"), COMPONENTS)
def test_score_is_the_derivative_of_log_prob(name: str, part: str) -> None:
    task = REGISTRY.task(name)
    source = component(task, part)
    context = contexts(task)[None]  # (1, 3, 1)
    x = simulate(source, contexts(task)[1], 100, 2)[:, None]
    step = 1e-4
    slope = (
        8 * (source.log_prob(x, context + step) - source.log_prob(x, context - step))
        - (source.log_prob(x, context + 2 * step) - source.log_prob(x, context - 2 * step))
    ) / (12 * step)
    torch.testing.assert_close(source.score(x, context)[..., 0], slope, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("name", "part"), COMPONENTS)
def test_score_has_mean_zero_and_the_fisher_information_as_variance(name: str, part: str) -> None:
    task = REGISTRY.task(name)
    source = component(task, part)
    n, step = 40_000, 1e-3
    for i, context in enumerate(contexts(task)):
        x = simulate(source, context, n, 10 + i)
        score = source.score(x, context)[:, 0]
        assert abs(float(score.mean() / score.std())) * math.sqrt(n) < 4
        curvature = (source.score(x, context + step) - source.score(x, context - step)) / (2 * step)
        gap = score.square() + curvature[:, 0]
        assert abs(float(gap.mean() / gap.std())) * math.sqrt(n) < 4


@pytest.mark.parametrize(("name", "part"), COMPONENTS)
def test_observations_and_contexts_broadcast(name: str, part: str) -> None:
    task = REGISTRY.task(name)
    source = component(task, part)
    context = contexts(task).float()
    x = simulate(source, context[1], 5, 3)
    log_prob = source.log_prob(x[:, None], context[None])
    score = source.score(x[:, None], context[None])
    assert log_prob.shape == (5, 3)
    assert score.shape == (5, 3, 1)
    for i in range(5):
        for j in range(3):
            assert source.log_prob(x[i], context[j]) == log_prob[i, j]
            assert source.score(x[i], context[j]) == score[i, j]
    rng = torch.Generator().manual_seed(0)
    assert source.simulate(context.expand(4, 3, 1), rng).shape == (4, 3, 2)


@pytest.mark.parametrize("part", ["signal", "background"])
@pytest.mark.parametrize("name", ["asymmetric", "higgs"])
def test_impossible_observations(name: str, part: str) -> None:
    task = REGISTRY.task(name)
    x = torch.tensor([[0.3, 0.0], [0.3, -1.0], [0.3, 1e-6]])
    log_prob = component(task, part).log_prob(x[:, None], contexts(task)[None])
    assert (log_prob[:2] == -torch.inf).all()
    assert log_prob[2].isfinite().all()


@pytest.mark.parametrize("name", TASKS)
def test_task(name: str) -> None:
    task = REGISTRY.task(name)
    assert task.has_exact
    assert task.component_names == ("signal", "background")
    assert len(task.points) == 9
    for point in task.points:
        for value, parameter in zip(point.tolist(), task.space.parameters, strict=True):
            # Tolerance for rounding, because some points are on the edge of the inner box.
            assert parameter.inner[0] - 1e-12 <= value <= parameter.inner[1] + 1e-12
    mu = torch.tensor([0.0, 0.25, 0.7], dtype=torch.float64)
    weights = task.weights(torch.stack([mu, torch.ones(3).double()], -1))
    torch.testing.assert_close(weights[:, 0], mu / (1 + mu))
    torch.testing.assert_close(weights.sum(-1), torch.ones(3).double())
    assert task.space.context_index == (1,)
    low, high = (p.item() for p in contexts(task, (0.0, 1.0)))
    assert low < float(task.nominal) < high


def test_a_plugin_file_is_loaded_with_the_hash_of_its_bytes() -> None:
    item = REGISTRY.item("tasks", "asymmetric")
    assert item.place.startswith(str(PLUGIN.resolve()))
    assert len(item.plugin_hash) == 64
    assert not REGISTRY.failures


@pytest.mark.parametrize("part", ["signal", "background"])
def test_the_energy_scale_moves_massless_kinematics_as_it_moves_the_mixture(part: str) -> None:
    """Scaling an event's hadronic tau by z changes its density by the Jacobian alone."""
    source = component(REGISTRY.task("higgs"), part)
    rng = torch.Generator().manual_seed(0)
    lepton, hadron, opening = (1 + torch.rand(3, 50, generator=rng, dtype=torch.float64)) * 20
    z = torch.tensor([1.06], dtype=torch.float64)

    def features(scale: float) -> Tensor:
        mass = (2 * lepton * scale * hadron * opening).sqrt()
        return torch.stack([mass, lepton / (scale * hadron)], -1)

    nominal = source.log_prob(features(1.0), torch.ones(1).double())
    jacobian = features(1.0).log().sum(-1) - features(float(z)).log().sum(-1)
    torch.testing.assert_close(source.log_prob(features(float(z)), z), nominal + jacobian)


HIGGS_STYLE = Path(__file__).parents[3] / "shared" / "data" / "higgs_style_mixture.json"


@pytest.mark.skipif(not HIGGS_STYLE.is_file(), reason="the fitted mixtures are not here")
def test_the_mixtures_are_the_fitted_ones() -> None:
    fitted = json.loads(HIGGS_STYLE.read_text())
    for name, own in (("signal", SIGNAL), ("background", BACKGROUND)):
        weights, means, spreads = zip(*own, strict=True)
        assert list(weights) == fitted[name]["weights"]
        assert [list(m) for m in means] == fitted[name]["means"]
        assert [[[a, c], [c, b]] for a, b, c in spreads] == fitted[name]["covariances"]
        assert list(SHIFT) == fitted["tes_shift"]
