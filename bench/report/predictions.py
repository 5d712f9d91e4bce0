"""Frames of saved predictions: calibration, and likelihoods around their maxima."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import nan
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import TypeAdapter
from scipy import stats

from bench.contracts import LikelihoodPrediction, ParameterSpace, Plan, Task
from bench.errors import BenchError
from bench.inference.profile import fall_at
from bench.leaderboard import Leaderboard, Results, Row
from bench.leaderboard.quantities import not_certain
from bench.leaderboard.results import SavedFit
from bench.leaderboard.units import ResamplingUnits
from bench.registry.registry import Registry
from bench.report.frames import KEYS, Families, framed, of_board, of_method
from bench.stages import predict
from bench.stats.clustering import Array, Estimate, two_way_variance
from bench.stats.reliability import simultaneous_band

LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Nominal levels of calibration."""

_NODE = ("x", "y", "fall")
_NAMES = ("x_name", "y_name")
_ENDS = ("x_true", "y_true", "x_mle", "y_mle")
_PLAN: TypeAdapter[Plan] = TypeAdapter(Plan)


class Evaluated:
    """Saved predictions of the fits in leaderboards.

    Attributes:
        reasons: by task, why saved predictions cannot be read.
    """

    def __init__(self, results: Results, registry: Registry, boards: Sequence[Leaderboard]) -> None:
        self.results = results
        self.registry = registry
        self.boards = [board for board in boards if board.plan["kind"] != "heldout"]
        self.reasons: dict[str, str] = {}
        self._tasks: dict[str, Task | None] = {}

    def rows(self) -> Iterator[tuple[Leaderboard, Row]]:
        """Yield every method of every leaderboard with likelihoods."""
        for board in self.boards:
            for row in board.rows:
                yield board, row

    def task(self, fit: SavedFit) -> Task | None:
        """Return the task of a fit; None if it is unknown or of another version."""
        if fit.task not in self._tasks:
            self._tasks[fit.task] = None
            try:
                self._tasks[fit.task] = self.registry.task(fit.task)
            except BenchError as error:
                self.reasons[fit.task] = str(error)
        task = self._tasks[fit.task]
        if task is None or fit.identity.get("task", {}).get("version") == task.version:
            return task
        self.reasons[fit.task] = "its results are of another version of the task"
        return None

    def members(
        self, board: Leaderboard, fit: SavedFit
    ) -> Iterator[tuple[int, LikelihoodPrediction]]:
        """Yield the saved predictions of a fit's members, with their numbers."""
        for number in sorted(fit.members):
            key = f"predictions/{fit.folder}/{board.plan_folder}/member-{number:03d}"
            entry = self.results.entry(key)
            task = self.task(fit) if entry is not None else None
            if entry is None or task is None:
                continue
            found = predict.load(task, _PLAN.validate_python(board.plan), entry.arrays)
            assert isinstance(found, LikelihoodPrediction)  # held-out plans are excluded
            if _belongs(found, task.space):
                yield number, found
            else:
                self.reasons[fit.task] = "its results are of other parameters than it has now"

    def space(self, fit: SavedFit) -> ParameterSpace:
        """Return the parameters of a fit's task, after its predictions were read."""
        task = self.task(fit)
        assert task is not None
        return task.space


def _belongs(prediction: LikelihoodPrediction, space: ParameterSpace) -> bool:
    """Return whether maxima lie in their windows, which depend on the parameters' bounds."""
    curves = prediction.curves
    if curves.mle.shape[-1] != len(space):
        return False
    node = (space.to_unit(torch.from_numpy(curves.mle)).numpy() - curves.origin) / curves.spacing
    return bool(((node > -0.01) & (node < curves.profile.shape[-1] - 0.99)).all())


def calibration(evaluated: Evaluated, families: Families) -> pd.DataFrame:
    """Return a line for each parameter and level; see Loaded.calibration."""
    columns = ("parameter", "level", "coverage", "error", "low", "high", "datasets")
    records = (
        of_board(board) | of_method(row.fit, row.label, families) | record
        for board, row in evaluated.rows()
        if board.plan["kind"] == "independent"
        for record in _coverages(evaluated, board, row.fit)
    )
    return framed(records, (*KEYS, *columns))


