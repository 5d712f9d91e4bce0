"""Expectations over draws from posteriors, against closed forms, the lattice and integrals."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from bench.tasks.linear_gaussian import LinearGaussian, linear_gaussian
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from bench.contracts import (
    EventsOfSet,
    IndependentPlan,
    LikelihoodPrediction,
    Parameter,
    ParameterSpace,
    Task,
)
from bench.inference.box import ROOTS
from bench.inference.draws import draw, find_modes
from bench.inference.events import EventLikelihood
from bench.inference.likelihood import ExactLikelihood
from bench.inference.maximum import maximise
from bench.metrics import expected, intervals
from bench.stages.datasets import describe, events
from bench.stages.evaluators import by_gradient
from bench.stages.posterior import AT_DRAWS, Drawn, at_draws
from bench.stages.predict import load, predict
from bench.storage.arrays import problem
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store

Array = NDArray[np.float64]
CPU = torch.device("cpu")


class Planted:
    """Exact likelihood whose maximum is moved by a vector, and whose widths have a factor."""

    reference = None
    has_density = True

    def __init__(self, task: Task, shift: Tensor, scale: float) -> None:
        self.exact, self.shift, self.scale = ExactLikelihood(task), shift, scale

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        return self.exact.log_ratio(x, context.double() - self.shift) / self.scale**2

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        return self.exact.log_ratio_paired(x, context - self.shift) / self.scale**2


def wide(parameters: int) -> LinearGaussian:
    """Return a task whose box is the parameter space, ten standard deviations on each side."""
    task = linear_gaussian(parameters)
    space = [replace(p, inner=(p.low, p.high)) for p in task.space.parameters]
    task.space = ParameterSpace(space, task.space.names)
    return task


def moved(task: LinearGaussian, distance: float) -> Tensor:
    """Return a shift of the first parameter by a distance in standard deviations, others fixed."""
    shift = torch.zeros(len(task.space)).double()
    information = task.observations * float((task.matrix.T @ task.matrix)[0, 0])
    shift[0] = distance / information**0.5
    return shift


def evaluated(
    task: Task, surrogate: Any, theta: Tensor, folder: Path, point: int = -1
) -> LikelihoodPrediction:
    """Evaluate datasets of the given parameters (D, P) by gradients."""
    rng = torch.Generator().manual_seed(3)
    made = []
    for number, at in enumerate(theta):
        x = events(task, at, task.observations, rng, stratified=False)
        made.append(
            EventsOfSet(number, number, point, at, x, torch.ones(1, len(x)), torch.zeros(0))
        )
    plan, store = IndependentPlan(uniform=len(theta)), SimulationStore(Store(folder))
    (found,) = by_gradient(task, surrogate, plan, made, CPU, 1, store)
    arrays = describe(made).arrays("datasets.") | found.curves[0][0].arrays("curves.")
    arrays |= found.box[0][0].arrays("box.")
    arrays |= found.draws[0][0].arrays("draws.") if found.draws else {}
    return cast(LikelihoodPrediction, load(task, plan, arrays))


def agrees(values: Array, wanted: float, least: float = 0.0) -> None:
    """Check a mean over independent datasets, within five standard errors."""
    error = max(values.std(ddof=1) / len(values) ** 0.5, least)
    assert abs(values.mean() - wanted) < 5 * error, (values.mean(), wanted, error)


@pytest.mark.parametrize(
    ("parameters", "distance", "scale"),
    [
        (1, 0.7, 1.0),
        (7, 0.1, 1.0),
        (7, 0.7, 1.0),
        (7, 1.0, 1.3),
        (7, 3.0, 1.0),
        (20, 0.0, 0.8),
    ],
)
def test_planted_surrogates_have_closed_forms(
    parameters: int, distance: float, scale: float, tmp_path: Path
) -> None:
    task, count = wide(parameters), 12
    theta = torch.zeros(count, parameters).double()
    shift = moved(task, distance)
    truth = evaluated(task, ExactLikelihood(task), theta, tmp_path)
    own = evaluated(task, Planted(task, shift, scale), theta, tmp_path)
    divergence = expected.divergence.compute(own, truth)["joint"]
    half = 0.5 / scale**2
    exact = parameters * (np.log(scale) + half - 0.5) + distance**2 * half
    agrees(divergence, exact, 2e-3 * exact)
    if exact < 0.2:  # no noise of first order
        assert divergence.std() < 0.5 * exact
    assert not expected.divergence_limit.compute(own, truth)["joint"].any()
    if scale == 1:
        overlap = expected.box_overlap.compute(own, truth)["joint"]
        agrees(overlap, 2 * stats.norm.cdf(-0.5 * distance), 2e-3)
    sigma = float(task.standard_deviation(torch.zeros(task.observations, 1))[0])
    away = float(shift[0]) / sigma
    within = expected.profile_coverage.compute(own, truth)
    for root in ROOTS:
        inside = stats.norm.cdf(away + root * scale) - stats.norm.cdf(away - root * scale)
        agrees(within[f"theta1 {root:g}"], inside, 0.02 / count**0.5)
    coverage = expected.expected_coverage.compute(own, truth)["theta1"]
    np.testing.assert_allclose(coverage, within["theta1 1"], atol=1e-6)
    z = np.linspace(-9, 9, 20_001)
    outside = np.maximum(away - scale - z, 0) + np.maximum(z - away - scale, 0)
    missed = np.trapezoid(outside * stats.norm.pdf(z), z)
    score = expected.expected_score.compute(own, truth)["theta1"]
    agrees(score / sigma, 2 * scale + 2 / intervals.ALPHA * missed, 0.02 / count**0.5)
    if distance == 0:
        region = stats.chi2.cdf(stats.chi2.isf(0.05, parameters) * scale**2, parameters)
        agrees(expected.expected_region.compute(own, truth)[""], region, 0.03 / count**0.5)
    information = expected.information.compute(own, truth)["joint"]
    np.testing.assert_allclose(information, -np.log(scale), atol=1e-5)


@pytest.mark.parametrize("parameters", [3, 7])
def test_exact_has_no_divergence(parameters: int, tmp_path: Path) -> None:
    """Its intervals cover, also at the edges of the box, and it alone has quantiles."""
    task, count = linear_gaussian(parameters), 32
    theta = task.draw_parameters(count, torch.Generator().manual_seed(0))
    truth = evaluated(task, ExactLikelihood(task), theta, tmp_path)
    assert truth.draws is not None
    assert truth.draws.theta.shape == (count, 256, parameters)
    assert truth.draws.theta.dtype == np.float32
    assert (truth.draws.size >= 400).all()
    assert (np.abs(expected.divergence.compute(truth, truth)["joint"]) < 1e-9).all()
    np.testing.assert_allclose(expected.box_overlap.compute(truth, truth)["joint"], 1, atol=1e-7)
    assert (expected.information.compute(truth, truth)["joint"] == 0).all()
    agrees(expected.expected_coverage.compute(truth, truth)["theta1"], 0.6827)
    quantiles = expected.posterior.compute(truth, truth)
    assert len(quantiles) == expected.DRAWS
    assert (quantiles["theta1 1"] < quantiles["theta1 16"]).all()
    own = evaluated(task, Planted(task, moved(task, 0.1), 1.0), theta, tmp_path)
    assert expected.posterior.compute(own, truth) == {}
    np.testing.assert_array_equal(own.draws.theta, truth.draws.theta)  # type: ignore[union-attr]


@pytest.mark.parametrize(("distance", "scale"), [(0.5, 1.0), (0.0, 0.7), (1.5, 1.5)])
def test_both_evaluators_agree(distance: float, scale: float, tmp_path: Path) -> None:
    """At the edges of the box, too, for every dataset within the errors of draws."""
    task, count = linear_gaussian(2), 40
    surrogate = Planted(task, moved(task, distance), scale)
    found: dict[str, tuple[LikelihoodPrediction, LikelihoodPrediction]] = {}
    for evaluator in ("lattice", "gradient"):
        plan = IndependentPlan(uniform=count, per_point=1, evaluator=evaluator)
        both = []
        for one in (surrogate, ExactLikelihood(task)):
            (arrays,) = predict(task, one, plan, 0, Store(tmp_path), CPU, lambda **_: None)
            record = {"plan": plan.model_dump(), "seed": 0}
            assert problem("predictions/t/m/p/member-000", {}, arrays, record, task) == ""
            both.append(cast(LikelihoodPrediction, load(task, plan, arrays)))
        found[evaluator] = both[0], both[1]
    for metric, key, error in (
        (expected.expected_coverage, "theta1", 0.03),
        (expected.expected_region, "", 0.06),
        (expected.box_overlap, "joint", 0.04),
    ):
        values, wanted = (
            dict(metric.compute(*found[evaluator]))[key] for evaluator in ("gradient", "lattice")
        )
        assert np.isnan(values[count:]).all()  # datasets at points
        difference = (values - wanted)[:count]
        assert np.isfinite(difference).all()
        assert np.abs(difference).max() < 5 * error
        agrees(difference, 0.0, 0.005)
    lattice, gradient = (
        dict(expected.divergence.compute(*found[name]))["joint"][:count]
        for name in ("lattice", "gradient")
    )
    agrees(gradient - lattice, 0.0, 0.01 * lattice.mean())
    assert np.corrcoef(gradient, lattice)[0, 1] > 0.5 or lattice.std() < 0.2 * lattice.mean()


class Squares:
    """Unit Gaussian around (a, b²) times a factor of the log-density: there are two modes."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        a, b = context.view(context.shape[-2:]).double().unbind(-1)
        pull = x - torch.stack([a, 3 * b.square()], -1)
        return -0.5 * pull.square().sum(-1)[None, None] / self.scale**2


