"""Progress of runs, downloads and reports: bars if possible, elsewhere a line every 10 s."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import fmean
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from bench.echo import tell
from bench.errors import counted, printable
from bench.execution.executor import Event, Outcome
from bench.experiment.jobs import MemberJob
from bench.experiment.run import reason

_LINE_EVERY = 10.0  # seconds between two lines without a terminal


def _bars(*columns: ProgressColumn, quiet: bool = False, **options: Any) -> Bars:
    """Return progress bars on standard error, shown on terminals and in notebooks only."""
    jupyter = Console().is_jupyter and find_spec("ipywidgets") is not None  # rich needs both
    disable = quiet or not (jupyter or sys.stderr.isatty())
    console = Console(stderr=True, quiet=disable)
    return Bars(*columns, console=console, transient=True, disable=disable, **options)


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Show the current stage of a command on a terminal; show nothing elsewhere.

    Yields:
        A function of the stage's name, the number of items done and their total (0 if unknown).
    """
    bars = _bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[note]}", style="dim"),
        auto_refresh=False,  # a refresh thread could hold locks during a fork
    )
    with bars:
        task = bars.add_task("", total=None, note="")

        def show(what: str, done: int, total: int) -> None:
            note = f"{done} of {total}" if total else ""
            bars.update(
                task, description=what, completed=done, total=total or None, note=note, refresh=True
            )

        yield show


class _Display:
    """Progress bars on a terminal, for the duration of a context manager."""

    def __init__(self, *columns: ProgressColumn, quiet: bool = False) -> None:
        self._bars = _bars(*columns, quiet=quiet)
        self._tasks: dict[str, TaskID] = {}
        self._last = time.monotonic()  # time of the last printed line

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()


class FetchProgress(_Display):
    """Progress of a download, as a line every 10 s without a terminal."""

    def __init__(self) -> None:
        stage = TextColumn("{task.description}", markup=False)
        super().__init__(stage, *Bars.get_default_columns()[1:])

    def skip(self, unreadable: Mapping[str, str], wanted: bool) -> bool:
        """List unreadable files and return whether to go on without them; ask on a terminal."""
        if not wanted and not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        self._bars.stop()
        for why in unreadable.values():
            tell(f"unreadable: {why}")
        question = printable(f"Go on without {', '.join(unreadable)}?")
        answer = wanted or click.confirm(question, err=True)
        self._bars.start()
        return answer

    def report(self, *, stage: str, done: int, total: int | None) -> None:
        """Show the progress of a stage."""
        if not self._bars.disable:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(printable(stage), total=total)
            self._bars.update(self._tasks[stage], completed=done, total=total)
        elif time.monotonic() - self._last >= _LINE_EVERY:
            self._last = time.monotonic()
            of = f" of {total:,}" if total is not None else ""
            tell(f"{stage}: {done:,}{of}" if done else stage)


class Progress(_Display):
    """Progress of a run, across its workers.

    Args:
        jobs: the jobs.
        quiet: whether to show nothing.
        seconds: estimated duration of jobs, by key; other jobs count as the mean of these.
    """

    def __init__(
        self, jobs: Sequence[MemberJob], quiet: bool, seconds: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            quiet=quiet,
        )
        self._by_key = {job.key: job for job in jobs}
        self._jobs = counted(len(jobs), "job")
        self._count = 0
        self._weight = 0.0
        self._seconds = dict(seconds or {})
        self._mean = fmean(self._seconds.values()) if self._seconds else 1.0
        self._weights = sum(self._weigh(job) for job in jobs)
        self._begin = self._last
        self._lines = self._bars.disable and not quiet
        self._stages: dict[str, tuple[str, float]] = {}  # stage of each job, and its start
        self._all = self._bars.add_task("all", total=self._weights or 1, note="")
        if self._lines and jobs:
            tell(f"{self._jobs} to do")

    def on_event(self, event: Event) -> None:
        """Show the progress of one worker."""
        if self._bars.disable:
            return
        job = self._by_key[event.key]
        if event.kind == "started" and event.key not in self._tasks:  # may restart
            name = f"{job.stage} {job.spec.label} · {job.spec.task} · {job.members[0]}"
            self._tasks[event.key] = self._bars.add_task(name, total=None, note="")
            self._stages[event.key] = ("", time.monotonic())
        elif event.kind == "progress" and event.key in self._tasks:
            self._show(event)
        elif event.kind == "finished" and event.key in self._tasks:
            self._bars.remove_task(self._tasks.pop(event.key))

    def _show(self, event: Event) -> None:
        fields = event.fields
        task = self._tasks[event.key]
        note = printable(str(fields.get("stage", "")))
        before, begin = self._stages[event.key]
        if before not in ("", note):  # the next network starts
            begin = time.monotonic()
        self._stages[event.key] = (note, begin)
        if "epochs" in fields:
            rate = fields["rows"] * fields["epoch"] / max(time.monotonic() - begin, 1e-3)
            note += f" · epoch {fields['epoch']}/{fields['epochs']}"
            note += f" · loss {fields['loss']:.4f} · {rate:,.0f} events/s"
            self._bars.update(task, total=fields["epochs"], completed=fields["epoch"], note=note)
        elif "total" in fields:
            self._bars.update(task, total=fields["total"], completed=fields["done"], note=note)

    def on_outcome(self, job: MemberJob, outcome: Outcome) -> None:
        """Count a finished job; print a failure at once, even if quiet."""
        self._count += 1
        self._weight += self._weigh(job)
        name = f"{job.stage} of {job.spec.label} on {job.spec.task}"
        name += f", member {job.members[0]}"
        failed = outcome.status == "failed" and outcome.error_type != "NotApplicable"
        if failed:
            self._line(f"failed: {name}: {reason(outcome)}")
        note = f"{self._count} of {self._jobs}"
        self._bars.update(self._all, completed=self._weight, note=note)
        now = time.monotonic()
        due = now - self._last >= _LINE_EVERY or self._count == len(self._by_key)
        if self._lines and due:
            self._last = now
            elapsed = now - self._begin
            left = elapsed * max(0.0, self._weights / max(self._weight, 1e-9) - 1)
            self._line(
                f"{self._count}/{self._jobs}, {elapsed:.0f} s, about {left:.0f} s left"
                + ("" if failed else f"; {outcome.status}: {name}")
            )

    def _weigh(self, job: MemberJob) -> float:
        return self._seconds.get(job.key, self._mean)

    def _line(self, text: str) -> None:
        if self._bars.disable:
            tell(text)
        else:
            line = printable(text)
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
