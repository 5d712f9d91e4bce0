"""Ornstein–Uhlenbeck process: likelihood, score and simulator against the dense covariance."""

from __future__ import annotations

import math

import numpy as np
import torch
from bench.tasks.ornstein_uhlenbeck import Path
from scipy import stats

from bench.registry.registry import Registry
from bench.seeds import generator

TASK = Registry().task("ornstein-uhlenbeck")
(PATH,) = TASK.components("test").values()
CORNERS = TASK.space.from_unit(torch.rand(12, 4, generator=generator("ou")).double().round())


def covariance(context: torch.Tensor, times: int, interval: float) -> np.ndarray:
    """Return the covariance of measurements, (T, T), from that of the stationary process."""
    rate, _, diffusion, noise = context.tolist()
    time = interval * np.arange(times)
    process = diffusion**2 / (2 * rate) * np.exp(-rate * np.abs(time[:, None] - time))
    return process + noise**2 * np.eye(times)


def test_the_filter_is_the_density_of_a_multivariate_gaussian() -> None:
    contexts = torch.cat([TASK.points, CORNERS])
    x = PATH.simulate(contexts.float(), generator("ou", 0))
    got = PATH.log_prob(x, contexts)
    for series, context, density in zip(x.double(), contexts, got, strict=True):
        mean = np.full(50, float(context[1]))
        known = stats.multivariate_normal(mean, covariance(context, 50, 0.1))
        np.testing.assert_allclose(density, known.logpdf(series), rtol=1e-9)


def test_another_number_of_times() -> None:
    short, context = Path(times=3, interval=0.7), TASK.points[0]
    x = short.simulate(context.float(), generator("ou", 1))
    known = stats.multivariate_normal(np.full(3, 0.5), covariance(context, 3, 0.7))
    np.testing.assert_allclose(short.log_prob(x, context), known.logpdf(x.double()), rtol=1e-9)


def test_scores_are_derivatives_at_the_bounds_too() -> None:
    contexts = torch.cat([TASK.points, CORNERS])
    x = PATH.simulate(contexts.float(), generator("ou", 2))
    with torch.no_grad():  # as surrogates are evaluated
        score = PATH.score(x, contexts)
    assert score.dtype == torch.float64
    for j in range(4):
        size = 1e-3 * contexts[:, j].abs()
        step = size[:, None] * torch.eye(4, dtype=torch.float64)[j]
        f = [PATH.log_prob(x, contexts + k * step) for k in (-2, -1, 1, 2)]
        slope = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * size)
        torch.testing.assert_close(score[:, j], slope, rtol=1e-6, atol=1e-5)


def test_simulations_have_the_covariance_of_the_process() -> None:
    """Whitened simulations are standard Gaussians, uncorrelated between times."""
    context, n = torch.tensor([0.8, 0.5, 1.2, 0.2]), 20_000
    x = PATH.simulate(context.expand(n, -1), generator("ou", 3)).double().numpy()
    root = np.linalg.cholesky(covariance(context, 50, 0.1))
    white = np.linalg.solve(root, (x - 0.5).T)
    assert abs(white.mean(1)).max() * n**0.5 < 4
    gap = white @ white.T / n - np.eye(50)
    assert abs(gap).max() < 5.5 * (2 / n) ** 0.5
    assert stats.kstest(white[:, :400].ravel(), "norm").pvalue > 1e-3


def test_summaries_are_means_and_variograms() -> None:
    x = torch.arange(50.0).expand(2, 50)
    expected = torch.tensor([24.5, 0.0, 2 * math.log(12)]).expand(2, 3)
    torch.testing.assert_close(TASK.summaries(x), expected)
