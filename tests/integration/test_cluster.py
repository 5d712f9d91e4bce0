"""Runs on a Dask cluster: equal numbers, and failures of workers, jobs or clients."""

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import worker_jobs
from click.testing import CliRunner
from distributed import LocalCluster
from whole_runs import NETWORK, PLUGINS

import bench
from bench.cli.main import cli
from bench.errors import BenchError, PluginError, UsageError
from bench.execution.dask import cluster, connection, slot
from bench.execution.dask.cluster import Cluster
from bench.execution.dask.connection import check_address, connect, offers_gpus
from bench.execution.dask.slot import RemoteJob, unpack
from bench.execution.executor import Call, JobIO
from bench.execution.open import open_executor
from bench.execution.pool import Workers
from bench.experiment.preset import Preset
from bench.experiment.run import run as run_jobs
from bench.experiment.schedule import schedule
from bench.registry.registry import Registry
from bench.storage.entries import JobContext
from bench.storage.store import Store

# Dask warns if making a scratch folder takes long, as on a busy machine.
pytestmark = pytest.mark.filterwarnings("ignore:Creating scratch directories")

BENCH = str(Path(sys.executable).with_name("bench"))


@pytest.fixture
def dask(jobs):
    """Return a function that starts clusters of worker threads with real slot processes."""
    started = []

    def start(workers=1, **options):
        options = {"threads_per_worker": 1, "processes": False, "protocol": "tcp"} | options
        options |= {"host": "127.0.0.1", "dashboard_address": ":0"}
        started.append(LocalCluster(n_workers=workers, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()
    slot.give_up(after=0.0)


def travelling(key, function, device="cpu", after=(), **arguments):
    context = JobContext("/nowhere", (), device, 0.0)
    return worker_jobs.Travelling(key, function, arguments, after, context, JobIO((), ()))


def pool(client, tmp_path, time_limit=None, on_event=lambda event: None):
    return Cluster(client, Store(tmp_path / "store"), Workers(1, time_limit, None, on_event))


def lines(path):
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_jobs_meet_their_limits_and_report_as_on_one_machine(dask, jobs, tmp_path):
    events = []
    work = [
        travelling("note", jobs.note, path=str(tmp_path / "note")),
        Call("here", jobs.add, {"a": 1, "b": 2}, ("note",)),
    ]
    endless = [
        travelling("hang", jobs.hang_there),
        travelling("needs", jobs.note, after=("hang",), path="never"),
    ]
    with connect(dask(1).scheduler_address) as client:
        with pool(client, tmp_path, on_event=events.append) as executor:
            outcomes = {outcome.key: outcome for outcome in executor.run(work)}
        with pool(client, tmp_path, time_limit=2.0) as executor:
            outcomes |= {outcome.key: outcome for outcome in executor.run(endless)}
    assert outcomes["hang"].error == "ran past its time limit of 2 s"
    assert outcomes["hang"].error_type == "LimitExceeded"
    assert outcomes["note"].error == ""
    assert outcomes["note"].value == "note"
    assert outcomes["needs"].status == "skipped"
    assert outcomes["here"].value == 3
    noted = [(event.kind, event.fields.get("stage")) for event in events if event.key == "note"]
    assert noted[0] == ("started", None)
    assert noted[-1][0] == "finished"


def test_a_lost_worker_loses_only_what_it_was_on(jobs, tmp_path):
    path = tmp_path / "{}"
    with connect("local:2") as client, pool(client, tmp_path) as executor:
        work = [travelling("first", jobs.note, path=str(tmp_path / "first"))]
        hangs = {"after": ("first",), "path": str(tmp_path / "victim")}
        work += [travelling("victim", jobs.hang_once, **hangs)]
        work += [
            travelling(f"other {i}", jobs.note, path=str(tmp_path / f"other {i}"), seconds=0.5)
            for i in range(3)
        ]
        ended = []
        for outcome in executor.run(work):
            ended.append((outcome.key, outcome.status))
            if outcome.key == "first":
                until(lambda: lines(tmp_path / "victim"))
                os.kill(int(lines(tmp_path / "victim")[0][1]), signal.SIGKILL)
                # The job ends with its worker.
                until(lambda: gone(int(lines(tmp_path / "victim")[0][0])))
    assert sorted(ended) == sorted((job.key, "done") for job in work)
    runs = {job.key: len(lines(Path(str(path).format(job.key)))) for job in work}
    assert runs == {job.key: 2 if job.key == "victim" else 1 for job in work}


def test_stopping_early_stops_the_workers_jobs(dask, jobs, tmp_path):
    path = tmp_path / "pid"
    with connect(dask(2).scheduler_address) as client, pool(client, tmp_path) as executor:
        work = [
            travelling("hang", jobs.hang_there, path=str(path)),
            travelling("note", jobs.note, path=str(tmp_path / "note"), seconds=1.0),
        ]
        for outcome in executor.run(work):
            assert outcome.key == "note"
            until(lambda: path.exists() and path.read_text())
            break
        assert not executor.busy
        until(lambda: gone(int(path.read_text())))


def test_gpu_jobs_go_to_workers_with_the_tag(dask, jobs, tmp_path):
    plain = dask(1)
    assert not offers_gpus(plain.scheduler_address)
    tagged = dask(1, resources={"GPU": 1})
    assert offers_gpus(tagged.scheduler_address)
    with connect(plain.scheduler_address) as client, pool(client, tmp_path) as executor:
        job = travelling("gpu", jobs.note, "cuda", path=str(tmp_path / "gpu"))
        assert executor.take([job]) == []  # waits for a worker with a GPU
    with connect(tagged.scheduler_address) as client, pool(client, tmp_path) as executor:
        both = [job, replace(job, key="other")]
        assert executor.take(both) == ["gpu"]  # one GPU, one job at a time
        ended = []
        until(lambda: ended.extend(executor.collect()) or ended)
        assert [(outcome.key, outcome.error) for outcome in ended] == [("gpu", "")]
        assert executor.take(both[1:]) == ["other"]


def test_two_workers_work_at_the_same_time(dask, jobs, tmp_path):
    paths = [str(tmp_path / name) for name in ("own", "other")]
    with connect(dask(2).scheduler_address) as client, pool(client, tmp_path) as executor:
        work = [
            travelling(own, jobs.meet, own=own, other=other) for own, other in (paths, paths[::-1])
        ]
        assert [outcome.error for outcome in executor.run(work)] == ["", ""]


@pytest.mark.slow
def test_the_same_numbers_on_two_workers_as_on_one_machine(dask, tmp_path):
    plugin = shutil.copy(PLUGINS / "simple.py", tmp_path)
    (network := tmp_path / "network.py").write_text(NETWORK)
    preset = Preset(
        tasks=("gaussians-far",),
        methods=("exact", "network:default", "simple:default"),
        members=1,
        budgets=(600,),
        plans=({"kind": "independent", "uniform": 3, "per_point": 0, "observations": 50},),
    )

    def numbers(name, scheduler=None):
        root = tmp_path / name
        run = schedule(Registry([plugin, network]), preset, Store(root), scheduler=scheduler)
        run.record(["test"])
        with open_executor(run.store, 1, (600.0, 4.0), scheduler=scheduler) as executor:
            report = run_jobs(run.jobs, run.store, executor)
        assert report.ok
        assert report.done == len(run.jobs)
        kept = sorted(path.relative_to(root) for path in root.rglob("*.safetensors"))
        hashes = {
            path.as_posix(): hashlib.sha256((root / path).read_bytes()).hexdigest()
            for path in kept
            if path.parts[0] != "simulations"
        }
        assert len(hashes) == 2 + 3 + 3  # exact stores no arrays of its fit
        return hashes

    alone = numbers("alone")
    fits = len(plugin_log(plugin))
    assert numbers("two workers", dask(2).scheduler_address) == alone
    # Workers simulate in their own folder, and read the plugin that was sent.
    assert not (tmp_path / "two workers" / "simulations").exists()
    assert len(plugin_log(plugin)) == fits


def plugin_log(plugin):
    return Path(plugin).with_suffix(".log").read_text().splitlines()


@pytest.mark.slow
def test_an_interrupted_client_cancels_and_the_next_one_resumes(dask, tmp_path, monkeypatch):
    plugin = shutil.copy(PLUGINS / "simple.py", tmp_path)
    (tmp_path / "tiny.toml").write_text(
        'tasks = ["gaussians-far"]\nmethods = ["simple:default", "simple:slow"]\nmembers = 2\n'
        "budgets = [600]\nplans = [{kind = 'heldout', contexts = 2, events = 4}]\n"
    )
    log = tmp_path / "fits.log"  # not next to the worker's copy
    slow = '"slow": {"delay": 3600.0, "scale": 2.0}'
    text = Path(plugin).read_text().replace('"slow": {"delay": 1.0}', slow)
    Path(plugin).write_text(
        text.replace('Path(__file__).with_suffix(".log")', f"Path({str(log)!r})")
    )
    address = dask(1).scheduler_address
    command = [BENCH, "run", "tiny.toml", "--plugin", plugin, "--out", "out", "--quiet"]
    command += ["--scheduler", address]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as client:
        try:
            until(lambda: log.exists() and "gaussians-far 2.0" in log.read_text(), 300)
            until(lambda: len(list((tmp_path / "out" / "fits").rglob("member-*.json"))) > 1)
            client.send_signal(signal.SIGINT)
            _, said = client.communicate(timeout=120)
        finally:
            client.kill()
    assert client.returncode == 130
    assert said.strip().splitlines()[-1].startswith("bench: interrupted; the same command resumes")
    assert "Traceback" not in said
    until(lambda: not any(pool.busy for _, pool in slot.idle) and slot.idle)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, [*command[1:], "--method", "simple:default"])
    assert done.exit_code == 0, done.output
    assert "0 failed" in done.stderr
    assert int(re.search(r"(\d+) reused", done.stderr)[1]) >= 2


@pytest.mark.parametrize(
    "address",
    ["tcp://", "tcp://host", "host:8786", "tcp://host:0", "tcp://host:99999", "local:0", "local:",
     "local:two", "local:-1", "tcp://a b:1", "tcp://host:8786/x", "", "http://host:80"],
)  # fmt: skip
def test_what_is_no_address_is_told_in_one_line(address, tmp_path):
    result = CliRunner().invoke(
        cli, ["run", "smoke", "--scheduler", address, "--out", str(tmp_path / "out")]
    )
    assert isinstance(result.exception, UsageError)
    assert "is neither tcp://HOST:PORT" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_good_addresses():
    for address in ("tcp://host:8786", "tls://10.0.0.1:1", "tcp://[::1]:8786", "local:16"):
        check_address(address)


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(connection, "_CONNECT", 0.5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"no Dask scheduler answers at {address}"):
            connect(address).__enter__()


def test_something_else_answers(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"

        def answer():  # like a dashboard
            while True:
                try:
                    other, _ = server.accept()
                except OSError:
                    return
                with other:
                    other.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + 40 * b"x")

        threading.Thread(target=answer, daemon=True).start()
        ran = subprocess.run(
            [BENCH, "run", "smoke", "--scheduler", address, "--out", "out"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        server.shutdown(socket.SHUT_RDWR)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"bench: no Dask scheduler answers at {address}\n"


def test_nothing_of_dask_is_printed_when_a_scheduler_is_killed(tmp_path):
    file = tmp_path / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file]
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "dask", "scheduler", *options], stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: file.exists() and file.read_text().endswith("}"), 60)
        code = (
            "import json, sys, time\n"
            "from bench.execution.dask.connection import connect\n"
            "with connect(json.load(open(sys.argv[1]))['address']) as client:\n"
            "    print('connected', flush=True)\n"
            "    while client.status != 'closed':\n"
            "        time.sleep(0.1)\n"
        )
        client = subprocess.Popen(
            [sys.executable, "-c", code, file],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert client.stdout.readline() == "connected\n"
        scheduler.kill()
        assert client.communicate(timeout=120) == ("", "")
        assert client.returncode == 0
    finally:
        scheduler.kill()
        scheduler.wait()


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'nlbench\[cluster\]'"):
        check_address("local:2")


def test_another_version_of_the_suite_is_refused(dask, jobs, tmp_path, monkeypatch):
    address = dask(1).scheduler_address
    with connect(address) as client, pool(client, tmp_path) as executor:
        older = SimpleNamespace(__version__="0.0.1")
        monkeypatch.setattr(cluster, "bench", older)
        job = travelling("note", jobs.note, path=str(tmp_path / "note"))
        assert executor.take([job]) == ["note"]
        while not (ended := executor.collect()):
            pass
    assert ended[0].error_type == "UsageError"
    assert f"nlbench {bench.__version__}, the client 0.0.1" in ended[0].error
    version = bench.__version__  # version reported by workers on another machine
    monkeypatch.setattr(connection, "_version", lambda: version)
    monkeypatch.setattr(connection, "bench", older)
    with pytest.raises(UsageError, match=f"have nlbench {bench.__version__}, and this is 0.0.1"):
        connect(address).__enter__()


def test_a_cluster_that_ends_is_told_in_one_line(dask, jobs, tmp_path):
    one = dask(1)
    with connect(one.scheduler_address) as client, pool(client, tmp_path) as executor:
        assert executor.take([travelling("hang", jobs.hang_there)]) == ["hang"]
        one.close()
        with pytest.raises(BenchError, match="the cluster has gone; the same command resumes"):
            until(executor.collect)


def test_a_plugin_that_changed_on_the_way_is_refused(tmp_path):
    parcel = RemoteJob("job", b"", {}, (), {"0" * 64: {"simple.py": b"x = 1"}}, None, None, "", "")
    with pytest.raises(PluginError, match=r"simple\.py was changed on the way"):
        unpack(report=dict, job=None, parcel=parcel, scratch=str(tmp_path))
