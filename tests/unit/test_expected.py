"""Expectations over the exact posterior, against closed forms, plain means and finer grids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from surfaces import DEFAULT, REGISTRY, Array, LogRatio, alone, exact_log_ratio, square
from torch import Tensor

from bench.contracts import Datasets, FitLog, IndependentPlan, LikelihoodPrediction, Task
from bench.inference.box import BOX_NODES, ROOTS, summarise_box
from bench.inference.intervals import summarise
from bench.inference.lattice import refine
from bench.inference.likelihood import ExactLikelihood, MixtureLikelihood
from bench.metrics import expected, intervals, posterior_lattice
from bench.metrics.likelihood import windows
from bench.stages.datasets import sets
from bench.stages.predict import load, predict
from bench.storage.store import Store

CPU = torch.device("cpu")
SIGMA = (0.06, 0.05)  # of the exact likelihood, in the box (0.1, 0.9)


def gaussian(shift: float, scale: float) -> LogRatio:
    """Return log-ratios of Gaussians around x, moved by `shift` and `scale` σ in each axis."""
    sigma = torch.tensor(SIGMA, dtype=torch.float64)

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        pull = (context.double()[None] - x.double()[:, None]) / sigma - shift
        return -0.5 * (pull / scale).square().sum(-1)[None, None]

    return log_ratio


def prediction(log_ratio: LogRatio, estimates: Array, theta: Array) -> LikelihoodPrediction:
    """Predict datasets of one event each, the estimate, in the unit square."""
    space, count = square(), len(estimates)
    events = MixtureLikelihood(
        log_ratio,
        torch.from_numpy(estimates),
        torch.eye(count),
        space,
        alone,
        torch.tensor([0.5, 0.5], dtype=torch.float64),
    )
    lattice = refine(events, DEFAULT, box=space.box)
    indices = np.arange(count)
    assert lattice.inside is not None
    curves, window = summarise(lattice, space)
    box, box_window = summarise_box(lattice.inside, space, None, events.truth)
    return LikelihoodPrediction(
        names=space.names,
        low=np.zeros(2),
        high=np.ones(2),
        log_scale=np.zeros(2, bool),
        reported=(0, 1),
        datasets=Datasets(theta, np.full(count, -1), indices, indices),
        curves=curves,
        window=window,
        box=box,
        box_window=box_window,
    )


def central(shift: float, scale: float) -> tuple[LikelihoodPrediction, LikelihoodPrediction]:
    """Return predictions far from the edges of the box: the surrogate's, and the exact one."""
    middle = np.array([[0.5, 0.5], [0.48, 0.53]])
    return prediction(gaussian(shift, scale), middle, middle), prediction(
        gaussian(0.0, 1.0), middle, middle
    )


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_gaussians_have_closed_forms(shift: float, scale: float) -> None:
    own, truth = central(shift, scale)
    one = np.log(scale) + (1 + shift**2) / (2 * scale**2) - 0.5
    found = expected.divergence.compute(own, truth)
    limits = expected.divergence_limit.compute(own, truth)
    for key, times in (("a", 1), ("b", 1), ("joint", 2)):
        limit = limits[key].any()
        assert not limit or shift / scale >= 2
        rtol = 0.05 if limit else 3e-3
        np.testing.assert_allclose(found[key], times * one, rtol=rtol, atol=2e-4, err_msg=key)
    z = np.linspace(-9, 9, 20001)
    smaller = np.minimum(stats.norm.pdf(z), stats.norm.pdf(z, shift, scale))
    overlap = expected.box_overlap.compute(own, truth)
    np.testing.assert_allclose(overlap["a"], np.trapezoid(smaller, z), atol=2e-3)
    covered = stats.norm.cdf(shift + scale) - stats.norm.cdf(shift - scale)
    coverage = expected.expected_coverage.compute(own, truth)
    score = expected.expected_score.compute(own, truth)
    ends = shift - scale, shift + scale
    outside = np.maximum(ends[0] - z, 0) + np.maximum(z - ends[1], 0)
    missed = np.trapezoid(outside * stats.norm.pdf(z), z)
    for axis, name in enumerate("ab"):
        np.testing.assert_allclose(coverage[name], covered, atol=1e-3)
        sigma = SIGMA[axis]
        wanted = sigma * (2 * scale + 2 / intervals.ALPHA * missed)
        np.testing.assert_allclose(score[name], wanted, rtol=3e-3)
    if shift == 0:
        region = stats.chi2.cdf(stats.chi2.ppf(0.95, 2) * scale**2, 2)
        np.testing.assert_allclose(
            expected.expected_region.compute(own, truth)[""], region, atol=2e-3
        )
    at = expected.profile_coverage.compute(own, truth)
    for root in ROOTS:
        inside = stats.norm.cdf(shift + root * scale) - stats.norm.cdf(shift - root * scale)
        np.testing.assert_allclose(at[f"a {root:g}"], inside, atol=1e-3)


