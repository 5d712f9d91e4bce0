"""Systematic uncertainties on events of the challenge: stored processes, yields and features."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from bench.tasks.event_files import SPLITS
from bench.tasks.fair_universe import FairUniverse
from bench.tasks.higgs_fair import HiggsFair
from bench.tasks.higgs_fair_systematics import HiggsFairSystematics
from bench.tasks.higgs_systematics import HiggsSystematics
from planted_events import SHARED, fair_universe, higgs_ml, silent
from pyarrow import parquet

from bench.contracts import IndependentPlan
from bench.contracts.plan import number_of_blocks
from bench.errors import NotApplicable
from bench.stages.datasets import sets
from bench.testing import check_task

LABELS = {"signal": "htautau", "background": "ztautau", "ttbar": "ttbar", "diboson": "diboson"}
COMMITTED = "5ebcacc28222a6f687da53004cc596e36ef1d1087bdafe82defa135fa7161d6d"  # results/higgs-fair


def planted(n: int, seed: int = 0) -> pa.Table:
    """Generate events of the public schema: all four processes."""
    table = fair_universe(n, seed)
    labels = np.random.default_rng(seed + 1).choice(list(LABELS.values()), n)
    return table.drop_columns(["detailed_labels"]).append_column(
        "detailed_labels", pa.array(labels)
    )


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    monkeypatch.setenv("NLBENCH_DATA", str(tmp_path / "data"))

    def fetched(table: pa.Table) -> FairUniverse:
        parquet.write_table(table, tmp_path / "events.parquet")
        data = FairUniverse()
        data.fetch(str(tmp_path / "events.parquet"), silent)
        return data

    return fetched


def test_every_process_is_stored(fetch):
    table = planted(2000)
    data = fetch(table)
    for process, label in LABELS.items():
        own = table.filter(pa.compute.equal(table["detailed_labels"], label))
        held = np.concatenate([data.read(process, split) for split in SPLITS])
        for column, name in ((0, "PRI_lep_pt"), (1, "PRI_had_pt")):
            assert sorted(held[:, column].tolist()) == sorted(own[name].to_pylist())
    assert [line.split(":")[0] for line in data.status()[3:]] == list(LABELS)


def test_further_processes_leave_the_events_of_higgs_fair_as_they_were(fetch):
    full = planted(2000)
    data = fetch(full)
    digests = data.digest, data.further_digest
    few = full.filter(pa.compute.not_equal(full["detailed_labels"], "diboson"))
    fewer = fetch(few)
    assert fewer.digest == digests[0]
    assert fewer.further_digest != digests[1]


def test_the_committed_results_are_of_the_shared_events(fetch):
    source = SHARED / "fair_universe_events.parquet"
    if not source.is_file():
        pytest.skip("the shared events are not here")
    assert fetch(parquet.read_table(source)).digest == COMMITTED


def test_events_of_an_earlier_version_serve_higgs_fair_alone(fetch):
    data = fetch(planted(2000))
    path = data.folder / "events.json"
    record = json.loads(path.read_text())
    path.write_text(
        json.dumps(record | {"further": "", "left_out": 9, "counts": record["counts"][:6]})
    )
    for file in (data.folder / data.digest).glob("*-*.f32"):
        if file.name.startswith(("ttbar", "diboson")):
            file.unlink()
    earlier = FairUniverse()
    assert earlier.digest == data.digest
    assert earlier.status()[-1] == "ttbar, diboson: left out by an earlier version; fetch again"
    HiggsFair().check()
    with pytest.raises(NotApplicable, match="has no ttbar event in its train split"):
        HiggsFairSystematics().check()
    path.write_text(json.dumps(record | {"counts": record["counts"][:7]}))
    assert FairUniverse().status() == []


def test_the_task_needs_all_processes(fetch):
    with pytest.raises(NotApplicable, match="bench data fetch higgs-fair"):
        HiggsFairSystematics().check()
    fetch(higgs_ml(fair_universe(800)))
    HiggsFair().check()
    with pytest.raises(NotApplicable, match="has no ttbar event in its train split"):
        HiggsFairSystematics().check()
    fetch(planted(800))
    HiggsFairSystematics().check()


def test_yields_and_constraints_are_those_of_higgs_systematics(fetch):
    fetch(planted(800))
    task, known = HiggsFairSystematics(), HiggsSystematics()
    assert task.space.names == (
        "mu",
        "tau_scale",
        "ttbar_scale",
        "diboson_scale",
        "background_scale",
    )
    assert task.reported == ("mu",)
    assert not task.has_exact
    theta = torch.tensor([[1.2, 1.01, 1.1, 0.5, 1.02], [0.8, 0.99, 0.9, 1.5, 0.97]]).double()
    same = torch.stack([*theta[:, :2].T, *torch.ones(2, 2).double(), *theta[:, 2:].T], -1)
    assert torch.equal(task.yields(theta), known.yields(same))
    assert torch.equal(task.rate(theta), known.rate(same))
    assert torch.equal(task.weights(theta), known.weights(same))
    widths = {c.parameter: (c.centre, c.width, c.kind) for c in task.constraints}
    assert widths == {
        "tau_scale": (1.0, 0.01, "normal"),
        "ttbar_scale": (1.0, 0.1, "normal"),
        "diboson_scale": (1.0, 0.25, "normal"),
        "background_scale": (1.0, 0.02, "normal"),
    }


def test_features_are_recomputed_at_the_energy_scale(fetch):
    data = fetch(planted(2000))
    held = data.read("ttbar", "test").astype(float)
    context = torch.full((len(held), 1), 1.05)
    component = HiggsFairSystematics().components("test")["ttbar"]
    x = component.simulate(context, torch.Generator().manual_seed(0)).numpy()
    lepton, hadron, opening = held.T
    for column, expected in enumerate(
        (np.sqrt(2 * lepton * 1.05 * hadron * opening), lepton / (1.05 * hadron))
    ):
        np.testing.assert_allclose(np.sort(x[:, column]), np.sort(expected), rtol=1e-6)


def test_no_dataset_repeats_an_event(fetch):
    fetch(planted(5000))
    task = HiggsFairSystematics()
    plan = IndependentPlan(uniform=12, per_point=0, observations=150)
    assert number_of_blocks(task, plan) == 2
    sizes = set()
    for one in sets(task, plan, 0):
        assert len(one.x.unique(dim=0)) == len(one.x)
        assert len(one.measured) == 4
        sizes.add(len(one.x))
    assert len(sizes) > 6  # a Poisson number


def test_the_conformance_kit_passes(fetch):
    fetch(planted(8000))
    report = check_task(HiggsFairSystematics())
    assert not report.failures, str(report)
