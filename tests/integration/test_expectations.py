"""Expectations from a run to its boards and studies: sizes, Sobol sequences, plain means."""

import csv
import io
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bench.cli.main import cli
from bench.contracts import IndependentPlan
from bench.registry.registry import Registry
from bench.stages.datasets import sets
from bench.storage.fit_spec import plan_folder

PRESET = """
tasks = ["gaussians-far"]
methods = ["exact", "histogram"]
members = 2
budgets = [2000]
plans = [
    {kind = "independent", uniform = 16, per_point = 1, observations = 60, theta = "sobol"},
    {kind = "independent", uniform = 6, per_point = 0, observations = 60, multiple = 3},
]
"""


def of_cli(*arguments, status=0):
    done = CliRunner().invoke(cli, [*map(str, arguments)])
    assert done.exit_code == status, done.output
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.toml").write_text(PRESET)
    of_cli("run", folder / "small.toml", "--out", folder / "results", "--quiet", "--workers", 1)
    return folder / "results"


def rows(made, *options):
    text = of_cli("leaderboard", made, "--format", "csv", *options).output
    return list(csv.DictReader(io.StringIO(text)))


def test_boards_show_expectations_or_plain_means(made):
    shown, plain = (of_cli("leaderboard", made, *o).output for o in (("--all",), ("--plain",)))
    said = "Coverage, width and score are expectations"
    assert said in shown
    assert "Divergence from the exact likelihood in the box" in shown
    assert "datasets of 3 M events: 6 with θ uniform" in " ".join(shown.split())
    assert "16 with θ a Sobol sequence" in " ".join(shown.split())
    assert "Size of datasets up to which the coverage holds" in shown
    assert "Coverage at the parameter value where it is worst" in shown
    assert said not in plain
    assert shown != plain


def test_ends_are_kept_without_means(made):
    names = {row["quantity"].partition("/")[0] for row in rows(made)}
    assert names >= {"expected_coverage", "coverage", "divergence", "box_overlap"}
    assert not names & {"profile_lower", "profile_upper", "profile_coverage", "statistic"}


def test_packs_keep_them(made, tmp_path):
    shutil.copytree(made, tmp_path / "packed")
    of_cli("results", "pack", tmp_path / "packed")
    assert rows(tmp_path / "packed") == rows(made)


def test_the_study_compares_errors(made, tmp_path):
    out = of_cli("study", "expectations", made, "--out", tmp_path / "studies").output
    assert out.count("coverage gap mu") == 2  # sizes
    assert (tmp_path / "studies" / "expectations.png").stat().st_size > 1000


def test_sizes_share_parameters_and_sequences_fill_the_box():
    task = Registry().task("gaussians-far")
    small, large = (
        list(sets(task, IndependentPlan(uniform=3, per_point=0, multiple=m), 0)) for m in (1, 2)
    )
    for one, two in zip(small, large, strict=True):
        assert torch.equal(one.theta, two.theta)
        assert (len(one.x), len(two.x)) == (task.observations, 2 * task.observations)
    plan = IndependentPlan(uniform=64, per_point=0, observations=2, theta="sobol")
    theta = torch.stack([s.theta for s in sets(task, plan, 0)])
    low, high = task.space.box
    unit = ((task.space.to_unit(theta) - low) / (high - low)).numpy()
    counts, *_ = np.histogram2d(*unit.T, bins=8, range=[(0, 1), (0, 1)])
    assert (counts == 1).all()
    first = IndependentPlan(uniform=5, per_point=0, observations=2, theta="sobol")
    shorter = torch.stack([s.theta for s in sets(task, first, 0)])
    assert torch.equal(shorter, theta[:5])


def test_plans_of_older_results_keep_their_folders():
    task = Registry().task("gaussians-far")
    plan = IndependentPlan(uniform=300, per_point=0)
    assert "multiple" not in plan.definition()
    other = plan.model_copy(update={"multiple": 3})
    assert plan_folder(task, plan, 0) != plan_folder(task, other, 0)