@pytest.mark.parametrize("shift", [3.0, 5.0])
def test_large_divergences_are_measured_or_said_to_be_limits(shift: float) -> None:
    own, truth = central(shift, 1.0)
    found = expected.divergence.compute(own, truth)
    np.testing.assert_allclose(found["a"], shift**2 / 2, rtol=0.02)
    far, truth = central(shift, 0.2)
    found = expected.divergence.compute(far, truth)
    limits = expected.divergence_limit.compute(far, truth)
    exact = np.log(0.2) + (1 + shift**2) / (2 * 0.04) - 0.5
    assert (found["a"] < exact).all()
    assert limits["a"].all()


FLAWS = pytest.mark.parametrize(
    ("shift", "scale", "scatter"),
    [(0.0, 1.0, 0.0), (0.7, 1.0, 0.0), (0.0, 0.5, 0.0), (0.0, 1.0, 0.8)],
    ids=["exact", "biased", "over-confident", "scattered"],
)


@pytest.mark.slow
@FLAWS
def test_expectations_have_the_means_of_plain_metrics(
    shift: float, scale: float, scatter: float
) -> None:
    """Many datasets are at the edges of the box; tests/statistics has 2000 of them."""
    check_means(shift, scale, scatter, 400)


def check_means(shift: float, scale: float, scatter: float, count: int) -> None:
    rng = np.random.default_rng(0)
    sigma = np.array(SIGMA)
    theta = rng.uniform(0.1, 0.9, (count, 2))
    estimates = theta + sigma * rng.standard_normal((count, 2))
    moved = estimates + sigma * scatter * rng.standard_normal((count, 2))
    differences: dict[str, list[Array]] = {}
    spreads: dict[str, list[Array]] = {}
    for rows in np.split(np.arange(count), count // 50):
        truth = prediction(gaussian(0.0, 1.0), estimates[rows], theta[rows])
        own = prediction(gaussian(shift, scale), moved[rows], theta[rows])
        plain = plain_in_the_box(own)
        for metric in (expected.expected_coverage, expected.expected_score):
            for name, found in metric.compute(own, truth).items():
                key = f"{metric.name}/{name}"
                differences.setdefault(key, []).append(found - plain[key])
                spreads.setdefault(key, []).append(np.stack([found, plain[key]]))
    for key, parts in differences.items():
        values = np.concatenate(parts)
        assert abs(values.mean()) < 4 * values.std() / count**0.5, key
        found, plain_values = np.concatenate(spreads[key], -1)
        assert found.std() < plain_values.std(), key


def plain_in_the_box(own: LikelihoodPrediction) -> dict[str, Array]:
    assert own.box is not None
    theta, width = own.datasets.theta, ROOTS.index(1.0)
    lower, upper = own.box.lower[..., width], own.box.upper[..., width]
    inside = (lower <= theta) & (theta <= upper)
    missed = np.maximum(lower - theta, 0) + np.maximum(theta - upper, 0)
    score = upper - lower + 2 / intervals.ALPHA * missed
    found = {"expected_coverage": inside.astype(float), "expected_score": score}
    return {f"{m}/{n}": v[:, i] for m, v in found.items() for i, n in enumerate(own.names)}


class Wrapped:
    """Exact densities of a task, changed by a function of log-ratios, events and contexts."""

    reference = None
    has_density = True

    def __init__(self, task: Task, change: Callable[[LogRatio, Tensor, Tensor], Tensor]) -> None:
        self.exact, self.change, self.log = ExactLikelihood(task), change, FitLog()

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        return self.change(self.exact.log_ratio, x, context)

    def state(self) -> None:
        return None


def of_task(
    task: Task, change: Callable[[LogRatio, Tensor, Tensor], Tensor], folder: Path, uniform: int
) -> LikelihoodPrediction:
    plan = IndependentPlan(uniform=uniform, per_point=0)
    (arrays,) = predict(task, Wrapped(task, change), plan, 0, Store(folder), CPU, lambda **_: None)
    found = load(task, plan, arrays)
    assert isinstance(found, LikelihoodPrediction)
    return found


def unchanged(log_ratio: LogRatio, x: Tensor, context: Tensor) -> Tensor:
    return log_ratio(x, context)


def flawed(task: Task, log_ratio: LogRatio, x: Tensor, context: Tensor) -> Tensor:
    """A surrogate with a flaw: it is off by 2 % of the box."""
    inner = torch.tensor([p.inner for p in task.space.context])
    return log_ratio(x, context + 0.02 * (inner[:, 1] - inner[:, 0]))


def clipped(base: LogRatio, inner: Tensor, x: Tensor, context: Tensor) -> Tensor:
    outside = ((context < inner[0]) | (context > inner[1])).any(-1)
    return base(x, context).masked_fill(outside, -torch.inf)


def trick(name: str, task: Task) -> Callable[[LogRatio, Tensor, Tensor], Tensor]:
    inner = torch.tensor([p.inner for p in task.space.context]).T

    def change(log_ratio: LogRatio, x: Tensor, context: Tensor) -> Tensor:
        base = partial(flawed, task, log_ratio)
        if name == "clips contexts":
            return clipped(base, inner, x, context)
        if name == "scatters":
            noise = float(torch.sin(1e5 * x.double().sum()))  # differs between datasets
            width = float(inner[1, 0] - inner[0, 0])
            return base(x, context + 0.15 * width * noise)
        assert name == "is twice as confident"
        return 2 * base(x, context)

    return change


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussians-near", "gaussians-far", "higgs"])
def test_tricks_do_not_lead(name: str, tmp_path: Path) -> None:
    """Neither knowing the box, nor scatter, nor confidence beats the same surrogate without."""
    task, count = REGISTRY.task(name), 12
    truth = of_task(task, unchanged, tmp_path, count)
    own = of_task(task, partial(flawed, task), tmp_path, count)

    def scores(prediction: LikelihoodPrediction) -> tuple[Array, Array]:
        score = expected.expected_score.compute(prediction, truth)
        divergence = expected.divergence.compute(prediction, truth)["joint"]
        return np.stack([score[n] for n in task.space.names], -1), divergence

    honest, distance = scores(own)
    for how in ("clips contexts", "scatters", "is twice as confident"):
        found, further = scores(of_task(task, trick(how, task), tmp_path, count))
        ratio = np.exp(np.log(found.mean(0) / honest.mean(0)).mean())
        assert ratio > 0.99, (how, ratio)
        assert further.mean() > 0.97 * distance.mean(), how
    # The plain score is won by intervals that are clipped, the one in the box is not.
    low, high = np.array([p.inner for p in task.space.parameters]).T
    curves = replace(
        own.curves,
        lower=np.clip(own.curves.lower, low, high),
        upper=np.clip(own.curves.upper, low, high),
    )
    cheat = replace(own, curves=curves)
    plain = [intervals.interval_score.compute(p, None) for p in (cheat, own)]
    assert any((plain[0][n].mean() < plain[1][n].mean()) for n in task.space.names)
    np.testing.assert_array_equal(scores(cheat)[0], honest)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussians-near", "higgs", "asymmetric", "gp"])
def test_stored_posteriors_against_a_finer_grid(name: str, tmp_path: Path) -> None:
    task, plan = REGISTRY.task(name), IndependentPlan(uniform=4, per_point=0)
    own = of_task(task, unchanged, tmp_path, 4)
    assert own.box_window is not None
    low, high = task.space.box
    share = torch.linspace(0, 1, 4 * (BOX_NODES - 1) + 1, dtype=torch.float64)
    axes = [a + (b - a) * share for a, b in zip(low, high, strict=True)]
    stored = posterior_lattice.Likelihood(*windows(own.box_window, slice(None)))
    density = stored.log_joint(torch.stack(axes).expand(4, 2, -1)).exp()
    distances = []
    for row, events in enumerate(sets(task, plan, 0)):
        exact = MixtureLikelihood(
            exact_log_ratio(task),
            events.x.double(),
            events.counts,
            task.space,
            task.weights,
            events.theta,
        )
        values = exact.log_likelihood((axes[0], axes[1]))[0][0]
        fine = (values - values.max()).exp()
        weights = torch.ones(len(share), dtype=torch.float64)
        weights[[0, -1]] = 0.5
        cells = weights[:, None] * weights
        p, q = (d * cells / (d * cells).sum() for d in (fine, density[row]))
        distances.append(0.5 * float((p - q).abs().sum()))
    assert np.mean(distances) < 0.002, distances
    assert max(distances) < 0.02, distances


def test_datasets_at_points_have_no_expectation() -> None:
    own, truth = central(0.0, 1.0)
    datasets = replace(own.datasets, point=np.array([-1, 3]))
    found = expected.expected_coverage.compute(replace(own, datasets=datasets), truth)
    assert np.isfinite(found["a"]).tolist() == [True, False]


def test_predictions_of_older_versions_have_none() -> None:
    own, truth = central(0.0, 1.0)
    older = replace(own, box=None, box_window=None)
    assert expected.expected_coverage.compute(older, truth) == {}
    assert expected.box_width.compute(older, None) == {}
