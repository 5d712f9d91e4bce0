"""Commands of `bench`; each imports its dependencies when called, so that help appears quickly."""

import errno
import io
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

import bench
from bench.cli.check import check
from bench.cli.data import data
from bench.cli.folder import (
    damaged,
    damaged_entries,
    open_results,
    tell_outdated,
)
from bench.cli.new import new
from bench.cli.options import PLUGIN, TASK, WORKERS, FiniteRange, Selection, selection
from bench.cli.plan import LONG, lines, lines_of_calls, plan
from bench.cli.report import report
from bench.cli.results import results
from bench.cli.study import study
from bench.cli.trust import trust
from bench.cli.tune import tune
from bench.echo import Formatter, echo, tell, tell_each
from bench.errors import BenchError, UsageError, printable

if TYPE_CHECKING:
    from bench.experiment.run import RunSummary
    from bench.experiment.selection import Absent
    from bench.storage.store import Store

_LONGEST = 600  # characters shown of an error message

_FOLDER = click.argument("folder", required=False, metavar="[DIR]")


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(bench.__version__, prog_name="nlbench")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Compare neural likelihood surrogates: which one can a scientist trust?"""
    if context.invoked_subcommand is None:
        echo(context.get_help())


@cli.command()
@selection
@click.option("--quiet", is_flag=True, help="Print neither progress nor leaderboards.")
def run(selected: Selection, quiet: bool) -> None:
    """Simulate, train, evaluate and rank.

    An interrupted run resumes, and finished work is reused.

    PRESET is a name (see `bench list presets`) or a TOML file.
    """
    from bench.experiment.calls import count_calls
    from bench.experiment.selection import uninstalled
    from bench.library.runs import perform
    from bench.storage.store import Store

    planned = selected.schedule()
    registry, preset, count = planned.registry, planned.preset, selected.worker_count
    store = Store(selected.root)  # not earlier: a wrong name must not create a folder
    _echo_broken(planned.absent)
    for missing in uninstalled(registry, preset.methods).values():
        tell(f"n/a: {missing}")
    for a in planned.absent:
        if a.label.startswith("every method") and not a.broken:
            tell(f"n/a: {a.task}, {a.label}: {a.reason}")
    if not planned.tasks:
        raise BenchError("no task is left to run")
    if not quiet and planned.cost.duration(count) > LONG:
        for line in lines(planned.cost, count, planned.context.device):
            echo(line, err=True)
    if not quiet:
        calls = [c for c in count_calls(planned.jobs, registry, planned.store) if c.expensive]
        for line in lines_of_calls(calls, selected.scheduler is not None) if calls else ():
            echo(line, err=True)
    summary, results, boards = perform(planned, _command(), count, selected.scheduler, quiet)
    _echo_broken(summary.absent)
    tell_each("damaged", damaged_entries(results))
    if not quiet:
        from bench.boards.render import table

        echo()
        names = {task.name for task in planned.tasks}
        ours = [board for board in boards if board.task in names]
        click.echo(table(ours, brief=True), nl=False)  # no sanitising: it has styles
        folder = shlex.quote(str(store.root))
        echo(f"All tables: bench leaderboard {folder} --all. Figures: bench report {folder}.\n")
    _echo_summary(summary, store)
    if not summary.ok or any(a.broken for a in planned.absent):
        raise SystemExit(1)


@cli.command()
@_FOLDER
def status(folder: str | None) -> None:
    """Show what a results folder holds, misses and failed to make."""
    from bench.boards.results import Results
    from bench.boards.status import status_lines

    store = open_results(folder)
    results = Results(store)
    for line in status_lines(results):
        echo(line)
    tell_outdated(store)
    if tell_each("damaged", damaged(store) + damaged_entries(results)):
        raise SystemExit(1)


@cli.command()
@_FOLDER
@WORKERS
@PLUGIN
def score(folder: str | None, workers: int | None, plugins: tuple[str, ...]) -> None:
    """Compute metrics again from saved predictions."""
    from bench.execution.open import open_executor
    from bench.experiment.preset import Preset
    from bench.experiment.rescore import damaged_predictions, plan_scores
    from bench.experiment.run import run as run_jobs
    from bench.library.progress import Progress
    from bench.library.runs import write_leaderboards
    from bench.registry.registry import Registry
    from bench.storage import schema

    store = open_results(folder, write=True)
    registry = Registry(plugins)
    jobs = plan_scores(store, registry)
    registry.metrics()
    tell_each("not loaded", registry.failures)
    incomplete = tell_each("damaged", damaged(store) + damaged_predictions(store, jobs))
    recorded = schema.read(store, "run") or {"preset": {}}
    preset = Preset().model_dump() | recorded["preset"]
    limits = preset["time_limit"], preset["memory_limit"]
    count = workers or os.cpu_count() or 1
    with (
        Progress(jobs, quiet=False) as progress,
        open_executor(store, count, limits, progress.on_event) as executor,
    ):
        summary = run_jobs(jobs, store, executor, progress.on_outcome)
    _echo_broken(summary.absent)
    incomplete |= tell_each("damaged", damaged_entries(write_leaderboards(store, registry)[0]))
    _echo_summary(summary, store)
    if not summary.ok or incomplete or registry.failures:
        raise SystemExit(1)


@cli.command()
@_FOLDER
@TASK
@click.option(
    "--format", "form", default="table", help="Print table, csv, md or json.", show_default=True
)
@click.option("--all", "everything", is_flag=True, help="Show all tables, not only the first two.")
@click.option("--plain", is_flag=True, help="Show plain means instead of expectations.")
@click.option(
    "--tolerance",
    type=FiniteRange(0, 100, min_open=True),
    metavar="POINTS",
    help="Call a coverage right within so many percentage points.  [default: the preset's, or 5]",
)
@click.option(
    "--level",
    type=FiniteRange(50, 100, max_open=True),
    default=95.0,
    metavar="PERCENT",
    help="Confidence level of verdicts and ranks.  [default: 95]",
)
@PLUGIN
def leaderboard(
    folder: str | None,
    tasks: tuple[str, ...],
    form: str,
    everything: bool,
    plain: bool,
    tolerance: float | None,
    level: float,
    plugins: tuple[str, ...],
) -> None:
    """Print the leaderboards of a results folder.

    Verdicts and ranks are computed anew from the scores.
    """
    from bench.boards import FORMATS, Results, build, table
    from bench.registry.registry import Registry, select, unknown

    if form not in FORMATS:
        raise UsageError(unknown("format", form, list(FORMATS)))
    store, registry = open_results(folder), Registry(plugins)
    results = Results(store)
    if tasks:
        select(tasks, sorted({f.task for f in results.fits}), "task")
    found = build(
        results,
        registry.metrics(),
        tasks or ("*",),
        plain=plain,
        tolerance=None if tolerance is None else tolerance / 100,
        level=level / 100,
    )
    tell_each("not loaded", registry.failures)
    incomplete = tell_each("damaged", damaged(store) + damaged_entries(results))
    if not found:
        raise BenchError(f"{store.root} has no scores to compare; `bench status` says what it has")
    shown = table(found, not everything) if form == "table" else FORMATS[form](found)
    click.echo(shown, nl=False)  # no sanitising: it has styles
    tell_outdated(store)
    if incomplete or registry.failures:
        raise SystemExit(1)


@cli.command(name="list")
@click.argument("kind", required=False, metavar="[KIND]")
@click.option("--long", is_flag=True, help="Show citations and import paths too.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "md"]),
    default="table",
    help="Print tables for a terminal, or Markdown for pages.  [default: table]",
)
@PLUGIN
def list_(kind: str | None, long: bool, form: str, plugins: tuple[str, ...]) -> None:
    """List tasks, methods and all other registered names.

    KIND is tasks, methods, wrappers, metrics, diagnostics or presets. What fails to load is listed
    with the reason.
    """
    from bench.cli.descriptions import KINDS, cached, describe, keep
    from bench.cli.listing import listing, markdown

    if kind is not None and kind not in KINDS:
        from bench.registry.registry import unknown

        raise UsageError(unknown("kind", kind, KINDS))
    found, failures = None if plugins else cached(), dict[str, str]()
    if found is None:
        from bench.registry.registry import Registry

        registry = Registry(plugins)
        found, failures = describe(registry), registry.failures
        if not plugins and not failures:
            keep(found)
    kinds = [known for known in KINDS if kind in (None, known)]
    echo(markdown(found, kinds) if form == "md" else listing(found, kinds, long))
    tell_each("not loaded", failures)


for command in (check, data, new, plan, report, results, study, trust, tune):
    cli.add_command(command)


def _command() -> list[str]:
    return ["bench", *sys.argv[1:]]


def _debug() -> bool:
    return "--debug" in sys.argv[1:]


def _echo_broken(absent: Sequence["Absent"]) -> None:
    """Print each broken method, metric or plugin once, with the tasks that need it."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for a in absent:
        if a.broken:
            tasks.setdefault((a.label, a.reason), []).append(a.task)
    for (label, why), where in tasks.items():
        tell(f"failed: {label} on {', '.join(dict.fromkeys(where))}: {why}")