@pytest.mark.parametrize("scale", [0.5, 0.9, 2.0])
def test_a_surrogate_with_several_modes(scale: float) -> None:
    names = ("a", "b")
    space = ParameterSpace([Parameter(n, -1, 1, "interest", (-0.9, 0.9)) for n in names], names)
    rng = np.random.default_rng(2)
    x = torch.from_numpy(rng.standard_normal((100, 2)) + np.array([0.3, 0.6]))[None]

    def likelihood(width: float) -> EventLikelihood:
        return EventLikelihood(Squares(width), x, space, lambda t: torch.ones_like(t[..., :1]))

    exact, own = likelihood(1.0), likelihood(scale)
    modes, box = find_modes(exact, space.box), space.box.numpy()
    assert len(modes.start) == 2
    grid = (torch.linspace(0, 1, 801).double() * 2 - 1) * 0.9
    logs = []
    for axis, mean in enumerate((grid, 3 * grid.square())):
        pull = x[0, :, axis].mean() - mean
        logs.append((-50 * pull.square()).numpy())
    parts = []
    for log in logs:
        p, q = (np.exp(v - v.max()) for v in (log, log / scale**2))
        p, q = p / p.sum(), q / q.sum()
        known = p > 0
        parts.append((p[known] * np.log(p[known] / np.maximum(q[known], 1e-300))).sum())

    def log_likelihood(unit: Array) -> Array:
        rows = torch.zeros(len(unit), dtype=torch.int64)
        found: Array = exact.values(rows, torch.from_numpy(unit)[None])[0].numpy()
        return found

    divergences = []
    for seed in range(12):
        found = draw(log_likelihood, modes, box, np.random.default_rng(seed), np.full(2, 0.5))
        arrays = {
            "unit": torch.from_numpy(found.unit),
            "value": torch.from_numpy(found.value - found.top),
            "modes": torch.from_numpy(modes.start),
            "evidence": torch.tensor([found.evidence - found.top]),
            "evidence_size": torch.tensor([found.evidence_size]),
            "size": torch.tensor([found.size]),
            "source": torch.tensor([found.source]),
            "evaluations": torch.tensor([0.0]),
        }
        # The search of the surrogate has found one of its modes.
        maximum = maximise(
            own.of(torch.zeros(1, dtype=torch.int64)),
            torch.full((1, 1, 2), 0.7).double(),
            space.box,
        )
        task = cast(
            Task, SimpleNamespace(space=space, log_prior=lambda unit: torch.zeros(unit.shape[:-1]))
        )
        (saved,) = at_draws(task, own, maximum, [0], [Drawn(arrays, seed)])
        divergences.append(float((saved.exact - saved.own).mean() + saved.log_ratio[0]))
    agrees(np.array(divergences), sum(parts), 0.01 * sum(parts))


