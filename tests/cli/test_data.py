"""`bench data`, and runs on fetched data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet
from small_run import on_a_terminal

from bench.cli.main import cli

PRESET = """
tasks = ["higgs*"]
methods = ["exact", "histogram"]
members = 2
budgets = [3000]

[[plans]]
kind = "independent"
uniform = 12
per_point = 9
observations = 100

[[plans]]
kind = "bootstrap"
sets = 6
multiple = 9
bootstraps = 5
observations = 100

[[plans]]
kind = "heldout"
contexts = 6
events = 64
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NLBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(PRESET)
    rng, n = np.random.default_rng(0), 3000
    columns = {
        f"PRI_{who}_{what}": values.astype(np.float32)
        for who, low in (("lep", 20), ("had", 26))
        for what, values in (
            ("pt", low + rng.exponential(15, n)),
            ("eta", rng.normal(0, 1.2, n)),
            ("phi", rng.uniform(-np.pi, np.pi, n)),
        )
    }
    labels = np.where(rng.random(n) < 0.6, "htautau", "ztautau")
    parquet.write_table(
        pa.table({**columns, "detailed_labels": labels}), tmp_path / "events.parquet"
    )
    return tmp_path


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_without_data_a_run_says_how_to_get_them_and_does_the_rest(folder: Path) -> None:
    assert bench("data", "status").stdout == (
        "higgs-fair, higgs-fair-systematics\n  nothing here; bench data fetch higgs-fair\n"
    )
    one = PRESET.replace("uniform = 12", "uniform = 3").replace("per_point = 9", "per_point = 0")
    (folder / "tiny.toml").write_text(one.partition('[[plans]]\nkind = "bootstrap"')[0])
    ran = bench("run", "tiny.toml", "--method", "exact", "--workers", "1", "--quiet")
    assert ran.exit_code == 0
    assert (
        "n/a: higgs-fair, every method: the events of higgs-fair are not here: `bench data"
        in ran.stderr
    )
    assert "every method on higgs-fair" in bench("status").stdout
    alone = bench("run", "tiny.toml", "--task", "higgs-fair", "--out", "alone")
    assert alone.exit_code == 1
    assert str(alone.exception) == "no task is left to run"


def test_fetch_status_and_a_run(folder: Path) -> None:
    got = bench("data", "fetch", "higgs-fair", "--from", "events.parquet")
    assert got.exit_code == 0, got.output
    assert "licence: CC BY 4.0" in got.stderr
    assert "arXiv:2410.02867" in got.stderr
    assert got.stdout.splitlines()[2] == "from events.parquet: 3,000 rows, FAIR Universe schema"
    assert bench("data", "status").stdout.count("\n") == 8
    refused = bench("data", "fetch", "higgs", "--from", "events.parquet")
    assert str(refused.exception).endswith("those with data are higgs-fair, higgs-fair-systematics")

    ran = bench("run", "tiny.toml", "--task", "higgs-fair", "--workers", "1")
    assert ran.exit_code == 0, ran.output
    shown = bench("leaderboard", "--format", "md").stdout
    flat = " ".join(shown.split())
    assert "score /hist." in flat
    assert "length mu" in flat
    assert "exact: n/a, higgs-fair has no exact likelihood" in flat
    assert "overlap_M: needs an exact likelihood, and there is none" in flat
    assert "Datasets are drawn from 6 disjoint blocks of test observations" in flat
    assert "at each point 6 × 9 M events, each resampled 5 times: the plan shrank" in flat
    rows = json.loads(bench("leaderboard", "--format", "json").stdout)
    of = {(r["plan"].split("-")[0], r["quantity"]): r for r in rows if r["plan"]}
    assert of["independent", "coverage/z"]["error"] > 0
    assert of["bootstrap", "coverage/z"]["error"] is None  # one block of 6 M events
    assert of["bootstrap", "coverage/z"]["value"] is not None
    plans = {
        p.name.split("-")[0]: json.loads(p.read_text())
        for p in Path("results/tiny/plans").iterdir()
    }
    assert plans["independent"]["plan"]["per_point"] == 6
    assert plans["bootstrap"]["plan"] | {"sets": 1, "multiple": 6} == plans["bootstrap"]["plan"]
    assert plans["heldout"]["plan"]["events"] < 64
    assert plans["bootstrap"]["asked"]["multiple"] == 9


@pytest.fixture
def mixed(folder: Path) -> Path:
    """Make a folder with a readable file and an unreadable one."""
    (folder / "mixed").mkdir()
    (folder / "events.parquet").rename(folder / "mixed" / "a.parquet")
    (folder / "mixed" / "b.csv").write_text("PRI_had_pt,label_sb\n30,s\n")
    return folder


FETCH = ("data", "fetch", "higgs-fair", "--from", "mixed")
REASON = "b.csv lacks columns PRI_lep_pt, "


def test_without_a_terminal_a_file_that_cannot_be_read_is_named(mixed: Path) -> None:
    refused = bench(*FETCH)
    assert refused.exit_code == 1
    assert str(refused.exception).startswith(f"1 of 2 files cannot be read: {REASON}")
    assert str(refused.exception).endswith("; --skip-unreadable goes on without them")
    assert "nothing here" in bench("data", "status").stdout
    got = bench(*FETCH, "--skip-unreadable")
    assert got.exit_code == 0, got.output
    assert f"unreadable: {REASON}" in got.stderr
    shown = bench("data", "status").stdout
    assert "from a.parquet: 3,000 rows" in shown
    assert f"unreadable, left out: {REASON}" in shown


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1)])
def test_on_a_terminal_it_asks(mixed: Path, answer: str | None, status: int) -> None:
    ended, seen = on_a_terminal(*FETCH, question="Go on without b.csv? [y/N]", answer=answer)
    assert ended == status, seen
    assert f"unreadable: {REASON}" in seen
    assert (Path("data") / "higgs-fair" / "events.json").is_file() == (status == 0)


def test_the_study_of_features(folder: Path) -> None:
    refused = bench("study", "features", "--out", "studies")
    assert refused.exit_code == 1
    assert "`bench data fetch higgs-fair` downloads them" in str(refused.exception)
    bench("data", "fetch", "higgs-fair", "--from", "events.parquet")
    ran = bench("study", "features", "--events", "300", "--permutations", "19", "--out", "studies")
    assert ran.exit_code == 0, ran.output
    assert [line.split()[0] for line in ran.stdout.splitlines()[1:]] == ["signal", "background"]
    assert "0.0500" in ran.stdout  # generated kinematics differ from the fitted ones
    assert Path("studies/features.csv").read_text().startswith("component,observed,simulated,")
    other = bench("study", "features", "--model", "gaussians-far")
    assert "other evaluation points" in str(other.exception)
