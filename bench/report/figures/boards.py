"""Leaderboards of a frame: which rows belong together, and how they are called."""

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
    """What the rows of a leaderboard share."""

    task: str
    budget: int
    training_data: str
    seed: int
    plan: str
    plan_folder: str

    @property
    def words(self) -> str:
        """The task and what was run, for a title."""
        spent = calls(self.budget) if self.budget > 0 else ""
        trained = _TRAINED.get(self.training_data, "")
        bootstrap = "bootstrapped datasets" if self.plan == "bootstrap" else ""
        return ", ".join(filter(None, (self.task, spent, trained, bootstrap)))

    def slug(self, kind: str) -> str:
        """A name for files: kind and task, and what tells this board from the task's others."""
        spent = self.budget if self.budget > 0 else ""
        trained = self.training_data if self.training_data in _TRAINED else ""
        return slug(kind, self.task, spent, trained, "bootstrap" * (self.plan == "bootstrap"))


def each(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows of a frame, with columns as attributes."""
    yield from frame.itertuples(index=False)


def groups(frame: pd.DataFrame, keys: str | list[str]) -> Iterator[tuple[Any, pd.DataFrame]]:
    """A frame's parts of equal keys, sorted by them."""
    yield from frame.groupby(keys, sort=True)


def boards(frame: pd.DataFrame, *plans: str) -> Iterator[tuple[Board, pd.DataFrame]]:
    """The leaderboards in a frame, in order, on plans of these kinds."""
    found = frame[frame["plan"].isin(plans)] if plans else frame
    for values, rows in groups(found, list(KEYS)):
        yield Board(*values), rows


def across_budgets(
    quantities: pd.DataFrame,
) -> Iterator[tuple[str, list[object], pd.DataFrame]]:
    """Independent leaderboards that differ in their budgets alone.

    Yields:
        The task, what tells them from others of the task, and their rows.
    """
    found = quantities[(quantities["plan"] == "independent") & (quantities["budget"] > 0)]
    several = found.groupby("task")[SERIES[1:]].nunique() > 1
    for values, rows in groups(found, SERIES):
        task, training_data, seed, folder = values
        parts = {"training_data": training_data, "seed": f"seed-{seed}", "plan_folder": folder}
        yield task, [part for name, part in parts.items() if several[name][task]], rows


def reference(loaded: Loaded, task: str) -> str:
    """What interval scores of a task are relative to."""
    return next((b.reference for b in loaded.boards if b.task == task and b.reference), "exact")


def rows_of(frame: pd.DataFrame, board: Board) -> pd.DataFrame:
    """The rows of a leaderboard in another frame."""
    return frame[np.all([frame[key] == getattr(board, key) for key in KEYS], axis=0)]


def by_label(frame: pd.DataFrame, labels: Iterable[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each of these methods that has any."""
    found = dict(iter(groups(frame, "label")))
    yield from ((label, found[label]) for label in labels if label in found)


def headline(frame: pd.DataFrame) -> pd.DataFrame:
    """The datasets that averages are over: θ uniform where there are such, else every point."""
    uniform = frame[frame["point"] < 0]
    return uniform if len(uniform) else frame


def is_exact(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows are of the exact likelihood."""
    return frame["method"] == "exact"


def ordered(labels: Iterable[str], quantities: pd.DataFrame) -> list[str]:
    """Labels from the best interval score to the worst; exact, the truth beneath, comes last."""
    scores = quantities[quantities["quantity"] == "score_ratio"]
    value = scores.groupby("label")["value"].mean().dropna()
    return sorted(set(labels), key=lambda x: (x == "exact", value.get(x, math.inf), x))
