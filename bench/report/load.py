"""Function `bench.load`: results folders as tidy frames."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd
from pandas.api.types import is_numeric_dtype

from bench.boards import Leaderboard, Results, build
from bench.boards.results import SavedFit
from bench.errors import BenchError, UsageError, printable
from bench.experiment.selection import MethodPattern, names_fit
from bench.registry.registry import Registry, select, unknown
from bench.report import frames, windows
from bench.report.folders import Folders, open_folders
from bench.studies import corrections, diagnostics, equivalence, grades, training
from bench.studies.equivalence import EquivalenceFactor

_STUDIES: dict[str, Mapping[str, Any]] = {
    "bootstrap-k": dict.fromkeys(("task", "plan", "quantity", "stratified"), str)
    | dict.fromkeys(("observations", "multiple", "value", "error", "expected"), float),
    equivalence.NAME: get_type_hints(EquivalenceFactor),
    corrections.NAME: corrections.COLUMNS,
    training.NAME: training.COLUMNS,
    diagnostics.NAME: grades.COLUMNS,
    f"{diagnostics.NAME}-planted": grades.POWERS,
}
"""Columns of the tables of studies that reports show."""


def load(
    *results: str | os.PathLike[str],
    tasks: Sequence[str] = (),
    methods: Sequence[str] = (),
    plugins: Sequence[str | os.PathLike[str]] = (),
) -> "Loaded":
    """Read results folders; several are combined as if one run had made them.

    Args:
        results: folders that `bench run` wrote, and folders of tables that `bench study` wrote.
        tasks: patterns of tasks; all of them where empty.
        methods: patterns of methods, as of `bench run`; all where empty. The reference of the
            scores is kept: `exact`, or `histogram` where there is no exact likelihood.
        plugins: files that define tasks, methods or metrics of the results.

    Raises:
        UsageError: if a folder holds no results, or a pattern matches nothing.

    Example:
        >>> loaded = bench.load("results/higgs", "results/studies")  # doctest: +SKIP
        >>> coverage = loaded.quantities.query("quantity == 'coverage/z'")  # doctest: +SKIP
    """
    folders, studies = open_folders(results)
    registry = Registry([Path(p) for p in plugins])
    read = Results(folders)
    if tasks:
        names = select(tasks, sorted({fit.task for fit in read.fits}), "task")
        read.fits = [fit for fit in read.fits if fit.task in names]
    if methods:
        read.fits = _chosen(registry, read.fits, methods)
    return Loaded(folders, read, registry, studies)


def _chosen(
    registry: Registry, fits: Sequence[SavedFit], patterns: Sequence[str]
) -> list[SavedFit]:
    """Return the fits of methods that match, and those of the reference."""
    wanted = [MethodPattern.parse(pattern) for pattern in patterns]
    for pattern, one in zip(patterns, wanted, strict=True):
        if not any(names_fit(registry, one, fit) for fit in fits):
            known = sorted({fit.label for fit in fits})
            raise UsageError(unknown("method in these results", pattern, known))
    exact = {fit.task for fit in fits if fit.oracle}
    return [
        fit
        for fit in fits
        if fit.oracle
        or (fit.method == "histogram" and fit.task not in exact)
        or any(names_fit(registry, one, fit) for one in wanted)
    ]


class Loaded:
    """Results as sorted frames, each computed on first access.

    Every frame begins with `task, budget, training_data, seed, plan, plan_folder, label, method,
    configuration, family, ensemble` (`fits` and `curves` without the plan). `label` is the label in
    leaderboards. `ensemble` is the number of averaged members, or 0 for trained members. A frame
    without data is empty and has its columns.

    Attributes:
        folders: the folders of all entries.
        results: the fits and plans.
        registry: tasks, methods and metrics by name.
        study_files: tables of studies.
    """

    def __init__(
        self, folders: Folders, results: Results, registry: Registry, studies: Sequence[Path] = ()
    ) -> None:
        self.folders = folders
        self.results = results
        self.registry = registry
        self.study_files = tuple(studies)

    @cached_property
    def boards(self) -> list[Leaderboard]:
        """Leaderboards; those with only exact likelihoods have budget 0."""
        found = build(self.results, self.registry.metrics())
        boards: dict[tuple[object, ...], Leaderboard] = {}
        for board in found:
            if all(row.fit.oracle for row in board.rows):
                board = replace(board, budget=0, training_data="none", seed=0)
            shown = {row.label for row in board.rows}
            board.absent = {k: v for k, v in board.absent.items() if k not in shown}
            key = (board.task, board.budget, board.training_data, board.seed, board.plan_folder)
            boards.setdefault(key, board)
        return list(boards.values())

    def leaderboard(self) -> pd.DataFrame:
        """Return the first two tables of the leaderboards, a line for each method.

        Columns: `recommended`; for each parameter `verdict NAME`, `coverage NAME` and
        `length NAME` as delivered; `honest length` at 68.27 % coverage, relative to exact;
        `likelihood rank` and `interval rank`, as in tables. Numbers have a column of errors.
        `gap NAME` is the coverage minus that of exact intervals, with its simultaneous interval
        `gap NAME low` to `gap NAME high`, on which the verdict depends.

        Example:
            >>> bench.load("results/quick").leaderboard()  # doctest: +SKIP
        """
        return frames.leaderboard(self.boards, self.families)

    def _repr_html_(self) -> str:
        """Show the leaderboards in a notebook."""
        return str(self.leaderboard().to_html(index=False, escape=True, na_rep=""))

    @cached_property
    def fits(self) -> pd.DataFrame:
        """Return a line for each member of a fit.

        Columns: `member, status, reason, calls, seconds, seconds_to_best, parameters, device,
        fit`. Seconds are of one member; `fit` is its folder.
        """
        return frames.fits(self.results, self.families)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Losses: `member, component, epoch, training, validation`; epochs count from 1."""
        return frames.curves(self.results, self.families)

    @cached_property
    def quantities(self) -> pd.DataFrame:
        """Numbers of leaderboards.

        Columns: `quantity, metric, key, statistic, value, error, dof, reason, where, rank_low,
        rank_high, members`.

        `quantity` is the name in CSV and JSON: "coverage/mu", "coverage/mu/gap", "width/mu/ratio".
        `metric` and `key` are the same in words and identify a number of a method on a leaderboard:
        "coverage", "coverage gap", "coverage gap at worst point", "width ratio". `statistic` is the
        last part of `quantity`: "" for a mean, "gap", "worst", "ratio" or "median". A number that
        is n/a is NaN and has a `reason`; `where` is the point of the worst gap. Errors are standard
        errors over members and datasets.

        Example:
            >>> frame = loaded.quantities.query("plan == 'independent'")  # doctest: +SKIP
            >>> frame.pivot_table("value", "label", ["metric", "key"])  # doctest: +SKIP
        """
        return frames.quantities(self.boards, self.families)

    @cached_property
    def members(self) -> pd.DataFrame:
        """Each member's mean over the sets of a point.

        Columns: `member, point, quantity, metric, key, value, error, sets`. `point` counts from
        0; −1 is θ drawn uniformly. `error` is the standard error over sets; NaN where there is one.
        """
        return frames.members(self.results, self.boards, self.families)

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """Coverage against nominal level, for independent plans.

        Columns: `parameter (or "joint"), level, coverage, error, low, high, datasets`. Coverage is
        from the statistics of scores, inside the box: of the profile at the generating parameter
        against χ²₁, of the likelihood ratio against χ²_P of all P parameters. `low` and `high` are
        the simultaneous 95 % band of intervals with nominal coverage. Scores of older versions lack
        the statistics.
        """
        return frames.calibration(self.results, self.boards, self.families)

    @cached_property
    def contours(self) -> pd.DataFrame:
        """Log-likelihoods around the maximum, on 33 × 33 nodes.

        They are of all members, and of the first dataset of up to four evaluation points, or of the
        first four datasets of a plan without points. They come from saved predictions, or from
        packs. Columns: `member, point, dataset, x_name, y_name, x, y, fall`. A fall of t standard
        deviations, −t²/2, is accurate to 0.01 in t and cut at 5.1.
        """
        return self._windows[0]

    @cached_property
    def maxima(self) -> pd.DataFrame:
        """Generating parameters and maxima of the datasets of `contours`.

        Columns: `member, point, dataset, x_true, y_true, x_mle, y_mle`.
        """
        return self._windows[1]

    @cached_property
    def _windows(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        return windows.windows(self.results, self.registry, self.boards, self.families)

    @cached_property
    def studies(self) -> dict[str, pd.DataFrame]:
        """Tables of studies, by the name of their file, such as "bootstrap-k" or "features".

        "equivalence" is computed from the results if they allow it. A table in the folders replaces
        it.

        Raises:
            UsageError: if one of them is not a table.
        """
        tables = {}
        with suppress(UsageError):
            tables[equivalence.NAME] = pd.DataFrame(map(asdict, equivalence.rows(self.results)))
        for path in self.study_files:
            try:
                tables[path.stem] = pd.read_csv(path)
            except (ValueError, OSError) as error:
                reason = " ".join(str(error).split())
                raise UsageError(f"{path} is not a table: {reason}") from error
            _check(path, tables[path.stem])
        return dict(sorted(tables.items()))

    @cached_property
    def families(self) -> dict[str, str]:
        """Family of every method of the results; "" for methods that are not registered."""
        families = dict.fromkeys(sorted({fit.method for fit in self.results.fits}), "")
        for name in families:
            with suppress(BenchError):
                families[name] = printable(str(self.registry.method(name).family))
        return families


def _check(path: Path, table: pd.DataFrame) -> None:
    """Refuse a table with the name of a study whose columns are others."""
    for name, kind in _STUDIES.get(path.stem, {}).items():
        where = f"{path} is not a table of `bench study {path.stem}`: "
        if name not in table:
            raise UsageError(f"{where}it has no column {name!r}")
        if kind is str:
            table[name] = table[name].fillna("").astype(str)
        elif not is_numeric_dtype(table[name]) or (table[name].abs().between(1e15, 1e308)).any():
            raise UsageError(f"{where}column {name!r} holds other things than numbers")
