"""Search the settings of a method by validation loss alone: `bench tune`."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import CALLS, COUNT, FOLDER, PLUGIN, SEED, WORKERS, with_default
from bench.echo import echo, tell, tell_each
from bench.errors import BenchError, counted

if TYPE_CHECKING:
    from bench.tuning.search import Search, Trial


@click.command()
@click.argument("method")
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="GLOB",
    help="Decide by the mean validation loss of these tasks; repeatable.  [default: all]",
)
@click.option(
    "--only",
    multiple=True,
    metavar="SETTING=VALUE",
    help="Try this value of a setting only; repeatable.  [default: all declared values]",
)
@with_default("--budget", CALLS, 1_000_000, "Spend so many simulator calls on each training.")
@with_default("--epochs", COUNT, 9, "Train so many epochs in the last rung.")
@with_default("--rungs", click.IntRange(1, 10), 3, "Keep the best third in each of so many rungs.")
@with_default(
    "--members",
    click.IntRange(1, 10_000),
    2,
    "Train so many networks of each candidate in the last rung.",
)
@SEED
@WORKERS
@with_default("--device", click.Choice(["auto", "cpu", "cuda"]), "auto", "Train on this device.")
@with_default("--out", FOLDER, "results/tuning", "Write tables and trials to this folder.")
@PLUGIN
def tune(
    method: str,
    tasks: tuple[str, ...],
    only: tuple[str, ...],
    budget: int,
    epochs: int,
    rungs: int,
    members: int,
    seed: int,
    workers: int | None,
    device: str,
    out: str,
    plugins: tuple[str, ...],
) -> None:
    """Search the training settings of METHOD.

    The search halves the candidates rung by rung: learning rates, schedules, batch sizes and
    activations. It looks at the validation loss only, on simulations that no leaderboard sees. It
    writes OUT/METHOD.csv and OUT/METHOD.md. An interrupted search resumes.
    """
    from bench.boards.render import csv_of
    from bench.experiment.schedule import choose_device
    from bench.experiment.selection import refuse_uninstalled
    from bench.registry.registry import Registry
    from bench.storage.store import Store
    from bench.tuning.search import make_search, untunable
    from bench.tuning.tune import tune as search_settings

    registry = Registry(plugins)
    refuse_uninstalled(registry, [method])
    names = registry.select("tasks", tasks or ("*",))
    if not tasks:  # all that can be tuned
        whys = {name: untunable(registry, method, name) for name in names}
        tell_each("skipped", {name: why for name, why in whys.items() if why})
        names = [name for name in names if not whys[name]]
    where = choose_device(device)
    search = make_search(registry, method, names, budget, members, epochs, rungs, seed, where, only)
    store = Store(Path(out))

    def on_trial(trial: "Trial", done: int, of: int) -> None:
        loss = trial.problem or f"loss {trial.loss:.5f}"
        tell(
            f"rung {trial.rung + 1}/{rungs}, {done}/{of}: {_described(trial)}: {loss}, "
            f"{trial.seconds:.0f} s"
        )

    count, limits = workers or os.cpu_count() or 1, (4 * 3600.0, 8.0)
    trials = search_settings(search, registry, store, count, limits, on_trial)
    rows = table(search, trials)
    store.write_bytes(f"{method}.csv", csv_of(rows).encode())
    store.write_bytes(f"{method}.md", as_markdown(search, rows).encode())
    best = [t for t in trials if t.rung == rungs - 1 and t.kept]
    if not best:
        raise BenchError(f"every training failed, the first one: {trials[0].problem}")
    echo(as_markdown(search, rows), nl=False)
    tell(f"{counted(len(trials), 'trial')} in {store.root / method}.csv and .md")


def _described(trial: "Trial") -> str:
    return ", ".join(f"{name.rpartition('.')[2]} {v}" for name, v in trial.values.items())


def table(search: "Search", trials: Sequence["Trial"]) -> list[dict[str, str]]:
    """Return one row per trial, the last rung first and by loss within a rung.

    Losses are in nats. With several members, the error of the difference to the best trial of a
    rung is the standard error over paired members, averaged over tasks.
    """
    import numpy as np

    rows = []
    ordered = sorted(trials, key=lambda t: (-t.rung, t.loss))
    for trial in ordered:
        best = next(t for t in ordered if t.rung == trial.rung)
        differences = np.subtract(trial.losses, best.losses).mean(0)  # mean over tasks, by member
        error = differences.std(ddof=1) / len(differences) ** 0.5 if len(differences) > 1 else None
        row = {"rung": str(trial.rung + 1), "epochs": str(trial.epochs)}
        row |= {name.rpartition(".")[2]: str(value) for name, value in trial.values.items()}
        own = zip(search.tasks, trial.losses, strict=True)
        row |= {f"loss {task}": _number(float(np.mean(losses))) for task, losses in own}
        went_on = "best" if trial.rung == search.rungs - 1 else "went on"
        row |= {
            "mean": _number(trial.loss),
            "behind": _number(float(differences.mean())),
            "error": "" if error is None else _number(float(error)),
            "seconds": f"{trial.seconds:.0f}",
            "outcome": trial.problem or (went_on if trial.kept else ""),
        }
        rows.append(row)
    return rows


def _number(value: float) -> str:
    return f"{value:.5f}" if math.isfinite(value) else ""


def as_markdown(search: "Search", rows: Sequence[dict[str, str]]) -> str:
    """Return the rows as a Markdown table, with a description of the search."""
    from bench.boards.render import markdown_table

    members = counted(search.members, "member")
    members += " in the last rung and one before" if search.rungs > 1 else ""
    lines = [
        f"# Tuning {search.method}",
        "",
        f"Validation loss in nats, summed over components; "
        f"{counted(search.budget, 'simulator call')}; "
        f"{members}; seed {search.seed}; on "
        f"{search.device}. Only the last rung decides. `behind` is the distance to the best of the "
        "rung, its standard error from paired members.",
        "",
        markdown_table(list(rows[0]), (row.values() for row in rows)),
    ]
    return "\n".join(lines)
