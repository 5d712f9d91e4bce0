"""Commands. What they need is imported inside, so that help and errors come at once."""

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

import bench
from bench.errors import BenchError, UsageError

_PLUGIN = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE",
    help="Python file that defines tasks, methods or metrics; may be repeated.",
)
_FOLDER = click.argument("folder", required=False, metavar="[DIR]")
_TASK = click.option(
    "--task", "tasks", multiple=True, metavar="GLOB", help="Only these tasks; may be repeated."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bench.__version__, prog_name="nlbench")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """nlbench: which neural likelihood surrogate should a scientist trust?"""


@cli.command()
@click.argument("preset", metavar="PRESET|FILE")
@_TASK
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="GLOB",
    help="Only these methods, as NAME or NAME:CONFIGURATION; may be repeated.",
)
@click.option("--members", type=int, help="Independently trained networks of each method.")
@click.option("--budget", "budgets", type=int, multiple=True, help="Simulator calls; repeatable.")
@click.option("--seed", type=int, help="Seed of simulations, training and datasets.")
@click.option("--device", help="auto, cpu or cuda.")
@click.option("--workers", type=click.IntRange(1), help="Worker processes.  [default: the cores]")
@click.option("--out", type=click.Path(), help="Results folder.  [default: results/PRESET]")
@click.option("--overwrite", is_flag=True, help="Make again what is there.")
@click.option("--quiet", is_flag=True, help="No progress, no leaderboards.")
@_PLUGIN
def run(
    preset: str,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    members: int | None,
    budgets: tuple[int, ...],
    seed: int | None,
    device: str | None,
    workers: int | None,
    out: str | None,
    overwrite: bool,
    quiet: bool,
    plugins: tuple[str, ...],
) -> None:
    """Simulate, train, evaluate and rank. Interrupted runs resume; finished work is reused.

    PRESET is a name (see `bench list presets`) or a TOML file.
    """
    from bench.cli.progress import Progress
    from bench.stages.preset import read_preset
    from bench.stages.registry import Registry
    from bench.stages.run import BenchmarkRun
    from bench.stages.store import Store

    registry = Registry(plugins)
    overrides = {
        "tasks": tasks or None,
        "methods": methods or None,
        "members": members,
        "budgets": budgets or None,
        "seed": seed,
        "device": device,
    }
    settings = read_preset(registry, preset, overrides)
    _warn(registry.failures)
    store = Store(Path(out) if out else Path("results") / Path(preset).stem)
    benchmark = BenchmarkRun(registry, settings, store, overwrite)
    benchmark.record(_command())
    with Progress(benchmark.planned, quiet) as progress:
        report = benchmark.execute(
            workers or os.cpu_count() or 1, progress.on_event, progress.on_outcome
        )
    _write_leaderboards(registry, store)
    if not quiet:
        click.echo()
        _echo_leaderboards(registry, store, settings.tasks, "table")
    click.echo(
        f"{report.done} made, {report.reused} reused, {len(report.failures)} failed in "
        f"{report.seconds:.0f} s; results in {store.root}",
        err=True,
    )
    for planned, outcome in report.failures:
        if outcome.status == "failed":
            click.echo(
                f"failed: {planned.kind} of {planned.cell.label} on {planned.cell.task}, member "
                f"{planned.members[0]}: {outcome.error}",
                err=True,
            )
            if _debug():
                click.echo(outcome.traceback, err=True)
    if report.failures:
        raise SystemExit(1)


@cli.command()
@_FOLDER
def status(folder: str | None) -> None:
    """Say what a results folder holds, what is missing and what failed."""
    from bench.leaderboard.results import Results
    from bench.leaderboard.status import status_lines

    for line in status_lines(Results(_open(folder))):
        click.echo(line)


