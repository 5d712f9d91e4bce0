"""Options that commands share, and their types; `bench run` and `bench plan` select alike."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

# Beyond these bounds a slip of the keyboard is likelier than a wish.
MOST = 10**6
COUNT = click.IntRange(1, MOST)
CALLS = click.IntRange(1, 10**12)


class _Folder(click.Path):
    """A folder, which has a name: an empty one comes from a shell's variable that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("a folder's name cannot be empty", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = _Folder()


def with_default(name: str, kind: Any, default: Any, text: str | None = None) -> Decorator:
    """Return an option whose default is shown.

    Args:
        name: of the option.
        kind: its type.
        default: its value unless it is given.
        text: its help.
    """
    return click.option(name, type=kind, default=default, show_default=True, help=text)


PLUGIN = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE",
    help="Python file that defines tasks, methods or metrics; may be repeated.",
)
TASK = click.option(
    "--task", "tasks", multiple=True, metavar="GLOB", help="Only these tasks; may be repeated."
)
WORKERS = click.option(
    "--workers", type=click.IntRange(1, 1024), help="Worker processes.  [default: the cores]"
)
SEED = with_default("--seed", click.IntRange(0, 2**31 - 1), 0, "Seed of simulations and datasets.")
STUDIES = with_default("--out", FOLDER, "results/studies", "Folder of tables and results.")
_SELECTION = (
    click.argument("preset", metavar="PRESET|FILE"),
    TASK,
    click.option(
        "--method",
        "methods",
        multiple=True,
        metavar="GLOB",
        help="Only these methods: NAME, NAME:CONFIGURATION, 'ensemble(NAME,5)', "
        "'calibrated(NAME)'; may be repeated.",
    ),
    click.option("--members", type=int, help="Independently trained networks of each method."),
    click.option(
        "--budget", "budgets", type=int, multiple=True, help="Simulator calls; repeatable."
    ),
    click.option("--seed", type=int, help="Seed of simulations, training and datasets."),
    click.option("--device", help="auto, cpu or cuda."),
    WORKERS,
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Fit and predict on a Dask cluster: tcp://HOST:PORT, or local:N to start one here.",
    ),
    click.option(
        "--out", type=FOLDER, help="Results folder.  [default: results/PRESET]"
    ),
    click.option("--overwrite", is_flag=True, help="Make again what is there."),
    PLUGIN,
)  # fmt: skip


def selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; what they say is read by `overrides` and by the command itself."""
    return reduce(lambda done, option: option(done), reversed(_SELECTION), command)


def overrides(
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    members: int | None,
    budgets: tuple[int, ...],
    seed: int | None,
    device: str | None,
) -> dict[str, Any]:
    """Return the settings that replace a preset's; None where nothing is given."""
    return {
        "tasks": tasks or None,
        "methods": methods or None,
        "members": members,
        "budgets": budgets or None,
        "seed": seed,
        "device": device,
    }
