"""Execution of a schedule's jobs; failures are recorded and the remaining jobs continue."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import bench.errors
from bench.execution.executor import Executor, Outcome
from bench.experiment.jobs import MemberJob
from bench.experiment.selection import Absent
from bench.storage.entries import failed, is_done, is_recorded
from bench.storage.store import Store


@dataclass
class RunSummary:
    """Summary of the jobs of a run.

    Args:
        done: number of jobs that made something.
        reused: number of entries that existed already.
        skipped: number of jobs that never started, because a job they depend on failed.
        failures: the jobs that failed.
        absent: methods and metrics that turned out not to apply, or to be broken.
        seconds: duration.
    """

    done: int = 0
    reused: int = 0
    skipped: int = 0
    failures: list[tuple[MemberJob, Outcome]] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Return whether nothing failed; a method that does not apply is not a failure."""
        return not self.failures and not any(a.broken for a in self.absent)


_OWN = {name for name, value in vars(bench.errors).items() if isinstance(value, type)}


def reason(outcome: Outcome) -> str:
    """Return why a job failed, in one line; errors from outside the suite include their type."""
    known = outcome.error_type in {*_OWN, outcome.error}
    error = outcome.error if known else f"{outcome.error_type}: {outcome.error}"
    return error + (f" [{outcome.at}]" if outcome.at else "")


def run(
    jobs: Sequence[MemberJob],
    store: Store,
    executor: Executor,
    on_outcome: Callable[[MemberJob, Outcome], None] = lambda job, outcome: None,
) -> RunSummary:
    """Run jobs; record failures and continue with the other jobs.

    Args:
        jobs: the jobs.
        store: the results folder.
        executor: the executor that performs them.
        on_outcome: called with every job that ended.
    """
    begin = time.perf_counter()
    summary = RunSummary()
    by_key = {job.key: job for job in jobs}
    for outcome in executor.run(jobs):
        job = by_key[outcome.key]
        if outcome.status == "done":
            summary.done += outcome.value != "reused"
            summary.reused += outcome.value == "reused"
            if isinstance(outcome.value, dict):
                summary.absent += [
                    Absent(job.spec.task, f"metric {name}", why, broken=True)
                    for name, why in outcome.value.items()
                ]
        elif outcome.status == "skipped":
            summary.skipped += 1
        elif outcome.error_type == "NotApplicable":
            summary.absent.append(Absent(job.spec.task, job.spec.label, outcome.error))
        else:
            summary.failures.append((job, outcome))
            record_failure(store, job, outcome)
        on_outcome(job, outcome)
    summary.absent = list(dict.fromkeys(summary.absent))
    summary.seconds = time.perf_counter() - begin
    return summary


def record_failure(store: Store, job: MemberJob, outcome: Outcome) -> None:
    """Write the reason of a failure under the keys of a job that have no result."""
    # Without a lock, because this process would wait while another run performs the same job. If
    # that run succeeds, it writes later and replaces the failure.
    # The record of a fit whose weights were deleted is kept, because its scores are valid.
    there = is_recorded if job.stage == "fit" else is_done
    for key in job.keys:
        if not there(store, key):
            details = {"traceback": outcome.traceback, "seconds": outcome.seconds}
            store.write(key, failed(reason(outcome), outcome.error_type, **details))
