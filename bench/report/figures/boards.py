"""Leaderboards of a frame: groups of rows, and their names."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.report.figures.words import calls, slug
from bench.report.load import Loaded

SERIES = ["task", "training_data", "seed", "plan_folder"]
KEYS = ("task", "budget", "training_data", "seed", "plan", "plan_folder")
_TRAINED = {"shared": "one training set", "bootstrap": "bootstrapped training sets"}


@dataclass(frozen=True)
class Board:
    """Common keys of the rows of a leaderboard."""

    task: str
    budget: int
    training_data: str
    seed: int
    plan: str
    plan_folder: str

    @property
    def words(self) -> str:
        """Task and settings of the run, for a title."""
        spent = calls(self.budget) if self.budget > 0 else ""
        trained = _TRAINED.get(self.training_data, "")
        bootstrap = "bootstrapped datasets" if self.plan == "bootstrap" else ""
        return ", ".join(filter(None, (self.task, spent, trained, bootstrap)))

    def slug(self, kind: str) -> str:
        """Return a file name: kind, task, and differences from other leaderboards of the task."""
        spent = self.budget if self.budget > 0 else ""
        trained = self.training_data if self.training_data in _TRAINED else ""
        return slug(kind, self.task, spent, trained, "bootstrap" * (self.plan == "bootstrap"))


def each(frame: pd.DataFrame) -> Iterator[Any]:
    """Yield the rows of a frame, with columns as attributes."""
    yield from frame.itertuples(index=False)


def groups(frame: pd.DataFrame, keys: str | list[str]) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield the parts of a frame with equal keys, sorted by key."""
    yield from frame.groupby(keys, sort=True)


def boards(frame: pd.DataFrame, *plans: str) -> Iterator[tuple[Board, pd.DataFrame]]:
    """Yield the leaderboards in a frame, in order, on plans of these kinds (all if none given)."""
    found = frame[frame["plan"].isin(plans)] if plans else frame
    for values, rows in groups(found, list(KEYS)):
        yield Board(*values), rows


def across_budgets(
    quantities: pd.DataFrame,
) -> Iterator[tuple[str, list[object], pd.DataFrame]]:
    """Yield independent leaderboards that differ in their budgets alone.

    Yields:
        The task, the settings that distinguish the group from others of the task, and the rows.
    """
    found = quantities[(quantities["plan"] == "independent") & (quantities["budget"] > 0)]
    several = found.groupby("task")[SERIES[1:]].nunique() > 1
    for values, rows in groups(found, SERIES):
        task, training_data, seed, folder = values
        parts = {"training_data": training_data, "seed": f"seed-{seed}", "plan_folder": folder}
        yield task, [part for name, part in parts.items() if several[name][task]], rows


def reference(loaded: Loaded, task: str) -> str:
    """Return the name of the reference of interval scores for a task."""
    return next((b.reference for b in loaded.boards if b.task == task and b.reference), "exact")


def rows_of(frame: pd.DataFrame, board: Board) -> pd.DataFrame:
    """Return the rows of a leaderboard in another frame."""
    return frame[np.all([frame[key] == getattr(board, key) for key in KEYS], axis=0)]


def by_label(frame: pd.DataFrame, labels: Iterable[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the rows of each of these methods that has any."""
    found = dict(iter(groups(frame, "label")))
    yield from ((label, found[label]) for label in labels if label in found)


def headline(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the datasets in averages: those with θ uniform if there are any, else all."""
    uniform = frame[frame["point"] < 0]
    return uniform if len(uniform) else frame


def is_exact(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Return a mask of the rows of the exact likelihood."""
    return frame["method"] == "exact"


def ordered(labels: Iterable[str], quantities: pd.DataFrame) -> list[str]:
    """Sort labels from the best interval score to the worst, with exact last."""
    scores = quantities[quantities["quantity"] == "score_ratio"]
    value = scores.groupby("label")["value"].mean().dropna()
    return sorted(set(labels), key=lambda x: (x == "exact", value.get(x, math.inf), x))
