"""Tidy frames of figures: leaderboards and their names, means, costs, pairs, verdicts."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.report.load import Loaded
from bench.report.words import calls, left_out, slug

SERIES = ["task", "training_data", "seed", "plan_folder"]
KEYS = ["task", "budget", "training_data", "seed", "plan", "plan_folder"]
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
        bootstrap = "bootstrapped datasets" if self.plan == "bootstrap" else ""
        return ", ".join(
            filter(None, (self.task, spent, _TRAINED.get(self.training_data), bootstrap))
        )

    def slug(self, kind: str) -> str:
        """Return a file name: kind, task, and differences from other leaderboards of the task."""
        spent = self.budget if self.budget > 0 else ""
        trained = self.training_data if self.training_data in _TRAINED else ""
        return slug(kind, self.task, spent, trained, "bootstrap" * (self.plan == "bootstrap"))

    def saved(self, loaded: Loaded, name: str, default: Any) -> Any:
        """Return an attribute of the leaderboard itself."""
        same = (
            b for b in loaded.boards if (b.task, b.plan_folder) == (self.task, self.plan_folder)
        )
        return getattr(next(same, None), name, default)


def each(frame: pd.DataFrame) -> Iterator[Any]:
    """Yield the rows of a frame, with columns as attributes."""
    yield from frame.itertuples(index=False)


def groups(frame: pd.DataFrame, keys: str | list[str]) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield the parts of a frame with equal keys, sorted by key."""
    yield from frame.groupby(keys, sort=True)


def boards(frame: pd.DataFrame, *plans: str) -> Iterator[tuple[Board, pd.DataFrame]]:
    """Yield the leaderboards in a frame, in order, on plans of these kinds (all if none given)."""
    for values, rows in groups(frame[frame["plan"].isin(plans)] if plans else frame, KEYS):
        yield Board(*values), rows


def series(
    frame: pd.DataFrame, keys: Sequence[str]
) -> Iterator[tuple[list[Any], list[object], pd.DataFrame]]:
    """Yield parts of a frame with the same keys, the first of which is the task.

    Yields:
        The values of the keys, those that distinguish the part from others of the task, and the
        rows.
    """
    several = frame.groupby("task")[list(keys[1:])].nunique() > 1
    for values, rows in groups(frame, list(keys)):
        named = (f"seed-{v}" if key == "seed" else v for key, v in zip(keys, values, strict=True))
        _, *parts = named
        yield (
            list(values),
            [v for v, differs in zip(parts, several.loc[values[0]], strict=True) if differs],
            rows,
        )


