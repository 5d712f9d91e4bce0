"""Runs with workers: identical bits, kills, shared folders, hostile plugins, and side effects."""

import csv
import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from click.testing import CliRunner
from whole_runs import NETWORK, PLUGINS, TINY, benchmark, contents, digests, finished, fitted

from bench.boards import FORMATS, Results, build
from bench.boards.status import status_lines
from bench.cli.main import cli
from bench.execution.open import open_executor
from bench.experiment.run import run as run_jobs
from bench.registry.registry import Registry
from bench.storage.store import Store

BENCH = str(Path(sys.executable).with_name("bench"))
FILE = """
tasks = ["gaussians-far"]
members = 2
budgets = [600]
plans = [
    {kind = "independent", uniform = 3, per_point = 0, observations = 50},
    {kind = "heldout", contexts = 2, events = 4},
]
"""


def numbers(root):
    """Return the leaderboard without times."""
    rows = csv.DictReader(io.StringIO((root / "leaderboard.csv").read_text()))
    return [r for r in rows if "seconds" not in r["quantity"]]


IGNORING = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh")  # ignores Ctrl-C like a background job
started = []


def start(*arguments, cwd, before=(), **options):
    process = subprocess.Popen(
        [*before, BENCH, *map(str, arguments)],
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    started.append(process)
    return process


@pytest.fixture(autouse=True)
def ended():
    """Kill the processes that a failed test left running, with their workers."""
    yield
    while started:
        process = started.pop()
        process.kill()
        process.communicate()


def finish(process, status=0):
    out, err = process.communicate()
    assert process.returncode == status, err
    assert "Traceback" not in err
    return out, err


def survivors(folder, seconds=60.0):
    """Return the command lines of processes that remain in a folder."""
    end = time.monotonic() + seconds
    while True:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.cwd() == str(folder) and process.pid != os.getpid():
                    found.append(process.cmdline())
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.05)


def wait_until_finished(root, process, files):
    """Wait until a run has made this number of files of finished work."""
    end = time.monotonic() + 300
    while (len(finished(root)) if root.exists() else 0) < files:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return the folder of a run with two workers, for comparison."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(PLUGINS / "simple.py", folder)
    (folder / "tiny.toml").write_text(FILE + 'methods = ["histogram", "simple:slow"]')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = ["--plugin", "simple.py", "--workers", "2", "--quiet"]
        result = CliRunner().invoke(cli, ["run", "tiny.toml", *options])
    assert result.exit_code == 0, result.output
    return folder


def folder_like(undisturbed, tmp_path):
    for name in ("simple.py", "tiny.toml"):
        shutil.copy(undisturbed / name, tmp_path)
    return tmp_path / "results" / "tiny"


@pytest.mark.timeout(1800)
def test_one_worker_and_two_give_the_same_bits(command, tmp_path, monkeypatch):
    (tmp_path / "network.py").write_text(NETWORK)
    one_member = FILE.replace("members = 2", "members = 1")
    (tmp_path / "tiny.toml").write_text(one_member + 'methods = ["histogram", "network"]')
    for name in ("signal", "random", "tasks", "methods"):  # names of typical user files
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not this one')")
    arguments = ("run", "tiny.toml", "--plugin", "network.py", "--quiet", "--workers")
    out, err = finish(start(*arguments, 2, "--out", "with 2", cwd=tmp_path))
    assert (out, err.count("\n")) == ("", 1)
    monkeypatch.chdir(tmp_path)
    status, out, err = command(*arguments, 1, "--out", "with 1")
    assert (status, out, err.count("\n")) == (0, "", 1)
    one, two = tmp_path / "with 1", tmp_path / "with 2"
    made = contents(digests(one, ".safetensors"))
    assert made == contents(digests(two, ".safetensors"))
    assert {name.split("/")[2].partition("-")[0] for name in made if name.startswith("scores")} == {
        "exact",
        "histogram",
        "network",
    }
    assert numbers(one) == numbers(two)


