"""Execution of a job on a Dask worker, in one separate process per slot.

A thread of a Dask worker cannot be stopped. It therefore passes the job to the pool that also runs
jobs on one machine, with one process. The process is single-threaded, and is killed at its limits
or when the client cancels the job. This module does not import torch; the process does, and ends
after 60 s without a job.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import pickle
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bench
from bench.errors import LimitExceeded, PluginError, UsageError
from bench.execution.executor import Call, Event, Outcome
from bench.execution.pool import Workers
from bench.execution.worker import failure

if TYPE_CHECKING:
    from distributed import Worker

_REPORT_EVERY = 1.0  # seconds between two progress messages of one job over the network
_IDLE = 60.0  # seconds after which an idle process is ended, to free its memory


@dataclass(frozen=True)
class RemoteJob:
    """Job as sent to a worker, with all files that it needs there.

    Args:
        key: the job's key.
        job: the pickled job.
        files: files of the store that it reads, by name.
        brings: keys of the entries that it writes.
        plugins: plugin files by version, each with what it imports from its folder: contents by
            relative path, the plugin file first.
        time_limit: seconds that it may take.
        memory_limit: bytes that it may use.
        topic: Dask topic of its progress messages.
        version: version of the suite, which must be the same on both sides.
    """

    key: str
    job: bytes
    files: dict[str, bytes]
    brings: tuple[str, ...]
    plugins: dict[str, dict[str, bytes]]
    time_limit: float | None
    memory_limit: int | None
    topic: str
    version: str


@dataclass(frozen=True)
class Returned:
    """Result that a worker sends back: the job's own value, and the files it wrote, by name."""

    value: Any
    files: dict[str, bytes]


def perform(parcel: RemoteJob) -> Outcome:
    """Run a job on this Dask worker; the outcome's value is a `Returned` if the job is done."""
    from distributed import get_worker

    if parcel.version != bench.__version__:
        what = f"this worker has nlbench {bench.__version__}, the client {parcel.version}"
        return Outcome(parcel.key, **failure(UsageError(what)))
    worker = get_worker()
    task = worker.get_current_task()
    scratch = Path(worker.local_directory) / "nlbench"
    last = 0.0

    def on_event(event: Event) -> None:
        nonlocal last
        if event.kind == "progress" and time.monotonic() - last < _REPORT_EVERY:
            return
        last = time.monotonic()
        worker.log_event(parcel.topic, (event.key, event.kind, event.fields))

    arguments = {"job": _Pickled(parcel.job), "parcel": dataclasses.replace(parcel, job=b"")}
    job = Call(parcel.key, unpack, arguments | {"scratch": str(scratch)})
    with _pool() as pool:
        pool.time_limit, pool.memory_limit = parcel.time_limit, parcel.memory_limit
        pool.on_event = on_event
        try:
            ended: list[Outcome] = pool.collect()  # also detects that the process has died
            taken: list[str] = []
            while not ended:
                taken = taken or pool.take([job])
                ended = pool.collect()
                if _unwanted(worker, task):
                    raise LimitExceeded("the client does not want it any more")
            return ended[0]
        finally:
            pool.halt()


def _unwanted(worker: Worker, task: Any) -> bool:
    """Return whether the client has gone or cancelled the task, or the worker is being closed."""
    state = worker.state.tasks.get(task)
    return state is None or state.state in ("cancelled", "resumed") or worker.status.name in _GONE


_GONE = ("closing", "closed", "failed")

idle: list[tuple[float, Workers]] = []
_lock = threading.Lock()


@contextmanager
def _pool() -> Iterator[Workers]:
    """Open a pool of one process for this thread, reusing an idle one."""
    # Dask starts its workers as daemons, which may have no children. A child of this one still
    # ends with its parent.
    multiprocessing.process.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    with _lock:
        pool = idle.pop()[1] if idle else Workers(1)
    try:
        yield pool
    finally:
        with _lock:
            idle.append((time.monotonic(), pool))
        timer = threading.Timer(_IDLE, give_up)
        timer.daemon = True
        timer.start()


def give_up(after: float = _IDLE) -> None:
    """End the processes that have been idle for at least this many seconds."""
    with _lock:
        old = [pool for since, pool in idle if time.monotonic() - since >= after]
        idle[:] = [(since, pool) for since, pool in idle if pool not in old]
    for pool in old:
        pool.__exit__()


class _Pickled:
    """Pickled job, restored only where it is unpickled: in the process that may import torch."""

    def __init__(self, job: bytes) -> None:
        self._job = job

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._job,)


def unpack(*, report: Callable[..., None], job: Any, parcel: RemoteJob, scratch: str) -> Returned:
    """Run a job in a temporary folder; simulations are kept for other jobs of this worker.

    Args:
        report: function that receives progress, as in `Job.perform`.
        job: the job.
        parcel: the data that were sent with it.
        scratch: this worker's folder.

    Returns:
        The job's value and the files that it wrote.

    Raises:
        PluginError: if a plugin file's bytes do not match their hash.
    """
    from bench.registry.plugins import plugin_version
    from bench.storage.simulations import SHARED
    from bench.storage.store import Store

    plugins = []
    for version, contents in parcel.plugins.items():
        plugin, *_ = contents
        if plugin_version(contents) != version:
            raise PluginError(f"plugin {plugin} was changed on the way; run again")
        folder = f"plugins/{version[:16]}"
        for name, content in contents.items():
            Store.open(scratch).write_bytes(f"{folder}/{name}", content)
        plugins.append(os.path.join(scratch, folder, plugin))
    os.makedirs(scratch, exist_ok=True)
    root = tempfile.mkdtemp(dir=scratch, prefix="job-")
    shared = os.environ.get(SHARED)
    os.environ[SHARED] = shared or scratch
    try:
        store = Store.open(root)
        for name, content in parcel.files.items():
            store.write_bytes(name, content)
        context = dataclasses.replace(job.context, root=root, plugins=tuple(plugins))
        value = dataclasses.replace(job, context=context).perform(report)
        files = [store.files(key) for key in parcel.brings]
        return Returned(value, {name: content for part in files for name, content in part.items()})
    finally:
        if shared is None:
            del os.environ[SHARED]
        with suppress(OSError):
            shutil.rmtree(root)
