"""`bench study decomposition` on a run, against the scores of single networks and ensembles."""

import csv

import numpy as np
import pytest

from bench.boards import Results
from bench.storage.store import Store
from bench.studies import decomposition
from bench.studies.scored import groups

PRESET = """
tasks = ["gaussians-far"]
methods = ["exact", "simple:default", "ensemble(simple:default,3)", "lre:tuned"]
members = 3
budgets = [600]
plans = [{kind = "independent", uniform = 4, per_point = 0, theta = "sobol"}]
"""


def test_averages_diverge_as_the_scores_of_ensembles_say(tmp_path, simple, command, monkeypatch):
    monkeypatch.setattr(decomposition, "_ROWS", 2048)
    preset, made, out = tmp_path / "small.toml", tmp_path / "made", tmp_path / "out"
    preset.write_text(PRESET)
    arguments = ["run", preset, "--out", made, "--plugin", simple, "--workers", 1, "--quiet"]
    assert command(*arguments)[0] == 0
    arguments = ["study", "decomposition", made, "--plugin", simple, "--out", out]
    arguments += ["--datasets", 4, "--simulations", 2048]
    status, printed, said = command(*arguments)
    assert (status, said.splitlines()) == (0, ["gaussians-far, lre:tuned", "gaussians-far, simple"])
    with (out / "decomposition.csv").open() as file:
        rows = list(csv.DictReader(file))
    values = {(row["method"], row["part"]): float(row["value"]) for row in rows}
    scores = {
        method.label: method.scores.values["divergence/joint"]
        for group in groups(Results(Store.open(made)))
        for method in group.methods
    }
    assert scores["simple"].shape == (3, 4)
    for label in ("simple", "lre:tuned"):
        one = values[label, "average of 1"]
        assert one == pytest.approx(scores[label].mean(), rel=1e-2)
    average = values["simple", "average of 3"]
    assert average == pytest.approx(scores["ensemble(simple,3)"].mean(), rel=1e-2)
    parts = [part for method, part in values if method == "lre:tuned"][-3:]
    assert parts == ["training", "normalisation", "approximation"]
    total = np.sum([values["lre:tuned", part] for part in parts])
    assert total == pytest.approx(values["lre:tuned", "average of 1"], abs=1e-5)
    assert ("simple", "normalisation") not in values  # its averages have no reference
    assert "| gaussians-far | 600 | `simple` | 3 |" in printed
