"""Verdicts of `bench trust` against the truth: the true coverage, and error rates."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.boards.results import Results
from bench.cli.main import cli
from bench.storage.store import Store
from bench.studies.trust import Side, Training, markdown, sides, trainings

ROOT = Path(__file__).parents[2]
PRESET = """
tasks = ["exponential"]
methods = ["exact", "histogram"]
members = 2
stack = 2
budgets = [500]

[[plans]]
kind = "independent"
uniform = 160
per_point = 0
observations = 20
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    (root / "small.toml").write_text(PRESET)
    plugin = str(ROOT / "results" / "trust.py")
    line = ["run", str(root / "small.toml"), "--plugin", plugin, "--out", str(root / "run")]
    result = CliRunner().invoke(cli, [*line, "--workers", "1", "--quiet"])
    assert result.exit_code == 0, result.output
    return root / "run"


def test_the_true_coverage_has_the_mean_of_the_plain_one(folder):
    results = Results(Store.open(folder))
    for fit in results.fits:
        for plan in results.plans:
            scores = results.scores(fit, plan)
            true, plain = (
                scores.values[f"{name}/rate"] for name in ("delivered_coverage", "coverage")
            )
            assert ((true >= 0) & (true <= 1 + 1e-9)).all()
            differences = (true - plain).mean(0)
            error = differences.std(ddof=1) / len(differences) ** 0.5
            assert abs(differences.mean()) < 4 * error
            assert true.std() < 0.7 * plain.std()


def test_every_network_has_a_line(folder, tmp_path):
    line = ["study", "trust", str(folder), "--toys", "100", "--out", str(tmp_path)]
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "trust.csv").read_text().splitlines()
    assert len(lines) == 3
    assert "| `exponential` | `histogram` | 500 | 2 |" in result.output
    few = CliRunner().invoke(cli, [*line[:4], "200", *line[5:]])
    assert "has no datasets beyond 200" in str(few.exception)


def test_a_verdict_does_not_see_the_other_datasets(folder):
    """The verdict of 100 datasets is that of a folder that holds no others."""
    results = Results(Store.open(folder))
    (fit,) = [fit for fit in results.fits if not fit.oracle]
    (plan,) = results.plans
    first = [one.word for one in trainings(results, 100)]
    scores = results.scores(fit, plan)
    for values in scores.values.values():
        values[:, 100:] = np.nan
    results.scores = lambda *_: scores
    assert [one.word for one in trainings(results, 100)] == first


def test_networks_near_the_tolerance_count_on_no_side():
    def one(gap, word):
        return Training("higgs", "lre:tuned", 1000, 0, gap, 0.004, word)

    found = [
        *[one(0.0, "holds")] * 90,
        one(-0.03, "fails"),
        *[one(-0.03, "undetermined")] * 9,
        *[one(0.055, "holds")] * 7,
        *[one(-0.2, "fails")] * 30,
        one(0.08, "holds"),
    ]
    within, beyond = sides(found)
    assert (within.words.total(), within.words["fails"]) == (100, 1)
    assert (beyond.words.total(), beyond.words["holds"]) == (31, 1)
    assert abs(within.limit - 0.0466) < 1e-3  # one of a hundred
    assert Side("within", "fails", within.words - within.words).limit == 1.0
    text = markdown(found)
    assert "| within ± 5 points | 100 | 90 | 9 | 1 | 1.0 % | 4.7 % |" in text
    assert "| beyond ± 5 points | 31 | 1 | 0 | 30 | 3.2 % |" in text
