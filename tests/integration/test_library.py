"""The library: `bench.fit`, `bench.evaluate`, `bench.run`, and their agreement with commands."""

import numpy as np
import pytest
import torch
from bench.tasks.linear_gaussian import linear_gaussian

import bench
from bench.contracts import IndependentPlan, Parameter, ParameterSpace, Task
from bench.errors import NotApplicable, PluginError, UsageError
from bench.storage.store import Store

PRESET = """
tasks = ["gaussians-near"]
methods = ["exact", "lre:tuned"]
members = 2
budgets = [1000]
seed = 3
plans = [{kind = "independent", uniform = 4, per_point = 0}]
"""


@pytest.fixture(scope="module")
def surrogate():
    return bench.fit("gaussians-near", "lre", budget=1000, members=2, seed=3, quiet=True)


@pytest.fixture(scope="module")
def evaluation(surrogate):
    return bench.evaluate("gaussians-near", surrogate, datasets=4, quiet=True)


@pytest.fixture(scope="module")
def events():
    task = bench.task("gaussians-near")
    generator = torch.Generator().manual_seed(0)
    parts = task.components("test")
    context = task.nominal.expand(100, -1)
    return torch.cat([part.simulate(context, generator) for part in parts.values()])


def test_numbers_are_those_of_the_command(evaluation, tmp_path, command):
    (tmp_path / "same.toml").write_text(PRESET)
    out = tmp_path / "made"
    status, _, err = command("run", tmp_path / "same.toml", "--out", out, "--workers", 1, "--quiet")
    assert status == 0, err
    expected = bench.load(out).leaderboard().drop(columns="plan_folder")
    found = evaluation.leaderboard().drop(columns="plan_folder")
    assert list(found.columns) == list(expected.columns)
    assert found.to_csv(index=False) == expected.to_csv(index=False)


def test_a_run_is_that_of_the_command(tmp_path, evaluation):
    (tmp_path / "same.toml").write_text(PRESET)
    loaded = bench.run(tmp_path / "same.toml", folder=tmp_path / "made", workers=1, quiet=True)
    assert loaded.leaderboard().to_csv() == evaluation.leaderboard().to_csv()
    assert (tmp_path / "made" / "leaderboard.md").is_file()
    again = bench.run(tmp_path / "same.toml", folder=tmp_path / "made", seed=3, quiet=True)
    assert len(again.fits) == 3
    (board,) = bench.leaderboard(tmp_path / "made", tasks=["gaussians-*"], tolerance=0.3)
    assert [row.label for row in board.rows] == ["exact", "lre:tuned"]
    assert board.tolerance == 0.3


def test_a_surrogate_has_its_contract(surrogate, events):
    task = surrogate.task
    assert (surrogate.label, surrogate.members, surrogate.budget) == ("lre:tuned", 2, 1000)
    assert repr(surrogate) == "FittedSurrogate('lre:tuned' on 'gaussians-near', members=2)"
    every = surrogate.log_ratio(events, task.nominal[None])
    assert every.shape == (2, 2, 200, 1)
    pairs = surrogate.log_ratio_paired(events, task.nominal.expand(200, -1))
    torch.testing.assert_close(pairs, every[..., 0])
    assert (surrogate.reference, surrogate.has_density) == ("evidence", False)


def test_a_saved_surrogate_is_the_same(surrogate, events, tmp_path):
    surrogate.save(tmp_path / "kept")
    loaded = bench.load_surrogate(tmp_path / "kept")
    at = surrogate.task.nominal[None]
    assert torch.equal(loaded.log_ratio(events, at), surrogate.log_ratio(events, at))
    assert (loaded.label, loaded.members) == ("lre:tuned", 2)
    found = bench.evaluate("gaussians-near", loaded, datasets=2, quiet=True)
    assert len(found.coverage()) == 2
    assert bench.load_surrogate(tmp_path / "kept").label == "lre:tuned"  # also once evaluated
    with pytest.raises(UsageError, match="kept exists; choose a new folder"):
        surrogate.save(tmp_path / "kept")
    with pytest.raises(UsageError, match="holds no surrogate that"):
        bench.load_surrogate(tmp_path)
    Store(tmp_path / "kept").write("surrogate", {"fit": "../other", "preset": {}, "method": "lre"})
    with pytest.raises(UsageError, match="holds no surrogate that"):
        bench.load_surrogate(tmp_path / "kept")


def test_an_evaluation_says_coverage_and_verdicts(evaluation):
    coverage, verdicts = evaluation.coverage(), evaluation.verdicts()
    assert list(coverage["parameter"]) == list(verdicts["parameter"]) == ["mu", "z"]
    assert coverage["coverage"].between(0, 1).all()
    assert (coverage["low"] < coverage["gap"]).all()
    assert set(verdicts["verdict"]) <= {"holds", "fails", "undetermined"}
    assert list(verdicts.columns) == ["parameter", "verdict", "honest_length", "error"]
    assert verdicts["honest_length"].between(0.5, 20).all()
    assert repr(evaluation).startswith("Evaluation('lre:tuned' on 'gaussians-near')\n")
    figure = evaluation.plot()
    assert [axes.get_title() for axes in figure.axes] == ["mu", "z", "joint"]
    assert "lre:tuned" in evaluation._repr_html_()


