"""A small pool of spawned, single-threaded worker processes with limits on time and memory.

`concurrent.futures` cannot kill one job that hangs; this pool can. The parent alone decides:
it hands out jobs, reads what the workers send, and kills a worker that breaks a limit. Jobs and
results are pickled, between these processes only; nothing is ever unpickled from disk.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal

import psutil

from bench.errors import LimitExceeded
from bench.stages.worker_process import Fields, failure, messages, start_up
from bench.stages.worker_process import serve as _serve

_TICK = 0.2  # seconds between two looks at the clock and the memory of the workers
_STILLBIRTHS = 3  # so many workers in a row that die at start-up: it is not the jobs' fault


@dataclass(frozen=True)
class Job:
    """One call, `function(report=report, **arguments)`, once every job in `after` has succeeded.

    The function must be importable by name. It may call `report(**fields)`, from its own thread
    and as often as it likes, to tell the parent how far it is.
    """

    key: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a job; `error` is one line, and a skipped job carries that of its cause.

    `seconds` is the time inside the function; `peak_bytes` is the largest resident memory of
    the worker that was seen, so a spike shorter than a fifth of a second can be missed.
    """

    key: str
    status: Literal["done", "failed", "skipped"]
    value: Any = None
    error: str = ""
    error_type: str = ""
    traceback: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True)
class Event:
    """Something to show to the user: a job started, reported progress or finished."""

    key: str
    kind: Literal["started", "progress", "finished"]
    fields: dict[str, Any] = field(default_factory=dict)


