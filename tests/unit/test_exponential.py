"""Exponential lifetimes: simulator and density against scipy."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from bench.registry.registry import Registry

TASK = Registry().task("exponential")
(DECAY,) = TASK.components("test").values()


def test_density_and_score_are_those_of_scipy() -> None:
    time, rate = torch.tensor([[0.0], [0.3], [7.0]]), torch.tensor([0.2, 1.0, 5.0])[:, None, None]
    expected = stats.expon.logpdf(time[:, 0].double(), scale=1 / rate[..., 0].double())
    np.testing.assert_allclose(DECAY.log_prob(time, rate), expected, rtol=1e-12)
    step = 1e-4
    rise = DECAY.log_prob(time, rate.double() + step) - DECAY.log_prob(time, rate.double() - step)
    np.testing.assert_allclose(DECAY.score(time, rate)[..., 0], rise / (2 * step), rtol=1e-6)
    assert DECAY.log_prob(torch.tensor([-0.1]), torch.tensor([1.0])) == -torch.inf


def test_simulations_are_exponential_and_positive() -> None:
    for number, rate in enumerate((0.2, 1.0, 5.0)):
        random = torch.Generator().manual_seed(number)
        time = DECAY.simulate(torch.full((20_000, 1), rate), random)
        assert time.min() > 0  # the transform takes logarithms
        assert stats.kstest(time[:, 0], stats.expon(scale=1 / rate).cdf).pvalue > 1e-3