def test_intervals_of_observed_data(evaluation, events):
    frame = evaluation.intervals(events)
    assert list(zip(frame["member"], frame["parameter"], strict=True)) == [
        (m, name) for m in (0, 1) for name in ("mu", "z")
    ]
    assert (frame["low"] <= frame["estimate"]).all()
    assert (frame["estimate"] <= frame["high"]).all()
    with pytest.raises(UsageError, match=r"shape \(200,\), not \(n, 2\)"):
        evaluation.intervals(events[:, 0])
    with pytest.raises(UsageError, match="all of them finite"):
        evaluation.intervals(np.full((3, 2), np.nan))
    with pytest.raises(UsageError, match="no constraint of tau"):
        evaluation.intervals(events, measured={"tau": 1.0})


def test_any_object_can_be_evaluated(surrogate, evaluation):
    class Other:
        def log_ratio(self, x, context):
            return surrogate.log_ratio(x, context)

    found = bench.evaluate(
        surrogate.task, Other(), plans=[IndependentPlan(uniform=4, per_point=0)], quiet=True
    )
    # Datasets differ, because those of an object have the seed 0.
    assert list(found.coverage()["parameter"]) == ["mu", "z"]
    assert found.label == "surrogate"
    with pytest.raises(PluginError, match="it has no log_ratio"):
        bench.evaluate("gaussians-near", 3, quiet=True)


class Counts:
    """Gaussian around a parameter; a component of this program."""

    size = None

    def simulate(self, context, generator):
        return context + torch.randn(context.shape, generator=generator)

    def log_prob(self, x, context):
        return -0.5 * (x.double() - context.double()).square().sum(-1)


class Here(Task):
    """Task that no other process knows."""

    name, version, observations, event_shape = "here", 1, 10, (1,)
    reference = "evidence"
    space = ParameterSpace([Parameter("t", -3.0, 3.0, "interest", (-1.0, 1.0))], context=["t"])
    nominal = torch.zeros(1)
    points = torch.zeros(1, 1, dtype=torch.float64)

    def components(self, split):
        return {"only": Counts()}

    def weights(self, theta):
        return torch.ones_like(theta[..., :1])


def test_a_task_of_this_program_runs_here():
    task = Here()
    task.observations = 20
    surrogate = bench.fit(task, "lre:tuned", budget=1000, quiet=True)
    found = bench.evaluate(task, surrogate, datasets=4, quiet=True)
    assert list(found.coverage()["parameter"]) == ["t"]
    x = torch.full((400, 1), 0.5) + torch.randn(400, 1, generator=torch.Generator().manual_seed(1))
    exact = bench.evaluate(task, bench.fit(task, "exact", quiet=True), datasets=2, quiet=True)
    (row,) = exact.intervals(x).to_dict("records")
    assert row["estimate"] == pytest.approx(float(x.mean()), abs=1e-3)
    assert row["high"] - row["low"] == pytest.approx(2 / 20, rel=0.01)


def test_methods_in_words_and_wrapped():
    task = linear_gaussian(2)
    surrogate = bench.fit(task, "ensemble(calibrated(lre),2)", budget=500, quiet=True)
    assert (surrogate.label, surrogate.members) == ("ensemble(calibrated(lre:tuned),2)", 1)
    assert surrogate.log_ratio(torch.zeros(3, 2), task.nominal[None]).shape == (1, 1, 3, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"on": "nowhere"}, UsageError, "unknown task 'nowhere'"),
        ({"method": "lree"}, UsageError, "unknown method 'lree'"),
        ({"method": "lre:no"}, UsageError, "unknown configuration"),
        ({"budget": 0}, UsageError, "budget = 0"),
        ({"members": 0}, UsageError, "members"),
        ({"device": "tpu"}, UsageError, "device"),
        ({"on": "sis", "method": "histogram", "budget": 10}, NotApplicable, "histogram"),
        ({"on": "slcp", "method": "gradient-boosting"}, NotApplicable, "steps|boosting"),
    ],
)
def test_bad_input_is_one_line(arguments, error, message):
    given = {"on": "gaussians-near", "budget": 500, **arguments}
    with pytest.raises(error, match=message) as raised:
        bench.fit(given.pop("on"), given.pop("method", "lre"), quiet=True, **given)
    assert "\n" not in str(raised.value)


def test_names_of_the_library_are_listed():
    assert {"task", "fit", "evaluate", "leaderboard", "load", "load_surrogate", "run"} <= set(
        dir(bench)
    )
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bench.nothing  # noqa: B018


def test_wrong_shapes_say_which_is_wrong(tmp_path):
    surrogate = bench.fit("gaussians-far", "histogram", budget=1700, folder=tmp_path, quiet=True)
    good, at = torch.zeros(3, 2), torch.ones(1, 1)
    for x, context, message in (
        (torch.zeros(3, 3), at, r"x has shape \(3, 3\); gaussians-far takes \(n, 2\)"),
        (good, torch.ones(1), r"context has shape \(1,\); gaussians-far takes \(m, 1\), z"),
        (good, torch.ones(1, 2), r"context has shape \(1, 2\)"),
    ):
        for function in (surrogate.log_ratio, surrogate.log_ratio_paired):
            with pytest.raises(UsageError, match=message):
                function(x, context)
