"""Lattices of one parameter, against closed forms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from surfaces import Array, alone
from torch import Tensor

from bench.contracts import Datasets, LikelihoodPrediction, Parameter, ParameterSpace, Resolution
from bench.inference.box import ROOTS, summarise_box
from bench.inference.intervals import summarise
from bench.inference.lattice import refine
from bench.inference.likelihood import MixtureLikelihood
from bench.metrics import expected, intervals, likelihood
from bench.metrics.intervals import ALPHA
from bench.stats.clustering import mean

RESOLUTION = (Resolution(spacing=0.25),)  # default of tasks of one parameter


def lifetimes(x: Tensor, context: Tensor) -> Tensor:
    """Return the log-density of exponential lifetimes at a rate."""
    return (context[:, 0].double().log() - x.double() * context[:, 0].double())[None, None]


def normal(x: Tensor, context: Tensor) -> Tensor:
    """Return the log-density of a Gaussian of width 1 around the context."""
    return -0.5 * (x.double() - context[:, 0].double()).square()[None, None]


def space_of(parameter: Parameter, *, context: bool = True) -> ParameterSpace:
    return ParameterSpace([parameter], [parameter.name] if context else [])


RATE = Parameter("rate", 0.1, 10.0, "interest", (0.2, 5.0), "log")
MEAN = Parameter("mean", -4.0, 4.0, "interest", (-2.0, 2.0))
SHARE = Parameter("share", 0.0, 1.0, "interest", (0.1, 0.9))


def ends(fall: Callable[[float], float], best: float, low: float, high: float, t: float) -> Array:
    """Solve 2 (max − log L) = t on both sides of the maximum."""
    return np.array(
        [optimize.brentq(lambda at: fall(at) - t, *sorted((best, bound))) for bound in (low, high)]
    )


@pytest.mark.parametrize("seed", range(3))
def test_exponential_lifetimes(seed: int) -> None:
    space = space_of(RATE)
    times = np.random.default_rng(seed).exponential(0.5, (1, 40))[0]
    x, truth = torch.tensor(times)[:, None], torch.tensor([2.0], dtype=torch.float64)
    counts = torch.ones(1, 40)
    events = MixtureLikelihood(lifetimes, x, counts, space, alone, truth)
    lattice = refine(events, RESOLUTION, box=space.box)
    curves, window = summarise(lattice, space)
    n, best = 40, 1 / times.mean()

    def fall(rate: float) -> float:
        return 2 * n * (rate / best - 1 - np.log(rate / best))

    wanted = ends(fall, best, 0.1, 10.0, 1.0)
    half = 0.5 * np.diff(wanted)[0]
    assert curves.mle.shape == curves.lower.shape == (1, 1)
    assert window.joint.shape == (1, window.profile.shape[-1])
    np.testing.assert_allclose((curves.lower[0, 0] - wanted[0]) / half, 0, atol=1e-3)
    np.testing.assert_allclose((curves.upper[0, 0] - wanted[1]) / half, 0, atol=1e-3)
    np.testing.assert_allclose((curves.mle[0, 0] - best) / half, 0, atol=2e-3)
    assert -2 * curves.log_ratio_truth[0] == pytest.approx(fall(2.0), abs=1e-3)
    region = ends(fall, best, 0.1, 10.0, stats.chi2.ppf(0.95, 1))
    assert window.area[0] == pytest.approx(np.log(region[1] / region[0]), rel=1e-3)
    assert lattice.inside is not None
    inside, _ = summarise_box(lattice.inside, space, None, truth)
    for i, root in enumerate(ROOTS[:6]):
        wanted = ends(fall, best, 0.01, 30.0, root**2).clip(0.2, 5.0)
        found = np.array([inside.lower[0, 0, i], inside.upper[0, 0, i]])
        np.testing.assert_allclose((found - wanted) / half, 0, atol=2e-3, err_msg=str(root))
    assert inside.statistic[0, 0] == pytest.approx(fall(2.0), abs=1e-3)


@pytest.mark.parametrize("estimate", [0.0, 0.7, 3.9])
def test_gaussian_mean(estimate: float) -> None:
    """The interval is the estimate ± σ / √n, cut at the bound of the space."""
    n, space = 25, space_of(MEAN)
    x = torch.tensor(estimate + np.linspace(-1, 1, n))[:, None]
    truth = torch.tensor([0.5], dtype=torch.float64)
    events = MixtureLikelihood(normal, x, torch.ones(1, n), space, alone, truth)
    curves, window = summarise(refine(events, RESOLUTION), space)
    half = 1 / np.sqrt(n)
    found = (curves.lower[0, 0], curves.upper[0, 0])
    wanted = np.array([estimate - half, min(estimate + half, 4.0)])
    np.testing.assert_allclose((np.array(found) - wanted) / half, 0, atol=1e-3)
    assert curves.cut_upper.tolist() == [[estimate > 3]]
    assert window.region_cut.tolist() == [estimate > 3]
    region = 1.959963984540054 * half
    length = min(estimate + region, 4.0) - (estimate - region)
    assert window.area[0] == pytest.approx(length, rel=2e-3)
    nodes = window.origin[0] + window.spacing[0] * np.arange(window.marginal.shape[-1])
    density = stats.norm(estimate, half).pdf(8 * nodes - 4) * 8
    density /= stats.norm(estimate, half).cdf(4.0)
    np.testing.assert_allclose(window.marginal[0, 0], density, atol=0.01 * density.max())
    assert not curves.unresolved.any()
    assert np.isnan(curves.information).all()
    assert curves.information.shape == (1, 1, 1)


@pytest.mark.parametrize("seed", range(2))
def test_mixing_weight_without_context(seed: int) -> None:
    """A task without context has one evaluation per event, at an empty context."""
    rng, n = np.random.default_rng(seed), 200
    from_first = rng.random(n) < 0.3
    values = np.where(from_first, rng.normal(0, 1, n), rng.normal(2, 1, n))
    calls: list[tuple[int, ...]] = []

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        calls.append(tuple(context.shape))
        both = torch.stack([-0.5 * (x[:, 0] - centre).square() for centre in (0.0, 2.0)])
        return both[None, :, :, None].expand(-1, -1, -1, len(context))

    space = space_of(SHARE, context=False)
    events = MixtureLikelihood(
        log_ratio,
        torch.tensor(values)[:, None],
        torch.ones(1, n),
        space,
        lambda theta: torch.cat([theta, 1 - theta], -1),
        torch.tensor([0.3], dtype=torch.float64),
    )
    curves, _ = summarise(refine(events, RESOLUTION), space)
    one, two = (stats.norm(centre).pdf(values) for centre in (0.0, 2.0))

    def log_likelihood(share: float) -> float:
        return float(np.log(share * one + (1 - share) * two).sum())

    found = optimize.minimize_scalar(
        lambda s: -log_likelihood(s), bounds=(0, 1), method="bounded", options={"xatol": 1e-10}
    )

    def fall(share: float) -> float:
        return -2 * (float(found.fun) + log_likelihood(share))

    wanted = ends(fall, found.x, 1e-6, 1 - 1e-6, 1.0)
    half = 0.5 * np.diff(wanted)[0]
    moved = np.array([curves.lower[0, 0], curves.mle[0, 0], curves.upper[0, 0]])
    moved = (moved - [wanted[0], found.x, wanted[1]]) / half
    np.testing.assert_allclose(moved, 0, atol=1e-3)
    assert {shape[1] for shape in calls} == {0}
    assert max(shape[0] for shape in calls) <= 2  # any node, and the truth


def gaussian_prediction(shift: float, scale: float, estimates: Array) -> LikelihoodPrediction:
    """Predict datasets of one event each, the estimate, as Gaussians moved by `shift` σ."""
    space, count, sigma = space_of(MEAN), len(estimates), 0.2

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        pull = (context[:, 0].double() - x.double()) / sigma - shift
        return -0.5 * (pull / scale).square()[None, None]

    x, truth = torch.tensor(estimates)[:, None], torch.zeros(1, dtype=torch.float64)
    events = MixtureLikelihood(log_ratio, x, torch.eye(count), space, alone, truth)
    lattice = refine(events, RESOLUTION, box=space.box)
    assert lattice.inside is not None
    curves, window = summarise(lattice, space)
    box, box_window = summarise_box(lattice.inside, space, None, truth)
    index = np.arange(count)
    return LikelihoodPrediction(
        names=("mean",),
        low=np.array([-4.0]),
        high=np.array([4.0]),
        log_scale=np.zeros(1, bool),
        reported=(0,),
        datasets=Datasets(np.zeros((count, 1)), np.full(count, -1), index, index),
        curves=curves,
        window=window,
        box=box,
        box_window=box_window,
    )


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 1.0), (0.3, 1.5), (0.0, 0.7)])
def test_metrics_of_gaussians_have_closed_forms(shift: float, scale: float) -> None:
    estimates = np.array([0.0, 0.1, -0.2])
    own, truth = gaussian_prediction(shift, scale, estimates), gaussian_prediction(0, 1, estimates)
    divergence = np.log(scale) + (1 + shift**2) / (2 * scale**2) - 0.5
    z = np.linspace(-9, 9, 20001)
    smaller = np.minimum(stats.norm.pdf(z), stats.norm.pdf(z, shift, scale))
    overlap = np.trapezoid(smaller, z)
    low, high = shift - scale, shift + scale
    outside = np.maximum(low - z, 0) + np.maximum(z - high, 0)
    missed = np.trapezoid(outside * stats.norm.pdf(z), z)
    root = 1.959963984540054 * scale
    wanted = {
        "divergence": divergence,
        "box_overlap": overlap,
        "overlap_M": overlap,
        "expected_coverage": stats.norm.cdf(high) - stats.norm.cdf(low),
        "expected_score": 0.2 * (2 * scale + 2 / ALPHA * missed),
        "box_width": 0.4 * scale,
        "expected_region": stats.norm.cdf(shift + root) - stats.norm.cdf(shift - root),
    }
    metrics = {m.name: m for module in (expected, likelihood) for m in vars(module).values()
               if hasattr(m, "compute")}  # fmt: skip
    for name, value in wanted.items():
        found = metrics[name].compute(own, truth)
        keys = {"expected_region": [""], "divergence": ["mean", "joint"]}.get(name, ["mean"])
        for key in keys:
            np.testing.assert_allclose(found[key], value, rtol=3e-3, atol=1e-3, err_msg=name)
    np.testing.assert_array_equal(
        intervals.region_coverage.compute(own, None)[""],
        ((0 - estimates) / 0.2 - shift) ** 2 / scale**2 <= stats.chi2.ppf(0.95, 1),
    )


def test_the_error_of_the_likelihood_ratio_is_in_units_of_its_variance() -> None:
    """The mean squared statistic of exact Gaussians, minus 0, is E[(χ²₁)²] / 2 = 3 / 2."""
    rng = np.random.default_rng(0)
    own = gaussian_prediction(0.0, 1.0, 0.2 * rng.standard_normal(2000))
    sharp = own.curves.log_ratio_truth
    zero = gaussian_prediction(0.0, 1.0, np.zeros(2000))
    error = likelihood.likelihood_ratio_error.compute(own, zero)[""]
    np.testing.assert_allclose(error, (2 * sharp) ** 2 / 2, atol=1e-6)
    estimate = mean(error[None], np.full(len(error), -1))
    assert abs(estimate.value - 1.5) < 4 * estimate.error