class Workers:
    """Up to `count` worker processes, started when needed and reused from job to job.

    Use it as a context manager: on the way out every worker is killed, whatever it is doing.
    The limits hold for one job each. `time_limit` is in seconds, for what the job imports and
    again for the job itself; `memory_limit` is in bytes of resident memory of the worker.
    """

    def __init__(
        self,
        count: int,
        time_limit: float | None = None,
        memory_limit: int | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        if count < 1:
            raise ValueError(f"count is {count}; a pool needs at least one worker")
        self.count = count
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self.on_event = on_event
        self._workers: list[_Worker] = []
        self._stillborn = 0
        self._checked = 0.0

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop(*self._workers)

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Yield the outcome of every job, in the order in which they finish.

        Jobs start in the given order, each as soon as its predecessors are done and a worker is
        free. Limits are enforced, and `on_event` is called, while the caller waits for the next
        outcome; a caller who stops iterating stops the jobs that are running.

        Raises ValueError if keys are repeated, or `after` names an unknown key or goes round in
        a circle; RuntimeError if another `run` is under way; LimitExceeded if workers cannot
        even start. Whatever goes wrong inside a job is an outcome, not an exception.
        """
        waiting = {job.key: job for job in jobs}
        if len(waiting) < len(jobs):
            raise ValueError("two jobs have the same key")
        if unknown := {key for job in jobs for key in job.after} - waiting.keys():
            raise ValueError(f"no job has the key {min(unknown)!r}, which another waits for")
        TopologicalSorter({job.key: job.after for job in jobs}).prepare()  # raises on a circle
        if self._busy():
            raise RuntimeError("the pool is busy with another run")

        outcomes: dict[str, Outcome] = {}
        hopeless: list[Outcome] = []
        try:
            while len(outcomes) < len(jobs):
                fresh = hopeless or self._collect()
                for outcome in fresh:
                    outcomes[outcome.key] = outcome
                    shown = {"status": outcome.status, "error": outcome.error}
                    self.on_event(Event(outcome.key, "finished", shown))
                # Free workers get their next job before the caller takes its time.
                hopeless = self._dispatch(waiting, outcomes)
                yield from fresh
        finally:
            self._stop(*self._busy())

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job]

    def _dispatch(self, waiting: dict[str, Job], outcomes: dict[str, Outcome]) -> list[Outcome]:
        """Hand out what can start; return the outcomes of jobs that never will."""
        startable, hopeless = [], []
        for job in waiting.values():
            before = [outcomes.get(key) for key in job.after]
            if bad := next((o for o in before if o and o.status != "done"), None):
                hopeless.append(_skipped(job, bad))
            elif all(before):
                startable.append(job)
        for _ in range(len(self._workers), min(self.count, len(self._busy()) + len(startable))):
            self._start()
        idle = [worker for worker in self._workers if worker.ready and not worker.job]
        for worker, job in zip(idle, startable, strict=False):
            try:
                payload = pickle.dumps((job.function, job.arguments))
            except Exception as error:
                hopeless.append(Outcome(job.key, **failure(error)))
                continue
            worker.job, worker.since, worker.peak = waiting.pop(job.key), time.monotonic(), 0
            self.on_event(Event(job.key, "started"))
            with suppress(OSError):  # it died while idle; reading from it will tell
                worker.connection.send_bytes(payload)
        for outcome in hopeless:
            del waiting[outcome.key]
        return hopeless

    def _collect(self) -> list[Outcome]:
        """Wait for messages, at most a tick; return the outcomes of jobs that ended meanwhile.

        What was sent is read before any limit is checked: a job that finished in time has
        finished, however late the parent looks. A worker that dies closes its pipe.
        """
        pipes = [worker.connection for worker in self._workers]
        ready = wait(pipes, _TICK if pipes else 0)
        found = [self._read(worker) for worker in self._workers[:] if worker.connection in ready]
        if time.monotonic() - self._checked >= _TICK:
            found += [self._check(worker) for worker in self._workers[:]]
            self._checked = time.monotonic()
        return [outcome for outcome in found if outcome]

    def _read(self, worker: _Worker) -> Outcome | None:
        for kind, fields in messages(worker.connection):
            if kind == "ready":
                worker.ready, self._stillborn = True, 0
            elif kind == "begun":
                worker.since = time.monotonic()
            elif kind == "progress" and worker.job:
                self.on_event(Event(worker.job.key, "progress", fields))
            elif kind == "finished":
                return self._end(worker, fields, kill=fields.pop("spoilt"))
            elif kind == "unreadable":  # perhaps not its last message, so it cannot go on
                return self._end(worker, fields, kill=True)
            elif kind == "closed":
                return self._bury(worker)
        return None

    def _check(self, worker: _Worker) -> Outcome | None:
        """Kill a worker whose job is over a limit."""
        if not worker.process.is_alive() and not worker.connection.poll():
            return self._bury(worker)  # something that it started keeps its pipe open
        if not worker.job:
            return None
        size = worker.memory()
        if self.time_limit is not None and time.monotonic() - worker.since > self.time_limit:
            excess = f"ran past its time limit of {self.time_limit:g} s"
        elif self.memory_limit is not None and size > self.memory_limit:
            excess = f"used {_size(size)}, over its memory limit of {_size(self.memory_limit)}"
        else:
            return None
        return self._end(worker, failure(LimitExceeded(excess)), kill=True)

    def _bury(self, worker: _Worker) -> Outcome | None:
        """Remove a worker that died by itself."""
        # Its pipe closes a moment before its exit code is known. Process.join(timeout) would
        # wait for ever for a process that lives on after it closed all its files.
        end = time.monotonic() + 1
        while worker.process.is_alive() and time.monotonic() < end:
            time.sleep(0.01)
        cause = _cause_of_death(worker.process.exitcode)
        self._stillborn += not worker.ready
        outcome = self._end(worker, failure(LimitExceeded(f"its worker process {cause}")), True)
        if self._stillborn >= _STILLBIRTHS:
            raise LimitExceeded(
                f"{_STILLBIRTHS} worker processes in a row died at start-up, the last one {cause}; "
                "a script that starts workers needs `if __name__ == '__main__':`"
            )
        return outcome

    def _end(self, worker: _Worker, result: Fields, kill: bool = False) -> Outcome | None:
        """Take the job, if any, from a worker; return its outcome."""
        seconds, size = time.monotonic() - worker.since, worker.memory()
        job, worker.job = worker.job, None
        # What one job leaves in memory must not count against the next: start afresh.
        if kill or (self.memory_limit is not None and size > self.memory_limit / 2):
            self._stop(worker)
        if job is None:
            return None
        measured: Fields = {"seconds": seconds, "peak_bytes": worker.peak}
        return Outcome(job.key, **measured | result)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        # A daemon, so that the interpreter kills it on exit should nobody leave the pool.
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with start_up():
            process.start()
            self._workers.append(_Worker(process, ours))
        theirs.close()

    def _stop(self, *workers: _Worker) -> None:
        """Kill workers and wait until they are gone; all at once, as dying can take a while."""
        for worker in workers:
            with suppress(psutil.Error):  # what its jobs have started goes with it
                for child in psutil.Process(worker.process.pid).children(recursive=True):
                    child.kill()
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.process.close()
            worker.connection.close()
            self._workers.remove(worker)


@dataclass(eq=False)
class _Worker:
    """The parent's view of one worker process."""

    process: BaseProcess
    connection: Connection
    ready: bool = False  # it has started, and waits for jobs at its end of the pipe
    job: Job | None = None
    since: float = 0.0
    peak: int = 0

    def memory(self) -> int:
        """Its resident memory now, in bytes, also noted for the peak of its job."""
        with suppress(psutil.Error):  # it is gone, which others will notice
            size = int(psutil.Process(self.process.pid).memory_info().rss)
            self.peak = max(self.peak, size)
            return size
        return 0


def _skipped(job: Job, bad: Outcome) -> Outcome:
    error = bad.error if bad.status == "skipped" else f"needs {bad.key}, which failed: {bad.error}"
    return Outcome(job.key, "skipped", error=error, error_type=bad.error_type)


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is None:
        return "closed its pipe"
    names = {number.value: number.name for number in signal.Signals}
    if exitcode < 0:
        return f"was killed by {names.get(-exitcode, f'signal {-exitcode}')}"
    return f"exited with code {exitcode}"


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