def _coverages(evaluated: Evaluated, board: Leaderboard, fit: SavedFit) -> Iterable[dict[str, Any]]:
    statistics = []
    for _, prediction in evaluated.members(board, fit):
        data, curves = prediction.datasets, prediction.curves
        unit = evaluated.space(fit).to_unit(torch.from_numpy(data.theta)).numpy()
        fall = fall_at(curves.profile, curves.origin, curves.spacing, unit)
        statistics.append(np.column_stack([fall, -2 * curves.log_ratio_truth]))
    if not statistics:
        return
    units = ResamplingUnits(data.point, data.block, board.blocks is not None)
    used = units.headline
    found = units[used]
    statistic = np.stack(statistics)[:, used]  # (members, datasets, P + 1)
    low, high = simultaneous_band(found.strata.sets, LEVELS)
    names = evaluated.space(fit).names
    strata = found.strata
    for i, parameter in enumerate((*names, "joint")):
        degrees = len(names) if parameter == "joint" else 1
        ends = np.asarray(stats.chi2.ppf(LEVELS, degrees))
        inside = (statistic[..., i] <= ends[:, None, None]).astype(float)
        shares = found.average(inside)  # (levels, members, units)
        coverage = shares.mean((1, 2))
        error = np.sqrt(two_way_variance(shares, strata).total)
        for j, level in enumerate(LEVELS):
            estimate = Estimate(float(coverage[j]), float(error[j]), nan, nan, nan)
            yield {
                "parameter": parameter,
                "level": level,
                "coverage": estimate.value,
                "error": not_certain(estimate, strata.sets).error if found.enough else nan,
                "low": low[j],
                "high": high[j],
                "datasets": int(used.sum()),
            }


def windows(evaluated: Evaluated, families: Families) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return contours and maxima; see Loaded.contours and Loaded.maxima."""
    grids: list[dict[str, Array]] = []
    records: list[dict[str, Any]] = []
    for board, row in evaluated.rows():
        for member, prediction in islice(evaluated.members(board, row.fit), 1):
            space = evaluated.space(row.fit)
            keys = of_board(board) | of_method(row.fit, row.label, families) | {"member": member}
            keys |= dict(zip(_NAMES, prediction.names, strict=True))
            data, mle = prediction.datasets, prediction.curves.mle
            for point, dataset in zip(*np.unique(data.point, return_index=True), strict=True):
                if point >= 0:
                    where = {"point": int(point), "dataset": int(dataset), "grid": len(grids)}
                    ends = np.concatenate([data.theta[dataset], mle[dataset]]).astype(float)
                    records.append(keys | where | dict(zip(_ENDS, ends, strict=True)))
                    grids.append(_grid(prediction, space, int(dataset)))
    # Sort the grids before expanding their nodes, a thousand in each.
    columns = [*KEYS, "member", "point", "dataset"]
    whole = framed(records, (*columns, *_NAMES, *_ENDS, "grid"))
    chosen = [grids[number] for number in whole["grid"]]
    contours = whole.loc[np.repeat(whole.index, [len(grid["x"]) for grid in chosen])]
    numbers = {n: np.concatenate([g[n] for g in chosen] or [np.zeros(0)]) for n in _NODE}
    return (
        contours[[*columns, *_NAMES]].reset_index(drop=True).assign(**numbers),
        whole[[*columns, *_ENDS]],
    )


def _grid(
    prediction: LikelihoodPrediction, space: ParameterSpace, dataset: int
) -> dict[str, Array]:
    """Return nodes around a maximum in parameter units, with the log-likelihood relative to it."""
    curves = prediction.curves
    fall = curves.joint[dataset]
    nodes = np.arange(len(fall))[:, None]
    unit = curves.origin[dataset] + nodes * curves.spacing[dataset]  # (W, 2)
    x, y = space.from_unit(torch.from_numpy(unit)).numpy().T
    grid = np.meshgrid(x, y, indexing="ij")
    return dict(zip(_NODE, (*(g.ravel() for g in grid), fall.ravel().astype(float)), strict=True))
