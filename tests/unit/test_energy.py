"""Energy distance against its definition, and its permutation test on known distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from bench.stats.energy import energy_test


def test_the_distance_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(50, 2)) + 0.3
    expected = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    assert energy_test(x, y, 9).distance == pytest.approx(expected)
    one = energy_test(x[:, :1], y[:, :1], 9).distance
    # In one dimension it is twice the squared L2 distance of the distribution functions.
    assert one == pytest.approx(stats.energy_distance(x[:, 0], y[:, 0]) ** 2)


def test_p_values_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(1)
    found = [energy_test(*rng.normal(size=(2, 40, 2)), 99, seed) for seed in range(300)]
    p_values = [test.p_value for test in found]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    ratio = np.mean([test.distance for test in found]) / np.mean([test.null for test in found])
    assert ratio == pytest.approx(1, abs=0.1)


def test_a_difference_is_seen() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 400, 2))
    assert energy_test(x, y * [1, 1.4], 99).p_value == 0.01
    assert energy_test(x, x, 19).p_value == 1.0
