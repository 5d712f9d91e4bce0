"""Peak memory of evaluating the paper's plan: 9 points × 5 sets × 9000 events × 100 bootstraps."""

import importlib.util
import sys
from pathlib import Path

import pytest

from bench.stages.workers import Job, Workers


@pytest.fixture
def jobs(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    spec = importlib.util.find_spec("memory_jobs")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "memory_jobs", module)
    spec.loader.exec_module(module)
    return module


# A worker holds one member on a CPU; on a GPU it holds a stack of ten.
@pytest.mark.parametrize(("members", "sets"), [(1, 5), (10, 1)])
def test_paper_plan(benchmark, jobs, members, sets, capsys):
    def evaluate():
        job = Job("paper", jobs.paper_plan, {"members": members, "sets": sets})
        with Workers(1) as pool:
            return next(iter(pool.run([job])))

    outcome = benchmark.pedantic(evaluate, rounds=1)
    gib = 2**30
    facts = {
        "members": members,
        "sets_per_point": sets,
        "seconds": outcome.seconds,
        "saved_gib": outcome.value / gib,
        "peak_gib": outcome.peak_bytes / gib,
    }
    benchmark.extra_info.update(facts)
    with capsys.disabled():
        print("\n" + ", ".join(f"{name} {value:.3g}" for name, value in facts.items()))
