"""Studies of tasks: `bench study features` and `examples`."""

from pathlib import Path

import click

from bench.cli.options import MOST, PLUGIN, SEED, STUDIES, with_default
from bench.echo import echo, tell_each
from bench.errors import BenchError


@click.command()
@with_default("--observed", str, "higgs-fair", "Take the observations of this task.")
@with_default("--model", str, "higgs", "Compare with this task, which describes them.")
@with_default(
    "--events",
    click.IntRange(10, 10_000),
    4000,
    "Test so many observations of each component and task; memory grows with the square.",
)
@with_default("--permutations", click.IntRange(9, MOST), 999, "Permute so many times in a test.")
@SEED
@STUDIES
@PLUGIN
def features(
    observed: str,
    model: str,
    events: int,
    permutations: int,
    seed: int,
    out: str,
    plugins: tuple[str, ...],
) -> None:
    """Compare the features of two tasks.

    A figure shows them, with a two-sample test for each component. The test is the energy distance
    with a permutation p-value, at the nominal context.
    """
    from bench.registry.registry import Registry
    from bench.storage.store import Store
    from bench.studies import features as subject

    registry = Registry(plugins)
    tasks = registry.task(observed), registry.task(model)
    subject.check(*tasks)
    store = Store(Path(out))
    rows = subject.tests(*tasks, events, permutations, seed)
    table = {"csv": subject.csv(rows).encode()}
    for form, content in (table | subject.figure(*tasks)).items():
        store.write_bytes(f"{subject.NAME}.{form}", content)
    echo(subject.table(rows), nl=False)
    if tell_each("not loaded", registry.failures):
        raise SystemExit(1)


@click.command()
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="GLOB",
    help="Draw these tasks, a row each; repeatable.  [default: all that can run]",
)
@SEED
@STUDIES
@PLUGIN
def examples(tasks: tuple[str, ...], seed: int, out: str, plugins: tuple[str, ...]) -> None:
    """Draw simulated observations of tasks.

    A row has one observation at each of up to three evaluation points.

    A series is drawn as steps and a field as an image. Of vectors a whole dataset is drawn, in
    the first two coordinates. The random numbers of a row are the same at all its points.
    """
    from bench.registry.registry import Registry
    from bench.storage.store import Store
    from bench.studies import examples as subject

    registry = Registry(plugins)
    chosen, skipped = subject.choose(registry, tasks)
    files = subject.figure(chosen, seed)
    if not files:
        raise BenchError("figures need matplotlib; install it with pip install matplotlib")
    store = Store(Path(out))
    for form, content in files.items():
        store.write_bytes(f"{subject.NAME}.{form}", content)
        echo(store.root / f"{subject.NAME}.{form}")
    tell_each("skipped", skipped)
    if tell_each("not loaded", registry.failures):
        raise SystemExit(1)


COMMANDS = (features, examples)
