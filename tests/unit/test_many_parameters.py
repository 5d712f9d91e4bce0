"""Metrics, boards and pages of tasks with any number of parameters, some of them reported."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from metric_predictions import METRICS
from numpy.typing import NDArray
from scipy import stats

import bench
from bench.boards.render import markdown
from bench.contracts import (
    BootstrapPlan,
    BoxSummary,
    Datasets,
    IndependentPlan,
    LikelihoodPrediction,
    ProfileSummary,
    Task,
)
from bench.inference.box import ROOTS
from bench.inference.likelihood import ExactLikelihood
from bench.registry.registry import Registry
from bench.report.write import contents
from bench.stages.predict import load, predict
from bench.stages.score import score
from bench.storage.arrays import problem
from bench.storage.store import Store
from bench.storage.windows import has_windows

PLUGIN = Path(__file__).parents[1] / "plugins" / "many_parameters.py"
CASES = [(1, (0,)), (3, (0, 2)), (7, (4,)), (7, (0, 3, 6)), (7, tuple(range(7)))]
SIGMA = 0.05
COUNT = 400
WINDOWED = {
    "overlap_M",
    "region_area",
    "expected_coverage",
    "expected_score",
    "expected_region",
    "divergence",
    "divergence_limit",
    "box_overlap",
}


def gaussian(
    parameters: int, reported: tuple[int, ...], *, shift: float = 0.0, seed: int = 0
) -> LikelihoodPrediction:
    """Return exact likelihoods of Gaussians in the unit cube, moved by `shift` σ, no windows."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(0.3, 0.7, (COUNT, parameters))
    mle = theta + SIGMA * (rng.standard_normal(theta.shape) + shift)
    chosen = list(reported)
    roots = SIGMA * np.array(ROOTS)
    statistic = ((theta - mle) / SIGMA) ** 2
    cut = rng.random((COUNT, parameters)) < 0.5
    index = np.arange(COUNT)
    return LikelihoodPrediction(
        names=tuple(f"t{i}" for i in range(parameters)),
        low=np.zeros(parameters),
        high=np.ones(parameters),
        log_scale=np.zeros(parameters, bool),
        reported=reported,
        datasets=Datasets(theta, np.full(COUNT, -1), index, index),
        curves=ProfileSummary.from_arrays(
            {
                "mle": mle,
                "lower": (mle - SIGMA)[:, chosen],
                "upper": (mle + SIGMA)[:, chosen],
                "cut_lower": cut[:, chosen],
                "cut_upper": np.zeros((COUNT, len(chosen)), bool),
                "disconnected": ~cut[:, chosen],
                "log_ratio_truth": -0.5 * statistic.sum(-1),
                "unresolved": cut[:, 0],
                "information": np.broadcast_to(
                    np.eye(parameters) / SIGMA**2, (COUNT, parameters, parameters)
                ),
                "evaluations": np.full((COUNT, 3), 100.0),
            }
        ),
        box=BoxSummary(
            mle=mle,
            lower=mle[:, chosen, None] - roots,
            upper=mle[:, chosen, None] + roots,
            statistic=statistic[:, chosen],
            log_ratio_truth=-0.5 * statistic.sum(-1),
            unresolved=cut[:, 0],
            region_factor=np.ones(len(mle)),
        ),
    )


def all_metrics(own: Any, truth: Any) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    used = [m for m in METRICS.values() if "independent" in m.plans]
    return score(used, own, truth)


@pytest.mark.parametrize(("parameters", "reported"), CASES)
def test_metrics_are_of_reported_parameters(parameters: int, reported: tuple[int, ...]) -> None:
    truth = gaussian(parameters, reported)
    own = gaussian(parameters, reported, shift=0.5)
    found, undefined = all_metrics(own, truth)
    names = [f"t{i}" for i in reported]
    for metric in ("coverage", "width", "interval_score", "bias", "mle_distance", "mle_edge"):
        assert sorted(k for k in found if k.startswith(f"{metric}/")) == sorted(
            f"{metric}/{name}" for name in names
        )
    for i, name in zip(reported, names, strict=True):
        theta, mle = own.datasets.theta[:, i], own.curves.mle[:, i]
        np.testing.assert_array_equal(found[f"coverage/{name}"], np.abs(theta - mle) <= SIGMA)
        np.testing.assert_allclose(found[f"width/{name}"], 2 * SIGMA)
        np.testing.assert_allclose(found[f"bias/{name}"], (mle - theta) / SIGMA)
        np.testing.assert_allclose(found[f"mle_distance/{name}"], 0.5)
        np.testing.assert_allclose(found[f"estimate/{name}"], mle)
        np.testing.assert_allclose(found[f"statistic/{name}"], ((theta - mle) / SIGMA) ** 2)
        np.testing.assert_allclose(found[f"box_width/{name}"], 2 * SIGMA)
        np.testing.assert_allclose(found[f"profile_upper/{name} 2"], mle + 2 * SIGMA, rtol=1e-6)
    for i in range(parameters):  # all parameters, for trends
        np.testing.assert_array_equal(found[f"generating/t{i}"], own.datasets.theta[:, i])
    assert undefined.keys() >= WINDOWED
    assert not any(key.partition("/")[0] in WINDOWED for key in found)
    assert "cut/region" not in found


