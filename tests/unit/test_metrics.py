"""Every metric on surfaces with a known answer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from metric_predictions import METRICS, SIGMA, THETA, Array, compute, prediction, scatter
from numpy.typing import NDArray
from scipy import integrate, optimize, stats
from torch import Tensor

from bench.contracts import (
    Datasets,
    LatticeWindow,
    LikelihoodPrediction,
    Parameter,
    ParameterSpace,
    ProfileSummary,
)
from bench.inference.intervals import summarise
from bench.inference.lattice import Lattice
from bench.stages.score import score

Likelihoods = tuple[ProfileSummary, LatticeWindow]
SPACE = ParameterSpace(
    [
        Parameter("mu", 0.0, 1.0, "interest", (0.1, 0.9)),
        Parameter("z", 0.0, 1.0, "nuisance", (0.1, 0.9)),
    ],
    context=["z"],
)


def likelihoods(
    estimates: Array,
    rho: float = 0.0,
    *,
    width: float = 1.0,
    theta: tuple[float, float] = THETA,
    nodes: int = 65,
    reach: float = 8.0,
) -> Likelihoods:
    """Return Gaussian likelihoods around estimates (D, 2), covariance width² Σ, on one lattice."""
    axes = tuple(
        torch.linspace(max(t - reach * s, 0), min(t + reach * s, 1), nodes, dtype=torch.float64)
        for t, s in zip(theta, SIGMA, strict=True)
    )

    def value(a: Tensor, b: Tensor) -> Tensor:
        u = (a - torch.tensor(estimates[:, 0])[:, None, None]) / (width * SIGMA[0])
        v = (b - torch.tensor(estimates[:, 1])[:, None, None]) / (width * SIGMA[1])
        return -0.5 * (u**2 - 2 * rho * u * v + v**2) / (1 - rho**2)

    at_truth = value(torch.tensor(theta[0]), torch.tensor(theta[1]))[:, 0, 0]
    values = value(axes[0][:, None], axes[1])
    return summarise(Lattice((axes[0], axes[1]), values, at_truth, False), SPACE)


def first(whole: LikelihoodPrediction, count: int = 50) -> LikelihoodPrediction:
    """Return the first datasets of a prediction."""
    assert whole.window is not None
    return replace(
        whole,
        datasets=Datasets(**{k: v[:count] for k, v in whole.datasets.arrays().items()}),
        curves=ProfileSummary.from_arrays({k: v[:count] for k, v in whole.curves.arrays().items()}),
        window=LatticeWindow(**{k: v[:count] for k, v in whole.window.arrays().items()}),
    )


def near_share(values: NDArray[Any], share: float) -> bool:
    """Return whether the mean of booleans is within four binomial errors of a share."""
    return bool(abs(values.mean() - share) < 4 * math.sqrt(share * (1 - share) / len(values)))


@pytest.fixture(scope="module", params=[0.0, 0.7])
def exact(request: pytest.FixtureRequest) -> tuple[float, Array, LikelihoodPrediction]:
    """Return correlation, estimates and prediction of the exact likelihood."""
    rho = float(request.param)
    estimates = scatter(rho)
    return rho, estimates, prediction(*likelihoods(estimates, rho))


Exact = tuple[float, Array, LikelihoodPrediction]


def test_exact_against_itself(exact: Exact) -> None:
    rho, estimates, truth = exact
    overlap = compute("overlap_M", first(truth), first(truth))
    assert set(overlap) == {"mu", "z", "joint"}
    for values in overlap.values():
        np.testing.assert_allclose(values, 1, atol=2e-3)
    for name in ("mle_distance", "likelihood_ratio_error"):
        for values in compute(name, truth, truth).values():
            assert (values == 0).all()
    for i, parameter in enumerate(("mu", "z")):
        assert near_share(compute("coverage", truth)[parameter], 2 * stats.norm.cdf(1) - 1)
        np.testing.assert_allclose(compute("width", truth)[parameter], 2 * SIGMA[i], rtol=1e-3)
        bias = (estimates[:, i] - THETA[i]) / SIGMA[i]
        np.testing.assert_allclose(compute("bias", truth, truth)[parameter], bias, atol=2e-3)
    assert near_share(compute("region_coverage", truth)[""], 0.95)
    area = math.pi * stats.chi2.ppf(0.95, 2) * SIGMA[0] * SIGMA[1] * math.sqrt(1 - rho**2)
    np.testing.assert_allclose(compute("region_area", truth)[""], area, rtol=0.01)
    for name in ("cut", "disconnected", "mle_edge", "unresolved"):
        for values in compute(name, truth).values():
            assert (values == 0).all()


@pytest.mark.parametrize("delta", [0.5, 1.5])
def test_a_biased_surrogate(exact: Exact, delta: float) -> None:
    """The surrogate is the exact likelihood shifted in z by δ half-widths."""
    rho, estimates, truth = exact
    shift = np.array([0.0, delta * SIGMA[1]])
    own = prediction(*likelihoods(estimates + shift, rho))
    bias, exact_bias = compute("bias", own, truth), compute("bias", truth, truth)
    np.testing.assert_allclose(bias["z"] - exact_bias["z"], delta, atol=5e-3)
    np.testing.assert_allclose(bias["mu"], exact_bias["mu"], atol=5e-3)
    distance = compute("mle_distance", own, truth)
    np.testing.assert_allclose(distance["z"], delta, atol=5e-3)
    np.testing.assert_allclose(distance["mu"], 0, atol=5e-3)
    overlap = compute("overlap_M", first(own), first(truth))
    np.testing.assert_allclose(overlap["z"], 2 * stats.norm.cdf(-delta / 2), atol=3e-3)
    np.testing.assert_allclose(overlap["mu"], 1, atol=5e-3)
    length = delta / math.sqrt(1 - rho**2)  # the shift in units of the tilted Gaussian
    np.testing.assert_allclose(overlap["joint"], 2 * stats.norm.cdf(-length / 2), atol=4e-3)
    covered = stats.norm.cdf(1 - delta) - stats.norm.cdf(-1 - delta)
    assert near_share(compute("coverage", own)["z"], covered)
    np.testing.assert_array_equal(compute("coverage", own)["mu"], compute("coverage", truth)["mu"])
    # −2 log-ratio at θ is |e + s|² instead of |e|², where |s| is the length of the shift.
    error = compute("likelihood_ratio_error", own, truth)[""]
    expected = length**2 + length**4 / 4
    assert abs(error.mean() - expected) < 4 * error.std() / math.sqrt(len(error))
    region = stats.ncx2.cdf(stats.chi2.ppf(0.95, 2), 2, length**2)
    assert near_share(compute("region_coverage", own)[""], region)


@pytest.mark.slow
def test_an_overconfident_surrogate(exact: Exact) -> None:
    """Twice the log-likelihood makes widths smaller by √2, without bias."""
    rho, estimates, truth = exact
    own = prediction(*likelihoods(estimates, rho, width=1 / math.sqrt(2), nodes=81))
    for i, parameter in enumerate(("mu", "z")):
        width = compute("width", own)[parameter]
        np.testing.assert_allclose(width, math.sqrt(2) * SIGMA[i], rtol=2e-3)
        assert near_share(compute("coverage", own)[parameter], 0.5205)
        distance = compute("mle_distance", own, truth)[parameter]
        np.testing.assert_allclose(distance, 0, atol=5e-3)
    threshold = stats.chi2.ppf(0.95, 2)
    assert near_share(compute("region_coverage", own)[""], stats.chi2.cdf(threshold / 2, 2))
    ratio = compute("region_area", own)[""] / compute("region_area", truth)[""]
    np.testing.assert_allclose(ratio, 0.5, rtol=0.015)
    # (2 q − q)² / 4 for q ~ χ²₂, whose second moment is 8.
    statistic = -2 * truth.curves.log_ratio_truth
    error = compute("likelihood_ratio_error", own, truth)[""]
    np.testing.assert_allclose(error, statistic**2 / 4, rtol=1e-3, atol=1e-3)
    assert abs(error.mean() - 2) < 4 * error.std() / math.sqrt(len(error))
    overlap = compute("overlap_M", first(own), first(truth))
    cross = math.sqrt(math.log(2))  # where the densities of σ and σ/√2 are equal
    one = 2 * stats.norm.sf(math.sqrt(2) * cross) + 1 - 2 * stats.norm.sf(cross)
    np.testing.assert_allclose(overlap["mu"], one, atol=3e-3)
    np.testing.assert_allclose(overlap["z"], one, atol=3e-3)
    np.testing.assert_allclose(overlap["joint"], 0.75, atol=5e-3)


@pytest.mark.parametrize("ratio", [3.0, 30.0, 300.0])
def test_overlap_of_very_different_widths(ratio: float) -> None:
    """Each likelihood has its own lattice, and the narrower one is resolved at any width."""
    wide = likelihoods(np.array([THETA]))
    lattice = likelihoods(np.array([THETA]), width=1 / ratio, nodes=61, reach=8 / ratio)
    own, truth = prediction(*lattice), prediction(*wide)
    cross = optimize.brentq(
        lambda t: stats.norm.logpdf(t) - stats.norm.logpdf(t, scale=1 / ratio), 1 / ratio, 5
    )
    one = 2 * stats.norm.sf(ratio * cross) + 1 - 2 * stats.norm.sf(cross)
    radius = 4 * math.log(ratio) / (ratio**2 - 1)  # squared, where 2D densities are equal
    two = 1 - math.exp(-radius / 2) + math.exp(-(ratio**2) * radius / 2)
    for a, b in ((own, truth), (truth, own)):
        overlap = compute("overlap_M", a, b)
        # A window ends six nats below the maximum, which matters for an overlap of 0.01.
        assert overlap["mu"][0] == pytest.approx(one, rel=0.02, abs=1e-3)
        assert overlap["z"][0] == pytest.approx(one, rel=0.02, abs=1e-3)
        assert overlap["joint"][0] == pytest.approx(two, rel=0.02, abs=1e-3)


def test_windows_that_do_not_meet_share_nothing() -> None:
    near = likelihoods(np.array([[0.4, 0.3], [0.4, 0.3], [0.4, 0.3]]), reach=20, nodes=161)
    far = likelihoods(np.array([[0.6, 0.7], [0.6, 0.3], [0.4, 0.3]]), reach=20, nodes=161)
    overlap = compute("overlap_M", prediction(*near), prediction(*far))
    np.testing.assert_allclose(overlap["joint"], [0, 0, 1], atol=2e-3)
    np.testing.assert_allclose(overlap["mu"], [0, 0, 1], atol=2e-3)
    np.testing.assert_allclose(overlap["z"], [0, 1, 1], atol=2e-3)


def half_gaussian(sigma: float, nodes: int) -> Likelihoods:
    """Return a likelihood cut in its middle by μ ≥ 0, with `nodes` nodes down to DEPTH."""
    first = torch.arange(int(1.4 * nodes), dtype=torch.float64) * (math.sqrt(12) * sigma / nodes)
    second = torch.linspace(0, 1, 65, dtype=torch.float64)
    values = -0.5 * (first[:, None] / sigma) ** 2 - 0.5 * ((second - 0.5) / 0.1) ** 2
    return summarise(
        Lattice((first, second), values[None], torch.zeros(1, dtype=torch.float64), False), SPACE
    )


def test_overlap_of_cut_likelihoods_does_not_depend_on_the_lattice() -> None:
    """Overlaps are of the same likelihood on other nodes, and of one 10 % wider."""
    found = {
        (nodes, sigma): prediction(*half_gaussian(sigma, nodes))
        for nodes in range(30, 70, 4)
        for sigma in (0.05, 0.055)
    }
    truth = prediction(*half_gaussian(0.05, 32))

    def smaller(t: float) -> float:
        return 2 * min(float(stats.norm.pdf(t)), float(stats.norm.pdf(t, scale=1.1)))

    wider = integrate.quad(smaller, 0, 8)[0]
    worst = 0.0
    for (_, sigma), own in found.items():
        overlap = compute("overlap_M", own, truth)
        expected = 1.0 if sigma == 0.05 else wider
        worst = max(worst, abs(overlap["mu"][0] - expected), abs(overlap["joint"][0] - expected))
        assert overlap["z"][0] == pytest.approx(1, abs=0.01)
    assert worst < 0.01


def test_overlap_of_all_events_is_given_to_the_datasets_of_its_set() -> None:
    sets = np.repeat([0, 1, 2], 4)
    curves = likelihoods(np.tile(THETA, (12, 1)))
    _, truth_full = likelihoods(np.tile(THETA, (3, 1)))
    shifts = np.array([[0, 0], [0, 0.5 * SIGMA[1]], [0, 1.5 * SIGMA[1]]])
    _, own_full = likelihoods(np.array(THETA) + shifts)
    full_set = np.arange(3)
    truth = replace(prediction(*curves, sets=sets), full_window=truth_full, full_set=full_set)
    own = replace(prediction(*curves, sets=sets), full_window=own_full, full_set=full_set)
    overlap = compute("overlap_kM", own, truth)
    expected = np.repeat(2 * stats.norm.cdf(-np.array([0, 0.5, 1.5]) / 2), 4)
    np.testing.assert_allclose(overlap["z"], expected, atol=4e-3)
    np.testing.assert_allclose(overlap["mu"], 1, atol=4e-3)
    arrays, undefined = score([METRICS["overlap_kM"]], own, truth)
    np.testing.assert_allclose(arrays["overlap_kM/z"], expected[::4], atol=4e-3)
    assert not undefined
    arrays, undefined = score([METRICS["overlap_kM"]], prediction(*curves), prediction(*curves))
    assert list(undefined) == ["overlap_kM"]
