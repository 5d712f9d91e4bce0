"""Frames of likelihoods around their maxima, from saved predictions or packs."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from bench.boards import Leaderboard, Results
from bench.boards.results import SavedFit
from bench.contracts import ParameterSpace
from bench.errors import BenchError
from bench.registry.registry import Registry
from bench.report.frames import KEYS, Families, framed, of_board, of_method
from bench.stats.clustering import Array
from bench.storage.windows import Windows, has_windows

_NODE = ("x", "y", "fall")
_NAMES = ("x_name", "y_name")
_ENDS = ("x_true", "y_true", "x_mle", "y_mle")


def windows(
    results: Results, registry: Registry, boards: Sequence[Leaderboard], families: Families
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return contours and maxima; see Loaded.contours and Loaded.maxima."""
    grids: list[dict[str, Array]] = []
    records: list[dict[str, Any]] = []
    rows = (
        (board, row) for board in boards if board.plan["kind"] != "heldout" for row in board.rows
    )
    for board, row in rows:
        space = _space(registry, row.fit)
        if space is None:
            continue
        keys = of_board(board) | of_method(row.fit, row.label, families)
        keys |= dict(zip(_NAMES, space.names, strict=True))
        for member, found in _of_members(results, row.fit, board.plan_folder):
            if not _belong(found, space):
                continue
            ends = np.concatenate([found.theta, found.mle], axis=1)
            for i, (point, dataset) in enumerate(zip(found.point, found.dataset, strict=True)):
                where = {"member": member, "point": int(point), "dataset": int(dataset)}
                where |= {"grid": len(grids)}
                records.append(keys | where | dict(zip(_ENDS, ends[i], strict=True)))
                grids.append(_grid(found, space, i))
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


def _grid(windows: Windows, space: ParameterSpace, which: int) -> dict[str, Array]:
    """Return nodes around a maximum in parameter units, with the log-likelihood relative to it."""
    fall = windows.fall[which]
    nodes = np.arange(len(fall))[:, None]
    unit = windows.origin[which] + nodes * windows.spacing[which]  # (nodes, 2)
    x, y = space.from_unit(torch.from_numpy(unit)).numpy().T
    grid = np.meshgrid(x, y, indexing="ij")
    return dict(zip(_NODE, (*(g.ravel() for g in grid), fall.ravel()), strict=True))


def _space(registry: Registry, fit: SavedFit) -> ParameterSpace | None:
    """Return the space of a fit's task of two parameters; None if unknown, changed or other."""
    try:
        task = registry.task(fit.task)
    except BenchError:
        return None
    same = fit.identity.get("task", {}).get("version") == task.version
    return task.space if same and len(task.space) == 2 else None


def _of_members(results: Results, fit: SavedFit, plan: str) -> Iterator[tuple[int, Windows]]:
    """Yield the windows of a fit's members by number: of saved predictions, else packed ones."""
    for number in sorted(fit.members):
        member = f"{fit.folder}/{plan}/member-{number:03d}"
        predicted = results.entry(f"predictions/{member}")
        if predicted is not None and has_windows(predicted.arrays):
            yield number, Windows.of(predicted.arrays)
        elif (packed := results.entry(f"windows/{member}")) is not None:
            yield number, Windows.from_record(packed.record)


def _belong(windows: Windows, space: ParameterSpace) -> bool:
    """Return whether maxima lie in their windows, which depend on the parameters' bounds."""
    node = (space.to_unit(torch.from_numpy(windows.mle)).numpy() - windows.origin) / windows.spacing
    return bool(((node > -0.01) & (node < windows.root.shape[-1] - 0.99)).all())
