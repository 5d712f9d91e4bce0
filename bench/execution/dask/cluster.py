"""Executor on a Dask cluster: fits and predictions run on its workers, the rest on this machine.

The client alone accesses the store. It sends each job with the entries that it reads and the
plugin files, and writes the entries that come back; workers share no file system with it. The
client also keeps the graph of jobs, their order and their limits. It submits no more jobs than
there are slots, so Dask need not balance jobs of unknown duration. Dask runs the jobs of a lost
worker again on another one.
"""

from __future__ import annotations

import asyncio
import pickle
import queue
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import bench
from bench.errors import BenchError, LimitExceeded
from bench.execution.dask.connection import slots
from bench.execution.dask.slot import RemoteJob, Returned, perform
from bench.execution.executor import Event, Executor, Job, Outcome
from bench.execution.pool import Workers
from bench.execution.worker import failure
from bench.registry.plugins import plugin_files, plugin_version
from bench.storage.store import Store

if TYPE_CHECKING:
    from distributed import Client, Future

_WAIT = 0.2  # seconds that one wait for messages takes at most
_BUSY_WAIT = 0.02  # the same while jobs run on this machine, too
_COUNT_EVERY = 2.0  # seconds between two counts of the slots


class Cluster(Executor):
    """Executor that sends jobs with an `io` to a Dask cluster and runs the others on this machine.

    Args:
        client: a client of the cluster.
        store: the results folder, which the client alone accesses.
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
        self._plugins: dict[str, dict[str, bytes]] = {}  # by path
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
        """Return whether any job is running."""
        return bool(self._sent) or self._here.busy

    def take(self, ready: Sequence[Job]) -> list[str]:
        """Send jobs with an `io` to free slots, and give the others to this machine's workers.

        Returns:
            The keys of the jobs that started.

        Raises:
            StoreError: if an entry that a job reads has disappeared.
        """
        staying = [job for job in ready if job.io is None]
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
            if job.io is not None and free[kind]:
                self._send(job, kind, free[kind].pop())
                taken.append(job.key)
        return taken

    def _free(self, resource: str | None) -> list[str]:
        """Return the worker of each free slot, so that the last ones have the most free slots."""
        room = Counter(self._slots[resource])
        room.subtract(sent.worker for sent in self._sent.values() if sent.resource == resource)
        return [w for _, w in sorted((i, w) for w, count in room.items() for i in range(count))]

    def _send(self, job: Job, resource: str | None, worker: str) -> None:
        assert job.io is not None
        assert job.context is not None
        import dask

        parcel = RemoteJob(
            job.key,
            pickle.dumps(job),
            {name: c for key in job.io.takes for name, c in self._store.files(key).items()},
            job.io.brings,
            dict(self._plugin(path) for path in job.context.plugins),
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
                allow_other_workers=True,  # if this worker is lost
            )
        self._sent[job.key] = _Sent(job, future, resource, worker)
        loop = self._client.loop.asyncio_loop
        asyncio.run_coroutine_threadsafe(self._await(job.key, future), loop)

    def _plugin(self, path: str) -> tuple[str, dict[str, bytes]]:
        """Return the version and the files of a plugin; each file is read once."""
        if path not in self._plugins:
            self._plugins[path] = plugin_files(Path(path))
        return plugin_version(self._plugins[path]), self._plugins[path]

    async def _await(self, key: str, future: Future) -> None:
        """Wait for a job's outcome on the client's own thread, and put it into the queue."""
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        try:
            outcome = await self._client.gather(future, asynchronous=True)
        except (asyncio.CancelledError, FutureCancelledError):
            outcome = None
        except KilledWorker:
            lost = LimitExceeded("the workers that it ran on were lost, again and again")
            outcome = Outcome(key, **failure(lost))
        except Exception as error:  # an error of the cluster ends this job, not the run
            outcome = Outcome(key, **failure(error))
        self._news.put(_Arrival(key, future, outcome))

    def collect(self) -> list[Outcome]:
        """Wait at most 0.2 s for jobs to end; write the entries of those that ended.

        Returns:
            The outcomes of the jobs that ended.

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
        """Write the entries that came back; return the outcome with the job's own value."""
        job = self._sent.pop(news.key).job
        news.future.release()
        if news.outcome is None:
            raise BenchError("the cluster has gone; the same command resumes once it is back")
        returned = news.outcome.value
        if not isinstance(returned, Returned) or job.io is None:
            return news.outcome
        for key in job.io.brings:
            for name in (f"{key}.safetensors", f"{key}.json"):  # the record last
                if name in returned.files:
                    self._store.write_bytes(name, returned.files[name])
        return replace(news.outcome, value=returned.value)

    def halt(self) -> None:
        """Cancel the jobs on the cluster, and kill those on this machine."""
        futures = [sent.future for sent in self._sent.values()]
        self._sent.clear()
        self._here.halt()
        if futures:
            with suppress(Exception):  # the cluster may be gone
                self._client.cancel(futures, force=True)


def _resource(job: Job) -> str | None:
    """Return the Dask resource tag that a job requires of a worker, or None."""
    return "GPU" if job.context is not None and job.context.device == "cuda" else None


@dataclass(frozen=True)
class _Sent:
    """Job on the cluster, with the resource and worker that it occupies."""

    job: Job
    future: Future
    resource: str | None
    worker: str


@dataclass(frozen=True)
class _Arrival:
    """Outcome of a job; None if it was cancelled."""

    key: str
    future: Future
    outcome: Outcome | None
