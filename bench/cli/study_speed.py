"""Studies of speed: `bench study score-times`, `scaling`, `device` and `parameters`."""

from pathlib import Path
from typing import Any

import click

from bench.cli.options import COUNT, FOLDER, MOST, STUDIES, with_default
from bench.echo import echo, tell, tell_each

_REPEATS = click.IntRange(2, MOST)


@click.command(name="score-times")
@click.argument("results", type=click.Path())
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="GLOB",
    help="Take these tasks, which have scores; repeatable.  [default: sis, gp, "
    "student-t, gaussians-near]",
)
@click.option(
    "--budget",
    "budgets",
    type=click.IntRange(100, MOST),
    multiple=True,
    help="Spend so many simulator calls; repeatable.  [default: 1000 10000]",
)
@with_default("--turns", _REPEATS, 5, "Train on so many sets, with and without scores.")
@STUDIES
def score_times(
    results: str, tasks: tuple[str, ...], budgets: tuple[int, ...], turns: int, out: str
) -> None:
    """Measure the training time that exact gradients add.

    RESULTS is a folder of `bench run` with `nler:tuned` and `nler-sa:tuned`, whose records say at
    which epoch networks were best. It takes about ten minutes; run it on an idle core.
    """
    import torch

    from bench.boards.results import Results
    from bench.cli.folder import damaged, open_results
    from bench.errors import UsageError
    from bench.registry.registry import Registry
    from bench.storage.store import Store
    from bench.studies import score_times as subject

    registry, read = Registry(), Results(open_results(results))
    chosen = subject.choose(registry, tasks or subject.TASKS)
    fits = {(fit.task, fit.label) for fit in read.fits}
    for task in chosen:
        for label in ("nler:tuned", "nler-sa:tuned"):
            if (task.name, label) not in fits:
                raise UsageError(f"{read.store.root} has no {label} on {task.name}")
    store = Store(Path(out))
    torch.set_num_threads(1)
    rows = []
    for task in chosen:
        for calls in budgets or subject.BUDGETS:
            rows.append(subject.measure(registry, read, task, calls, turns))
            tell(f"{task.name}, {calls:,} calls: done")
    store.write_bytes(f"{subject.NAME}.csv", subject.csv(rows).encode())
    echo(subject.markdown(rows), nl=False)
    if tell_each("damaged", damaged(read.store)):
        raise SystemExit(1)


@click.command()
@click.option(
    "--only",
    multiple=True,
    metavar="GLOB",
    help="Vary these sizes only, as events or members; repeatable.",
)
@with_default("--repeats", _REPEATS, 5, "Take the median of so many timings.")
@with_default("--out", FOLDER, "results/scaling", "Write tables and figures to this folder.")
def scaling(only: tuple[str, ...], repeats: int, out: str) -> None:
    """Measure the growth of times with sizes on one thread.

    Sizes are events, nodes, bootstraps, members, training rows, the population of an epidemic and
    the sites of a field. It takes about ten minutes; run it on an idle core.
    """
    import torch

    from bench.registry.registry import Registry, select
    from bench.storage.store import Store
    from bench.studies import scaling as subject
    from bench.studies.scaling_figure import figure
    from bench.studies.scaling_laws import laws as all_laws

    laws = all_laws(Registry())
    sizes = select(only or ("*",), list(dict.fromkeys(law.size for law in laws)), "size")
    store = Store(Path(out))
    torch.set_num_threads(1)
    rows: list[subject.Timing] = []
    for law in (law for law in laws if law.size in sizes):
        rows += subject.measure(law, repeats)
        tell(f"{law.name} against {law.size}: done")
    found = subject.exponents(rows)
    text = subject.markdown(found)
    tables = {"seconds.csv": subject.csv(rows), "exponents.csv": subject.csv(found)}
    for name, table in (tables | {f"{subject.NAME}.md": text}).items():
        store.write_bytes(name, table.encode())
    for form, content in figure(rows, found).items():
        store.write_bytes(f"{subject.NAME}.{form}", content)
    echo(text, nl=False)