def _echo_summary(summary: "RunSummary", store: "Store") -> None:
    broken = len({(a.label, a.reason) for a in summary.absent if a.broken})
    tell(
        f"{summary.done} made, {summary.reused} reused, {len(summary.failures) + broken} failed"
        + (f", {summary.skipped} skipped" if summary.skipped else "")
        + f" in {summary.seconds:.0f} s; results in {store.root}"
    )
    if _debug():
        for _, outcome in summary.failures:
            echo(outcome.traceback, err=True)


def main() -> None:
    """Run the command line; print an error of the suite as one line and exit with its status."""
    # `--debug` is accepted before and after the command's name.
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    _mend_streams()
    if _debug():
        logging.getLogger("bench").setLevel(logging.DEBUG)
        handler = logging.StreamHandler()
        handler.setFormatter(Formatter())
        logging.getLogger("bench").addHandler(handler)
    try:
        cli(arguments, prog_name="bench", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:  # a group without a command
        error.show()
        raise SystemExit(error.exit_code) from None
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would interrupt the clean-up
        _fail("interrupted; the same command resumes, finished work is kept", 130)
    except BenchError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        _abandon_output()
        raise SystemExit(1) from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _abandon_output()
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", 1)
    except Exception as error:  # an error in the suite's code is also printed as one line
        _fail(f"unexpected {type(error).__name__}: {error}; --debug shows where", 1)


def _fail(message: str, status: int) -> NoReturn:
    if _debug():
        echo(traceback.format_exc(), err=True, nl=False)
    line = printable(message)
    if len(line) > _LONGEST:  # user input may be of any length
        line = f"{line[:_LONGEST]}..."
    tell(f"bench: {line}")
    raise SystemExit(status) from None


def _mend_streams() -> None:
    """Replace closed standard streams by the null device, and escape unprintable characters."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            # Otherwise the next opened file gets this descriptor and receives printed text. The
            # descriptor is inherited, so that workers have it, too.
            stream = open(os.devnull, mode)  # noqa: SIM115 - open as long as the process runs
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
        elif isinstance(stream, io.TextIOWrapper) and mode == "w":
            stream.reconfigure(errors="backslashreplace")


def _abandon_output() -> None:
    """Redirect standard output to the null device, so that the final flush does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
