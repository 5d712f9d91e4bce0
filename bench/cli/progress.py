"""Progress of runs and reports: bars on a terminal; of runs, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from bench.cli.echo import tell
from bench.errors import counted, printable
from bench.execution.executor import Event, Outcome
from bench.experiment.jobs import MemberJob
from bench.experiment.run import reason

_LINE_EVERY = 10.0  # seconds between two lines where there is no terminal


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Show what a command is doing, on a terminal; nothing elsewhere.

    Yields:
        Takes what is being done, how much of it is done, and how much there is; 0 where unknown.
    """
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[note]}", style="dim"),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,  # no thread that a fork would leave with its locks taken
    )
    with bars:
        task = bars.add_task("", total=None, note="")

        def show(what: str, done: int, total: int) -> None:
            note = f"{done} of {total}" if total else ""
            bars.update(
                task, description=what, completed=done, total=total or None, note=note, refresh=True
            )

        yield show


class Progress:
    """Shows how far a run is, across its workers.

    Args:
        jobs: the jobs.
        quiet: show nothing.
        seconds: how long each job may take, by key; others count as the mean of these.
    """

    def __init__(
        self, jobs: Sequence[MemberJob], quiet: bool, seconds: Mapping[str, float] | None = None
    ) -> None:
        self._by_key = {job.key: job for job in jobs}
        self._total = len(jobs)
        self._count = 0
        self._weight = 0.0
        self._seconds = dict(seconds or {})
        self._mean = fmean(self._seconds.values()) if self._seconds else 1.0
        self._weights = sum(self._weigh(job) for job in jobs)
        self._begin = self._last = time.monotonic()
        self._quiet = quiet
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._stages: dict[str, tuple[str, float]] = {}  # what each job is at, and since when
        if not quiet and sys.stderr.isatty():
            self._bars = Bars(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[note]}", style="dim", markup=False),
                console=Console(stderr=True),
                transient=True,
            )
            self._all = self._bars.add_task("all", total=self._weights or 1, note="")

    def __enter__(self) -> "Progress":
        if self._bars is not None:
            self._bars.start()
        elif not self._quiet and self._total:
            self._line(f"{counted(self._total, 'job')} to do")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def on_event(self, event: Event) -> None:
        """Shows what a worker is doing."""
        if self._bars is None:
            return
        job = self._by_key[event.key]
        if event.kind == "started" and event.key not in self._tasks:  # or again, elsewhere
            name = f"{job.stage} {job.spec.label} · {job.spec.task} · {job.members[0]}"
            self._tasks[event.key] = self._bars.add_task(name, total=None, note="")
            self._stages[event.key] = ("", time.monotonic())
        elif event.kind == "progress" and event.key in self._tasks:
            self._show(event)
        elif event.kind == "finished" and event.key in self._tasks:
            self._bars.remove_task(self._tasks.pop(event.key))

    def _show(self, event: Event) -> None:
        assert self._bars is not None
        fields = event.fields
        task = self._tasks[event.key]
        note = printable(str(fields.get("stage", "")))
        if self._stages[event.key][0] not in ("", note):  # the next network starts
            self._stages[event.key] = (note, time.monotonic())
        self._stages[event.key] = (note, self._stages[event.key][1])
        if "epochs" in fields:
            begin = self._stages[event.key][1]
            rate = fields["rows"] * fields["epoch"] / max(time.monotonic() - begin, 1e-3)
            note += f" · epoch {fields['epoch']}/{fields['epochs']}"
            note += f" · loss {fields['loss']:.4f} · {rate:,.0f} events/s"
            self._bars.update(task, total=fields["epochs"], completed=fields["epoch"], note=note)
        elif "total" in fields:
            self._bars.update(task, total=fields["total"], completed=fields["done"], note=note)

    def on_outcome(self, job: MemberJob, outcome: Outcome) -> None:
        """Counts a job that ended; one that failed is told at once, even if quiet."""
        self._count += 1
        self._weight += self._weigh(job)
        name = f"{job.spec.label} on {job.spec.task}, member {job.members[0]}"
        failed = outcome.status == "failed" and outcome.error_type != "NotApplicable"
        if failed:
            self._line(f"failed: {job.stage} of {name}: {reason(outcome)}")
        if self._bars is not None:
            self._bars.update(
                self._all,
                completed=self._weight,
                note=f"{self._count} of {counted(self._total, 'job')}",
            )
        elif not self._quiet:
            now = time.monotonic()
            if now - self._last >= _LINE_EVERY or self._count == self._total:
                self._last = now
                elapsed = now - self._begin
                left = elapsed * max(0.0, self._weights / max(self._weight, 1e-9) - 1)
                self._line(
                    f"{self._count}/{counted(self._total, 'job')}, {elapsed:.0f} s, "
                    f"about {left:.0f} s left"
                    + ("" if failed else f"; {outcome.status}: {job.stage} of {name}")
                )

    def _weigh(self, job: MemberJob) -> float:
        return self._seconds.get(job.key, self._mean)

    def _line(self, text: str) -> None:
        if self._bars is not None:
            line = printable(text)
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            tell(text)
