"""Options and option types that several commands share."""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import reduce, wraps
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

# Larger numbers are more likely typing errors than intended.
MOST = 10**6
COUNT = click.IntRange(1, MOST)
CALLS = click.IntRange(1, 10**12)


class _Folder(click.Path):
    """Path of a folder; an empty one, as from an unset shell variable, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("a folder's name cannot be empty", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = _Folder()


class FiniteRange(click.FloatRange):
    """Range of numbers that does not contain NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if isnan(found):
            self.fail(f"{value} is not a number", param, ctx)
        return found


def with_default(name: str, kind: Any, default: Any, text: str | None = None) -> Decorator:
    """Return a decorator that adds an option whose help shows its default.

    Args:
        name: name of the option.
        kind: type of its value.
        default: value if the option is not given.
        text: help text.
    """
    return click.option(name, type=kind, default=default, show_default=True, help=text)


if TYPE_CHECKING:  # it imports torch
    from bench.experiment.schedule import Schedule

PLUGIN = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE",
    help="Load tasks, methods and other plugins from this Python file; repeatable.",
)
TASK = click.option(
    "--task", "tasks", multiple=True, metavar="GLOB", help="Take these tasks only; repeatable."
)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    help="Use so many worker processes.  [default: the number of cores]",
)
SEED = with_default("--seed", click.IntRange(0, 2**31 - 1), 0, "Seed the simulations and datasets.")
STUDIES = with_default(
    "--out", FOLDER, "results/studies", "Write tables and results to this folder."
)
_SELECTION = (
    click.argument("preset", metavar="PRESET|FILE"),
    TASK,
    click.option(
        "--method",
        "methods",
        multiple=True,
        metavar="GLOB",
        help="Take these methods only: NAME, NAME:CONFIGURATION, or with wrappers, "
        "'ensemble(NAME,5)'; repeatable.",
    ),
    click.option("--members", type=int, help="Train so many independent networks of each method."),
    click.option(
        "--budget",
        "budgets",
        type=int,
        multiple=True,
        help="Spend so many simulator calls on each training; repeatable.",
    ),
    click.option("--seed", type=int, help="Seed the simulations, trainings and datasets."),
    click.option("--device", help="Compute on auto, cpu or cuda."),
    WORKERS,
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Fit and predict on a Dask cluster: tcp://HOST:PORT, or local:N to start one here.",
    ),
    click.option(
        "--out", type=FOLDER, help="Write results to this folder.  [default: results/PRESET]"
    ),
    click.option("--overwrite", is_flag=True, help="Repeat work that is already done."),
    PLUGIN,
)  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """Values of the options that `bench run` and `bench plan` share, as the user gave them."""

    preset: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    members: int | None
    budgets: tuple[int, ...]
    seed: int | None
    device: str | None
    workers: int | None
    scheduler: str | None
    out: str | None
    overwrite: bool
    plugins: tuple[str, ...]

    @property
    def root(self) -> Path:
        """Results folder."""
        from bench.library.runs import default_folder

        return Path(self.out) if self.out else default_folder(self.preset)

    @property
    def worker_count(self) -> int:
        """Number of worker processes; by default the number of cores."""
        return self.workers or os.cpu_count() or 1

    def schedule(self) -> "Schedule":
        """Return the schedule of the selected run.

        Raises:
            UsageError: if a name, a value or an address is wrong, or a method is not installed.
        """
        from bench.library.runs import plan_run

        overrides = {
            "tasks": self.tasks or None,
            "methods": self.methods or None,
            "members": self.members,
            "budgets": self.budgets or None,
            "seed": self.seed,
            "device": self.device,
        }
        return plan_run(
            self.preset, self.root, overrides, self.plugins, self.overwrite, self.scheduler
        )


def selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options to a command; its first argument is then a `Selection`."""
    names = [field.name for field in fields(Selection)]

    @wraps(command)
    def selected(**given: Any) -> Any:
        return command(Selection(**{name: given.pop(name) for name in names}), **given)

    return reduce(lambda done, option: option(done), reversed(_SELECTION), selected)
