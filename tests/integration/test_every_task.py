"""Every registered task in miniature: the exact likelihood and a classifier, from a run to boards.

Tasks whose data are not fetched are skipped.
"""

import math

import pytest
from whole_runs import benchmark, inline

from bench.boards import Results, build
from bench.boards.render import table
from bench.errors import NotApplicable
from bench.registry.registry import Registry

REGISTRY = Registry()
LITTLE = """
from bench.methods.lre import LRE

class Little(LRE):
    name = "little"
    few = {"epochs": 1, "steps": 30}
    configurations = {"default": {"hidden": [16], "training": few, "encoded": few}}
"""
EVENTS = {"vector": 50, "series": 5, "field": 2}  # observations of a dataset, by type


@pytest.mark.parametrize("name", REGISTRY.names("tasks"))
def test_every_task_has_a_board(name, tmp_path, monkeypatch):
    task = REGISTRY.task(name)
    try:
        task.check()
    except NotApplicable as reason:
        pytest.skip(str(reason))
    # Simulations of fields are slow, and few suffice here.
    monkeypatch.setattr(task, "chunk", 600)
    monkeypatch.setattr("bench.stages.simulate.FEATURE_SIMULATIONS", {False: 500, True: 500})
    size = min(EVENTS[task.observation], task.observations)
    plan = {"kind": "independent", "uniform": 2, "per_point": 0, "observations": size}
    plugin = tmp_path / "little.py"
    plugin.write_text(LITTLE)
    run = benchmark(
        tmp_path / "results",
        [str(plugin)],
        tasks=(name,),
        methods=("exact", "little"),
        members=1,
        budgets=(600,),
        plans=(plan,),
    )
    inline(run)
    absent = {a.label: a.reason for a in run.absent}
    assert absent.keys() <= (set() if task.has_exact else {"exact"})
    boards = build(Results(run.store), run.registry.metrics())
    (board,) = boards
    rows = {row.label: row for row in board.rows}
    assert rows.keys() == ({"exact", "little"} if task.has_exact else {"little"})
    for row in rows.values():
        assert not row.failures
        for parameter in task.reported:
            width = row.estimate(f"width/{parameter}")
            assert width is not None
            assert math.isfinite(width.value)
    assert name in table(boards)
