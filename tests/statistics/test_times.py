"""Times of trainings against their estimates and the committed study."""

import csv
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli.main import cli
from bench.experiment import cost
from bench.experiment.preset import Preset
from bench.experiment.schedule import schedule
from bench.registry.registry import Registry
from bench.storage.store import Store

RESULTS = Path(__file__).parents[2] / "results"


def test_estimates_hold_within_a_factor_of_two(tmp_path):
    """Estimates hold on an idle machine; on a busy one, speed can drop by a factor of three."""
    preset = Preset(
        tasks=("gaussians-near",),
        methods=("lre:tuned", "dle:published"),
        members=1,
        budgets=(20_000,),
        device="cpu",
        plans=({"kind": "independent", "uniform": 6, "per_point": 0},),
    )
    run = schedule(Registry(), preset, Store(tmp_path))
    model = cost.CostModel(run.registry, run.store, "cpu")
    expected, taken = {}, {}
    for p in run.jobs:
        if p.stage == "score":
            continue
        key = p.stage, p.spec.method
        expected[key] = model(p).seconds
        begin = time.process_time()
        p.perform(lambda **fields: None)
        taken[key] = time.process_time() - begin
    ratios = {key: taken[key] / expected[key] for key in taken}
    print(ratios)
    assert 0.5 < sum(taken.values()) / sum(expected.values()) < 3 * 2.0, ratios


def test_score_times(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = RESULTS / "scores"
    arguments = f"study score-times {folder} --task gaussians-near --budget 1000 --turns 2"
    done = CliRunner().invoke(cli, arguments.split())
    assert done.exit_code == 0, done.output
    with (tmp_path / "results" / "studies" / "score-times.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    with (RESULTS / "studies" / "score-times.csv").open(newline="") as file:
        committed = next(r for r in csv.DictReader(file) if r["task"] == "gaussians-near")
    assert list(row) == list(committed)
    assert 1 < float(row["ratio"]) < 3
    # The share of the training that the best epoch takes is of the committed records in both.
    best = [float(r["to_best"]) / float(r["ratio"]) for r in (row, committed)]
    assert best[0] == pytest.approx(best[1])
    assert "| `gaussians-near` | 1,000 |" in done.output