@click.command()
@with_default("--device", click.Choice(["auto", "cpu", "cuda"]), "auto", "Measure this device.")
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="GLOB",
    help="Take these networks only, as classifier or 'series*'; repeatable.",
)
@click.option(
    "--members",
    type=COUNT,
    multiple=True,
    help="Stack so many networks; repeatable.  [default: 1 5 10]",
)
@click.option(
    "--batch",
    "batches",
    type=COUNT,
    multiple=True,
    help="Give each network so many rows; repeatable.  [default: 1024]",
)
@with_default("--repeats", _REPEATS, 15, "Take the median of so many timings.")
@STUDIES
def device(
    device: str,
    networks: tuple[str, ...],
    members: tuple[int, ...],
    batches: tuple[int, ...],
    repeats: int,
    out: str,
) -> None:
    """Measure the speed and accuracy of a device.

    A table has the agreement with the CPU, the throughput and the share of the roof. The roof is
    the rate of a large float32 matrix product, measured in the same run.
    """
    import torch

    from bench.errors import UsageError
    from bench.registry.registry import select
    from bench.storage.store import Store
    from bench.studies import device as subject
    from bench.studies.device_networks import NETWORKS

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise UsageError("--device cuda: PyTorch finds no CUDA device")
    where = torch.device("cuda" if there and device != "cpu" else "cpu")
    names = select(networks or ("*",), list(NETWORKS), "network")
    store = Store(Path(out))
    torch.set_num_threads(1)
    limit = subject.roof(where)
    rows = [
        row
        for name in names
        for batch in batches or (1024,)
        for count in members or subject.MEMBERS
        for row in subject.measure(name, count, batch, where, repeats)
    ]
    called = torch.cuda.get_device_name() if where.type == "cuda" else "CPU, one thread"
    text = subject.markdown(rows, called, limit)
    for form, table in (("csv", subject.csv(rows)), ("md", text)):
        store.write_bytes(f"{subject.NAME}.{form}", table.encode())
    echo(text, nl=False)


@click.command()
@click.option(
    "--size",
    "sizes",
    type=click.IntRange(1, 50),
    multiple=True,
    help="Take tasks of so many parameters; repeatable.  [default: 1 2 5 7 10 20]",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="GLOB",
    help="Evaluate these methods; repeatable.  [default: exact lre nler]",
)
@with_default("--budget", click.IntRange(100, MOST), 20_000, "Train on so many simulator calls.")
@with_default("--epochs", COUNT, 3, "Pass over the training data so many times.")
@with_default("--observations", COUNT, 1000, "Take datasets of so many observations.")
@with_default("--datasets", COUNT, 6, "Evaluate so many datasets of each task.")
@STUDIES
def parameters(
    sizes: tuple[int, ...],
    methods: tuple[str, ...],
    budget: int,
    epochs: int,
    observations: int,
    datasets: int,
    out: str,
) -> None:
    """Measure the gradient evaluator up to 20 parameters.

    Tasks are linear and Gaussian, so intervals of `exact` are compared with closed forms. One
    parameter is reported. It takes about five minutes; run it on an idle core.
    """
    import torch

    from bench.registry.registry import Registry
    from bench.storage.store import Store
    from bench.studies import parameters as subject

    registry = Registry()
    kind: Any = type(registry.task("linear-gaussian-2"))
    names = registry.select("methods", methods) if methods else subject.METHODS
    store = Store(Path(out))
    torch.set_num_threads(1)
    rows: list[subject.EvaluationCost] = []
    for size in sizes or subject.PARAMETERS:
        task = kind(size, observations, ("theta1",))
        of = registry, task, task.profile_interval
        for name in names:
            rows.append(subject.measure(*of, name, budget, epochs, datasets))
            tell(f"{size} parameters, {name}: done")
    store.write_bytes(f"{subject.NAME}.csv", subject.csv(rows).encode())
    echo(subject.markdown(rows), nl=False)


COMMANDS = (score_times, scaling, device, parameters)
