"""Frames of results folders: fits, losses, leaderboards, members' scores, calibration."""

from collections.abc import Iterable, Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from bench.boards import Leaderboard, Results, Row
from bench.boards.columns import ranks_of
from bench.boards.quantities import STATISTICS, not_certain, parts
from bench.boards.results import SavedFit, Scores, of_training
from bench.boards.units import ResamplingUnits
from bench.stats.clustering import Array, Estimate, two_way_variance
from bench.stats.reliability import simultaneous_band

FIT_KEYS = ("task", "budget", "training_data", "seed")
PLAN_KEYS = ("plan", "plan_folder")
METHOD_KEYS = ("label", "method", "configuration", "family", "ensemble")
KEYS = (*FIT_KEYS, *PLAN_KEYS, *METHOD_KEYS)
LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Nominal levels of calibration."""

_NUMBERS = ("value", "error", "dof")
Families = Mapping[str, str]
_MEMBER = ("status", "reason", "calls", "seconds", "seconds_to_best", "parameters", "device", "fit")


def of_method(fit: SavedFit, label: str, families: Families) -> dict[str, Any]:
    """Return the key columns of a method."""
    return {
        "label": label,
        "method": fit.method,
        "configuration": fit.configuration,
        "family": families.get(fit.method, ""),
        "ensemble": fit.size if fit.size > 1 else 0,
    }


def of_board(board: Leaderboard) -> dict[str, Any]:
    """Return the key columns that a leaderboard's methods share."""
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
    """Return a frame of records, sorted by key columns; with columns even without records."""
    frame = pd.DataFrame.from_records(list(records), columns=list(columns))
    by = [c for c in columns if c in KEYS]
    return frame.sort_values(by, kind="stable", ignore_index=True)


def fits(results: Results, families: Families) -> pd.DataFrame:
    """Return a line for each member; see Loaded.fits."""
    records = (
        _of_fit(fit, families) | {"member": number, "fit": fit.folder} | _of_member(fit, number)
        for fit in results.fits
        for number in sorted({*fit.members, *fit.failed})
    )
    return framed(records, (*FIT_KEYS, *METHOD_KEYS, "member", *_MEMBER))


def _of_member(fit: SavedFit, number: int) -> dict[str, Any]:
    if number in fit.failed:
        return {"status": "failed", "reason": fit.failed[number]}
    record = fit.members[number]
    return {
        "status": "done",
        "reason": "",
        "calls": record["calls"],
        "seconds": record["seconds"],
        "seconds_to_best": of_training(record, "seconds_to_best"),
        "parameters": record["parameters"],
        "device": record["environment"]["device"],
    }


def curves(results: Results, families: Families) -> pd.DataFrame:
    """Return losses, one row for each epoch of each network; columns as in Loaded.curves."""
    columns = ("member", "component", "epoch", "training", "validation")
    networks = (
        (_of_fit(fit, families), number, component, curve)
        for fit in results.fits
        for number, record in sorted(fit.members.items())
        for component, curve in record["curves"].items()
    )
    records = (
        keys | dict(zip(columns, (number, component, epoch, *losses), strict=True))
        for keys, number, component, curve in networks
        for epoch, losses in enumerate(_losses(curve), 1)
    )
    return framed(records, (*FIT_KEYS, *METHOD_KEYS, *columns))


def _losses(curve: Mapping[str, Any]) -> Iterable[tuple[float, ...]]:
    """Return training and validation losses of each epoch; NaN where one is not finite."""
    both = zip(curve.get("train_loss", ()), curve.get("validation_loss", ()), strict=False)
    return (tuple(nan if loss is None else loss for loss in epoch) for epoch in both)