@pytest.mark.timeout(1800)
def test_killed_and_interrupted_runs_resume(undisturbed, command, tmp_path, monkeypatch):
    root = folder_like(undisturbed, tmp_path)
    arguments = ("run", "tiny.toml", "--plugin", "simple.py", "--quiet", "--workers")
    for number, workers, at_least in ((signal.SIGKILL, 2, 1), (signal.SIGINT, 1, 15)):
        before = finished(root) if root.exists() else {}
        process = start(*arguments, workers, cwd=tmp_path, start_new_session=True)
        wait_until_finished(root, process, at_least)
        children = psutil.Process(process.pid).children()
        assert children
        if number == signal.SIGINT:  # a terminal signals the whole group
            os.killpg(process.pid, number)
            _, err = finish(process, 130)
            assert err.split("\n") == [
                *["", "bench: interrupted; the same command resumes, finished work is kept", ""]
            ]
        else:
            process.send_signal(number)
            finish(process, -number)
        assert not psutil.wait_procs(children, timeout=60)[1]
        assert before.items() <= finished(root).items()
    before = finished(root)
    monkeypatch.chdir(tmp_path)
    assert command(*arguments, 1)[0] == 0
    assert before.items() <= finished(root).items()
    assert contents(digests(root, ".safetensors")) == contents(
        digests(undisturbed / "results" / "tiny", ".safetensors")
    )
    assert numbers(root) == numbers(undisturbed / "results" / "tiny")


def test_two_background_jobs_at_once_go_on_after_ctrl_c(undisturbed, tmp_path):
    """They share the work, and a shell's background jobs ignore Ctrl-C."""
    root = folder_like(undisturbed, tmp_path)
    command = ("run", "tiny.toml", "--plugin", "simple.py", "--workers", "1", "--quiet")
    options = {"cwd": tmp_path, "before": IGNORING, "start_new_session": True}
    processes = [start(*command, **options) for _ in range(2)]
    wait_until_finished(root, processes[0], 1)
    for process in processes:
        os.killpg(process.pid, signal.SIGINT)
    for process in processes:
        finish(process)
    assert contents(digests(root, ".safetensors")) == contents(
        digests(undisturbed / "results" / "tiny", ".safetensors")
    )
    assert numbers(root) == numbers(undisturbed / "results" / "tiny")
    assert sorted(fitted(tmp_path / "simple.py")) == sorted(fitted(undisturbed / "simple.py"))


REASONS = {
    "hogs": r"used 1\.\d GiB, over its memory limit of 1\.2 GiB",
    "raises": r"KeyError: 'two\\nlines' \[hostile\.py:\d+: raise KeyError\(.two\\nlines.\)\]",
    "exits": "its worker process exited with code 0",
    "leaves": "SystemExit: 3",
    "nan-state": "state 'w' of nan-state holds NaN or infinite numbers",
    "nan-ratio": r"log_ratio returned NaN or \+inf for \d+ of \d+",
    "wrong-shape": r"log_ratio returned \(1, \d+, \d+\); the contract is \(members, components, ",
    "wrong-axis": r"state 'w' of wrong-axis has shape \(7, 2\); its first axis must be the members",
    "overspends": "600 simulations cost 600 calls, and of the budget of 600 only 0 are left",
}
ABSENT = {
    "abstract": "it does not define restore",
    "wrong-signature": r"fit\(self\) has a wrong signature",
    "bad-check": "AttributeError: 'RotatedGaussians' object has no attribute 'no_such_thing'",
    "bad-init": r"TypeError: BadInit\.__init__\(\) takes 1 positional argument but 2 were given",
}


