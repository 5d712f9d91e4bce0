"""Learning curves with known data-equivalence factor, and the coverage of its intervals."""

from __future__ import annotations

import numpy as np

from bench.stats.equivalence import factor

BUDGETS = np.array([1e3, 3e3, 1e4, 3e4, 1e5])


def covered(
    networks: tuple[int, int], truth: float, budget: float, scatter: float, repetitions: int
) -> float:
    """Simulate the coverage of 95 % intervals, a share of the repetitions.

    Args:
        networks: of the plain method at each budget, and of the other one.
        truth: the factor.
        budget: of the other method.
        scatter: standard deviation of the logarithm of a network's excess over the truth.
        repetitions: of the experiment.
    """
    rng = np.random.default_rng(0)
    plain, other = networks
    inside = []
    for seed in range(repetitions):
        curve = [5 / b * rng.lognormal(0, scatter, plain) for b in BUDGETS]
        value = 5 / (truth * budget) * rng.lognormal(0, scatter, other)
        found = factor(BUDGETS, curve, budget, value, draws=500, seed=seed)
        inside.append(found.low <= truth <= found.high)
    return float(np.mean(inside))