@pytest.mark.parametrize(("parameters", "reported"), CASES)
def test_regions_and_likelihood_ratios_are_of_all_parameters(
    parameters: int, reported: tuple[int, ...]
) -> None:
    """Regions of exact likelihoods cover 95 %, and the statistic has the variance 2 P."""
    truth = gaussian(parameters, reported)
    found, _ = all_metrics(truth, truth)
    covered = found["region_coverage/"].mean()
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / COUNT)
    shifted = gaussian(parameters, reported, shift=0.5)
    shifted_statistic = (((shifted.datasets.theta - shifted.curves.mle) / SIGMA) ** 2).sum(-1)
    inside = shifted_statistic <= stats.chi2.ppf(0.95, parameters)
    found, _ = all_metrics(shifted, truth)
    np.testing.assert_array_equal(found["region_coverage/"], inside)
    statistic = (((truth.datasets.theta - truth.curves.mle) / SIGMA) ** 2).sum(-1)
    error = (shifted_statistic - statistic) ** 2 / (2 * parameters)
    np.testing.assert_allclose(found["likelihood_ratio_error/"], error)


def test_what_the_lattice_does_not_have_is_not_saved() -> None:
    curves = gaussian(7, (4,)).curves
    saved = curves.arrays("curves.")
    assert saved["curves.information"].shape == (COUNT, 7, 7)
    older = {
        k: v for k, v in saved.items() if k not in ("curves.information", "curves.evaluations")
    }
    found = ProfileSummary.from_arrays(older, "curves.")
    assert np.isnan(found.information).all()
    assert found.information.shape == (COUNT, 7, 7)
    assert found.arrays("curves.").keys() == older.keys()
    halves = curves.split(2)
    assert halves[1].lower.shape == (COUNT // 2, 1)
    joined = ProfileSummary.concatenate(halves)
    for name, array in curves.arrays().items():
        np.testing.assert_array_equal(joined.arrays()[name], array)


def planted(made: Any, task: str) -> Any:
    """Return loaded results of exact, of a good surrogate, and of one that is too narrow."""
    results = made(task, uniform=200, per_point=1, registry=Registry([PLUGIN]))
    results.fit(task, "exact")
    results.fit(task, "lre", "tuned", 4, shift=0.02)
    results.fit(task, "histogram", members=4, width=0.5)
    return bench.load(results.root, plugins=[PLUGIN])


@pytest.mark.parametrize(
    ("task", "names"), [("cloud-7-1", ("t0",)), ("cloud-3-2", ("t0", "t1")), ("cloud-7-7", None)]
)
def test_boards_fall_back_to_plain_coverage(module_made: Any, task: str, names: Any) -> None:
    (board,) = planted(module_made, task).boards
    names = names or tuple(f"t{i}" for i in range(7))
    assert board.plain
    assert board.parameters == names
    rows = {row.label: row for row in board.rows}
    assert rows["histogram"].word == "fails"
    assert rows["lre:tuned"].word != "fails"
    for name in names:
        width = rows["histogram"].estimate(f"width/{name}/ratio")
        assert width is not None
        assert width.value == pytest.approx(0.5)
        gap = rows["histogram"].estimate(f"coverage/{name}/gap")
        assert gap is not None
        # A Gaussian of half the width covers erf(½ / √2), without the shift.
        assert gap.value == pytest.approx(0.3829 - 0.6827, abs=0.08)
    assert rows["histogram"].quantities["divergence"].estimate is None


def test_a_board_of_seven_parameters_is_rendered(module_made: Any) -> None:
    loaded = planted(module_made, "cloud-7-1")
    text = markdown(loaded.boards)
    assert "coverage of t0" in text
    assert "t1" not in text
    assert "Use lre:tuned" in text
    assert "✓ holds" in text
    joint = loaded.calibration[loaded.calibration["parameter"] == "joint"]
    exact = joint[joint["label"] == "exact"].set_index("level")
    inside = exact["coverage"].between(exact["low"] - 1e-9, exact["high"] + 1e-9)
    assert inside.all()  # against chi-squared of seven, not of the one reported
    assert loaded.contours.empty


@pytest.mark.slow
@pytest.mark.parametrize("task", ["cloud-7-1", "cloud-3-2", "cloud-7-7"])
def test_a_report_has_a_page_for_any_number_of_reported_parameters(
    module_made: Any, task: str
) -> None:
    files = contents(planted(module_made, task), ["bench", "report"])
    page = files[f"task-{task}.html"].decode()
    assert "coverage of t0" in page
    assert any(name.startswith("figures/gaps-") for name in files)
    assert not any("contours" in name for name in files)


def predicted(task: Task, plan: IndependentPlan | BootstrapPlan, folder: Path) -> dict[str, Any]:
    exact, cpu = ExactLikelihood(task), torch.device("cpu")
    (arrays,) = predict(task, exact, plan, 0, Store(folder), cpu, lambda **_: None)
    return arrays


def damage(task: Task, plan: IndependentPlan | BootstrapPlan, arrays: dict[str, Any]) -> str:
    record = {"plan": plan.model_dump(), "seed": 0}
    return problem("predictions/t/m/p/member-000", {}, arrays, record, task)


def test_a_lattice_of_two_parameters_may_report_one(tmp_path: Path) -> None:
    both = Registry().task("gaussians-near")
    one = copy(both)
    one.reported = ("z",)
    plan = IndependentPlan(uniform=2, per_point=0, observations=100)
    whole, part = predicted(both, plan, tmp_path / "a"), predicted(one, plan, tmp_path / "b")
    assert whole.keys() == part.keys()
    by_reported = {"lower", "upper", "cut_lower", "cut_upper", "disconnected", "statistic"}
    for key, array in whole.items():
        chosen = array[:, 1:] if key.partition(".")[2] in by_reported else array
        np.testing.assert_array_equal(part[key], chosen, err_msg=key)
    assert damage(both, plan, whole) == damage(one, plan, part) == ""
    assert damage(one, plan, whole) == "'curves.lower' has shape (2, 2), not (2, 1)"
    # Without the task, the number of reported parameters is unknown.
    record = {"plan": plan.model_dump(), "seed": 0}
    assert problem("predictions/t/m/p/member-000", {}, part, record) == ""
    found = load(one, plan, part)
    assert isinstance(found, LikelihoodPrediction)
    assert found.reported_names == ("z",)
    assert found.names == ("mu", "z")
    assert list(METRICS["overlap_M"].compute(found, found)) == ["z", "joint"]
    assert list(METRICS["divergence"].compute(found, found)) == ["joint", "z"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exponential", "share"])
def test_predictions_of_one_parameter_are_sound(name: str, tmp_path: Path) -> None:
    task = Registry([PLUGIN.with_name("one_parameter.py")]).task(name)
    for plan in (
        IndependentPlan(uniform=3, per_point=1),
        BootstrapPlan(sets=1, multiple=2, bootstraps=3),
    ):
        arrays = predicted(task, plan, tmp_path / plan.kind)
        assert damage(task, plan, arrays) == ""
        assert not has_windows(arrays)
        truth = load(task, plan, arrays)
        used = [m for m in METRICS.values() if plan.kind in m.plans]
        found, undefined = score(used, truth, truth)
        assert not {"overlap_M", "region_area", "likelihood_ratio_error"} & undefined.keys()
        np.testing.assert_allclose(found["overlap_M/joint"], 1, atol=1e-3)
    without = {key: array for key, array in arrays.items() if key != "curves.joint"}
    assert damage(task, plan, without) == "it lacks 'curves.joint'"


def test_saved_arrays_of_two_parameters_keep_their_names(tmp_path: Path) -> None:
    """Results of earlier versions have these names."""
    task = Registry().task("gaussians-near")
    plan = BootstrapPlan(sets=1, multiple=1, bootstraps=2, observations=50)
    curves = "area cut_lower cut_upper disconnected joint log_ratio_truth lower marginal mle"
    names = {*curves.split(), "origin", "profile", "region_cut", "spacing", "unresolved", "upper"}
    wanted = {f"{part}.{name}" for part in ("curves", "full") for name in names} | {"full_set"}
    wanted |= {f"datasets.{name}" for name in ("theta", "point", "set", "block")}
    assert predicted(task, plan, tmp_path).keys() == wanted
