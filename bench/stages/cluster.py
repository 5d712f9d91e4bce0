"""A Dask cluster as an executor: fits and predictions run on its workers, the rest here.

The client alone touches the store. It sends each job with the entries that it reads and the plugin
files, and writes the entries that come back; workers share no file system with it. It keeps the
graph, the order and the limits, and gives the cluster no more jobs than there are slots, so that
Dask, which does not know how long they take, need not balance them: it runs each where there is
room, and again elsewhere what a lost worker was at.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import queue
import re
import tempfile
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bench
from bench.errors import BenchError, LimitExceeded, UsageError
from bench.stages.executor import Event, Executor, Job, Outcome
from bench.stages.store import Store
from bench.stages.worker_process import failure, start_up
from bench.stages.worker_slot import Parcel, Returned, packed, perform
from bench.stages.workers import Workers

if TYPE_CHECKING:
    from distributed import Client, Future, SpecCluster

_WAIT = 0.2  # seconds that one look for news takes at most
_BUSY_WAIT = 0.02  # the same while jobs run here, too
_COUNT_EVERY = 2.0  # seconds between two counts of the slots
_CONNECT = 10.0  # seconds that a scheduler may take to answer
_CLOSE = 60.0  # seconds that a cluster of our own may take to end
_ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})", re.ASCII)
_LOCAL = re.compile(r"local:([1-9]\d{0,3})", re.ASCII)


def check_address(scheduler: str) -> None:
    """Refuses what is neither a scheduler's address nor a local cluster.

    Raises:
        UsageError: if it is wrong, or Dask is not installed.
    """
    found = _ADDRESS.fullmatch(scheduler)
    if not (_LOCAL.fullmatch(scheduler) or (found and 0 < int(found[3]) < 2**16)):
        raise UsageError(
            f"scheduler {scheduler!r} is neither tcp://HOST:PORT (or tls://…), the address of a "
            "Dask scheduler, nor local:N, which starts N workers here"
        )
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--scheduler needs dask.distributed ({error}): pip install 'nlbench[cluster]'"
        ) from error


@contextmanager
def connect(scheduler: str) -> Iterator[Client]:
    """A client of a Dask cluster, which is started where the address says `local:N`.

    Raises:
        UsageError: if the address is wrong, nobody answers there, or workers have another version
            of the suite.
    """
    check_address(scheduler)
    from distributed import Client

    here = _LOCAL.fullmatch(scheduler)
    with ExitStack() as stack:
        cluster = stack.enter_context(_local_cluster(int(here[1]))) if here else None
        try:
            client = Client(cluster or scheduler, timeout=_CONNECT, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise UsageError(f"no Dask scheduler answers at {scheduler}") from error
        with client:
            _check_versions(client, scheduler)
            yield client


@contextmanager
def _local_cluster(workers: int) -> Iterator[SpecCluster]:
    """Workers on this machine, one thread each; with GPUs, each of them sees one."""
    import dask
    import torch
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = torch.cuda.device_count()
    options: dict[str, Any] = {
        "nthreads": 1,
        "memory_limit": 0,  # jobs have limits of their own
        "silence_logs": logging.ERROR,
        "dashboard": False,
    }
    specification: dict[str, Any] = {}
    for i in range(workers):
        if gpus:
            own = {"resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": str(i % gpus)}}
            specification[str(i)] = {"cls": Nanny, "options": options | own}
        else:
            specification[str(i)] = {"cls": Nanny, "options": options}
    scheduler = {"host": "127.0.0.1", "port": 0, "dashboard": False}
    with tempfile.TemporaryDirectory(prefix="nlbench-", ignore_cleanup_errors=True) as scratch:
        # What the cluster's threads start does not hear of Ctrl-C.
        with start_up(), warnings.catch_warnings(), dask.config.set(temporary_directory=scratch):
            warnings.filterwarnings("ignore", "Creating scratch directories")  # a busy machine
            cluster = SpecCluster(
                specification,
                {"cls": Scheduler, "options": scheduler},
                silence_logs=logging.CRITICAL,
            )
        try:
            yield cluster
        finally:
            cluster.close(timeout=_CLOSE)


def _check_versions(client: Client, scheduler: str) -> None:
    """Refuses a cluster whose workers have no nlbench, or another one."""
    try:
        versions = set(client.run(_version).values())
    except Exception as error:
        raise UsageError(
            f"the workers at {scheduler} cannot import nlbench: {failure(error)['error']}"
        ) from error
    if other := versions - {bench.__version__}:
        raise UsageError(
            f"the workers at {scheduler} have nlbench {', '.join(sorted(other))}, and this is "
            f"{bench.__version__}"
        )


def _version() -> str:
    return bench.__version__


def offers_gpus(scheduler: str) -> bool:
    """Whether any worker of a running cluster has the resource tag GPU.

    Raises:
        UsageError: as `connect`.
    """
    if _LOCAL.fullmatch(scheduler):
        import torch

        return torch.cuda.is_available()
    with connect(scheduler) as client:
        return any(slots(client, "GPU").values())


def slots(client: Client, resource: str | None = None) -> dict[str, int]:
    """How many jobs each worker can run at a time: its threads, or its resource, by address."""
    workers = client.scheduler_info()["workers"].items()
    if resource is None:
        return {address: int(worker["nthreads"]) for address, worker in workers}
    return {address: int(worker["resources"].get(resource, 0)) for address, worker in workers}


class Cluster(Executor):
    """Runs jobs that travel on a Dask cluster, and the others on this machine's workers.

    Args:
        client: a client of the cluster.
        store: the results folder, of which the client alone knows.
        here: this machine's workers, whose limits and `on_event` hold everywhere.
    """

    def __init__(self, client: Client, store: Store, here: Workers) -> None:
        super().__init__(here.on_event)
        self._client = client
        self._store = store
        self._here = here
        here.tick = _BUSY_WAIT
        self._sent: dict[str, _Sent] = {}
        self._news: queue.SimpleQueue[Event | _Arrival] = queue.SimpleQueue()
        self._topic = f"nlbench-{uuid.uuid4().hex}"
        self._plugins: dict[str, tuple[str, bytes]] = {}  # by path
        self._waiting_here = False
        self._slots: dict[str | None, dict[str, int]] = {}
        self._counted = 0.0

    def __enter__(self) -> Cluster:
        self._client.subscribe_topic(self._topic, lambda told: self._news.put(Event(*told[1])))
        return self

    def __exit__(self, *exception: object) -> None:
        self.halt()
        self._here.__exit__()
        with suppress(Exception):
            self._client.unsubscribe_topic(self._topic)

    @property
    def busy(self) -> bool:
        """Whether any job is under way."""
        return bool(self._sent) or self._here.busy

    def take(self, ready: Sequence[Job]) -> list[str]:
        """Sends jobs that travel while there are free slots; gives the others to the workers here.

        Raises:
            StoreError: if what a job reads has gone.
        """
        staying = [job for job in ready if job.travel is None]
        taken = self._here.take(staying) if staying else []
        self._waiting_here = bool(staying)
        if len(staying) == len(ready):
            return taken
        if time.monotonic() - self._counted > _COUNT_EVERY:
            self._counted = time.monotonic()
            self._slots = {kind: slots(self._client, kind) for kind in (None, "GPU")}
        free = {kind: self._free(kind) for kind in self._slots}
        for job in ready:
            kind = _resource(job)
            if job.travel is not None and free[kind]:
                self._send(job, kind, free[kind].pop())
                taken.append(job.key)
        return taken

    def _free(self, resource: str | None) -> list[str]:
        """The workers of free slots, those with most of them last."""
        room = Counter(self._slots[resource])
        room.subtract(sent.worker for sent in self._sent.values() if sent.resource == resource)
        return [w for _, w in sorted((i, w) for w, count in room.items() for i in range(count))]

    def _send(self, job: Job, resource: str | None, worker: str) -> None:
        assert job.travel is not None
        import dask

        place = job.arguments["place"]
        parcel = Parcel(
            job.key,
            packed(job),
            {name: c for key in job.travel.takes for name, c in self._store.files(key).items()},
            job.travel.brings,
            dict(self._plugin(path) for path in place.plugins),
            self._here.time_limit,
            self._here.memory_limit,
            self._topic,
            bench.__version__,
        )
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"}):
            future = self._client.submit(
                perform,
                parcel,
                key=f"{job.key} {uuid.uuid4().hex}",
                pure=False,
                resources=None if resource is None else {resource: 1},
                workers=[worker],
                allow_other_workers=True,  # should it be lost
            )
        self._sent[job.key] = _Sent(job, future, resource, worker)
        loop = self._client.loop.asyncio_loop
        asyncio.run_coroutine_threadsafe(self._await(job.key, future), loop)

    def _plugin(self, path: str) -> tuple[str, tuple[str, bytes]]:
        """A plugin file by the hash of its bytes, read once, when it is first wanted."""
        if path not in self._plugins:
            self._plugins[path] = Path(path).name, Path(path).read_bytes()
        return hashlib.sha256(self._plugins[path][1]).hexdigest(), self._plugins[path]

    async def _await(self, key: str, future: Future) -> None:
        """Waits, on the client's own thread, for a job's outcome to arrive."""
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        try:
            outcome = await self._client.gather(future, asynchronous=True)
        except (asyncio.CancelledError, FutureCancelledError):
            outcome = None
        except KilledWorker:
            lost = LimitExceeded("the workers that it ran on were lost, again and again")
            outcome = Outcome(key, **failure(lost))
        except Exception as error:  # whatever the cluster raises ends this job, not the run
            outcome = Outcome(key, **failure(error))
        self._news.put(_Arrival(key, future, outcome))

    def collect(self) -> list[Outcome]:
        """Waits a moment for jobs to end; writes what those that did have made.

        Raises:
            BenchError: if the cluster has gone.
            StoreError: if the disk refuses.
        """
        working_here = self._waiting_here or self._here.busy
        ended = self._here.collect() if working_here else []
        wait = not working_here
        with suppress(queue.Empty):
            while True:
                news = self._news.get(wait, _WAIT)
                wait = False
                if isinstance(news, Event):
                    if news.key in self._sent:
                        self.on_event(news)
                elif news.key in self._sent and self._sent[news.key].future is news.future:
                    ended.append(self._unpacked(news))
        return ended

    def _unpacked(self, news: _Arrival) -> Outcome:
        """Writes the entries that came back; the outcome with the job's own value."""
        job = self._sent.pop(news.key).job
        news.future.release()
        if news.outcome is None:
            raise BenchError("the cluster has gone; the same command resumes once it is back")
        returned = news.outcome.value
        if not isinstance(returned, Returned) or job.travel is None:
            return news.outcome
        for key in job.travel.brings:
            for name in (f"{key}.safetensors", f"{key}.json"):  # the record last
                if name in returned.files:
                    self._store.write_bytes(name, returned.files[name])
        return replace(news.outcome, value=returned.value)

    def halt(self) -> None:
        """Cancels the jobs that are out, and kills those that run here."""
        futures = [sent.future for sent in self._sent.values()]
        self._sent.clear()
        self._here.halt()
        if futures:
            with suppress(Exception):  # it may be the cluster that is gone
                self._client.cancel(futures, force=True)


def _resource(job: Job) -> str | None:
    """The resource tag that a job needs of a worker."""
    place = job.arguments.get("place")
    return "GPU" if place is not None and place.device == "cuda" else None


@dataclass(frozen=True)
class _Sent:
    """A job that is out: what it occupies, and where it was sent."""

    job: Job
    future: Future
    resource: str | None
    worker: str


@dataclass(frozen=True)
class _Arrival:
    """A job's outcome, or none if it was cancelled."""

    key: str
    future: Future
    outcome: Outcome | None
