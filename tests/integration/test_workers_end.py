"""Ends of workers: limits, crashes, early stops, and the end of the parent."""

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