def independent(quantities: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of trained methods on independent datasets."""
    return quantities[(quantities["plan"] == "independent") & (quantities["budget"] > 0)]


def reference(loaded: Loaded, task: str) -> str:
    """Return the name of the reference of interval scores for a task."""
    return next((b.reference for b in loaded.boards if b.task == task and b.reference), "exact")


def rows_of(frame: pd.DataFrame, board: Board) -> pd.DataFrame:
    """Return the rows of a leaderboard in another frame."""
    return frame[(frame[KEYS] == list(astuple(board))).all(axis=1)]


def ordered(labels: Iterable[str], quantities: pd.DataFrame) -> list[str]:
    """Sort labels from the best interval score to the worst, with exact last."""
    scores = quantities[quantities["quantity"] == "score_ratio"]
    value = scores.groupby("label")["value"].mean().dropna()
    return sorted(set(labels), key=lambda x: (x == "exact", value.get(x, math.inf), x))


def select(frame: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """Return the rows of these methods, in their order."""
    place = frame["label"].map({label: i for i, label in enumerate(labels)})
    return frame[place.notna()].iloc[np.argsort(place.dropna(), kind="stable")]


def best(
    frame: pd.DataFrame, quantities: pd.DataFrame, most: int
) -> tuple[pd.DataFrame, list[str], str]:
    """Return the rows of the best methods and of exact, their labels, and a sentence on others.

    Every method is chosen once before the second configuration of any.

    Args:
        frame: rows of methods, with a column `label`.
        quantities: of `Loaded.quantities`; their interval scores give the order.
        most: largest number of methods beside exact.
    """
    every = ordered(frame["label"], quantities)
    methods = [label for label in every if label != "exact"]
    bases = [label.partition(":")[0] for label in methods]
    chosen = sorted(range(len(methods)), key=lambda i: bases[:i].count(bases[i]))[:most]
    left = [label for i, label in enumerate(methods) if i not in chosen]
    shown = [label for label in every if label not in left]
    return select(frame, shown), shown, left_out(left)


def member_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Return each member's mean over the datasets in averages: `label, member, value, error`.

    Args:
        frame: of `Loaded.members`, one quantity of one leaderboard.
    """
    uniform = frame[frame["point"] < 0]
    found = (uniform if len(uniform) else frame).dropna(subset=["value"])
    sets = found["sets"]
    weighted = found.assign(value=found["value"] * sets, error=(found["error"] * sets) ** 2)
    sums = weighted.groupby(["label", "member"])[["value", "error", "sets"]].sum()
    error = np.sqrt(sums["error"])
    return sums.assign(error=error)[["value", "error"]].div(sums["sets"], axis=0).reset_index()


def costs(quantities: pd.DataFrame) -> pd.DataFrame:
    """Return cost and interval score of every method at each budget.

    Args:
        quantities: of `Loaded.quantities`.

    Returns:
        Keys, `value` and `error` of the interval score relative to the reference, `seconds` and
        `calls` of one member.
    """
    scores = quantities[(quantities["quantity"] == "score_ratio") & quantities["value"].notna()]
    keys = [*SERIES, "budget", "label"]
    cost = quantities[quantities["metric"] == "cost"]
    table = cost.pivot_table(index=keys, columns="key", values="value", aggfunc="first")
    for name in {"seconds", "calls"} - set(table):
        table[name] = math.nan
    return scores.merge(table.reset_index(), on=keys, how="left")


def front(x: Sequence[float], y: Sequence[float]) -> list[int]:
    """Return the indices of the Pareto front of points, by x; small x and y are better.

    Example:
        >>> front([1, 2, 3, 4], [5, 3, 4, 1])
        [0, 1, 3]
    """
    order = sorted(range(len(x)), key=lambda i: (x[i], y[i]))
    best = np.minimum.accumulate([math.inf, *(y[i] for i in order)])
    return [i for i, before in zip(order, best, strict=False) if y[i] < before]


def times(fits: pd.DataFrame) -> pd.DataFrame:
    """Return the mean training time of members in seconds, with its standard error as `error`.

    Args:
        fits: of `Loaded.fits`.
    """
    found = fits[fits["seconds"] > 0].groupby(["task", "label", "budget"])["seconds"]
    return found.agg(value="mean", error="sem").reset_index()


Pair = tuple[str, str]


def pairs(frame: pd.DataFrame) -> list[Pair]:
    """Return pairs of labels without and with scores, for the same network, small to large.

    `NAME-sa` is paired with `NAME` in the same configuration, or with "tuned" where there is none.
    A configuration "scores…" is paired with "tuned".
    """
    known = frame.drop_duplicates("label")
    known = known[known["ensemble"] == 0]
    labels = {(r.method, r.configuration): str(r.label) for r in each(known)}
    found = []
    for (method, configuration), label in labels.items():
        name = method.removesuffix("-sa")
        plain = labels.get((name, "tuned"))
        if name != method:
            plain = labels.get((name, configuration), plain)
        if plain is not None and (name != method or configuration.startswith("scores")):
            found.append((plain, label))
    size = frame[frame["quantity"] == "cost/parameters"].groupby("label")["value"].max()
    return sorted(found, key=lambda p: (size.get(p[0], math.inf), not same_configuration(p), p))


def same_configuration(pair: Pair) -> bool:
    """Return whether two labels have the same configuration."""
    return pair[0].partition(":")[2] == pair[1].partition(":")[2]


def by_importance(every: Sequence[Pair]) -> list[Pair]:
    """Sort pairs: networks of all sizes first, then each method once, then the rest."""
    methods = [other.partition(":")[0] for _, other in every]
    repeats = {pair: methods[:i].count(methods[i]) for i, pair in enumerate(every)}
    return sorted(every, key=lambda pair: (not same_configuration(pair), repeats[pair]))


WORDS = ("fails", "undetermined", "holds")
"""Verdicts, in the order in which they decide on several parameters together."""
RUN = ["budget", "training_data", "seed"]
"""Keys of a run of all tasks."""


def answers(leaderboard: pd.DataFrame) -> pd.DataFrame:
    """Return one verdict and price for each task and method.

    Args:
        leaderboard: of `Loaded.leaderboard`; independent plans count.

    Returns:
        `task, label`, the run's `budget, training_data, seed`, `verdict`, the honest length
        relative to exact as `value` and `error`, `recommended` and `likelihood_rank`. The verdict
        is "holds" if the coverage of all parameters holds, "fails" if one fails, else
        "undetermined".
    """
    found = independent(leaderboard)
    verdicts = found.filter(like="verdict ").to_numpy()
    new = {
        "verdict": [next((w for w in WORDS if w in row.tolist()), "") for row in verdicts],
        "value": found.get("honest length", math.nan),
        "error": found.get("honest length error", math.nan),
        "recommended": found.get("recommended", False),
        "likelihood_rank": found.get("likelihood rank", ""),
    }
    kept = found.assign(**new)[["task", "label", *RUN, *new]]
    return kept[kept["verdict"] != ""].reset_index(drop=True)
