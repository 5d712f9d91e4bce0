"""Presets: validated TOML descriptions of runs."""

import json
import os
import tomllib
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.contracts import BootstrapPlan, HeldOutPlan, IndependentPlan, Plan, TrainingData
from bench.errors import UsageError
from bench.registry.registry import Registry, unknown


class Preset(BaseModel):
    """Description of a run.

    Args:
        description: one line for `bench list presets`.
        author: who answers for the results, for reports.
        tasks: patterns of task names.
        methods: patterns of `method` (all its configurations) or `method:configuration`, or
            `ensemble(…,N)` and `calibrated(…)` of them.
        members: independently trained networks of each method.
        budgets: simulator calls that each member may spend; each budget gets a leaderboard.
        training_data: a new training set per member, one shared by all, or bootstraps of it.
        seed: seed of simulations, training and datasets.
        device: where networks run.
        stack: members that train and are evaluated as one stack; the default is 10 on a GPU and
            one on a CPU.
        time_limit: seconds that a fit or a prediction may take without simulations. The limit
            applies separately to each chunk of simulations, or to each call of an expensive
            simulator.
        memory_limit: GiB of memory that a worker may use.
        tolerance: largest coverage gap that leaderboards call right, in percentage points.
        plans: evaluation plans.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    description: str = ""
    author: str = ""
    tasks: tuple[str, ...] = Field(default=("*",), min_length=1)
    methods: tuple[str, ...] = Field(default=("*",), min_length=1)
    members: int = Field(default=5, ge=1, le=10_000)
    budgets: tuple[Annotated[int, Field(ge=1, le=10**12)], ...] = Field(
        default=(100_000,), min_length=1
    )
    training_data: TrainingData = "fresh"
    seed: int = Field(default=0, ge=0, lt=2**31)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    stack: int | None = Field(default=None, ge=1, le=1000)
    time_limit: float = Field(default=3600.0, gt=0)
    memory_limit: float = Field(default=4.0, gt=0, le=1e6)
    tolerance: float = Field(default=5.0, gt=0, le=100)
    plans: tuple[Plan, ...] = Field(
        default=(IndependentPlan(), BootstrapPlan(), HeldOutPlan()), min_length=1
    )


_OPTIONS = {"tasks": "--task", "methods": "--method", "budgets": "--budget"}
_PLANS: dict[str, type[BaseModel]] = {
    "independent": IndependentPlan,
    "bootstrap": BootstrapPlan,
    "heldout": HeldOutPlan,
}
_WORDS = {  # phrases of pydantic, and the terms of TOML
    "Tuple should have at least": "a list of at least",
    " after validation, not 0": "",
    "a valid tuple": "a list",
    "a valid dictionary or object to extract fields from": "a table",
    "a valid boolean": "true or false",
    "a valid ": "a ",
    "a integer": "an integer",
}


def read_preset(registry: Registry, name: str, overrides: dict[str, Any]) -> Preset:
    """Read a preset by name or from a TOML file, and apply the options of the command line.

    Raises:
        UsageError: if it does not exist, is not TOML, or has a wrong key or value.
    """
    where, text = _read(registry, name)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # huge integers, deep nesting
        raise UsageError(f"preset {where} is not valid TOML: {error}") from error
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return Preset.model_validate(_tuples(values | given), strict=True)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        problem = explain(error, Preset)
        if key in given:  # the wrong value comes from an option
            option = _OPTIONS.get(key, f"--{key}")
            raise UsageError(f"option {option}{problem[problem.index(' = ') :]}") from error
        raise UsageError(f"preset {where}: {problem}") from error


def make_preset(**values: Any) -> Preset:
    """Make a preset of a program's values.

    Raises:
        UsageError: if one of them is not allowed.
    """
    try:
        return Preset.model_validate(values, strict=True)
    except ValidationError as error:
        raise UsageError(explain(error, Preset)) from error


def _read(registry: Registry, name: str) -> tuple[str, str]:
    """Find a preset; return its location and its text."""
    if name in registry.names("presets"):
        item = registry.item("presets", name)
        where, load = f"{name!r} ({item.place})", item.load
    elif name.endswith(".toml") or os.path.isfile(name):
        where, load = name, partial(Path(name).read_text, encoding="utf-8-sig")
    else:
        message = unknown("preset", name, registry.names("presets"))
        raise UsageError(f"{message}; a file's name ends in .toml")
    try:
        return where, load()
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read preset {where}: byte {error.start} is not UTF-8") from error
    except OSError as error:
        raise UsageError(f"cannot read preset {where}: {error.strerror}") from error


def _tuples(value: Any) -> Any:
    """Convert lists to tuples, recursively, as strict validation requires."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return one line that names the first wrong key, its value, and the allowed values."""
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"] if part not in _PLANS]
    key = ".".join(location) or "the whole"
    if first["type"] == "extra_forbidden":
        place = ".".join(location[:-1])
        allowed = _keys(model, [str(part) for part in first["loc"][:-1]])
        return unknown("key", location[-1], sorted(allowed)) + (f" (in {place})" if place else "")
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    if first["type"] == "union_tag_not_found":
        return f"{key} has no kind; it must have one of {', '.join(_PLANS)}"
    if first["type"] == "union_tag_invalid":
        return f"{key}: {unknown('kind', str(first['input']['kind']), list(_PLANS))}"
    allowed_text = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    allowed_text = allowed_text.partition(", unable to parse string")[0]
    for said, meant in _WORDS.items():
        allowed_text = allowed_text.replace(said, meant)
    return f"{key} = {_brief(first['input'])} is not allowed: it must be {allowed_text}"


def _brief(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)  # true, not True
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys(model: type[BaseModel], location: list[str]) -> list[str]:
    """Return the keys allowed at a location in a model; a plan's kind is part of its location."""
    for part in location:
        if part in _PLANS:
            return list(_PLANS[part].model_fields)
        if part in model.model_fields:
            inner = model.model_fields[part].annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return list(model.model_fields)
