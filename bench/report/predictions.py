"""Frames of saved predictions: likelihoods around their maxima."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import TypeAdapter

from bench.contracts import LikelihoodPrediction, ParameterSpace, Plan, Task
from bench.errors import BenchError
from bench.leaderboard import Leaderboard, Results, Row
from bench.leaderboard.results import SavedFit
from bench.registry.registry import Registry
from bench.report.frames import KEYS, Families, framed, of_board, of_method
from bench.stages import predict
from bench.stats.clustering import Array

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
