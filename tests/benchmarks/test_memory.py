"""Peak memory of large jobs: the paper's plan, and its training set of Higgs events."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.execution.executor import Call
from bench.execution.pool import Workers


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
        job = Call("paper", jobs.paper_plan, {"members": members, "sets": sets})
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


EVENTS = 7_000_000


@pytest.fixture
def events_file(tmp_path):
    """Write a file with as many events as the paper trained on, with the columns that are read."""
    import pyarrow as pa
    from pyarrow import parquet

    rng, parts = np.random.default_rng(0), 14
    writer = None
    for _ in range(parts):
        n = EVENTS // parts
        columns = {
            f"PRI_{who}_{what}": values.astype(np.float32)
            for who in ("lep", "had")
            for what, values in (
                ("pt", 26 + rng.exponential(15, n)),
                ("eta", rng.normal(0, 1.2, n)),
                ("phi", rng.uniform(-np.pi, np.pi, n)),
            )
        }
        labels = np.where(rng.random(n) < 0.5, "htautau", "ztautau")
        table = pa.table({**columns, "detailed_labels": labels})
        writer = writer or parquet.ParquetWriter(tmp_path / "events.parquet", table.schema)
        writer.write_table(table)
    writer.close()
    return tmp_path / "events.parquet"


def test_seven_million_events(benchmark, jobs, events_file, tmp_path, capsys):
    arguments = {"source": str(events_file), "folder": str(tmp_path / "data")}

    def read():
        with Workers(1) as pool:
            job = Call("events", jobs.seven_million_events, arguments)
            return next(iter(pool.run([job])))

    outcome = benchmark.pedantic(read, rounds=1)
    assert outcome.status == "done", outcome
    facts = {"seconds": outcome.seconds, "peak_gib": outcome.peak_bytes / 2**30}
    benchmark.extra_info.update(facts)
    with capsys.disabled():
        print("\n" + ", ".join(f"{name} {value:.3g}" for name, value in facts.items()))
