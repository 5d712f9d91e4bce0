"""Pool of workers: results of jobs, their order and failures, and protected resources."""

import multiprocessing
import os
import signal

import pytest
from worker_jobs import run

from bench.execution.executor import Call
from bench.execution.pool import Workers


def test_results_and_reuse(jobs):
    with Workers(1) as workers:
        outcomes = run(
            workers,
            Call("sum", jobs.add, {"a": 1, "b": 2}),
            *(Call(f"pid {i}", jobs.pid, {}) for i in range(3)),
        )
        again = run(workers, Call("pid", jobs.pid, {}))
    assert [outcome.status for outcome in outcomes.values()] == ["done"] * 4
    assert list(outcomes) == ["sum", "pid 0", "pid 1", "pid 2"]
    assert outcomes["sum"].value == 3
    assert outcomes["sum"].error == outcomes["sum"].traceback == ""
    assert outcomes["sum"].seconds >= 0
    assert outcomes["sum"].peak_bytes > 2**20
    assert {outcomes[f"pid {i}"].value for i in range(3)} == {again["pid"].value}
    assert again["pid"].value != os.getpid()


def test_trainings_reuse_their_worker(jobs):
    with Workers(1) as workers:
        outcomes = run(workers, *(Call(f"train {i}", jobs.train, {}) for i in range(3)))
    assert len({outcome.value for outcome in outcomes.values()}) == 1


def test_no_jobs():
    with Workers(2) as workers:
        assert list(workers.run([])) == []
    assert not multiprocessing.active_children()


def test_outcomes_come_in_order_of_completion_and_jobs_run_side_by_side(jobs, tmp_path):
    path = tmp_path / "made"
    with Workers(2) as workers:
        outcomes = run(
            workers,
            Call("patient", jobs.wait_for, {"path": path}),
            Call("first", jobs.pid, {}),
            Call("maker", jobs.touch, {"path": path}),
        )
    assert next(iter(outcomes)) == "first"
    assert {outcome.status for outcome in outcomes.values()} == {"done"}


def test_jobs_wait_for_their_predecessors(jobs):
    events = []
    with Workers(2, on_event=events.append) as workers:
        outcomes = run(
            workers,
            Call("last", jobs.pid, {}, after=("first", "middle")),
            Call("middle", jobs.count, {"steps": 1, "pause": 0.1}, after=("first",)),
            Call("first", jobs.count, {"steps": 1, "pause": 0.1}),
        )
    assert list(outcomes) == ["first", "middle", "last"]
    assert [(event.key, event.kind) for event in events if event.kind != "progress"] == [
        (key, kind) for key in ("first", "middle", "last") for kind in ("started", "finished")
    ]


def test_failure_skips_what_comes_after_and_the_pool_goes_on(jobs):
    events = []
    with Workers(1, on_event=events.append) as workers:
        outcomes = run(
            workers,
            Call("fit", jobs.boom, {}),
            Call("predict", jobs.pid, {}, after=("fit",)),
            Call("score", jobs.pid, {}, after=("predict",)),
            Call("other", jobs.pid, {}),
        )
    fit = outcomes["fit"]
    assert (fit.status, fit.error_type, fit.error) == ("failed", "ValueError", "two lines")
    assert "in boom" in fit.traceback
    for key in ("predict", "score"):
        assert outcomes[key].status == "skipped"
        assert outcomes[key].error == "needs fit, which failed: two lines"
        assert outcomes[key].error_type == "ValueError"
    assert outcomes["other"].status == "done"
    assert sorted(event.key for event in events if event.kind == "finished") == sorted(outcomes)


def test_what_cannot_be_pickled_fails_alone(jobs):
    with Workers(1) as workers:
        outcomes = run(
            workers,
            Call("argument", jobs.add, {"a": 1, "b": lambda: None}),
            Call("return", jobs.unpicklable, {}),
            Call("report", jobs.report_nonsense, {}),
            Call("raise awkward", jobs.raise_awkward, {}),
            Call("return awkward", jobs.return_awkward, {}),
            Call("exit", jobs.leave, {}),
            Call("sum", jobs.add, {"a": 1, "b": 2}),
        )
    assert outcomes.pop("sum").value == 3
    assert {outcome.status for outcome in outcomes.values()} == {"failed"}
    for key in ("argument", "return", "report"):
        assert "pickle" in outcomes[key].error
    assert outcomes["raise awkward"].error == "7: awkward"
    assert outcomes["return awkward"].error_type == "TypeError"
    assert (outcomes["exit"].error_type, outcomes["exit"].error) == ("SystemExit", "enough")


def test_progress(jobs):
    events = []
    with Workers(1, on_event=events.append) as workers:
        outcome = run(workers, Call("count", jobs.count, {"steps": 300, "pause": 0.002}))["count"]
    assert events[0].kind == "started"
    assert events[-1].kind == "finished"
    assert events[-1].fields == {"status": "done", "error": ""}
    progress = events[1:-1]
    assert {(event.key, event.kind) for event in progress} == {("count", "progress")}
    assert progress[0].fields == {"kind": "step", "step": 0, "steps": 300}
    assert 3 <= len(progress) <= 1 + outcome.seconds / 0.1  # most of the 300 are dropped


def test_one_thread_per_worker_and_parent_unchanged(jobs, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    environment, handler = dict(os.environ), signal.getsignal(signal.SIGINT)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    with Workers(1) as workers:
        outcomes = run(
            workers,
            Call("greedy", jobs.threads, {"ask_for": 2}),
            Call("modest", jobs.threads, {}),
        )
        assert dict(os.environ) == environment
        assert signal.getsignal(signal.SIGINT) is handler
        assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == mask
    for outcome in outcomes.values():
        assert outcome.value == (1, ["1"] * 4), outcome.error


def test_tensors_are_copied_not_shared(jobs):
    import torch

    values = torch.ones(3)
    with Workers(1) as workers:
        outcome = run(workers, Call("scale", jobs.scale, {"values": values}))["scale"]
    assert outcome.value.tolist() == [2, 2, 2]
    assert values.tolist() == [1, 1, 1]
    assert not values.is_shared()


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ({"a": (), "b": ("c",)}, "no job has the key 'c'"),
        ({"a": ("b",), "b": ("a",)}, "cycle"),
    ],
)
def test_impossible_order(jobs, after, message):
    with Workers(1) as workers, pytest.raises(ValueError, match=message):
        next(workers.run([Call(key, jobs.pid, {}, keys) for key, keys in after.items()]))


def test_repeated_key_and_empty_pool(jobs):
    with Workers(1) as workers, pytest.raises(ValueError, match="same key"):
        next(workers.run([Call("a", jobs.pid, {})] * 2))
    with pytest.raises(ValueError, match="at least one worker"):
        Workers(0)
