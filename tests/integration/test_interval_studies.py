"""Studies of intervals over several results folders: corrections, and uncertainty of training."""

import csv

import pytest
from click.testing import CliRunner

from bench.cli.main import cli
from bench.errors import UsageError

PRESET = """
tasks = ["exponential"]
methods = [{methods}]
members = {members}
stack = 2
budgets = [{budget}]
seed = {seed}
training_data = "{data}"

[[plans]]
kind = "independent"
uniform = 40
per_point = 0
"""


def run(folder, name, methods, **settings):
    written = {"members": 2, "budget": 2000, "seed": 0, "data": "fresh"} | settings
    path = folder / f"{name}.toml"
    path.write_text(PRESET.format(methods=", ".join(f'"{m}"' for m in methods), **written))
    line = ["run", str(path), "--out", str(folder / name), "--workers", "1", "--quiet"]
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 0, result.output
    return str(folder / name)


def study(name, folders, out):
    result = CliRunner().invoke(cli, ["study", name, *folders, "--out", str(out)])
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((out / f"{name}.csv").read_text().splitlines()))
    return rows, result.output


def test_corrections_of_several_runs_are_one_table(tmp_path):
    folders = [
        run(tmp_path, "whole", ["exact", "histogram", "neyman(histogram)"]),
        run(tmp_path, "parts", ["exact", "ensemble(histogram,2)"], budget=1000, members=4),
    ]
    rows, text = study("corrections", folders, tmp_path / "out")
    named = {row["method"]: row for row in rows}
    assert set(named) == {"exact", "histogram", "neyman(histogram)", "ensemble(histogram,2)"}
    for method in set(named) - {"exact"}:
        assert float(named[method]["gap_error"]) > 0
        assert float(named[method]["length"]) > 0.5
    calls = [int(named[m]["calls"]) for m in ("neyman(histogram)", "ensemble(histogram,2)")]
    assert calls == pytest.approx([2000, 2000], rel=0.02)
    assert "| `exponential` | `rate` | 0 | `exact` |" in text


def test_training_sets_are_compared_with_fresh_ones(tmp_path):
    folders = [run(tmp_path, "fresh", ["exact", "histogram"], members=4)]
    for seed in (0, 1):
        for data in ("shared", "bootstrap"):
            name = f"{data}-{seed}"
            folders.append(run(tmp_path, name, ["exact", "histogram"], seed=seed, data=data))
    (row,), text = study("training", folders, tmp_path / "out")
    assert float(row["spread"]) > 0
    # Nothing in a histogram is random but its simulations.
    assert float(row["shared_spread"]) == pytest.approx(0, abs=1e-9)
    assert float(row["bootstrap_spread"]) > 0
    assert float(row["shared_length"]) == pytest.approx(1)
    assert float(row["bootstrap_length"]) > 1
    assert "true spread" in text


def test_drawn_weights_are_compared_with_fresh_ensembles(tmp_path):
    method = "gradient-boosting:smooth"
    methods = [f"weighted({method},2)", f"weighted({method},2,1)", f"weighted({method},2,2)"]
    folder = run(tmp_path, "fresh", ["exact", *methods], members=6)
    (row,), text = study("training", [folder], tmp_path / "out")
    assert row["method"] == f"weighted({method},2)"
    assert float(row["weights_spread"]) > 0
    assert float(row["weights_length"]) > 1
    assert row["shared_spread"] == ""
    assert "quoted: weights" in text


def test_one_kind_of_training_data_is_not_enough(tmp_path):
    folder = run(tmp_path, "fresh", ["exact", "histogram"])
    result = CliRunner().invoke(cli, ["study", "training", folder, "--out", str(tmp_path)])
    assert isinstance(result.exception, UsageError)
    assert "it takes runs of one method with training data fresh and shared" in str(
        result.exception
    )
