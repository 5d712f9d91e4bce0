"""Workers: what they run, their limits, crashes and early stops, and the end of the parent."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from worker_jobs import run

from bench.errors import LimitExceeded
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


HERE = str(Path(__file__).parent)


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(condition, seconds=120.0):
    """Return whether the condition becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def numbers(*paths):
    """Return the process ids in the files, once all files have one."""
    assert until(lambda: all(path.exists() and path.read_text() for path in paths))
    return [int(path.read_text()) for path in paths]


def test_hang_is_killed_at_the_time_limit(jobs):
    with Workers(1, time_limit=0.5) as workers:
        hang = run(workers, Call("hang", jobs.hang, {}))["hang"]
        workers.time_limit = None
        after = run(workers, Call("sum", jobs.add, {"a": 1, "b": 2}))["sum"]
    assert (hang.status, hang.error_type) == ("failed", "LimitExceeded")
    assert hang.error == "ran past its time limit of 0.5 s"
    assert hang.seconds > 0.5
    assert after.value == 3


@pytest.mark.parametrize(
    ("limits", "seconds", "then", "error"),
    [
        (1000, 6.0, 0.0, ""),  # simulations have a separate limit
        (1, 600.0, 0.0, "simulated past its time limit of 2 s"),
        (1000, 3.0, 600.0, "ran past its time limit of 2 s"),  # then the job's limit continues
    ],
)
def test_simulations_do_not_count_against_the_job(jobs, limits, seconds, then, error):
    arguments = {"limits": limits, "seconds": seconds, "then": then}
    with Workers(1, time_limit=2) as workers:
        outcome = run(workers, Call("simulate", jobs.simulate, arguments))["simulate"]
    assert outcome.error == error


def test_memory_hog_is_killed_and_the_next_job_starts_lean(jobs):
    limit = 200 * 2**20
    with Workers(1, memory_limit=limit) as workers:
        outcomes = run(
            workers,
            Call("hog", jobs.hog, {"mebibytes": 300}),
            Call("modest", jobs.hog, {"mebibytes": 50, "seconds": 2.0}),
        )
    hog = outcomes["hog"]
    assert (hog.status, hog.error_type) == ("failed", "LimitExceeded")
    assert "MiB, over its memory limit of 200 MiB" in hog.error
    assert hog.error.startswith("used ")
    assert hog.peak_bytes > limit
    assert outcomes["modest"].status == "done"
    assert 50 * 2**20 < outcomes["modest"].peak_bytes < limit


@pytest.mark.parametrize(
    ("death", "cause"),
    [
        ("exit_quietly", "exited with code 3"),
        ("kill_itself", "was killed by SIGKILL"),
        ("close_pipes", "closed its pipe"),
    ],
)
def test_worker_that_dies_is_replaced(jobs, death, cause):
    with Workers(1) as workers:
        outcomes = run(
            workers,
            Call("death", getattr(jobs, death), {}),
            Call("sum", jobs.add, {"a": 1, "b": 2}),
        )
    assert outcomes["death"].status == "failed"
    assert outcomes["death"].error_type == "LimitExceeded"
    assert outcomes["death"].error == f"its worker process {cause}"
    assert outcomes["sum"].value == 3


def test_idle_worker_that_dies_costs_nobody_a_job(jobs):
    with Workers(1) as workers:
        victim = run(workers, Call("pid", jobs.pid, {}))["pid"].value
        os.kill(victim, signal.SIGKILL)
        assert until(lambda: not alive(victim))
        time.sleep(0.1)
        outcome = run(workers, Call("pid", jobs.pid, {}))["pid"]
    assert outcome.status == "done"
    assert outcome.value != victim


def test_leaving_early_kills_the_workers(jobs, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    with Workers(3) as workers:
        outcomes = workers.run(
            [
                Call("hang", jobs.hang, {"path": first}),
                Call("hang too", jobs.hang, {"path": second}),
                Call("sum", jobs.add, {"a": 1, "b": 2}),
            ]
        )
        assert next(outcomes).key == "sum"
        pids = numbers(first, second)
        with pytest.raises(RuntimeError, match="busy"):
            next(workers.run([Call("more", jobs.pid, {})]))
    assert not any(psutil.pid_exists(pid) for pid in pids)  # and no zombies
    assert not multiprocessing.active_children()


def test_leaving_the_loop_stops_what_runs_and_keeps_the_pool(jobs, tmp_path):
    path = tmp_path / "pid"
    with Workers(2) as workers:
        for _ in workers.run([Call("hang", jobs.hang, {"path": path}), Call("pid", jobs.pid, {})]):
            (pid,) = numbers(path)
            break
        assert not psutil.pid_exists(pid)
        assert run(workers, Call("sum", jobs.add, {"a": 1, "b": 2}))["sum"].value == 3


def test_error_in_on_event_stops_the_run(jobs):
    def on_event(event):
        raise KeyboardInterrupt

    with Workers(1, on_event=on_event) as workers:
        with pytest.raises(KeyboardInterrupt):
            run(workers, Call("hang", jobs.hang, {}))
        assert not multiprocessing.active_children()


def test_workers_that_die_at_start_up_are_not_replaced_for_ever(jobs, monkeypatch):
    monkeypatch.setattr("bench.execution.pool.serve", jobs.boom)  # receives jobs and fails
    with (
        Workers(2) as workers,
        pytest.raises(LimitExceeded, match="3 worker processes in a row died at start-up"),
    ):
        run(workers, Call("pid", jobs.pid, {}))
    assert not multiprocessing.active_children()


@contextmanager
def started_script(tmp_path, *paths):
    """Start a Python process in its own process group, with two workers that hang."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""\
            import sys
            sys.path.insert(0, {HERE!r})
            import worker_jobs
            from bench.execution.executor import Call
            from bench.execution.pool import Workers

            if __name__ == "__main__":
                with Workers(2) as workers:
                    jobs = [Call(p, worker_jobs.hang, {{"path": p}}) for p in sys.argv[1:]]
                    list(workers.run(jobs))
            """
        )
    )
    command = [sys.executable, str(script), *map(str, paths)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        try:
            yield parent
        finally:  # the exit of the pool waits for it
            with suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)


def test_children_go_when_the_parent_is_killed(tmp_path):
    paths = tmp_path / "first", tmp_path / "second"
    with started_script(tmp_path, *paths) as parent:
        pids = numbers(*paths)
        assert all(map(alive, pids))
        parent.kill()
        parent.wait()
        assert until(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize("early", [False, True], ids=["in a job", "at start-up"])
def test_ctrl_c_is_for_the_parent_alone(tmp_path, early):
    paths = tmp_path / "first", tmp_path / "second"
    with started_script(tmp_path, *paths) as parent:
        if early:
            family = psutil.Process(parent.pid)
            assert until(lambda: len(family.children()) > 1)  # including the resource tracker
        else:
            numbers(*paths)
        children = psutil.Process(parent.pid).children()
        os.killpg(parent.pid, signal.SIGINT)
        errors = parent.communicate(timeout=120)[1]
        assert until(lambda: not any(alive(child.pid) for child in children))
    assert parent.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.slow
def test_ctrl_c_reaches_tests_of_a_background_job(tmp_path):
    """A shell's background jobs ignore Ctrl-C, and so do processes started by their tests."""
    ignoring = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh")
    test = f"{__file__}::{test_ctrl_c_is_for_the_parent_alone.__name__}[in a job]"
    command = [*ignoring, sys.executable, "-m", "pytest", "-q", "--timeout=300", test]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
