"""Fetch data that tasks need and the package does not contain: `bench data`."""

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from bench.cli.options import PLUGIN
from bench.echo import echo, tell
from bench.errors import BenchError, PluginError, UsageError, printable

if TYPE_CHECKING:  # they import torch, which is slow
    from bench.contracts import Data
    from bench.registry.registry import Registry


@click.group()
def data() -> None:
    """Fetch the data that some tasks need, and list them."""


@data.command()
@click.argument("task")
@click.option(
    "--from",
    "source",
    metavar="PATH|URL",
    help="Read a local file or folder, or download from a mirror.",
)
@click.option(
    "--skip-unreadable",
    is_flag=True,
    help="Leave out files that cannot be read, without asking.",
)
@PLUGIN
def fetch(task: str, source: str | None, skip_unreadable: bool, plugins: tuple[str, ...]) -> None:
    """Get the data of TASK and make them ready to use.

    Downloads are verified, and resume where they broke off. The address of a mirror may end in
    #sha256=… or #md5=…, the checksum of its file. Files that cannot be read are named.
    """
    from bench.library.progress import FetchProgress
    from bench.registry.registry import Registry

    registry = Registry(plugins)
    wanted = registry.task(task).data
    if wanted is None:
        needed = ", ".join(_with_data(registry))
        raise UsageError(f"task {task!r} needs no data; those with data are {needed}")
    tell(wanted.title)
    tell(f"licence: {wanted.licence}")
    tell(f"cite: {wanted.citation}")
    with FetchProgress() as progress:
        wanted.fetch(source, progress.report, lambda files: progress.skip(files, skip_unreadable))
    lines = wanted.status()
    if not lines:
        raise BenchError(f"the data of {task} were fetched and cannot be read; try again")
    for line in lines:
        echo(printable(line))


@data.command()
@PLUGIN
def status(plugins: tuple[str, ...]) -> None:
    """List the data on this machine, and the tasks that need them."""
    from bench.registry.registry import Registry

    registry = Registry(plugins)
    by_title: dict[str, list[str]] = {}
    every = _with_data(registry)
    for name, wanted in every.items():
        by_title.setdefault(wanted.title, []).append(name)
    for first, *others in by_title.values():
        echo(", ".join([first, *others]))
        for line in every[first].status() or [f"nothing here; bench data fetch {first}"]:
            echo(f"  {printable(line)}")


def _with_data(registry: "Registry") -> "dict[str, Data]":
    """Return the data of the tasks that need any, by task name."""
    found = {}
    for name in registry.names("tasks"):
        with suppress(PluginError):
            if (wanted := registry.task(name).data) is not None:
                found[name] = wanted
    return found