def test_what_is_far_is_measured_or_said_to_be_a_limit(tmp_path: Path) -> None:
    task = wide(7)
    theta = torch.zeros(6, 7).double()
    truth = evaluated(task, ExactLikelihood(task), theta, tmp_path)
    for distance, limit in ((5.0, False), (12.0, True)):
        own = evaluated(task, Planted(task, moved(task, distance), 1.0), theta, tmp_path)
        divergence = expected.divergence.compute(own, truth)["joint"]
        limits = expected.divergence_limit.compute(own, truth)["joint"]
        assert (limits == limit).all()
        if limit:
            assert (divergence < 0.5 * distance**2).all()
        else:
            agrees(divergence, 0.5 * distance**2, 0.02)


def test_draws_are_made_once(tmp_path: Path) -> None:
    """Jobs of other methods read them; a damaged entry is made again."""
    task = linear_gaussian(3)
    theta = torch.zeros(2, 3).double()
    first = evaluated(task, ExactLikelihood(task), theta, tmp_path)
    stored = sorted(tmp_path.rglob("*.safetensors"))
    assert len(stored) == 2
    written = [path.stat().st_mtime_ns for path in stored]
    again = evaluated(task, Planted(task, moved(task, 0.1), 1.0), theta, tmp_path)
    assert [path.stat().st_mtime_ns for path in stored] == written
    stored[0].write_bytes(b"damage")
    third = evaluated(task, ExactLikelihood(task), theta, tmp_path)
    for own in (again, third):
        assert own.draws is not None
        assert first.draws is not None
        np.testing.assert_array_equal(own.draws.theta, first.draws.theta)
        np.testing.assert_array_equal(own.draws.exact, first.draws.exact)
        assert own.draws.own.shape == (2, AT_DRAWS)
    at_point = evaluated(task, ExactLikelihood(task), theta, tmp_path, point=0)
    assert at_point.draws is None
    assert expected.expected_coverage.compute(at_point, at_point) == {}
