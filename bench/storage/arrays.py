"""Schemas of a results folder's arrays: names, types, shapes and ranges allowed under a key.

Folders may come from others, and a checksum shows only that arrays are unchanged since they were
written. bench.storage.schema has the schemas of records.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from bench.contracts import (
    BootstrapPlan,
    HeldOutPlan,
    IndependentPlan,
    Plan,
    Task,
)
from bench.contracts.plan import layout, shares
from bench.inference.box import BOX_NODES, ROOTS
from bench.inference.intervals import NODES
from bench.registry.validate import is_column

Arrays = Mapping[str, NDArray[Any]]

SETS = ("point", "set", "block")
"""Arrays of scores that identify sets; the others are columns, "metric/key"."""

_RANKING = ("coverage", "interval_score", "width")  # metrics of every set; not negative
_PLAN: TypeAdapter[Plan] = TypeAdapter(Plan)


@dataclass(frozen=True)
class _Array:
    """Array of a schema.

    Args:
        shape: its axes: a number, or the name of a size that arrays share; "..." allows more axes.
        dtypes: names of the allowed types.
        finite: whether NaN and infinite numbers are damage.
        optional: whether it may be missing, as from older entries.
    """

    shape: tuple[str | int, ...]
    dtypes: tuple[str, ...] = ("float64",)
    finite: bool = True
    optional: bool = False


_SINGLE, _EITHER = ("float32",), ("float32", "float64")
_YES, _INTEGER = ("bool",), ("int64",)

_SETS_OF_SCORES = {
    "point": _Array(("S",), _INTEGER),
    "set": _Array(("S",), _INTEGER),
    "block": _Array(("S",), _INTEGER, optional=True),
}
_DATASETS = {
    "datasets.theta": _Array(("D", "P")),
    "datasets.point": _Array(("D",), _INTEGER),
    "datasets.set": _Array(("D",), _INTEGER),
    "datasets.block": _Array(("D",), _INTEGER, optional=True),
}
_HELD_OUT = {
    "context": _Array(("C", "d"), _EITHER),
    # Log-densities may be −inf; a metric counts those that are not finite.
    "own": _Array(("K", "C", "n"), finite=False),
    "reference": _Array(("K", "C", "n"), finite=False),
    "score": _Array(("K", "C", "n", "d"), finite=False),
    "has_density": _Array((1,), _YES),
    "has_reference": _Array((1,), _YES),
}


_POSTERIOR = {
    "unit": _Array(("S", "P")),
    "value": _Array(("S",)),
    "modes": _Array(("K", "P")),
    "evidence": _Array((1,), finite=False),  # −inf where no proposal is possible
    "evidence_size": _Array((1,)),
    "size": _Array((1,)),
    "source": _Array((1,), _INTEGER),
    "evaluations": _Array((1,)),
}
_DRAWS = {
    "draws.theta": _Array(("U", "S", "P"), _SINGLE),
    "draws.exact": _Array(("U", "n")),
    "draws.own": _Array(("U", "n")),
    "draws.log_ratio": _Array(("U",), finite=False),
    "draws.log_ratio_size": _Array(("U",)),
    "draws.size": _Array(("U",)),
    "draws.source": _Array(("U",), _INTEGER),
    "draws.evaluations": _Array(("U", 2)),
}


def _curves(prefix: str, rows: str) -> dict[str, _Array]:
    schema = {
        "mle": _Array((rows, "P")),
        "lower": _Array((rows, "I")),
        "upper": _Array((rows, "I")),
        "cut_lower": _Array((rows, "I"), _YES),
        "cut_upper": _Array((rows, "I"), _YES),
        "disconnected": _Array((rows, "I"), _YES),
        "log_ratio_truth": _Array((rows,)),
        "unresolved": _Array((rows,), _YES),
        # Observed information is not defined where the maximum is at a bound.
        "information": _Array((rows, "P", "P"), finite=False, optional=True),
        "evaluations": _Array((rows, 3), optional=True),
    }
    return {f"{prefix}.{name}": array for name, array in schema.items()}


def _window(prefix: str, rows: str, parameters: int) -> dict[str, _Array]:
    """Return the schema of windows of a lattice, of one or two parameters."""
    schema = {
        "area": _Array((rows,)),
        "region_cut": _Array((rows,), _YES),
        "origin": _Array((rows, "P")),
        "spacing": _Array((rows, "P")),
        "profile": _Array((rows, "P", NODES), _SINGLE),
        "marginal": _Array((rows, "P", NODES), _SINGLE),
        "joint": _Array((rows, *[NODES] * parameters), _SINGLE),
    }
    return {f"{prefix}.{name}": array for name, array in schema.items()}


_BOX = {
    "box.mle": _Array(("D", "P")),
    "box.lower": _Array(("D", "I", len(ROOTS))),
    "box.upper": _Array(("D", "I", len(ROOTS))),
    "box.statistic": _Array(("D", "I")),
    "box.log_ratio_truth": _Array(("D",)),
    "box.unresolved": _Array(("D",), _YES),
    "box.region_factor": _Array(("D",), optional=True),
}


def _box_window(parameters: int) -> dict[str, _Array]:
    return {
        "box.origin": _Array(("D", "P")),
        "box.spacing": _Array(("D", "P")),
        "box.joint": _Array(("D", *[BOX_NODES] * parameters), _SINGLE),
    }


def _likelihoods(
    parameters: int, *, bootstrap: bool, boxed: bool, lattice: bool
) -> dict[str, _Array]:
    """Return the schema of predicted likelihoods; windows are those of a lattice."""
    schema = _DATASETS | _curves("curves", "D")
    if bootstrap:
        schema |= {"full_set": _Array(("S",), _INTEGER)} | _curves("full", "S")
    if boxed:
        schema |= _BOX
    if lattice:
        schema |= _window("curves", "D", parameters)
        schema |= _window("full", "S", parameters) if bootstrap else {}
        schema |= _box_window(parameters) if boxed else {}
    return schema


def problem(
    key: str,
    record: Mapping[str, Any],
    arrays: Arrays,
    plan: Mapping[str, Any] | None = None,
    task: Task | None = None,
) -> str:
    """Return how the first wrong array under a key breaks its schema; empty if none does.

    Args:
        key: key of a finished entry.
        record: its record.
        arrays: its arrays.
        plan: the record of the plan of a prediction or scores, if known.
        task: the task, if known, which fixes sizes of arrays.
    """
    part = key.partition("/")[0]
    try:
        if part == "simulations":
            _check_simulations(arrays, task)
        elif part == "fits":
            _check_fit(record, arrays)
        elif part == "predictions":
            _check_prediction(arrays, plan, task)
        elif part == "scores":
            _check_scores(record, arrays, plan, task)
    except _DamageError as damage:
        return str(damage)
    return ""


def unreadable(key: str, arrays: Arrays) -> list[str]:
    """Return the columns of scores whose names cannot be printed."""
    if not key.startswith("scores/"):
        return []
    return [name for name in arrays if name not in SETS and not is_column(name)]


def described(arrays: Arrays) -> dict[str, str]:
    """Return the type and shape of arrays for a record, by name, as "float64 [1, 3]"."""
    return {name: f"{array.dtype} {list(array.shape)}" for name, array in arrays.items()}


class _DamageError(Exception):
    """Array that breaks the schema of its key."""


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise _DamageError(otherwise)


def _check_simulations(arrays: Arrays, task: Task | None) -> None:
    if "unit" in arrays:  # draws from the posterior of a dataset
        _check_schema(arrays, _POSTERIOR, {} if task is None else {"P": len(task.space)})
        return
    event = ("...",) if task is None else task.event_shape
    schema = {
        "x": _Array(("n", *event), _SINGLE),
        # Stored datasets and held-out simulations of expensive tasks have none.
        "context": _Array(("n", "d"), _EITHER, optional=task is not None and task.expensive),
        "score": _Array(("n", "d"), finite=False, optional=True),
        "drawn": _Array(("B", "M"), _INTEGER, optional=True),
    }
    _check_schema(arrays, schema, _sizes(task))
    drawn = arrays.get("drawn", np.zeros(1))
    numbered = drawn.min() >= 0 and drawn.max() < len(arrays["x"])
    _require(numbered, "'drawn' numbers simulations that are not there")


def _check_fit(record: Mapping[str, Any], arrays: Arrays) -> None:
    found = described(arrays)
    said = record.get("state", found)  # older records lack this key
    for name in sorted({*said, *arrays}):
        _require(name in arrays, f"it lacks {name!r}")
        _require(name in said, f"it has an array {name!r}")
        _require(found[name] == said[name], f"{name!r} is {found[name]}, not {said[name]}")
    for name, array in arrays.items():
        one = f"{name!r} has shape {array.shape}, not that of one member, (1, …)"
        _require(array.shape[:1] == (1,), one)
        _require(_is_finite(array), f"{name!r} holds NaN or infinite numbers")


def _check_prediction(arrays: Arrays, record: Mapping[str, Any] | None, task: Task | None) -> None:
    plan = None if record is None else _PLAN.validate_python(record["plan"])
    if isinstance(plan, HeldOutPlan) or (plan is None and "own" in arrays):
        sizes = {} if plan is None else {"C": plan.contexts, "n": plan.events}
        _check_schema(arrays, _HELD_OUT, _sizes(task) | sizes)
        return
    bootstrap = isinstance(plan, BootstrapPlan) or (plan is None and "full_set" in arrays)
    boxed = any(name.startswith("box.") for name in arrays)  # older predictions lack them
    parameters = _parameters(arrays, task)
    gradient = "curves.evaluations" in arrays
    if isinstance(plan, IndependentPlan) and plan.evaluator is not None:
        gradient = plan.evaluator == "gradient"
    lattice = parameters <= 2 and not gradient
    schema = _likelihoods(parameters, bootstrap=bootstrap, boxed=boxed, lattice=lattice)
    if any(name.startswith("draws.") for name in arrays):  # older predictions lack them
        schema |= _DRAWS
    _check_schema(arrays, schema, _sizes(task))
    if plan is None or record is None:
        return
    sets = {name: arrays[f"datasets.{name}"] for name in SETS if f"datasets.{name}" in arrays}
    repeats = plan.bootstraps if isinstance(plan, BootstrapPlan) else 1
    _check_plan(sets, plan, record.get("blocks"), task, repeats)
    if bootstrap:
        count = len(arrays["datasets.set"]) // repeats
        counts = np.array_equal(arrays["full_set"], np.arange(count))
        _require(counts, f"'full_set' does not count its {count} sets")


def _parameters(arrays: Arrays, task: Task | None) -> int:
    """Return the number of parameters of a task, or of a prediction where it is not known."""
    if task is not None:
        return len(task.space)
    theta = arrays.get("datasets.theta", np.zeros(0))
    return theta.shape[1] if theta.ndim == 2 else 2


def _check_scores(
    record: Mapping[str, Any],
    arrays: Arrays,
    of: Mapping[str, Any] | None,
    task: Task | None,
) -> None:
    columns = {name: array for name, array in arrays.items() if name not in SETS}
    _check_schema(arrays, _SETS_OF_SCORES, {})
    shape = arrays["set"].shape
    for name, array in columns.items():
        _require(array.dtype == np.float64, f"{name!r} is {array.dtype}, not float64")
        _require(array.shape == shape, f"{name!r} has shape {array.shape}, not {shape}")
    for name in record.get("columns", ()):  # older records lack this key
        _require(name in arrays, f"it lacks {name!r}")
    if np.isinf(np.concatenate([*columns.values(), np.zeros(0)])).any():
        name = next(name for name, array in columns.items() if np.isinf(array).any())
        raise _DamageError(f"{name!r} holds infinite numbers")
    if of is None:
        return
    plan = _PLAN.validate_python(of["plan"])
    if not isinstance(plan, HeldOutPlan):
        there, missing = _ranking(frozenset(columns))
        undefined = record.get("undefined", {})
        for name in missing:
            _require(name.partition("/")[0] in undefined, f"it lacks {name!r}")
        for name in there:
            _require((columns[name] >= 0).all(), f"{name!r} holds NaN or negative numbers")
    _check_plan(arrays, plan, of.get("blocks"), task)


@lru_cache(maxsize=64)
def _ranking(columns: frozenset[str]) -> tuple[list[str], list[str]]:
    """Return the columns that rank, and those that are missing beside them."""
    there = sorted(name for name in columns if name.partition("/")[0] in _RANKING)
    keys = sorted({name.partition("/")[2] for name in there}) or ["…"]
    wanted = [f"{metric}/{key}" for metric in _RANKING for key in keys]
    return there, [name for name in wanted if name not in columns]


def _check_plan(
    sets: Arrays, plan: Plan, blocks: int | None, task: Task | None, repeats: int = 1
) -> None:
    """Check that sets are those of their plan.

    Without the task, any number of evaluation points is accepted.
    """
    count = len(sets["set"]) // repeats
    points = 0
    if not isinstance(plan, HeldOutPlan):
        uniform, each = shares(plan)
        points = (count - uniform) // each if each and task is None else 0
        points = len(task.points) if task is not None else max(points, 0)
    for name, expected in _layout(plan, points, blocks).items():
        if name not in sets:
            continue
        came, wanted = len(sets[name]), len(expected) * repeats
        _require(came == wanted, f"it has {came} datasets, not {wanted}")
        same = np.array_equal(sets[name], np.repeat(expected, repeats))
        _require(same, f"{name!r} numbers other sets than its plan has")


@lru_cache(maxsize=64)
def _layout(plan: Plan, points: int, blocks: int | None) -> dict[str, NDArray[np.int64]]:
    point, _, block = layout(plan, points, blocks)
    return {"point": point, "set": np.arange(len(point)), "block": block}


def _sizes(task: Task | None) -> dict[str, int]:
    if task is None:
        return {}
    return {
        "K": len(task.component_names),
        "d": len(task.space.context_index),
        "P": len(task.space),
        "I": len(task.reported_index),
    }


def _check_schema(arrays: Arrays, schema: Mapping[str, _Array], known: Mapping[str, int]) -> None:
    """Check that arrays follow a schema.

    Args:
        arrays: the arrays; those that the schema does not name are ignored.
        schema: the arrays by name.
        known: sizes by name; other sizes are those of the first array that has them.
    """
    sizes = dict(known)
    for name, wanted in schema.items():
        _require(name in arrays or wanted.optional, f"it lacks {name!r}")
        if name not in arrays:
            continue
        array, axes = arrays[name], wanted.shape
        types = " or ".join(wanted.dtypes)
        _require(array.dtype.name in wanted.dtypes, f"{name!r} is {array.dtype}, not {types}")
        if axes[-1] == "...":
            axes = (*axes[:-1], *array.shape[len(axes) - 1 :])
        if len(axes) == array.ndim:
            for axis, size in zip(axes, array.shape, strict=True):
                if isinstance(axis, str):
                    sizes.setdefault(axis, size)
        shape = tuple(sizes.get(a, "…") if isinstance(a, str) else a for a in axes)
        said = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
        _require(shape == array.shape, f"{name!r} has shape {array.shape}, not {said}")
        _require(len(array), f"{name!r} is empty")
        finite = not wanted.finite or _is_finite(array)
        _require(finite, f"{name!r} holds NaN or infinite numbers")


def _is_finite(array: NDArray[Any]) -> bool:
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
