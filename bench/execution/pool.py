"""Pool of spawned, single-threaded worker processes with limits on time and memory.

`concurrent.futures` cannot kill one job that hangs; this pool can. The parent distributes jobs,
reads the messages of the workers, and kills a worker that exceeds a limit. Jobs and results are
pickled between these processes only; nothing is ever unpickled from disk.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import psutil

from bench.errors import LimitExceeded
from bench.execution.executor import Event, Executor, Job, Outcome
from bench.execution.worker import Fields, failure, messages, serve, start_up

_TICK = 0.2  # seconds between two checks of the time and memory of the workers
_STILLBIRTHS = 3  # worker deaths in a row at start-up after which jobs are not the cause


class Workers(Executor):
    """Executor with up to `count` worker processes, started on demand and reused from job to job.

    It is a context manager: leaving it kills every worker. The limits apply to each job
    separately. `time_limit` is in seconds. It applies separately to the imports of the job, to the
    job itself, and to each chunk of simulations that it makes, or to each simulator call if these
    are expensive. `memory_limit` is in bytes of resident memory of the worker.
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
        super().__init__(on_event)
        self.tick = _TICK
        self._workers: list[_Worker] = []
        self._unsent: list[Outcome] = []  # of jobs that could not be pickled
        self._stillborn = 0
        self._checked = 0.0

    def __exit__(self, *exception: object) -> None:
        self._stop(*self._workers)

    @property
    def busy(self) -> bool:
        """Return whether any job is running."""
        return bool(self._busy() or self._unsent)

    def halt(self) -> None:
        """Kill the workers that have a job."""
        self._unsent.clear()
        self._stop(*self._busy())

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job]

    def take(self, ready: Sequence[Job]) -> list[str]:
        """Hand jobs to free workers, and start more workers while there is work for them."""
        for _ in range(len(self._workers), min(self.count, len(self._busy()) + len(ready))):
            self._start()
        idle = [worker for worker in self._workers if worker.ready and not worker.job]
        taken = []
        for job in ready:
            if not idle:
                break
            taken.append(job.key)
            try:
                payload = pickle.dumps(job)
            except Exception as error:
                self._unsent.append(Outcome(job.key, **failure(error)))
                continue
            worker = idle.pop(0)
            worker.job, worker.since, worker.peak = job, time.monotonic(), 0
            worker.before = None
            self.on_event(Event(job.key, "started"))
            with suppress(OSError):  # the worker died while idle; the next read detects it
                worker.connection.send_bytes(payload)
        return taken

    def collect(self) -> list[Outcome]:
        """Wait for messages, at most one tick; return the outcomes of jobs that ended meanwhile.

        Messages are read before limits are checked, so a job that finished in time counts as
        finished. A worker that dies closes its pipe.
        """
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            return unsent
        pipes = [worker.connection for worker in self._workers]
        ready = wait(pipes, self.tick if pipes else 0)
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
            elif kind == "clock":
                worker.set_clock(fields, self.time_limit or 0.0)
            elif kind == "progress" and worker.job:
                self.on_event(Event(worker.job.key, "progress", fields))
            elif kind == "finished":
                return self._end(worker, fields, kill=fields.pop("spoilt"))
            elif kind == "unreadable":  # it may send more messages, so it cannot be reused
                return self._end(worker, fields, kill=True)
            elif kind == "closed":
                return self._bury(worker)
        return None

    def _check(self, worker: _Worker) -> Outcome | None:
        """Kill a worker whose job exceeds a limit, and return the outcome."""
        if not worker.process.is_alive() and not worker.connection.poll():
            return self._bury(worker)  # a process that it started keeps its pipe open
        if not worker.job:
            return None
        size = worker.memory()
        if self.time_limit is not None and time.monotonic() - worker.since > self.time_limit:
            what = "ran" if worker.before is None else "simulated"
            excess = f"{what} past its time limit of {self.time_limit:g} s"
        elif self.memory_limit is not None and size > self.memory_limit:
            excess = f"used {_size(size)}, over its memory limit of {_size(self.memory_limit)}"
        else:
            return None
        return self._end(worker, failure(LimitExceeded(excess)), kill=True)

    def _bury(self, worker: _Worker) -> Outcome | None:
        """Remove a worker that died by itself; return the outcome of its job, if any."""
        # The pipe closes shortly before the exit code is known. Process.join(timeout) would hang if
        # a process stays alive after it closed all its files.
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
        seconds, size = max(0.0, time.monotonic() - worker.since), worker.memory()
        job, worker.job = worker.job, None
        # Memory left over from one job must not count against the next: start a new worker.
        if kill or (self.memory_limit is not None and size > self.memory_limit / 2):
            self._stop(worker)
        if job is None:
            return None
        measured: Fields = {"seconds": seconds, "peak_bytes": worker.peak}
        return Outcome(job.key, **measured | result)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        # A daemon: the interpreter kills it on exit, even if the pool was never closed.
        process = context.Process(target=serve, args=(theirs,), daemon=True)
        with start_up():
            process.start()
            self._workers.append(_Worker(process, ours))
        theirs.close()

    def _stop(self, *workers: _Worker) -> None:
        """Kill all given workers first, and then wait until they are gone."""
        for worker in workers:
            with suppress(psutil.Error):  # with the processes that its jobs have started
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
    """State of one worker process, as the parent knows it."""

    process: BaseProcess
    connection: Connection
    ready: bool = False  # whether it has started and waits for jobs
    job: Job | None = None
    since: float = 0.0
    before: float | None = None  # while it simulates, the value that `since` had
    peak: int = 0

    def set_clock(self, fields: Fields, limit: float) -> None:
        """Stop the job's clock while it simulates, which has a separate limit."""
        if "simulating" in fields:
            self.before = self.since
            self.since = time.monotonic() + (fields["simulating"] - 1) * limit
        elif self.before is not None:
            self.since, self.before = self.before + fields["simulated"], None

    def memory(self) -> int:
        """Return the worker's resident memory in bytes, and update the peak of its job."""
        with suppress(psutil.Error):  # the process is gone, which is detected elsewhere
            size = int(psutil.Process(self.process.pid).memory_info().rss)
            self.peak = max(self.peak, size)
            return size
        return 0


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is None:
        return "closed its pipe"
    names = {number.value: number.name for number in signal.Signals}
    if exitcode < 0:
        return f"was killed by {names.get(-exitcode, f'signal {-exitcode}')}"
    return f"exited with code {exitcode}"


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