@pytest.mark.timeout(1800)
def test_everything_that_a_plugin_can_do_wrong(undisturbed, command, tmp_path, monkeypatch):
    shutil.copy(PLUGINS / "hostile.py", tmp_path)
    (tmp_path / "unimportable.py").write_text("import no_such_module")
    (tmp_path / "tiny.toml").write_text(
        FILE.replace("members = 2", "members = 1\nmemory_limit = 1.2").replace(
            '    {kind = "heldout", contexts = 2, events = 4},\n', ""
        )
    )
    good = ("histogram", "prints", "changes-globals", "declines", "declines-late")
    process = start(
        *("run", "tiny.toml", "--plugin", "hostile.py", "--plugin", "unimportable.py"),
        *(word for name in (*REASONS, *ABSENT, *good) for word in ("--method", name)),
        cwd=tmp_path,
    )
    out, err = finish(process, 1)
    lines = err.splitlines()

    def told(pattern):
        return len([line for line in lines if re.search(pattern, line)])

    for name, reason in REASONS.items():
        assert told(rf"^failed: \w+ of {name} on gaussians-far, member 0: {reason}") >= 1, name
        assert told(reason) == told(rf" of {name} on ") - told(rf"^\d.* of {name} on "), name
    for name, reason in ABSENT.items():
        assert told(rf"^failed: {name} on gaussians-far: method '{name}' from .*: {reason}") == 1
        assert told(reason) == 1
    assert told("^failed: plugin .*unimportable.py on every task: ModuleNotFoundError: No mod") == 1
    assert (
        told("^failed: metric broken on gaussians-far: metric 'broken' fails: ZeroDivisionE") == 1
    )
    assert told("^failed.*declines") == 0  # a progress line may contain it
    assert lines[-1].endswith("results in results/tiny")
    assert "noise on standard output" in err  # lines of concurrent workers may mix
    assert "noise" not in out
    assert not survivors(tmp_path)

    store = Store.open(tmp_path / "results" / "tiny")
    status = list(status_lines(Results(store)))
    for name, reason in {**REASONS, **ABSENT}.items():
        assert any(re.search(reason, line) for line in status), name
    for line in (
        "n/a: declines on gaussians-far: it would rather not",
        "n/a: declines-late on gaussians-far: it would rather not, on second thoughts",
        "failed: metric broken on gaussians-far: metric 'broken' fails: ZeroDivisionError: "
        "in plugin [hostile.py:",
    ):
        assert any(shown.startswith(line) for shown in status), line
    assert any("unimportable.py on every task: ModuleNotFoundError" in line for line in status)
    assert sum("histogram" in line and "fits 1/1" in line for line in status) == 1

    # Other jobs continue, with all metrics but the broken one, and the next run retries it.
    (board,) = [
        b for b in build(Results(store), Registry().metrics()) if b.plan["kind"] == "independent"
    ]
    scored = {row.label for row in board.rows if row.quantities}
    assert scored == {"exact", "histogram", "prints", "changes-globals"}
    arrays = contents(digests(undisturbed / "results" / "tiny", ".safetensors"))
    theirs = contents(digests(store.root, ".safetensors", parts=("fits", "predictions")))
    common = {name for name in theirs if "histogram" in name}
    assert len(common) == 2
    assert {n: theirs[n] for n in common} == {n: arrays[n] for n in common}
    (tmp_path / "mended").touch()
    before = finished(store.root)
    monkeypatch.chdir(tmp_path)
    again = ("run", "tiny.toml", "--plugin", "hostile.py", "--method", "raises", "--quiet")
    status, _, err = command(*again, "--workers", 1)
    assert status == 1  # the metric is still broken
    assert err.splitlines()[0].startswith("failed: metric broken on gaussians-far: ")
    assert re.match(r"4 made, \d+ reused, 1 failed in \d+ s; ", err.splitlines()[1]), err
    unscored = {n: v for n, v in before.items() if not n.startswith("scores/")}
    assert unscored.items() <= finished(store.root).items()


def test_a_fit_that_hangs_is_killed_with_what_it_started(command, tmp_path, monkeypatch):
    shutil.copy(PLUGINS / "hostile.py", tmp_path)
    (tmp_path / "tiny.toml").write_text(FILE.replace("members = 2", "members = 1\ntime_limit = 8"))
    monkeypatch.chdir(tmp_path)
    hanging = ("run", "tiny.toml", "--plugin", "hostile.py", "--method", "hangs", "--quiet")
    status, _, err = command(*hanging, "--workers", 1)
    assert status == 1
    reason = "ran past its time limit of 8 s"
    assert f"failed: fit of hangs on gaussians-far, member 0: {reason}" in err.splitlines()
    assert not survivors(tmp_path)
    status = status_lines(Results(Store.open(tmp_path / "results" / "tiny")))
    assert any(reason in line for line in status)


def test_the_caller_is_left_alone(tmp_path, simple):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global state is the point
    torch.manual_seed(1)
    state = {
        "environment": dict(os.environ),
        "handlers": {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)},
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "folder": os.getcwd(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "random": random.getstate(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "errors": np.geterr(),
        "streams": (sys.stdout, sys.stderr),
        "path": list(sys.path),
    }

    run = benchmark(tmp_path / "results", [simple], members=1, plans=TINY["plans"][:1])
    run.record(["test"])
    events, outcomes = [], []
    with open_executor(run.store, 1, (600.0, 4.0), events.append) as executor:
        report = run_jobs(
            run.jobs, run.store, executor, lambda job, outcome: outcomes.append(outcome)
        )
    assert report.ok
    assert report.done == len(outcomes) == 6
    FORMATS["table"](build(Results(run.store), run.registry.metrics()))

    assert state == {
        "environment": dict(os.environ),
        "handlers": {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)},
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "folder": os.getcwd(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "random": random.getstate(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "errors": np.geterr(),
        "streams": (sys.stdout, sys.stderr),
        "path": list(sys.path),
    }
    assert not psutil.Process().children() or all(
        "resource_tracker" in " ".join(child.cmdline()) for child in psutil.Process().children()
    )
