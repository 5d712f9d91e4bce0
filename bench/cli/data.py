"""`bench data`: gets what tasks need and the package does not contain."""

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from bench.cli.echo import echo, tell
from bench.errors import BenchError, PluginError, UsageError, printable

if TYPE_CHECKING:  # they import torch, which takes its time
    from bench.contracts import Data
    from bench.registry.registry import Registry

_LINE_EVERY = 10.0  # seconds between two lines where there is no terminal


@click.group()
def data() -> None:
    """Fetch the data that some tasks need, and say what is there."""


@data.command()
@click.argument("task")
@click.option("--from", "source", metavar="PATH|URL", help="A local file or folder, or a mirror.")
@click.option(
    "--skip-unreadable",
    is_flag=True,
    help="Go on without files that cannot be read; otherwise a terminal is asked.",
)
@click.option("--plugin", "plugins", multiple=True, metavar="FILE", help="As in `bench run`.")
def fetch(task: str, source: str | None, skip_unreadable: bool, plugins: tuple[str, ...]) -> None:
    """Get the data of TASK and make them ready to use.

    Downloads are verified and resume where they broke off. A mirror's URL may end in #sha256=… or
    #md5=…, the checksum that it must have. A file that cannot be read is named.
    """
    from bench.registry.registry import Registry

    registry = Registry(plugins)
    wanted = registry.task(task).data
    if wanted is None:
        raise UsageError(f"task {task!r} needs no data; {', '.join(_with_data(registry))} does")
    tell(wanted.title)
    tell(f"licence: {wanted.licence}")
    tell(f"cite: {wanted.citation}")
    with _Progress() as progress:
        wanted.fetch(source, progress.report, lambda files: progress.skip(files, skip_unreadable))
    lines = wanted.status()
    if not lines:
        raise BenchError(f"the data of {task} were fetched and cannot be read; try again")
    for line in lines:
        echo(printable(line))


@data.command()
@click.option("--plugin", "plugins", multiple=True, metavar="FILE", help="As in `bench run`.")
def status(plugins: tuple[str, ...]) -> None:
    """Say what is there."""
    from bench.registry.registry import Registry

    registry = Registry(plugins)
    for name, wanted in _with_data(registry).items():
        echo(name)
        for line in wanted.status() or [f"nothing here; bench data fetch {name}"]:
            echo(f"  {printable(line)}")


def _with_data(registry: "Registry") -> "dict[str, Data]":
    """What tasks need, by their names."""
    found = {}
    for name in registry.names("tasks"):
        with suppress(PluginError):
            if (wanted := registry.task(name).data) is not None:
                found[name] = wanted
    return found


class _Progress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._last = time.monotonic()

    def __enter__(self) -> "_Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress, TextColumn

            stage = TextColumn("{task.description}", markup=False)
            columns = (stage, *Progress.get_default_columns()[1:])
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def skip(self, unreadable: Mapping[str, str], wanted: bool) -> bool:
        """Name files that cannot be read; ask whether to go on without them, on a terminal."""
        ask = not wanted and sys.stdin.isatty() and sys.stderr.isatty()
        if not (wanted or ask):
            return False
        if self._bars is not None:
            self._bars.stop()
        for reason in unreadable.values():
            tell(f"unreadable: {reason}")
        answer = wanted or click.confirm(
            printable(f"Go on without {', '.join(unreadable)}?"), err=True
        )
        if self._bars is not None:
            self._bars.start()
        return answer

    def report(self, *, stage: str, done: int, total: int | None) -> None:
        """Shows how far a stage is."""
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(printable(stage), total=total)
            self._bars.update(self._tasks[stage], completed=done, total=total)
        elif time.monotonic() - self._last >= _LINE_EVERY:
            self._last = time.monotonic()
            of = f" of {total:,}" if total is not None else ""
            tell(f"{stage}: {done:,}{of}" if done else stage)
