"""Diagnostics: numbers on samples whose answer is known, null distributions and power."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from bench.contracts import (
    BoxWindow,
    Datasets,
    Diagnostic,
    Evidence,
    Finding,
    LikelihoodPrediction,
    ProfileSummary,
    Ratios,
    Samples,
    Weights,
)
from bench.diagnostics import learned, toys, two_sample, weights
from bench.diagnostics.two_sample import pooled
from bench.errors import NotApplicable

OF_SAMPLES = [
    two_sample.mmd,
    two_sample.energy_distance,
    two_sample.kernel_physics,
    two_sample.frechet_physics,
    two_sample.sliced_wasserstein,
    two_sample.sliced_ks,
    learned.classifier,
    learned.nplm,
]
"""Diagnostics of two samples, all of which have p-values."""


def normal(seed: int, n: int, columns: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, columns))


def found(diagnostic: Diagnostic, first: np.ndarray, second: np.ndarray) -> Finding:
    return diagnostic.compute(Evidence(np.random.default_rng(0), samples=Samples(first, second)))


def kolmogorov(diagnostic: Diagnostic, make: Callable[[int], Evidence], times: int) -> float:
    """Return the p-value of uniform p-values, and check their share below 5 %."""
    found = np.array([diagnostic.compute(make(seed)).p_value for seed in range(times)])
    assert np.mean(found <= 0.05) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / times)
    return float(stats.kstest(found, "uniform").pvalue)


@pytest.mark.parametrize("diagnostic", OF_SAMPLES, ids=lambda d: d.name)
def test_p_values_are_uniform_for_equal_distributions(diagnostic: Diagnostic) -> None:
    def make(seed: int) -> Evidence:
        n = 200 if diagnostic is learned.classifier else 60  # fewer rows leave no tree to grow
        samples = Samples(normal(seed, n), normal(seed + 10**6, n - 10))
        return Evidence(np.random.default_rng(seed), samples=samples)

    assert kolmogorov(diagnostic, make, 60) > 1e-3


@pytest.mark.parametrize("diagnostic", OF_SAMPLES, ids=lambda d: d.name)
def test_different_distributions_are_found(diagnostic: Diagnostic) -> None:
    """A shift of half a standard deviation, and a wrong correlation."""
    first, second = normal(0, 400), normal(1, 400)
    assert found(diagnostic, first, second + np.array([0.5, 0])).p_value < 0.02
    turned = second @ np.array([[1.0, 0.8], [0.0, 0.6]])
    if diagnostic is not two_sample.sliced_ks:  # weakest there
        assert found(diagnostic, first, turned).p_value < 0.02


@pytest.mark.parametrize("diagnostic", OF_SAMPLES, ids=lambda d: d.name)
def test_scales_of_columns_do_not_matter(diagnostic: Diagnostic) -> None:
    first, second = normal(0, 80), normal(1, 80)
    scaled = [rows * np.array([1e6, 1e-3]) + np.array([3e6, 0]) for rows in (first, second)]
    own, other = (found(diagnostic, *rows) for rows in ((first, second), scaled))
    assert own.statistic == pytest.approx(other.statistic, rel=1e-6, abs=1e-9)
    assert own.p_value == pytest.approx(other.p_value, abs=0.01)


def test_constant_columns_are_allowed() -> None:
    first = np.column_stack([normal(0, 60), np.zeros(60)])
    second = np.column_stack([normal(1, 60), np.zeros(60)])
    for diagnostic in OF_SAMPLES:
        assert np.isfinite(found(diagnostic, first, second).statistic), diagnostic.name


def test_distances_are_those_of_their_definitions() -> None:
    """The observed labelling against sums over pairs, and one dimension against scipy."""
    first, second = normal(0, 30), normal(1, 20) + 0.3
    both = pooled(first, second, np.random.default_rng(0), 5)
    a, b = both.rows[:30], both.rows[30:]

    def mean(x: np.ndarray, y: np.ndarray, kernel: Callable[..., float]) -> float:
        pairs = [
            kernel(u, v) for i, u in enumerate(x) for j, v in enumerate(y) if x is not y or i != j
        ]
        return float(np.mean(pairs))

    def distance(u: np.ndarray, v: np.ndarray) -> float:
        return float(np.linalg.norm(u - v))

    wanted = 2 * mean(a, b, distance) - mean(a, a, distance) - mean(b, b, distance)
    assert two_sample.energy(both)[0] == pytest.approx(wanted)
    quartic = lambda u, v: float((u @ v / 2 + 1) ** 4)  # noqa: E731
    wanted = mean(a, a, quartic) + mean(b, b, quartic) - 2 * mean(a, b, quartic)
    assert two_sample.polynomial(both)[0] == pytest.approx(wanted)

    line = pooled(first[:, :1], second[:, :1], np.random.default_rng(0), 5)
    x, y = line.rows[:30, 0], line.rows[30:, 0]
    transport, largest = two_sample.sliced(line, np.random.default_rng(1))
    assert transport[0] == pytest.approx(stats.wasserstein_distance(x, y))
    assert largest[0] == pytest.approx(stats.ks_2samp(x, y).statistic)
    wanted = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
    assert two_sample.frechet(line)[0] == pytest.approx(wanted)


def test_kernel_likelihood_ratio_grows_to_that_of_the_true_ratio() -> None:
    """For a shift of one dimension the statistic is near twice the sum of log-ratios."""
    n, shift = 4000, 0.4
    first, second = normal(0, n, 1) + shift, normal(1, n, 1)
    both = pooled(first, second, np.random.default_rng(0), 0)
    found = learned.kernel_likelihood_ratio(both, np.random.default_rng(0))[0]
    wanted = (
        2 * n * shift**2 / 2
    )  # the divergence of both, whose normalisation term is 0 on average
    assert 0.7 * wanted < found < 1.3 * wanted


def reweighted(seed: int, n: int = 500, error: float = 0.0) -> Evidence:
    """Return observations of a shifted normal, and weights of the standard one with an error."""
    shift = 0.5
    first, other = normal(seed, n) + np.array([shift, 0]), normal(seed + 10**6, 4 * n)
    log_weight = shift * other[:, 0] - shift**2 / 2 + error * (other[:, 1] ** 2 - 1)
    return Evidence(np.random.default_rng(seed), weights=Weights(first, other, log_weight))


def test_closure_sees_wrong_weights_only() -> None:
    assert kolmogorov(weights.closure, reweighted, 200) > 1e-3
    assert weights.closure.compute(reweighted(0, 2000, 0.2)).p_value < 1e-3


def test_effective_size_is_that_of_log_normal_weights() -> None:
    found = weights.effective_size.compute(reweighted(0, 20_000)).statistic
    assert found == pytest.approx(np.exp(-0.25), rel=0.03)


def ratios(seed: int, offset: float = 0.0, curvature: float = 0.0, n: int = 2000) -> Evidence:
    """Return ratios of normals with means η to the standard one, times a wrong normalisation."""
    x, context = normal(seed, n, 1), np.linspace(-1, 1, 9)[:, None]
    mean = 0.5 * context[:, 0]
    log_ratio = mean * x - mean**2 / 2 + offset + curvature * context[:, 0] ** 2
    return Evidence(np.random.default_rng(0), ratios=Ratios(context, log_ratio[None]))


def test_normalisation_has_correlated_errors() -> None:
    assert kolmogorov(weights.normalisation, ratios, 200) > 1e-3
    for wrong in ({"offset": 0.05}, {"curvature": 0.1}):
        found = weights.normalisation.compute(ratios(0, n=20_000, **wrong))
        assert found.p_value < 1e-3
        assert found.statistic == pytest.approx(sum(wrong.values()), abs=0.02)


def test_normalisation_survives_large_logarithms() -> None:
    own = ratios(0)
    assert own.ratios is not None
    moved = Ratios(own.ratios.context, own.ratios.log_ratio + 800)
    found = weights.normalisation.compute(Evidence(own.rng, ratios=moved))
    assert found.statistic == pytest.approx(800, abs=0.2)


SIGMA = 0.05
NODES = 65


def gaussian_toys(
    seed: int, parameters: int = 2, narrower: float = 1.0, shift: float = 0.0, sets: int = 50
) -> LikelihoodPrediction:
    """Return toys with Gaussian likelihoods, parameters uniform in the unit box.

    Args:
        seed: of the toys.
        parameters: number of parameters.
        narrower: width of the likelihoods relative to the exact ones.
        shift: of the maxima, in standard deviations.
        sets: number of toys.
    """
    rng = np.random.default_rng(seed)
    theta = rng.uniform(size=(sets, parameters))
    mle = theta + SIGMA * (rng.normal(size=theta.shape) + shift)
    width = narrower * SIGMA
    low, high = (mle - 8 * width).clip(0, 1), (mle + 8 * width).clip(0, 1)
    step = (high - low) / (NODES - 1)
    nodes = low[..., None] + step[..., None] * np.arange(NODES)
    falls = -0.5 * ((nodes - mle[..., None]) / width) ** 2
    falls -= falls.max(-1, keepdims=True)
    joint = falls[:, 0] if parameters == 1 else falls[:, 0, :, None] + falls[:, 1, None]
    flags = np.zeros(theta.shape, dtype=bool)
    curves = ProfileSummary(
        mle,
        mle - width,
        mle + width,
        flags,
        flags,
        flags,
        np.zeros(sets),
        flags[:, 0],
        np.full((sets, parameters, parameters), np.nan),
        np.full((sets, 3), np.nan),
    )
    return LikelihoodPrediction(
        names=("a", "b")[:parameters],
        low=np.zeros(parameters),
        high=np.ones(parameters),
        log_scale=np.zeros(parameters, dtype=bool),
        reported=tuple(range(parameters)),
        datasets=Datasets(theta, np.full(sets, -1), np.arange(sets), np.arange(sets)),
        curves=curves,
        box_window=BoxWindow(low, step, joint.astype(np.float32)),
    )


def of_toys(seed: int, **options: float) -> Evidence:
    return Evidence(np.random.default_rng(seed + 10**6), toys=gaussian_toys(seed, **options))


OF_TOYS = [toys.sbc, toys.tarp, toys.coverage]


@pytest.mark.parametrize("parameters", [1, 2])
@pytest.mark.parametrize("diagnostic", OF_TOYS, ids=lambda d: d.name)
def test_toys_of_exact_posteriors_are_calibrated(diagnostic: Diagnostic, parameters: int) -> None:
    found = np.array(
        [diagnostic.compute(of_toys(seed, parameters=parameters)).p_value for seed in range(30)]
    )
    assert np.mean(found <= 0.05) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 30)
    if parameters == 1 or diagnostic is toys.tarp:  # others combine two tests, conservatively
        assert stats.kstest(found, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("diagnostic", OF_TOYS, ids=lambda d: d.name)
def test_toys_of_narrow_posteriors_are_not_calibrated(diagnostic: Diagnostic) -> None:
    assert diagnostic.compute(of_toys(0, narrower=0.5, sets=400)).p_value < 1e-3


def test_toys_of_shifted_posteriors_are_not_calibrated() -> None:
    """Distances from random points see a shift less than ranks do: half of the points hide it."""
    ranks, distances, covered = (
        d.compute(of_toys(0, shift=0.7, sets=400)).p_value for d in OF_TOYS
    )
    assert max(ranks, covered) < 1e-3
    assert distances > ranks


def test_more_than_two_parameters_have_no_table() -> None:
    evidence = of_toys(0)
    assert evidence.toys is not None
    bare = LikelihoodPrediction(**{**vars(evidence.toys), "box_window": None})
    with pytest.raises(NotApplicable, match="at most two parameters"):
        toys.sbc.compute(Evidence(evidence.rng, toys=bare))
    assert np.isfinite(toys.coverage.compute(Evidence(evidence.rng, toys=bare)).p_value)


def test_spread_of_trainings_is_in_half_lengths() -> None:
    one = gaussian_toys(0)
    moved = LikelihoodPrediction(
        **{
            **vars(one),
            "curves": ProfileSummary(**{**vars(one.curves), "mle": one.curves.mle + 0.1}),
        }
    )
    evidence = Evidence(np.random.default_rng(0), members=[one, moved, moved])
    assert toys.member_spread.compute(evidence).statistic == pytest.approx(0.1 / SIGMA)


def test_rows_that_are_not_finite_are_refused() -> None:
    first, second = normal(0, 60), normal(1, 60)
    for value in (np.nan, np.inf):
        first[3, 0] = value
        for diagnostic in OF_SAMPLES:
            with pytest.raises(NotApplicable, match="rows are not finite"):
                found(diagnostic, first, second)


def test_equal_rows_are_no_evidence() -> None:
    rng = np.random.default_rng(0)
    rare = [rng.poisson(0.2, (200, 1)).astype(float) for _ in range(2)]
    assert found(learned.nplm, *rare).p_value > 0.01
    assert found(learned.nplm, np.zeros((50, 1)), np.zeros((50, 1))).p_value == 1
