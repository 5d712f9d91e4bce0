"""Study of diagnostics: `bench study diagnostics`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import MOST, PLUGIN, STUDIES, with_default
from bench.echo import echo, tell, tell_each
from bench.errors import UsageError

if TYPE_CHECKING:  # they import torch, which takes its time
    from collections.abc import Iterator

    from bench.contracts import Diagnostic
    from bench.registry.registry import Registry
    from bench.storage.store import Store
    from bench.studies.diagnostics import Examined


@click.command()
@click.argument("results", type=click.Path(), nargs=-1)
@click.option(
    "--plant",
    "tasks",
    multiple=True,
    metavar="TASK",
    help="Plant defects in the exact likelihood of this task; repeatable.",
)
@with_default(
    "--repetitions", click.IntRange(1, MOST), 40, "Simulate each planted defect so many times."
)
@click.option(
    "--diagnostic",
    "names",
    multiple=True,
    metavar="GLOB",
    help="Take these diagnostics only; repeatable.",
)
@STUDIES
@PLUGIN
def diagnostics(
    results: tuple[str, ...],
    tasks: tuple[str, ...],
    repetitions: int,
    names: tuple[str, ...],
    out: str,
    plugins: tuple[str, ...],
) -> None:
    """Grade diagnostics by planted defects and networks.

    RESULTS are folders of `bench run` with `exact`, an independent plan and their networks, as of
    results/diagnostics.toml. What earlier calls found is kept in the output folder, and counts. An
    interrupted study resumes.
    """
    import torch

    from bench.registry.registry import Registry
    from bench.storage.store import Store
    from bench.studies import diagnostics as subject
    from bench.studies import grades

    torch.set_num_threads(1)
    registry, store = Registry(plugins), Store(Path(out))
    chosen = [
        registry.get("diagnostics", n) for n in registry.select("diagnostics", names or ("*",))
    ]
    examined = _examined(registry, store, chosen, results, tasks, repetitions)
    for count, one in enumerate(examined, 1):
        tell(f"{count}: {one.label} on {one.task}, number {one.number}")
    found = subject.every(store)
    if not found:
        raise UsageError(
            "nothing was examined: give --plant, or a folder of `bench run` with exact, its "
            "networks and an independent plan without points"
        )
    powers, rows = grades.powers(found, chosen), grades.grades(found, chosen)
    if powers:
        store.write_bytes(f"{subject.NAME}-planted.csv", grades.csv_powers(powers).encode())
        echo(grades.markdown_powers(powers), nl=False)
    if rows:
        store.write_bytes(f"{subject.NAME}.csv", grades.csv(rows).encode())
        echo(grades.markdown(rows), nl=False)
    if tell_each("not loaded", registry.failures):
        raise SystemExit(1)


def _examined(
    registry: "Registry",
    store: "Store",
    chosen: "list[Diagnostic]",
    results: tuple[str, ...],
    tasks: tuple[str, ...],
    repetitions: int,
) -> "Iterator[Examined]":
    from bench.boards.results import Results
    from bench.cli.folder import open_results
    from bench.studies import diagnostics as subject

    folders = [Results(open_results(folder)) for folder in results]  # before anything is spent
    for name in tasks:
        yield from subject.planted(registry.task(name), chosen, repetitions, store)
    for read in folders:
        yield from subject.trained(read, registry, chosen, store)


COMMANDS = (diagnostics,)
