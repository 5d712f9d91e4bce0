"""Runs of presets: what `bench run` and `bench.run` do."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.boards import FORMATS, Leaderboard, Results, build
from bench.errors import BenchError, PluginError
from bench.execution.inline import Inline
from bench.execution.open import open_executor
from bench.experiment.preset import read_preset
from bench.experiment.run import RunSummary, reason
from bench.experiment.run import run as run_jobs
from bench.experiment.schedule import Schedule, schedule
from bench.experiment.selection import refuse_uninstalled
from bench.library.progress import Progress
from bench.registry.registry import Registry
from bench.report.load import Loaded, load
from bench.storage.store import Store

Paths = Sequence[str | os.PathLike[str]] | str | os.PathLike[str]
"""Files, or one file."""


def files_of(paths: Paths) -> list[str]:
    """Return the names of files, or of one file.

    Example:
        >>> files_of("my_task.py"), files_of(["a.py", Path("b.py")])
        (['my_task.py'], ['a.py', 'b.py'])
    """
    return [os.fspath(p) for p in ([paths] if isinstance(paths, str | os.PathLike) else paths)]


def run(
    preset: str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    tasks: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    members: int | None = None,
    budgets: Sequence[int] | None = None,
    seed: int | None = None,
    device: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    plugins: Paths = (),
    quiet: bool = False,
) -> Loaded:
    """Simulate, train, evaluate and rank, as `bench run`.

    An interrupted run resumes, and finished work is reused. Worker processes import the program
    that calls this function, so a script must call it below `if __name__ == "__main__":`.

    Args:
        preset: name of a preset, or a TOML file.
        folder: results folder; `results/PRESET` where None.
        tasks: patterns of tasks that replace those of the preset.
        methods: patterns of methods that replace those of the preset.
        members: number of members instead.
        budgets: simulator calls of each training instead.
        seed: seed instead.
        device: "auto", "cpu" or "cuda" instead.
        workers: number of worker processes; the number of cores where None.
        scheduler: Dask cluster that fits and predicts.
        overwrite: whether to repeat work that is done.
        plugins: files that define tasks, methods or metrics.
        quiet: whether to show no progress.

    Returns:
        The results, as of `bench.load`.

    Raises:
        UsageError: if a name or a value is wrong.
        BenchError: if a job fails; what others have made is kept.

    Example:
        >>> bench.run("smoke", tasks=["higgs"]).leaderboard()  # doctest: +SKIP
    """
    root = Path(folder) if folder is not None else default_folder(preset)
    overrides = {
        "tasks": None if tasks is None else tuple(tasks),
        "methods": None if methods is None else tuple(methods),
        "members": members,
        "budgets": None if budgets is None else tuple(budgets),
        "seed": seed,
        "device": device,
    }
    planned = plan_run(os.fspath(preset), root, overrides, plugins, overwrite, scheduler)
    summary, *_ = perform(planned, ["bench.run"], workers, scheduler, quiet)
    raise_failures(planned, summary)
    return load(root, plugins=files_of(plugins))


def leaderboard(
    folder: str | os.PathLike[str],
    *,
    tasks: Sequence[str] = ("*",),
    tolerance: float | None = None,
    level: float = 0.95,
    plain: bool = False,
    plugins: Paths = (),
) -> list[Leaderboard]:
    """Compute the leaderboards of a results folder, as `bench leaderboard`.

    Args:
        folder: results folder.
        tasks: patterns of tasks.
        tolerance: largest coverage gap that is called right, as a share; the run's where None.
        level: confidence level of verdicts and ranks.
        plain: whether to show plain means instead of expectations.
        plugins: files that define tasks, methods or metrics of the results.

    Raises:
        UsageError: if the folder holds no results.

    Example:
        >>> [row.label for row in bench.leaderboard("results/higgs")[0].rows]  # doctest: +SKIP
    """
    loaded = load(folder, plugins=files_of(plugins))
    return build(
        loaded.results,
        loaded.registry.metrics(),
        tasks,
        plain=plain,
        tolerance=tolerance,
        level=level,
    )


def default_folder(preset: str | os.PathLike[str]) -> Path:
    """Return the results folder of a preset."""
    return Path("results") / Path(preset).stem


def plan_run(
    preset: str,
    root: Path,
    overrides: Mapping[str, Any],
    plugins: Paths = (),
    overwrite: bool = False,
    scheduler: str | None = None,
) -> Schedule:
    """Return the schedule of a preset: what a results folder lacks, and the jobs that make it.

    Args:
        preset: name of a preset, or a TOML file.
        root: results folder.
        overrides: values that replace those of the preset, where not None.
        plugins: plugin files.
        overwrite: whether to make existing entries again.
        scheduler: Dask cluster that fits and predicts.

    Raises:
        UsageError: if a name, a value or an address is wrong, or a method is not installed.
    """
    registry = Registry(files_of(plugins))
    read = read_preset(registry, preset, dict(overrides))
    refuse_uninstalled(registry, overrides.get("methods") or ())
    return schedule(registry, read, Store.open(root), overwrite, scheduler)


def perform(
    planned: Schedule,
    command: Sequence[str],
    workers: int | None = None,
    scheduler: str | None = None,
    quiet: bool = False,
    here: bool = False,
) -> tuple[RunSummary, Results, list[Leaderboard]]:
    """Perform the jobs of a schedule, and write the leaderboards of its folder.

    Args:
        planned: the schedule.
        command: description of the run, for the record.
        workers: number of worker processes; the number of cores where None.
        scheduler: Dask cluster that fits and predicts.
        quiet: whether to show no progress.
        here: whether this process performs the jobs itself, one after another.

    Returns:
        What was done, the results and their leaderboards.
    """
    todo = planned.jobs
    store, preset = Store(planned.store.root), planned.preset
    planned.record(command)
    limits = preset.time_limit, preset.memory_limit
    with Progress(todo, quiet, None if quiet else planned.cost.own) as progress:
        on_event = progress.on_event
        opened = (
            Inline(on_event)
            if here
            else open_executor(
                store,
                workers or os.cpu_count() or 1,
                limits,
                on_event,
                scheduler if todo else None,
            )
        )
        with opened as executor:
            summary = run_jobs(todo, store, executor, progress.on_outcome)
    summary.reused += planned.reused
    planned.record(command, summary.absent)
    return summary, *write_leaderboards(store, planned.registry)


def write_leaderboards(store: Store, registry: Registry) -> tuple[Results, list[Leaderboard]]:
    """Write the leaderboards into the results folder, readable without this package.

    Returns:
        The results that were read, and the leaderboards.
    """
    results = Results(store)
    everything = build(results, registry.metrics())
    for form in ("md", "csv", "json"):
        store.write_bytes(f"leaderboard.{form}", FORMATS[form](everything).encode())
    return results, everything


def raise_failures(planned: Schedule, summary: RunSummary) -> None:
    """Raise the first failure of a run, after its results were saved.

    Raises:
        PluginError: if a method, metric or plugin is broken.
        BenchError: if a job failed.
    """
    for job, outcome in summary.failures:
        what = f"{job.stage} of {job.spec.label} on {job.spec.task}, member {job.members[0]}"
        raise BenchError(f"{what}: {reason(outcome)}")
    for absent in (*planned.absent, *summary.absent):
        if absent.broken:
            raise PluginError(f"{absent.label} on {absent.task}: {absent.reason}")
