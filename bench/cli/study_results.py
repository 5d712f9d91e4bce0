"""Studies of a results folder: `bench study differences`, `calibration` and others."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import COUNT, MOST, PLUGIN, STUDIES, TASK, Decorator, with_default
from bench.echo import echo, tell, tell_each

if TYPE_CHECKING:  # they import torch, which takes its time
    from bench.boards.results import Results
    from bench.studies.scored import Group

RESULTS = click.argument("results", type=click.Path())
METHOD = click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="GLOB",
    help="Take these methods only, as METHOD:CONFIGURATION; repeatable.",
)


def _metrics(default: str) -> Decorator:
    """Return the option of metrics, whose help shows the default of the command."""
    text = f"Show these, as METRIC or METRIC/KEY; repeatable.  [default: {default}]"
    return click.option("--metric", "metrics", multiple=True, metavar="GLOB", help=text)


def _read(results: str) -> "Results":
    from bench.boards.results import Results
    from bench.cli.folder import open_results

    return Results(open_results(results))


def _groups(read: "Results", *chosen: tuple[str, ...]) -> list["Group"]:
    from bench.studies.scored import groups

    return groups(read, *chosen)


def _print(read: "Results", text: str) -> None:
    """Print tables; exit with 1 where entries behind them are damaged."""
    from bench.cli.folder import damaged, damaged_entries

    echo(text, nl=False)
    if tell_each("damaged", damaged(read.store) + damaged_entries(read)):
        raise SystemExit(1)


@click.command()
@RESULTS
@TASK
@METHOD
@_metrics("interval_score, coverage, width, overlap_M/joint and others")
@click.option(
    "--against",
    default="",
    metavar="METHOD",
    help="Compare every method with this one only, as exact or METHOD:CONFIGURATION.",
)
def differences(
    results: str,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    metrics: tuple[str, ...],
    against: str,
) -> None:
    """Compare methods pair by pair on the same datasets.

    RESULTS is a folder of `bench run`. Differences are of means, the first method minus the
    second, with errors over training sets and datasets.
    """
    from bench.studies import differences as subject

    read = _read(results)
    found = subject.differences(_groups(read, tasks, methods), metrics, against)
    _print(read, subject.markdown(found))


@click.command()
@RESULTS
@TASK
@METHOD
@_metrics("coverage, interval_score and overlap_M")
def calibration(
    results: str, tasks: tuple[str, ...], methods: tuple[str, ...], metrics: tuple[str, ...]
) -> None:
    """Compare calibrated classifiers with uncalibrated ones.

    RESULTS is a folder of `bench run` with calibrated methods, and with the networks that they
    calibrate: the same methods, at a budget without the simulations of the calibration.
    """
    from bench.studies import calibration as subject

    read = _read(results)
    rows = subject.changes(read, _groups(read, tasks, methods), metrics)
    _print(read, subject.markdown(rows))


@click.command()
@RESULTS
@TASK
@METHOD
@with_default(
    "--scans", click.IntRange(0, MOST), 3, "Scan so many datasets of each method densely."
)
@STUDIES
@PLUGIN
def evaluators(
    results: str,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    scans: int,
    out: str,
    plugins: tuple[str, ...],
) -> None:
    """Compare the gradient evaluator with the lattice.

    RESULTS is a folder of `bench run` with predictions of two plans that differ only by
    `evaluator = "gradient"`, such as those of results/evaluators.toml. Where the two differ most, a
    dense lattice decides.
    """
    from bench.registry.registry import Registry
    from bench.storage.store import Store
    from bench.studies import evaluators as subject

    registry, read = Registry(plugins), _read(results)
    rows = subject.agreements(read, _groups(read, tasks, methods), registry, scans)
    Store(Path(out)).write_bytes(f"{subject.NAME}.csv", subject.csv(rows).encode())
    _print(read, subject.markdown(rows))
    if tell_each("not loaded", registry.failures):
        raise SystemExit(1)


@click.command()
@RESULTS
@TASK
@METHOD
def averaging(results: str, tasks: tuple[str, ...], methods: tuple[str, ...]) -> None:
    """Measure the error that averaging networks can remove.

    RESULTS is a folder of `bench run` with `exact`, and with two networks of a method or more.
    """
    from bench.studies import averaging as subject

    read = _read(results)
    _print(read, subject.markdown(subject.splits(_groups(read, tasks, methods))))


@click.command()
@RESULTS
@TASK
@METHOD
@with_default("--datasets", click.IntRange(2, MOST), 60, "Evaluate on so many datasets.")
@with_default(
    "--simulations", COUNT, 1_000_000, "Normalise averages by so many simulations of the reference."
)
@STUDIES
@PLUGIN
def decomposition(
    results: str,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    datasets: int,
    simulations: int,
    out: str,
    plugins: tuple[str, ...],
) -> None:
    """Split the divergence from exact into causes.

    RESULTS is a folder of `bench run` with `exact`, with three networks of a method or more, and
    with their weights. The parts are the training, the normalisation and the approximation.
    """
    from bench.registry.registry import Registry
    from bench.storage.store import Store
    from bench.studies import decomposition as subject

    registry, read = Registry(plugins), _read(results)
    found = _groups(read, tasks, methods)
    rows = subject.decomposed(read, found, registry, datasets, simulations, tell)
    Store(Path(out)).write_bytes(f"{subject.NAME}.csv", subject.csv(rows).encode())
    _print(read, subject.markdown(rows))
    if tell_each("not loaded", registry.failures):
        raise SystemExit(1)


@click.command()
@RESULTS
@TASK
@METHOD
@STUDIES
def expectations(results: str, tasks: tuple[str, ...], methods: tuple[str, ...], out: str) -> None:
    """Compare errors of plain means and of expectations.

    RESULTS is a folder of `bench run` with `exact` and an independent plan.
    """
    from bench.storage.store import Store
    from bench.studies import expectations as subject

    read, store = _read(results), Store(Path(out))
    found = subject.pairs(_groups(read, tasks, methods))
    for form, content in subject.figure(found).items():
        store.write_bytes(f"expectations.{form}", content)
    _print(read, subject.markdown(found))


@click.command()
@RESULTS
@TASK
@METHOD
@_metrics("overlap_M, overlap_kM, coverage and width")
def networks(
    results: str, tasks: tuple[str, ...], methods: tuple[str, ...], metrics: tuple[str, ...]
) -> None:
    """Show mean and standard deviation of single networks.

    RESULTS is a folder of `bench run`.
    """
    from bench.studies import networks as subject

    read = _read(results)
    _print(read, subject.markdown(_groups(read, tasks, methods), metrics))


@click.command()
@RESULTS
@TASK
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="GLOB",
    help="Show these methods beside the exact likelihood, and compare them with it; repeatable.",
)
@click.option(
    "--by",
    default="",
    metavar="PARAMETER",
    help="Join evaluation points with the same value of a parameter, and show its intervals.",
)
@PLUGIN
def points(
    results: str,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    by: str,
    plugins: tuple[str, ...],
) -> None:
    """Show coverage at each evaluation point.

    RESULTS is a folder of `bench run`. Coverage of 68.27 % intervals and of 95 % regions, and the
    share of regions that a bound cuts, have 95 % intervals (Clopper & Pearson 1934) for a single
    network on independent datasets, and standard errors otherwise.
    """
    from bench.registry.registry import Registry
    from bench.studies import points as subject

    registry, read = Registry(plugins), _read(results)
    found = _groups(read, tasks, methods)
    failed = tell_each("not loaded", registry.failures)
    _print(read, subject.markdown(found if methods else subject.of_truth(found), registry, by))
    if failed:
        raise SystemExit(1)


@click.command()
@RESULTS
@STUDIES
def equivalence(results: str, out: str) -> None:
    """Measure how many simulations exact gradients are worth.

    RESULTS is a folder of `bench run score`, or of another run with a method at several budgets
    without scores, and with them.
    """
    from bench.storage.store import Store
    from bench.studies import equivalence as subject
    from bench.studies import equivalence_tables as tables

    read = _read(results)
    rows = subject.rows(read)
    points = subject.curves(read, rows)
    store = Store(Path(out))
    counted = tables.better_and_worse(tables.counts(rows, points))
    text = "\n".join([tables.markdown(rows), counted, tables.learning_curves(points)])
    written = {".csv": tables.csv(rows), "-curves.csv": tables.csv(points), ".md": text}
    for ending, table in written.items():
        store.write_bytes(f"{subject.NAME}{ending}", table.encode())
    _print(read, text)


@click.command(name="trust")
@click.argument("results", type=click.Path(), nargs=-1, required=True)
@with_default(
    "--toys",
    click.IntRange(20, MOST),
    1500,
    "Judge by so many datasets; the others tell the true gap.",
)
@STUDIES
def trust_study(results: tuple[str, ...], toys: int, out: str) -> None:
    """Compare verdicts of `bench trust` with the truth.

    RESULTS are folders of `bench run` with `exact`, an independent plan and the plugin
    results/trust.py.
    """
    from bench.errors import UsageError
    from bench.storage.store import Store
    from bench.studies import trust as subject

    folders = [_read(folder) for folder in results]
    found = [one for read in folders for one in subject.trainings(read, toys)]
    if not found:
        raise UsageError(f"no scores have {subject.TRUE}; run with --plugin results/trust.py")
    Store(Path(out)).write_bytes(f"{subject.NAME}.csv", subject.csv(found).encode())
    _print(folders[0], subject.markdown(found))


@click.command()
@click.argument("results", type=click.Path(), nargs=-1, required=True)
@STUDIES
def corrections(results: tuple[str, ...], out: str) -> None:
    """Compare corrected intervals at equal budgets.

    RESULTS are folders of `bench run` with an independent plan, for example of `neyman(lre)`,
    `calibrated(lre)` and `ensemble(lre,4)` at a quarter of the budget.
    """
    from bench.boards.build import build
    from bench.registry.registry import Registry
    from bench.storage.store import Store
    from bench.studies import corrections as subject

    folders, metrics = [_read(folder) for folder in results], Registry().metrics()
    found = subject.lines([board for read in folders for board in build(read, metrics)])
    Store(Path(out)).write_bytes(f"{subject.NAME}.csv", subject.csv(found).encode())
    _print(folders[0], subject.markdown(found))


@click.command()
@click.argument("results", type=click.Path(), nargs=-1, required=True)
@STUDIES
def training(results: tuple[str, ...], out: str) -> None:
    """Compare quoted with true uncertainties of training.

    RESULTS are folders of `bench run` with one method, an independent plan and `exact`: with fresh
    training sets, and with shared and bootstrapped ones at several seeds.
    """
    from bench.storage.store import Store
    from bench.studies import training as subject

    folders = [_read(folder) for folder in results]
    found = subject.uncertainties(folders)
    Store(Path(out)).write_bytes(f"{subject.NAME}.csv", subject.csv(found).encode())
    _print(folders[0], subject.markdown(found))


COMMANDS = (
    differences,
    calibration,
    averaging,
    evaluators,
    decomposition,
    networks,
    points,
    expectations,
    equivalence,
    trust_study,
    corrections,
    training,
)
