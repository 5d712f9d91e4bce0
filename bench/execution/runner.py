"""Executes planned jobs: failures are recorded, and the rest goes on."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import bench.errors
from bench.execution.executor import Event, Executor, Job, Outcome
from bench.execution.pool import Workers
from bench.storage.entries import failed, is_done, is_recorded
from bench.storage.fit_spec import FitSpec
from bench.storage.store import Store


@dataclass(frozen=True)
class Absent:
    """A task or method that is missing from a run, with the reason."""

    task: str
    label: str
    reason: str
    broken: bool = False


@dataclass(frozen=True)
class Planned:
    """One job with what it makes.

    Args:
        job: the job for the workers.
        kind: "fit", "predict" or "score".
        spec: the fit.
        members: its members that the job is about.
        keys: the store's keys that it writes.
    """

    job: Job
    kind: str
    spec: FitSpec
    members: tuple[int, ...]
    keys: tuple[str, ...]


@dataclass
class Report:
    """How jobs went.

    Args:
        done: number of jobs that made something.
        reused: number of entries that were there.
        skipped: number of jobs that never began, because what they need failed.
        failures: the jobs that failed.
        absent: what turned out not to apply, or to be broken, on the way.
        seconds: duration.
    """

    done: int = 0
    reused: int = 0
    skipped: int = 0
    failures: list[tuple[Planned, Outcome]] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing failed; what does not apply is no failure."""
        return not self.failures and not any(a.broken for a in self.absent)


_OWN = {name for name, value in vars(bench.errors).items() if isinstance(value, type)}


def reason(outcome: Outcome) -> str:
    """Return why a job failed, in one line; errors that are not the suite's own say their type."""
    known = outcome.error_type in {*_OWN, outcome.error}
    error = outcome.error if known else f"{outcome.error_type}: {outcome.error}"
    return error + (f" [{outcome.at}]" if outcome.at else "")


def execute(
    planned: Sequence[Planned],
    store: Store,
    workers: int,
    limits: tuple[float, float],
    on_event: Callable[[Event], None],
    on_outcome: Callable[[Planned, Outcome], None],
    scheduler: str | None = None,
) -> Report:
    """Runs jobs; failures are recorded and the rest goes on.

    Args:
        planned: the jobs.
        store: the results folder.
        workers: worker processes on this machine, at most.
        limits: seconds and GiB that a job may take.
        on_event: called when a job starts, reports progress or ends.
        on_outcome: called with every job that ended.
        scheduler: the Dask cluster that fits and predicts, as in `connection.connect`; none where
            this machine's workers do all.
    """
    begin = time.perf_counter()
    report = Report()
    by_key = {p.job.key: p for p in planned}
    seconds, gibibytes = limits
    count = max(1, min(workers, len(planned)))
    here = Workers(count, seconds, int(gibibytes * 2**30), on_event)
    with _executor(here, store, scheduler if planned else None) as pool:
        for outcome in pool.run([p.job for p in planned]):
            job = by_key[outcome.key]
            if outcome.status == "done":
                report.done += outcome.value != "reused"
                report.reused += outcome.value == "reused"
                if isinstance(outcome.value, dict):
                    report.absent += [
                        Absent(job.spec.task, f"metric {name}", why, broken=True)
                        for name, why in outcome.value.items()
                    ]
            elif outcome.status == "skipped":
                report.skipped += 1
            elif outcome.error_type == "NotApplicable":
                report.absent.append(Absent(job.spec.task, job.spec.label, outcome.error))
            else:
                report.failures.append((job, outcome))
                _record_failure(store, job, outcome)
            on_outcome(job, outcome)
    report.absent = list(dict.fromkeys(report.absent))
    report.seconds = time.perf_counter() - begin
    return report


@contextmanager
def _executor(here: Workers, store: Store, scheduler: str | None) -> Iterator[Executor]:
    """This machine's workers, or with them a Dask cluster."""
    if scheduler is None:
        with here:
            yield here
        return
    from bench.execution.dask.cluster import Cluster  # which needs the extra [cluster]
    from bench.execution.dask.connection import connect

    with connect(scheduler) as client, Cluster(client, store, here) as cluster:
        yield cluster


def _record_failure(store: Store, planned: Planned, outcome: Outcome) -> None:
    # Without a lock, for which this process would have to wait while another run is at the same
    # job: should that one succeed, it has the last word.
    # The record of a fit whose weights were taken away stands: its scores do.
    there = is_recorded if planned.kind == "fit" else is_done
    for key in planned.keys:
        if not there(store, key):
            details = {"traceback": outcome.traceback, "seconds": outcome.seconds}
            store.write(key, failed(reason(outcome), outcome.error_type, **details))
