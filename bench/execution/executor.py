"""Jobs, and the execution of a graph of jobs; shared by local processes and clusters."""

from __future__ import annotations

import bisect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:  # it imports torch
    from bench.storage.entries import JobContext


@dataclass(frozen=True)
class JobIO:
    """Store entries that a job on another machine reads and writes.

    Args:
        takes: keys of the store's entries that it reads.
        brings: keys of the entries that it writes.
    """

    takes: tuple[str, ...]
    brings: tuple[str, ...]


class Job(Protocol):
    """Protocol of a job: a frozen dataclass that other processes import by name and perform."""

    @property
    def key(self) -> str:
        """Name of the job."""
        ...

    @property
    def after(self) -> tuple[str, ...]:
        """Keys of the jobs that must succeed before."""
        ...

    @property
    def context(self) -> JobContext | None:
        """Results folder, plugins and device; None for jobs that stay here and need no store."""
        ...

    @property
    def io(self) -> JobIO | None:
        """Entries to send along; None for a job that stays on the machine with the store."""
        ...

    def perform(self, report: Callable[..., None]) -> Any:
        """Do the job; `report(**fields)`, called on its thread, sends progress to the parent."""
        ...


@dataclass(frozen=True)
class Call:
    """Job that calls `function(report=report, **arguments)`; the function is importable by name."""

    key: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    after: tuple[str, ...] = ()
    context: JobContext | None = None
    io: JobIO | None = None

    def perform(self, report: Callable[..., None]) -> Any:
        """Do the job, as in Job.perform."""
        return self.function(report=report, **self.arguments)


@dataclass(frozen=True)
class Outcome:
    """Outcome of a job.

    `error` is one line; a skipped job has the error of the job that caused the skip. `at` is the
    plugin's line that raised the error; it is empty for errors of the suite. `seconds` is the time
    inside the function. `peak_bytes` is the largest resident memory of the worker, sampled every
    fifth of a second, so that shorter peaks can be missed.
    """

    key: str
    status: Literal["done", "failed", "skipped"]
    value: Any = None
    error: str = ""
    error_type: str = ""
    at: str = ""
    traceback: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True)
class Event:
    """Event to show to the user: a job started, reported progress or finished."""

    key: str
    kind: Literal["started", "progress", "finished"]
    fields: dict[str, Any] = field(default_factory=dict)


class Executor(ABC):
    """Executor of a graph of jobs; subclasses decide where jobs run.

    It is a context manager: leaving it stops everything that runs.

    Args:
        on_event: called, in the caller's thread, when a job starts, reports progress or ends.
    """

    def __init__(self, on_event: Callable[[Event], None] = lambda event: None) -> None:
        self.on_event = on_event

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.halt()

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Yield the outcome of every job, in the order in which they finish.

        Jobs start in the given order, each as soon as its predecessors are done and a slot is free.
        While the caller waits for the next outcome, limits are enforced and `on_event` is called.
        A caller that stops iterating stops the running jobs. An error inside a job is an outcome,
        not an exception.

        Raises:
            ValueError: if keys are repeated, or `after` names an unknown key or forms a cycle.
            RuntimeError: if another `run` is under way.
            LimitExceeded: if workers cannot start.
        """
        graph = _Graph(jobs)
        if self.busy:
            raise RuntimeError("the pool is busy with another run")
        try:
            while graph.unfinished:
                fresh = [o for ended in self.collect() for o in graph.end(ended)]
                for outcome in fresh:
                    shown = {"status": outcome.status, "error": outcome.error}
                    self.on_event(Event(outcome.key, "finished", shown))
                # Free workers get their next job before the caller handles these outcomes.
                graph.took(self.take(graph.ready()))
                yield from fresh
        finally:
            self.halt()

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Return whether any job is running."""

    @abstractmethod
    def take(self, ready: Sequence[Job]) -> list[str]:
        """Start as many jobs as there are free slots, in the given order; return their keys."""

    @abstractmethod
    def collect(self) -> list[Outcome]:
        """Wait at most a moment for jobs to end; return the outcomes of those that did."""

    @abstractmethod
    def halt(self) -> None:
        """Stop the running jobs and discard their messages."""


class _Graph:
    """Graph of jobs, which tracks the jobs that can start and those that never will."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = {job.key: job for job in jobs}
        if len(self._jobs) < len(jobs):
            raise ValueError("two jobs have the same key")
        if unknown := {key for job in jobs for key in job.after} - self._jobs.keys():
            raise ValueError(f"no job has the key {min(unknown)!r}, which another waits for")
        TopologicalSorter({job.key: job.after for job in jobs}).prepare()  # raises on a cycle
        self._rank = {key: i for i, key in enumerate(self._jobs)}
        self._missing = {job.key: set(job.after) for job in jobs}
        self._followers: dict[str, list[str]] = {key: [] for key in self._jobs}
        for job in jobs:
            for key in dict.fromkeys(job.after):
                self._followers[key].append(job.key)
        self._ready = [self._rank[key] for key, missing in self._missing.items() if not missing]
        self._keys = list(self._jobs)
        self.unfinished = set(self._jobs)

    def ready(self) -> list[Job]:
        """Return the jobs that can start, in the given order."""
        return [self._jobs[self._keys[rank]] for rank in self._ready]

    def took(self, keys: Sequence[str]) -> None:
        """Mark jobs as started."""
        started = {self._rank[key] for key in keys}
        if started:
            self._ready = [rank for rank in self._ready if rank not in started]

    def end(self, outcome: Outcome) -> list[Outcome]:
        """Mark a job as ended; return its outcome and those of the jobs skipped because of it."""
        ended = [outcome]
        self.unfinished.discard(outcome.key)
        for current in ended:  # the loop appends to it
            for key in self._followers[current.key]:
                if key not in self.unfinished:
                    continue
                if current.status != "done":
                    self.unfinished.discard(key)
                    ended.append(_skipped(self._jobs[key], current))
                    continue
                self._missing[key].discard(current.key)
                if not self._missing[key]:
                    bisect.insort(self._ready, self._rank[key])
        return ended


def _skipped(job: Job, bad: Outcome) -> Outcome:
    error = bad.error if bad.status == "skipped" else f"needs {bad.key}, which failed: {bad.error}"
    return Outcome(job.key, "skipped", error=error, error_type=bad.error_type)
