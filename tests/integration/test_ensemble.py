"""Ensembles of stored fits: their averages and cost, without training."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.boards import FORMATS, Results, build
from bench.boards.status import status_lines
from bench.errors import UsageError
from bench.experiment.preset import Preset
from bench.experiment.schedule import schedule
from bench.experiment.selection import MethodPattern
from bench.registry.registry import Registry
from bench.stages.members import open_fit
from bench.storage.entries import JobContext
from bench.storage.store import Store

PLUGIN = Path(__file__).parents[1] / "plugins" / "simple.py"
TINY = {
    "tasks": ("gaussians-far",),
    "methods": ("ensemble(simple:default,2)",),
    "members": 5,
    "budgets": (600,),
    "plans": (
        {"kind": "independent", "uniform": 4, "per_point": 0, "observations": 50},
        {"kind": "heldout", "contexts": 2, "events": 4},
    ),
}


@pytest.fixture
def simple(tmp_path):
    return shutil.copy(PLUGIN, tmp_path)


def benchmark(root, plugin, **changes):
    return schedule(Registry([plugin]), Preset.model_validate(TINY | changes), Store(root))


def inline(run):
    run.record(["bench", "run"])
    keys = [p.key for p in run.jobs]
    for p in run.jobs:
        assert all(keys.index(before) < keys.index(p.key) for before in p.after)
        p.perform(lambda **fields: None)


def test_an_ensemble_averages_its_members_and_trains_nothing(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, simple, methods=("simple:default",)))
    fits = Path(simple).with_suffix(".log").read_text().splitlines()
    run = benchmark(root, simple)
    base, ensemble = [c for c in run.specs if not c.oracle]
    assert (base.label, ensemble.label) == ("simple", "ensemble(simple,2)")
    assert ensemble.base == base
    assert {p.spec.folder for p in run.jobs} == {ensemble.folder}
    inline(run)
    assert Path(simple).with_suffix(".log").read_text().splitlines() == fits
    assert benchmark(root, simple).jobs == []

    # Two ensembles from five members leave the fifth unused.
    store, registry = Store.open(root), Registry([simple])
    assert [k[-3:] for k in store.keys(f"fits/{ensemble.folder}")] == ["fit", "000", "001"]
    task, method = registry.task("gaussians-far"), registry.method("simple")
    place = JobContext(str(root), registry.plugins, "cpu", 0.0)
    opened = open_fit(place, ensemble)
    cpu = torch.device("cpu")
    x, context = torch.randn(20, 2), task.space.draw_context(3, torch.Generator())
    averaged = opened.restore([1], cpu)
    own = [opened.base.restore([m], cpu).log_ratio(x, context) for m in (2, 3)]
    torch.testing.assert_close(averaged.log_ratio(x, context), (own[0] + own[1]) / 2)
    assert (averaged.reference, averaged.has_density) == (None, False)
    assert method.name == "simple"

    record = store.record(ensemble.fit_key(0))
    assert record["calls"] == 1200  # each has its own training set
    assert record["parameters"] == 2 * store.record(base.fit_key(0))["parameters"]


def test_costs_of_shared_training_data(tmp_path, simple):
    run = benchmark(tmp_path, simple, training_data="shared")
    inline(run)
    assert Store.open(tmp_path).record(run.specs[-1].fit_key(0))["calls"] == 600


def test_tables_know_ensembles(tmp_path, simple):
    inline(benchmark(tmp_path, simple))
    registry, results = Registry([simple]), Results(Store.open(tmp_path))
    boards = build(results, registry.metrics())
    labels = [row.label for row in boards[0].rows]
    assert sorted(labels) == ["ensemble(simple,2)", "exact", "simple"]
    assert {row.label: row.members for row in boards[0].rows}["ensemble(simple,2)"] == 2
    for form in FORMATS.values():
        assert "ensemble" in form(boards)
    assert "N times" in FORMATS["md"](boards)
    status = list(status_lines(results))
    assert any("ensemble(simple,2)" in line and "fits 2/2" in line for line in status)
    assert any("  simple  " in line and "fits 5/5" in line for line in status)
    values = {row.label: row.quantities["width/mu"].estimate.value for row in boards[0].rows}
    assert np.isfinite(list(values.values())).all()


def test_too_few_members(tmp_path, simple):
    run = benchmark(tmp_path, simple, members=1)
    assert [a.reason for a in run.absent] == ["it takes 2 members, and this run has 1"]
    assert not any(a.broken for a in run.absent)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("ensemble(simple)", r"'ensemble\(METHOD,MEMBERS\)'"),
        ("ensemble(simple,1)", "greater than or equal to 2"),
        ("ensemble(simple,2", r"'WRAPPER\(METHOD,SETTING,…\)'"),
        ("ensemble(simple,2,3)", "has 1 setting"),
        ("ensemble(simple,2)(3)", r"'WRAPPER\(METHOD,SETTING,…\)'"),
        ("assemble(simple,2)", "did you mean ensemble"),
        ("ensemble(simpel,2)", "did you mean simple"),
        ("ensemble(simple:defautl,2)", "did you mean default"),
        ("ensemble(exact,2)", "is the exact likelihood"),
    ],
)
def test_bad_patterns(tmp_path, simple, pattern, message):
    with pytest.raises(UsageError, match=message):
        benchmark(tmp_path, simple, methods=(pattern,))


def test_patterns():
    assert MethodPattern.parse("lre") == MethodPattern("lre", None)
    five = MethodPattern("*", "tuned", (("ensemble", ("10",)),))
    assert MethodPattern.parse("ensemble( *:tuned , 10 )") == five