def quantities(boards: Sequence[Leaderboard], families: Families) -> pd.DataFrame:
    """Return a line for each number of the leaderboards; see Loaded.quantities."""

    def records() -> Iterable[dict[str, Any]]:
        for board in boards:
            for row in board.rows:
                keys = of_board(board) | of_method(row.fit, row.label, families)
                low, high = row.rank or (nan, nan)
                keys |= {"rank_low": low, "rank_high": high, "members": row.members}
                for name, quantity in row.quantities.items():
                    metric, key, statistic = parts(name)
                    yield keys | {
                        "quantity": name,
                        # Different statistics need different names, or a pivot averages a mean and
                        # its gap.
                        "metric": f"{metric} {STATISTICS[statistic]}" if statistic else metric,
                        "key": key,
                        "statistic": statistic,
                        **{n: getattr(quantity.estimate, n, nan) for n in _NUMBERS},
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


def leaderboard(boards: Sequence[Leaderboard], families: Families) -> pd.DataFrame:
    """Return a line for each method of the leaderboards; see Loaded.leaderboard."""
    records = [
        of_board(board) | of_method(row.fit, row.label, families) | _decided(board, row)
        for board in boards
        if board.plan["kind"] != "heldout"
        for row in board.rows
    ]
    columns = dict.fromkeys(name for record in records for name in record)
    return pd.DataFrame.from_records(records, columns=list(columns or KEYS))


def _decided(board: Leaderboard, row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {"recommended": row.recommended}
    found |= {f"verdict {n}": getattr(row.verdicts.get(n), "word", "") for n in board.parameters}
    numbers = {"honest length": "price"}
    numbers |= {f"coverage {n}": f"{board.headline('coverage')}/{n}" for n in board.parameters}
    numbers |= {f"length {n}": f"{board.headline('width')}/{n}" for n in board.parameters}
    for name, quantity in numbers.items():
        estimate = row.estimate(quantity)
        found[name] = getattr(estimate, "value", nan)
        found[f"{name} error"] = getattr(estimate, "error", nan)
    for name in board.parameters:
        gap = row.estimate(f"{board.headline('coverage')}/{name}/gap")
        plain = found[f"coverage {name}"] - board.expected
        found[f"gap {name}"] = getattr(gap, "value", nan if board.reference == "exact" else plain)
        for end in ("low", "high"):
            found[f"gap {name} {end}"] = getattr(row.verdicts.get(name), end, nan)
    for name, rank in (("likelihood rank", row.likelihood_rank), ("interval rank", row.rank)):
        found[name] = "" if rank is None else ranks_of(rank)
    return found


def _means(values: Array, belongs: Array) -> dict[str, NDArray[Any]]:
    """Return means over the sets of a point, members × points in one column.

    Args:
        values: (members, sets); averages are over finite values.
        belongs: 1 where a set is at a point, else 0, (sets, points).
    """
    defined = np.isfinite(values)
    sets = defined.astype(float) @ belongs
    known = np.where(defined, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = known @ belongs / sets
        deviation = np.where(defined, known - np.where(sets > 0, mean, 0.0) @ belongs.T, 0.0)
        error = np.sqrt(deviation**2 @ belongs / (sets - 1) / sets)
    columns = {"value": mean, "error": np.where(sets > 1, error, nan), "sets": sets.astype(int)}
    return {name: column.ravel() for name, column in columns.items()}


def members(results: Results, boards: Sequence[Leaderboard], families: Families) -> pd.DataFrame:
    """Return a line for each member, point and metric; see Loaded.members."""
    heads: list[dict[str, Any]] = []  # key columns, once for each fit and metric
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
    member, point = (a.ravel() for a in np.meshgrid(scores.members, points, indexing="ij"))
    for name, values in scores.values.items():
        yield name, {"member": member, "point": point, **_means(values, belongs)}


def calibration(
    results: Results, boards: Sequence[Leaderboard], families: Families
) -> pd.DataFrame:
    """Return a line for each parameter and level; see Loaded.calibration."""
    columns = ("parameter", "level", "coverage", "error", "low", "high", "datasets")
    records = (
        of_board(board) | of_method(row.fit, row.label, families) | record
        for board in boards
        if board.plan["kind"] == "independent"
        for row in board.rows
        for record in _coverages(board, results.scores(row.fit, board.plan_folder))
    )
    return framed(records, (*KEYS, *columns))


def _coverages(board: Leaderboard, scores: Scores | None) -> Iterable[dict[str, Any]]:
    """Yield coverages of a fit; none if a statistic is missing, as in scores of older versions."""
    values = {} if scores is None else scores.current(board.metrics).values
    every = sum(name.startswith("generating/") for name in values)  # older scores have none
    degrees = {**dict.fromkeys(board.parameters, 1), "joint": every or len(board.parameters)}
    statistics = [values.get(f"statistic/{name}", np.array(nan)) for name in degrees]
    if scores is None or not all(np.isfinite(statistic).all() for statistic in statistics):
        return
    units = ResamplingUnits(scores.point, scores.block, board.blocks is not None)
    used = units.headline
    found = units[used]
    strata = found.strata
    low, high = simultaneous_band(strata.sets, LEVELS)
    for (parameter, freedom), statistic in zip(degrees.items(), statistics, strict=True):
        ends = np.asarray(stats.chi2.ppf(LEVELS, freedom))[:, None, None]
        inside = (statistic[:, used] <= ends).astype(float)  # (levels, members, datasets)
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
