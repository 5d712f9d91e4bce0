"""Check methods, tasks and other plugins against their contracts: `bench check`."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import PLUGIN
from bench.echo import echo, tell_each
from bench.errors import UsageError, printable

if TYPE_CHECKING:  # they import torch, which is slow
    from bench.contracts import Task
    from bench.registry.registry import Item, Kind, Registry
    from bench.testing import ConformanceReport, Result


@click.command()
@click.argument("what", required=False, metavar="[NAME|FILE]")
@click.option(
    "--task",
    metavar="NAME",
    help="Check methods on this task.  [default: a small asymmetric mixture]",
)
@PLUGIN
def check(what: str | None, task: str | None, plugins: tuple[str, ...]) -> None:
    """Check tasks, methods and others against their contracts.

    NAME is a method, METHOD:CONFIGURATION, a task, a wrapper, a metric or a diagnostic. FILE is a
    plugin, everything in which is checked. Without either, all that is registered is checked, which
    takes a while.

    The exit status is 1 if a check fails. Doubtful numbers of a plugin that keeps its contract
    are warnings, which leave it at 0.
    """
    import torch

    from bench.registry.registry import Registry

    torch.set_num_threads(1)  # as in workers: small networks are slower on several threads
    configuration = ""
    if what is not None and (what.endswith(".py") or "/" in what):
        registry, path = Registry([*plugins, what]), str(Path(what).resolve())
        found = [item for item in _items(registry) if item.place.startswith(path)]
    else:
        registry = Registry(plugins)
        found = _items(registry) if what is None else _named(registry, what)
        configuration = (what or "").partition(":")[2]
    on = None if task is None else registry.task(task)
    reports = [_checked(registry, item, configuration, on) for item in found]
    if tell_each("not loaded", registry.failures) or not all(reports):
        raise SystemExit(1)


def _items(registry: "Registry") -> "list[Item]":
    kinds: tuple[Kind, ...] = ("tasks", "methods", "wrappers", "metrics", "diagnostics")
    return [registry.item(kind, name) for kind in kinds for name in registry.names(kind)]


def _named(registry: "Registry", what: str) -> "list[Item]":
    from bench.errors import PluginError
    from bench.experiment.selection import configure
    from bench.registry.registry import unknown

    name, colon, configuration = what.partition(":")
    found = [item for item in _items(registry) if item.name == name]
    if not found:
        known = [item.name for item in _items(registry)]
        kinds = "method, task, wrapper, metric or diagnostic"
        raise UsageError(unknown(kinds, what, known, registry.labels()))
    for item in found if colon else []:
        if item.kind != "methods":
            kind = item.kind[:-1]
            raise UsageError(f"{name} is a {kind}, and has no configuration {configuration!r}")
        with suppress(PluginError):  # reported as a failed check
            configure(registry.method(name), configuration)
    return found


def _checked(
    registry: "Registry", item: "Item", configuration: str, task: "Task | None"
) -> "ConformanceReport | bool":
    """Check one object and print results as they come; return False if it does not load."""
    from bench.errors import PluginError
    from bench.testing import (
        check_diagnostic,
        check_method,
        check_metric,
        check_task,
        check_wrapper,
    )
    from bench.testing.density_checks import most_calls
    from bench.testing.method_under_test import calls_of_checks

    def show(result: "Result") -> None:
        echo(f"  {result}".replace("\n", "\n  "))

    what = f"{item.kind[:-1]} {item.name}" + (f":{configuration}" if configuration else "")
    echo(printable(what))
    try:
        if item.kind == "tasks":
            checked = registry.task(item.name)
            if checked.expensive:
                echo(f"  takes up to {most_calls(checked):,} simulator calls")
            report = check_task(checked, report=show)
        elif item.kind == "metrics":
            report = check_metric(registry.get("metrics", item.name), report=show)
        elif item.kind == "diagnostics":
            report = check_diagnostic(registry.get("diagnostics", item.name), report=show)
        elif item.kind == "wrappers":
            report = check_wrapper(registry.wrapper(item.name), report=show)
        else:
            method = registry.method(item.name)
            if task is not None and task.expensive:
                calls = calls_of_checks(task)
                echo(f"  takes about {calls:,} simulator calls of {task.name}")
            report = check_method(
                method, configuration=configuration or None, task=task, report=show
            )
    except PluginError:  # recorded in the registry's failures
        echo("  does not load")
        return False
    echo(report.summary() + "\n")
    return report
