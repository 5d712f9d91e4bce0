"""Frames of what results folders hold: fits, losses, leaderboards, each member's scores."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.leaderboard import Leaderboard, Results
from bench.leaderboard.quantities import STATISTICS, parts
from bench.leaderboard.results import SavedFit, Scores

FIT_KEYS = ("task", "budget", "training_data", "seed")
PLAN_KEYS = ("plan", "plan_folder")
METHOD_KEYS = ("label", "method", "configuration", "family", "ensemble")
KEYS = (*FIT_KEYS, *PLAN_KEYS, *METHOD_KEYS)

Families = Mapping[str, str]
_MEMBER = ("status", "reason", "calls", "seconds", "seconds_to_best", "parameters", "device", "fit")


def of_method(fit: SavedFit, label: str, families: Families) -> dict[str, Any]:
    """The key columns that say which method it is."""
    members = fit.size
    return {
        "label": label,
        "method": fit.method,
        "configuration": fit.configuration,
        "family": families.get(fit.method, ""),
        "ensemble": members if members > 1 else 0,
    }


def of_board(board: Leaderboard) -> dict[str, Any]:
    """The key columns that a leaderboard's methods share."""
    return {
        "task": board.task,
        "budget": board.budget,
        "training_data": board.training_data,
        "seed": board.seed,
        "plan": board.plan["kind"],
        "plan_folder": board.plan_folder,
    }


def _of_fit(fit: SavedFit, families: Families) -> dict[str, Any]:
    return (
        {"task": fit.task}
        | {k: fit.identity[k] for k in FIT_KEYS[1:]}
        | of_method(fit, fit.label, families)
    )


