"""Decomposition of divergences: planted errors of networks, and closed forms of Gaussians."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.contracts import FitLog, Parameter, ParameterSpace
from bench.errors import UsageError
from bench.registry.registry import Registry
from bench.stats.clustering import Strata, mean
from bench.studies import decomposition
from bench.studies.decomposition import Averages, averages, parts

SPACE = ParameterSpace(
    [
        Parameter("place", -1.0, 1.0, "interest", (-0.9, 0.9)),
        Parameter("other", 0.0, 1.0, "interest", (0.1, 0.9)),
    ],
    context=["place"],
)


class Shifted:
    """Log-densities of N(η + shift, 1) of each member, times e^slope·η, over N(0, 2)."""

    has_density = False
    reference = "evidence"
    log = FitLog()

    def __init__(self, shifts: list[float], slope: float = 0.0) -> None:
        self.shifts, self.slope = torch.tensor(shifts), slope

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        centre = context[None, :, 0] + self.shifts[:, None]
        away = x[None, :, None] - centre[:, None]
        log_p = -0.5 * away**2 - 0.5 * np.log(2 * pi) + self.slope * context[:, 0]
        return (log_p + (0.25 * x**2 + 0.5 * np.log(4 * pi))[:, None])[:, None]

    def state(self) -> None:
        return None


def test_averages_of_disjoint_networks_and_of_all_but_one() -> None:
    sizes, weights = averages(5)
    assert sizes == [1] * 5 + [2, 2, 4, 5] + [4] * 5
    torch.testing.assert_close(weights.sum(1), torch.ones(14))
    assert (weights[5:7] > 0).sum(0).tolist() == [1, 1, 1, 1, 0]
    assert weights[8].tolist() == pytest.approx([0.2] * 5)
    assert [int(row.argmin()) for row in weights[9:]] == [0, 1, 2, 3, 4]


def test_normalised_averages_of_gaussians() -> None:
    """An average of equal Gaussians is a Gaussian times e^(−v/2), v the variance of the shifts."""
    shifts = [-0.3, 0.1, 0.5]
    sizes, weights = averages(3)
    plain = Averages(Shifted(shifts, slope=0.4), weights, SPACE)
    events = 2**0.5 * torch.randn(4, 1 << 16, generator=torch.Generator().manual_seed(0))
    both = plain.normalised(events)
    x, context = torch.linspace(-1, 1, 5), torch.tensor([[-0.8], [0.0], [0.7]])
    values = both.log_ratio(x, context)
    own = plain.log_ratio(x, context)
    assert values.shape == (2 * len(sizes), 1, 5, 3)
    torch.testing.assert_close(values[: len(sizes)], own)
    for row, weight in enumerate(weights):
        centre = float(weight @ torch.tensor(shifts))
        exact = Shifted([centre]).log_ratio(x, context)[0]
        torch.testing.assert_close(values[len(sizes) + row], exact, atol=0.02, rtol=0)


def test_planted_errors_are_split() -> None:
    """Networks are off by common and own errors, and a divergence is half of their square."""
    rng = np.random.default_rng(3)
    n, sets = 6, 300
    common, normaliser = rng.normal(0, 1, sets), rng.normal(0, 0.7, sets)
    own = rng.normal(0, 0.5, (n, sets))
    sizes, weights = averages(n)
    average = weights.double().numpy() @ (common + own)
    rest = 0.5 * average**2
    table = 0.5 * (average**2 + normaliser**2)
    strata = Strata(np.zeros(sets, int))
    found = parts(sizes, table, rest, strata)
    assert list(found) == [
        *(f"average of {k}" for k in (1, 2, 4, 6)),
        *("training", "normalisation", "approximation"),
    ]
    variance = own.var(0, ddof=1).mean()
    assert found["training"].value == pytest.approx(0.5 * variance)
    assert found["normalisation"].value == pytest.approx(0.5 * (normaliser**2).mean())
    square = ((common + own).mean(0) ** 2).mean()
    assert found["approximation"].value == pytest.approx(0.5 * (square - variance / n))
    total = sum(found[name].value for name in ("training", "normalisation", "approximation"))
    assert total == pytest.approx(found["average of 1"].value) == pytest.approx(table[:n].mean())
    assert found["average of 2"] == mean(table[6:9], strata)
    assert found["average of 6"].value == pytest.approx(table[sizes.index(6)].mean())
    without = parts(sizes, table, None, strata)
    assert "normalisation" not in without
    assert without["approximation"].value == pytest.approx(
        found["approximation"].value + found["normalisation"].value
    )


def test_errors_are_those_of_repeated_experiments() -> None:
    """The jackknife's errors against the scatter over experiments with other networks and sets."""
    rng = np.random.default_rng(5)
    values: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    sizes, weights = averages(8)
    for _ in range(200):
        mean_error = rng.normal(0.5, 0.2, 40)
        network = rng.normal(0, 0.4, (8, 1)) + rng.normal(0, 0.4, (8, 40))
        average = weights.double().numpy() @ (mean_error + network)
        found = parts(sizes, 0.5 * average**2, None, Strata(np.zeros(40, int)))
        for name in ("training", "approximation", "average of 8"):
            values.setdefault(name, []).append(found[name].value)
            errors.setdefault(name, []).append(found[name].error)
    for name, several in values.items():
        assert np.mean(errors[name]) == pytest.approx(np.std(several), rel=0.3), name
    assert np.mean(values["approximation"]) == pytest.approx(0.5 * (0.25 + 0.04), abs=0.02)
    assert np.mean(values["training"]) == pytest.approx(0.5 * 0.32, abs=0.01)


def test_nothing_to_decompose() -> None:
    with pytest.raises(UsageError, match="nothing to decompose: it takes three networks"):
        decomposition.decomposed(None, [], Registry(), 60, 1, print)  # type: ignore[arg-type]
