"""SLCP: density, score and symmetry against scipy, and profiles against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from bench.contracts import IndependentPlan
from bench.inference.ends import SLACK
from bench.inference.events import EventLikelihood
from bench.inference.gradient import profile
from bench.inference.likelihood import ExactLikelihood
from bench.registry.registry import Registry
from bench.seeds import generator
from bench.stages.datasets import sets

TASK = Registry().task("slcp")
(POINT,) = TASK.components("test").values()
SIGNS = torch.tensor([[1, 1, a, b, 1] for a in (-1, 1) for b in (-1, 1)])


def test_density_is_that_of_scipy() -> None:
    context = TASK.space.draw_context(50, generator("slcp", 0)).double()
    context[0, 2:4] = 0
    x = POINT.simulate(context, generator("slcp", 1))
    got = POINT.log_prob(x, context)
    for event, row, density in zip(x.double(), context.numpy(), got, strict=True):
        deviation = np.sqrt(row[2:4] ** 4 + 1e-6)
        correlation = np.tanh(row[4])
        covariance = np.outer(deviation, deviation) * [[1, correlation], [correlation, 1]]
        known = stats.multivariate_normal(row[:2], covariance)
        np.testing.assert_allclose(density, known.logpdf(event), rtol=1e-9)


@pytest.mark.parametrize("fourth", [0.0, 0.01, 1.0, 2.0])
def test_score_is_the_derivative_of_log_prob(fourth: float) -> None:
    context = torch.tensor([0.4, -2.0, -1.3, fourth, 1.2], dtype=torch.float64)
    x = POINT.simulate(context.expand(20, -1), generator("slcp", 2))
    size = 1e-4
    for j, step in enumerate(size * torch.eye(5, dtype=torch.float64)):
        f = [POINT.log_prob(x, context + k * step) for k in (-2, -1, 1, 2)]
        slope = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * size)
        score = POINT.score(x, context)[:, j]
        torch.testing.assert_close(score, slope, rtol=1e-6, atol=1e-5)


def test_four_modes_are_equally_high() -> None:
    context = TASK.space.draw_context(20, generator("slcp", 3))
    x = POINT.simulate(context, generator("slcp", 4))
    modes = context[:, None] * SIGNS
    densities = POINT.log_prob(x[:, None], modes)
    assert torch.equal(densities, densities[:, :1].expand(-1, 4))
    scores = POINT.score(x[:, None], modes) * SIGNS
    assert torch.equal(scores, scores[:, :1].expand(-1, 4, -1))


def test_points_at_a_vanishing_deviation_are_finite() -> None:
    context = torch.tensor([3.0, -3.0, 0.0, 0.0, 3.0])
    x = POINT.simulate(context.expand(1000, -1), generator("slcp", 5))
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x.double().std(0), 1e-3, rtol=0.1)
    far = context * torch.tensor([-1, -1, 1, 1, -1])
    for density in (POINT.log_prob(x, context), POINT.log_prob(x, far).float()):
        assert density.isfinite().all()


def test_profile_intervals_are_those_of_closed_forms() -> None:
    """The profile of a mean and its deviation is that of a Gaussian in one dimension."""
    plan = IndependentPlan(uniform=32, per_point=0)
    made = list(sets(TASK, plan, 0))
    x = torch.stack([one.x for one in made])
    truth = torch.stack([one.theta for one in made])
    likelihood = EventLikelihood(ExactLikelihood(TASK), x, TASK.space, TASK.weights)
    found = profile(likelihood, TASK.reported_index, TASK.space.to_unit(truth), TASK.space.box)
    lower, upper = (6 * e[0, ..., 0].numpy() - 3 for e in (found.whole.lower, found.whole.upper))

    first = x[..., 0].double().numpy()
    mean, deviation, m = first.mean(1), first.std(1), first.shape[1]
    half = deviation * math.sqrt(math.expm1(1 / m))
    for ends, known in ((lower, mean - half), (upper, mean + half)):
        np.testing.assert_allclose((ends[:, 0] - known.clip(-3, 3)) / half, 0, atol=1e-3)

    def excess(ratio: float) -> float:  # of the estimated to another variance
        return m * (ratio - 1 - math.log(ratio)) - 1

    ratios = optimize.brentq(excess, 1, 9), optimize.brentq(excess, 1e-3, 1)
    near, far = ((deviation**2 / ratio - 1e-6) ** 0.25 for ratio in ratios)
    negative = upper[:, 1] < 0
    low, high = np.where(negative, -far, near), np.where(negative, -near, far)
    np.testing.assert_allclose((lower[:, 1] - low) / (far - near), 0, atol=1e-3)
    np.testing.assert_allclose((upper[:, 1] - high) / (far - near), 0, atol=1e-3)
    for profiles in (found.whole, found.box):
        assert not profiles.missed.any()
        assert profiles.error.max() <= SLACK