def framed(records: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """A frame of records, sorted by its keys; empty with its columns where there are none."""
    frame = pd.DataFrame.from_records(list(records), columns=list(columns))
    by = [c for c in columns if c in KEYS]
    return frame.sort_values(by, kind="stable", ignore_index=True)


def fits(results: Results, families: Families) -> pd.DataFrame:
    """A line for each member; see Loaded.fits."""

    def records() -> Iterable[dict[str, Any]]:
        for fit in results.fits:
            keys = _of_fit(fit, families)
            for number in sorted({*fit.members, *fit.failed}):
                if number in fit.failed:
                    told = {"status": "failed", "reason": fit.failed[number]}
                else:
                    told = {"status": "done", "reason": "", **_cost(fit.members[number])}
                yield keys | {"member": number, "fit": fit.folder} | told

    return framed(records(), (*FIT_KEYS, *METHOD_KEYS, "member", *_MEMBER))


def _cost(record: Mapping[str, Any]) -> dict[str, Any]:
    # Members of a stack train together, and share the time.
    trained = [curve["seconds_to_best"] for curve in record["curves"].values()]
    return {
        "calls": record["calls"],
        "seconds": record["seconds"],
        "seconds_to_best": sum(trained) / record["stack"] if trained else nan,
        "parameters": record["parameters"],
        "device": record["environment"]["device"],
    }


def curves(results: Results, families: Families) -> pd.DataFrame:
    """A line for each epoch of each network; see Loaded.curves."""

    def records() -> Iterable[dict[str, Any]]:
        for fit in results.fits:
            keys = _of_fit(fit, families)
            for number, record in sorted(fit.members.items()):
                for component, curve in record["curves"].items():
                    losses = curve.get("train_loss", ()), curve.get("validation_loss", ())
                    for epoch, (own, held_out) in enumerate(zip(*losses, strict=False), 1):
                        yield keys | {
                            "member": number,
                            "component": component,
                            "epoch": epoch,
                            "training": nan if own is None else own,
                            "validation": nan if held_out is None else held_out,
                        }

    columns = ("member", "component", "epoch", "training", "validation")
    return framed(records(), (*FIT_KEYS, *METHOD_KEYS, *columns))


def quantities(boards: Sequence[Leaderboard], families: Families) -> pd.DataFrame:
    """A line for each number of the leaderboards; see Loaded.quantities."""

    def records() -> Iterable[dict[str, Any]]:
        for board in boards:
            for row in board.rows:
                keys = of_board(board) | of_method(row.fit, row.label, families)
                low, high = row.rank or (nan, nan)
                keys |= {"rank_low": low, "rank_high": high, "members": row.members}
                for name, quantity in row.quantities.items():
                    metric, key, statistic = parts(name)
                    estimate = quantity.estimate
                    yield keys | {
                        "quantity": name,
                        # One kind of number under one name, or else a pivot would average a
                        # mean and its gap.
                        "metric": f"{metric} {STATISTICS[statistic]}" if statistic else metric,
                        "key": key,
                        "statistic": statistic,
                        "value": estimate.value if estimate else nan,
                        "error": estimate.error if estimate else nan,
                        "dof": estimate.dof if estimate else nan,
                        "reason": quantity.reason,
                        "where": quantity.where,
                    }
                for name, value in row.cost.items():
                    if isinstance(value, int | float):
                        named = {"quantity": f"cost/{name}", "metric": "cost", "key": name}
                        told = {"statistic": "", "reason": "", "where": ""}
                        yield keys | named | told | {"value": float(value)}

    columns = ("quantity", "metric", "key", "statistic", "value", "error", "dof", "reason", "where")
    frame = framed(records(), (*KEYS, *columns, "rank_low", "rank_high", "members"))
    numbers = ["value", "error", "dof", "rank_low", "rank_high"]
    return frame.astype(dict.fromkeys(numbers, float))


@dataclass(frozen=True)
class _Means:
    """Means over the sets of a point, of members × points."""

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    sets: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[np.float64], belongs: NDArray[np.float64]) -> "_Means":
        """Averages what is defined of (members, sets), with (sets, points) saying what belongs."""
        defined = np.isfinite(values)
        sets = defined.astype(float) @ belongs
        known = np.where(defined, values, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = known @ belongs / sets
            deviation = np.where(defined, known - np.where(sets > 0, mean, 0.0) @ belongs.T, 0.0)
            error = np.sqrt(deviation**2 @ belongs / (sets - 1) / sets)
        return cls(mean, np.where(sets > 1, error, nan), sets.astype(np.int64))


def members(results: Results, boards: Sequence[Leaderboard], families: Families) -> pd.DataFrame:
    """A line for each member, point and metric; see Loaded.members."""
    heads: list[dict[str, Any]] = []  # everything but the numbers, once for each fit and metric
    parts: list[dict[str, NDArray[Any]]] = []
    for board in boards:
        for row in board.rows:
            scores = results.scores(row.fit, board.plan_folder)
            if scores is None:
                continue
            keys = of_board(board) | of_method(row.fit, row.label, families)
            for name, columns in _of_scores(scores):
                metric, _, key = name.partition("/")
                columns["head"] = np.full(len(columns["value"]), len(heads))
                parts.append(columns)
                heads.append(keys | {"quantity": name, "metric": metric, "key": key})
    names = (*KEYS, "member", "point", "quantity", "metric", "key", "value", "error", "sets")
    if not parts:
        return framed((), names)
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    head = pd.DataFrame.from_records(heads).take(table.pop("head")).reset_index(drop=True)
    frame = pd.concat([head, pd.DataFrame(table)], axis=1)[list(names)]
    return frame.sort_values(list(KEYS), kind="stable", ignore_index=True)


def _of_scores(scores: Scores) -> Iterable[tuple[str, dict[str, NDArray[Any]]]]:
    points = np.unique(scores.point)
    belongs = (scores.point[:, None] == points).astype(float)
    member = np.repeat(np.array(scores.members), len(points))
    for name, values in scores.values.items():
        means = _Means.of(values, belongs)
        yield (
            name,
            {
                "member": member,
                "point": np.tile(points, len(scores.members)),
                "value": means.value.ravel(),
                "error": means.error.ravel(),
                "sets": means.sets.ravel(),
            },
        )