@cli.command()
@_FOLDER
@click.option("--workers", type=click.IntRange(1), help="Worker processes.  [default: the cores]")
@_PLUGIN
def score(folder: str | None, workers: int | None, plugins: tuple[str, ...]) -> None:
    """Compute metrics anew from saved predictions; nothing is retrained."""
    from bench.cli.progress import Progress
    from bench.stages.registry import Registry
    from bench.stages.rescore import plan_scores
    from bench.stages.workers import Workers

    store = _open(folder)
    registry = Registry(plugins)
    _warn(registry.failures)
    planned = plan_scores(store, registry)
    failed = 0
    by_key = {p.job.key: p for p in planned}
    with (
        Progress(planned, quiet=False) as progress,
        Workers(workers or os.cpu_count() or 1, on_event=progress.on_event) as pool,
    ):
        for outcome in pool.run([p.job for p in planned]):
            progress.on_outcome(by_key[outcome.key], outcome)
            failed += outcome.status != "done"
            if outcome.status != "done":
                click.echo(f"failed: {outcome.key}: {outcome.error}", err=True)
    _write_leaderboards(registry, store)
    click.echo(f"{len(planned) - failed} scored, {failed} failed; results in {store.root}")
    if failed:
        raise SystemExit(1)


@cli.command()
@_FOLDER
@_TASK
@click.option(
    "--format", "form", default="table", help="table, csv, md or json.", show_default=True
)
@_PLUGIN
def leaderboard(
    folder: str | None, tasks: tuple[str, ...], form: str, plugins: tuple[str, ...]
) -> None:
    """Print the leaderboards of a results folder."""
    from bench.leaderboard import FORMATS
    from bench.stages.registry import Registry, unknown

    if form not in FORMATS:
        raise UsageError(unknown("format", form, list(FORMATS)))
    _echo_leaderboards(Registry(plugins), _open(folder), tasks or ("*",), form)


@cli.command(name="list")
@click.argument("kind", required=False, metavar="[tasks|methods|metrics|presets]")
@_PLUGIN
def list_(kind: str | None, plugins: tuple[str, ...]) -> None:
    """List what is registered, where it comes from, and what fails to load."""
    from bench.cli.listing import listing
    from bench.stages.registry import KINDS, Registry, unknown

    if kind is not None and kind not in KINDS:
        raise UsageError(unknown("kind", kind, KINDS))
    registry = Registry(plugins)
    click.echo(listing(registry, [k for k in KINDS if kind in (None, k)]))
    _warn(registry.failures)


def _command() -> list[str]:
    return ["bench", *sys.argv[1:]]


def _debug() -> bool:
    return "--debug" in sys.argv[1:]


def _warn(failures: dict[str, str]) -> None:
    for what, reason in failures.items():
        click.echo(f"not loaded: {what}: {reason}", err=True)


def _open(folder: str | None) -> Any:
    """Opens an existing results folder; the newest under results/ where none is named."""
    from bench.stages.store import Store

    if folder is None:
        runs = sorted(Path("results").glob("*/run.json"), key=lambda p: p.stat().st_mtime)
        if not runs:
            raise UsageError("there are no results under results/; name a folder or `bench run`")
        return Store.open(runs[-1].parent)
    if not (Path(folder) / "run.json").is_file():
        raise UsageError(f"{folder} is not a results folder: it has no run.json")
    return Store.open(folder)


def _boards(registry: Any, store: Any, tasks: tuple[str, ...]) -> Any:
    from bench.leaderboard import Results, build
    from bench.stages.cells import select

    results = Results(store)
    select(tasks, sorted({f.task for f in results.fits}), "task")
    return build(results, registry.metrics(), tasks)


def _echo_leaderboards(registry: Any, store: Any, tasks: tuple[str, ...], form: str) -> None:
    from bench.leaderboard import render

    click.echo(render(_boards(registry, store, tasks), form), nl=False)


def _write_leaderboards(registry: Any, store: Any) -> None:
    """Keeps the leaderboards beside the results, for whoever has no bench at hand."""
    from bench.leaderboard import FORMATS

    boards = _boards(registry, store, ())
    for form in ("md", "csv", "json"):
        store.write_bytes(f"leaderboard.{form}", FORMATS[form](boards).encode())


def main() -> None:
    """Runs a command; every error of the suite is one line, and exit status 1 or 2."""
    # `--debug` is accepted before and after the command's name.
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = _debug()
    try:
        cli(arguments, prog_name="bench", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; the same command resumes, finished work is kept", err=True)
        raise SystemExit(130) from None
    except BenchError as error:
        if debug:
            traceback.print_exc()
        click.echo(f"bench: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        if debug:
            traceback.print_exc()
        click.echo(
            f"bench: unexpected {type(error).__name__}: {error}; --debug shows where", err=True
        )
        raise SystemExit(1) from None
