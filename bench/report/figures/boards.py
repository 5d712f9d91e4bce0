"""Leaderboards of a frame: which rows belong together, and how they are called."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.errors import BenchError
from bench.registry.registry import Registry
from bench.report.figures.style import number
from bench.report.load import Loaded

SERIES = ["task", "training_data", "seed", "plan_folder"]
KEYS = ("task", "budget", "training_data", "seed", "plan", "plan_folder")
_SYMBOLS = {
    "mu": "μ",
    "nu": "ν",
    "lambda": "λ",
    "gamma": "γ",
    "sigma": "σ",
    "tau": "τ",
    "theta": "θ",
    "alpha": "α",
    "beta": "β",
    "length": "ℓ",
    "nugget": "τ²",
}
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
        parts = [self.task]
        if self.budget > 0:
            parts.append(calls(self.budget))
        if self.training_data in _TRAINED:
            parts.append(_TRAINED[self.training_data])
        if self.plan == "bootstrap":
            parts.append("bootstrapped datasets")
        return ", ".join(parts)

    def slug(self, kind: str) -> str:
        """A name for files: kind and task, and what tells this board from the task's others."""
        parts = [kind, self.task]
        if self.budget > 0:
            parts.append(str(self.budget))
        if self.training_data in _TRAINED:
            parts.append(self.training_data)
        if self.plan == "bootstrap":
            parts.append(self.plan)
        return slug(*parts)


def calls(budget: float) -> str:
    """A budget in words: "50,000 calls", "2·10⁶ calls"."""
    shown = f"{int(budget):,}" if budget < 1e5 else number(budget)
    return f"{shown} calls"


def slug(*parts: object) -> str:
    """Joins words to a name that any file system takes."""
    words = (re.sub(r"[^A-Za-z0-9]+", "-", str(part)).strip("-").lower() for part in parts)
    return "-".join(word for word in words if word) or "figure"


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
    same = pd.Series(True, index=frame.index)
    for key in KEYS:
        same &= frame[key] == getattr(board, key)
    return frame[same]


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
    value = scores.groupby("label")["value"].mean().to_dict()

    def place(label: str) -> tuple[bool, float, str]:
        score = value.get(label, math.inf)
        return label == "exact", math.inf if math.isnan(score) else score, label

    return sorted(set(labels), key=place)


def symbol(parameter: str) -> str:
    """How a parameter is written where its task is not known."""
    return _SYMBOLS.get(parameter, parameter)


def symbols(registry: Registry, task: str) -> dict[str, str]:
    """How the parameters of a task are written on axes, with units; none of an unknown task."""
    try:
        space = registry.task(task).space
    except BenchError:
        return {}
    return {
        p.name: (p.symbol or symbol(p.name)) + (f" ({p.unit})" if p.unit else "")
        for p in space.parameters
    }


def written(names: Mapping[str, str] | None, parameter: str) -> str:
    """A parameter as an axis calls it."""
    if parameter == "joint":
        return "jointly"
    if names and parameter in names:
        return names[parameter]
    component, dot, last = parameter.rpartition(".")  # of a component's score
    return f"{component} {written(names, last)}" if dot else symbol(parameter)


def valued(text: str, value: float) -> str:
    """A parameter with its value and unit: "z = 0.785 rad"."""
    unit = text.partition(" (")[2].removesuffix(")")
    if unit.startswith("1/"):
        return f"{bare(text)} = {number(value)}{unit[1:]}"
    return f"{bare(text)} = {number(value)} {unit}".rstrip()


def bare(text: str) -> str:
    """A symbol without its unit."""
    return text.partition(" (")[0]


def parameters(names: Iterable[str], order: Sequence[str] = ()) -> list[str]:
    """Parameters in their task's order where it is known; "joint" comes last."""
    known = list(order)

    def place(name: str) -> tuple[bool, int, str]:
        return name == "joint", known.index(name) if name in known else len(known), name

    return sorted(set(names), key=place)


def listed(words: Sequence[str]) -> str:
    """Joins words: "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))
