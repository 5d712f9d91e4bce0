"""Both evaluators on a run of their own, and `bench study evaluators`."""

import csv

import pytest

PRESET = """
tasks = ["gaussians-near"]
methods = ["exact", "lre:tuned"]
members = 2
stack = 2
budgets = [2000]

[[plans]]
kind = "independent"
uniform = 4
per_point = 0

[[plans]]
kind = "independent"
uniform = 4
per_point = 0
evaluator = "gradient"
"""


def test_both_evaluators_find_the_same_ends(tmp_path, command):
    preset, made, out = tmp_path / "both.toml", tmp_path / "made", tmp_path / "out"
    preset.write_text(PRESET)
    assert command("run", preset, "--out", made, "--workers", 1, "--quiet")[0] == 0
    status, printed, said = command("study", "evaluators", made, "--scans", 1, "--out", out)
    assert (status, said) == (0, "")
    with (out / "evaluators.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert {name: int(row["datasets"]) for name, row in rows.items()} == {
        "exact": 4,
        "lre:tuned": 8,
    }
    for row in rows.values():
        assert float(row["within_1"]) == 1
        assert (float(row["unresolved"]), int(row["silent"])) == (0, 0)
        assert float(row["lattice_off"]) < 0.01
        assert float(row["gradient_off"]) < 0.01
        assert 50 < float(row["passes"]) < 400
        assert float(row["information"]) == pytest.approx(12, abs=4)
    assert "| gaussians-near | 2,000 | `lre:tuned` | 8 | 100.0 % |" in printed


@pytest.mark.parametrize("missing", ["gradient", "lattice"])
def test_without_both_evaluators_there_is_nothing_to_compare(tmp_path, command, missing):
    preset, made = tmp_path / "one.toml", tmp_path / "made"
    text = PRESET.replace('"lre:tuned"', "").replace("uniform = 4", "uniform = 2")
    if missing == "lattice":
        text = text.replace("gaussians-near", "linear-gaussian-5")
    else:
        text = text.rpartition("\n[[plans]]\n")[0]
    preset.write_text(text)
    assert command("run", preset, "--out", made, "--workers", 1, "--quiet")[0] == 0
    status, _, said = command("study", "evaluators", made, "--out", tmp_path / "out")
    assert status != 0
    assert "nothing to compare" in said
    assert len(said.splitlines()) == 1
