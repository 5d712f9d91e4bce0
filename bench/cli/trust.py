"""Judge surrogates of a simulator without a likelihood: `bench trust`."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import CALLS, COUNT, FOLDER, PLUGIN, SEED, WORKERS, FiniteRange, with_default
from bench.echo import echo
from bench.errors import BenchError, UsageError

if TYPE_CHECKING:  # they import torch, which is slow
    from bench.contracts import Task
    from bench.registry.registry import Registry


@click.command()
@click.argument("simulator", metavar="FILE|TASK")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="Train this method, NAME:CONFIGURATION, also with wrappers; repeatable.  [default: the "
    "first choice for the type of observation]",
)
@with_default("--budget", CALLS, 50_000, "Simulator calls of each training.")
@with_default("--toys", click.IntRange(20, 10**6), 1500, "Number of test datasets.")
@click.option(
    "--observations",
    "sizes",
    type=COUNT,
    multiple=True,
    help="Judge datasets of so many observations too; repeatable.  [default: fewer ones if a "
    "method fails]",
)
@with_default(
    "--tolerance",
    FiniteRange(0, 100, min_open=True, max_open=True),
    5.0,
    "Largest gap of the coverage that holds, in points.",
)
@click.option(
    "--data",
    type=click.Path(),
    help="Show intervals of the observed data in this .npz, .npy or .csv file.",
)
@click.option(
    "--measured",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="Measured value of a constrained parameter in the observed data; repeatable.  [default: "
    "its centre]",
)
@SEED
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Train and evaluate on this device.  [default: auto]",
)
@WORKERS
@click.option("--out", type=FOLDER, help="Keep all work here.  [default: results/trust-TASK]")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@PLUGIN
def trust(
    simulator: str,
    methods: tuple[str, ...],
    budget: int,
    toys: int,
    sizes: tuple[int, ...],
    tolerance: float,
    data: str | None,
    given: tuple[str, ...],
    seed: int,
    device: str,
    workers: int | None,
    out: str | None,
    quiet: bool,
    plugins: tuple[str, ...],
) -> None:
    """Judge whether surrogates of your simulator cover.

    FILE is a Python file with a simulator (see `bench new simulator`), TASK the name of a task
    without a likelihood. Test datasets cost simulator calls too. An interrupted judgement resumes.
    """
    import os

    import torch

    from bench.library.evaluation import observations_of_user
    from bench.library.examination import limited
    from bench.library.judging import trust as judge
    from bench.library.trust_page import PAGE, page
    from bench.registry.registry import Registry
    from bench.storage.store import Store

    torch.set_num_threads(1)
    is_file = simulator.endswith(".py") or "/" in simulator
    files = [*plugins, *([simulator] if is_file else [])]
    observed = None
    with limited(f"the simulator of {simulator}"):
        registry = Registry(files)
        name = _only(registry, simulator) if is_file else registry.task(simulator).name
        if data is not None:  # before anything is spent
            try:
                observed = observations_of_user(registry.task(name), _read(Path(data)))
            except UsageError as error:
                raise UsageError(f"{data}: {error}") from error
    measured = _measured(registry.task(name), given)
    folder = Path(out) if out is not None else Path("results") / f"trust-{name}"
    found = judge(
        name,
        methods,
        budget=budget,
        toys=toys,
        sizes=sizes,
        tolerance=tolerance / 100,
        seed=seed,
        device=device,
        folder=folder,
        plugins=files,
        workers=workers or os.cpu_count() or 1,
        quiet=quiet,
    )
    click.echo(found.text(), nl=False)  # no sanitising: it has styles
    store = Store.open(folder)
    store.write_bytes("trust.csv", found.frame().to_csv(index=False).encode())
    intervals = profiles = None
    if observed is not None:
        intervals = found.intervals(observed, measured=measured)
        profiles = found.profiles(observed, measured=measured)
        echo("\n68.27 % intervals of the observed data:")
        for what, value in measured.items():
            echo(f"measured {what} = {value:g}")
        for line in intervals.to_string(index=False, float_format="{:.4g}".format).splitlines():
            echo(line)
        store.write_bytes("intervals.csv", intervals.to_csv(index=False).encode())
    store.write_bytes(PAGE, page(found, intervals, profiles))
    echo(f"\nThe same with figures: {folder / PAGE}.")


def _only(registry: "Registry", file: str) -> str:
    """Return the only task of a plugin file.

    Raises:
        UsageError: if there is another number of tasks.
        BenchError: if the file does not load.
    """
    place = str(Path(file).resolve())
    for what, why in registry.failures.items():
        raise BenchError(f"{what}: {why}")
    names = registry.names("tasks")
    found = [n for n in names if registry.item("tasks", n).place.startswith(f"{place} ")]
    if len(found) != 1:
        said = f"{len(found)} tasks, {', '.join(found)}" if found else "no task"
        raise UsageError(f"{file} defines {said}; it must define one simulator")
    return found[0]


def _measured(task: "Task", given: Sequence[str]) -> dict[str, float]:
    """Return the measured values of constrained parameters: those that are given, else centres.

    Raises:
        UsageError: if a value is no number, or a parameter has no constraint.
    """
    found = {constraint.parameter: constraint.centre for constraint in task.constraints}
    for written in given:
        name, _, value = written.partition("=")
        if name not in found:
            known = ", ".join(found) or "none has one"
            raise UsageError(f"--measured {written}: {name!r} has no constraint; known: {known}")
        if not _is_number(value) or not isfinite(float(value)):
            raise UsageError(f"--measured {written}: {value!r} is not a number")
        found[name] = float(value)
    return found


def _read(path: Path) -> Any:
    """Read observed data.

    Raises:
        UsageError: if the file holds no array of numbers.
    """
    import numpy as np

    if not path.is_file():
        raise UsageError("this is not a file")
    try:
        if path.suffix == ".csv":
            text = path.read_text(encoding="utf-8-sig")
            lines = [line for line in text.splitlines() if line.strip()]
            if lines and not any(map(_is_number, lines[0].split(","))):
                lines = lines[1:]  # a header
            if not lines:
                raise UsageError("it holds no observation")
            return np.loadtxt(lines, delimiter=",", ndmin=2, comments=None)
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        names = found.files
        if "x" not in names and len(names) != 1:
            raise UsageError(f"it holds {', '.join(names)}; name the observations x")
        return found["x" if "x" in names else names[0]]
    except UsageError:
        raise
    except Exception as error:  # files may hold anything
        raise UsageError("it holds no array of numbers (.npz, .npy or .csv)") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
