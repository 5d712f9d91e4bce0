"""Presets: what a run computes, as validated TOML."""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.contracts import BootstrapPlan, HeldOutPlan, IndependentPlan, Plan
from bench.errors import UsageError
from bench.stages.bank import TrainingData
from bench.stages.registry import Registry, unknown


class Preset(BaseModel):
    """What a run computes.

    Args:
        description: one line for `bench list presets`.
        tasks: patterns of task names.
        methods: patterns of `method` (all its configurations) or `method:configuration`.
        members: independently trained networks of each method.
        budgets: simulator calls that each member may spend; one leaderboard each.
        training_data: a new training set per member, one shared by all, or bootstraps of it.
        seed: seed of simulations, training and datasets.
        device: where networks run.
        time_limit: seconds that a fit or a prediction of one member may take.
        memory_limit: GiB of memory that a worker may use.
        plans: evaluation plans.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    tasks: tuple[str, ...] = ("*",)
    methods: tuple[str, ...] = ("*",)
    members: int = Field(default=5, ge=1, le=10_000)
    budgets: tuple[int, ...] = Field(default=(100_000,), min_length=1)
    training_data: TrainingData = "fresh"
    seed: int = Field(default=0, ge=0, lt=2**31)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    time_limit: float = Field(default=3600.0, gt=0)
    memory_limit: float = Field(default=4.0, gt=0)
    plans: tuple[Plan, ...] = (IndependentPlan(), BootstrapPlan(), HeldOutPlan())


def read_preset(registry: Registry, name: str, overrides: dict[str, Any]) -> Preset:
    """Reads a preset by name or from a TOML file, and applies what the command line says.

    Raises:
        UsageError: if it does not exist, is not TOML, or has a wrong key or value.
    """
    path = Path(name)
    if name in registry.names("presets"):
        item = registry.item("presets", name)
        where, text = item.place, item.load()
    elif path.suffix == ".toml" or path.is_file():
        where = str(path)
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"cannot read preset {path}: {reason}") from error
    else:
        message = unknown("preset", name, registry.names("presets"))
        raise UsageError(f"{message}; a file's name ends in .toml")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"preset {where} is not valid TOML: {error}") from error
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return Preset.model_validate(values | given)
    except ValidationError as error:
        raise UsageError(f"preset {where}: {explain(error, Preset)}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Says in one line which key has which wrong value, and what is allowed."""
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location) or "the whole"
    if first["type"] == "extra_forbidden":
        return unknown("key", key, sorted(_keys(model, location[:-1])))
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    allowed = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{key} = {first['input']!r} is not allowed: it must be {allowed}"


def _keys(model: type[BaseModel], location: list[str]) -> list[str]:
    """Keys allowed at a place in a model: plans know theirs by kind, configurations by field."""
    kinds: dict[str, type[BaseModel]] = {
        "independent": IndependentPlan,
        "bootstrap": BootstrapPlan,
        "heldout": HeldOutPlan,
    }
    for part in location:
        if part in kinds:
            return list(kinds[part].model_fields)
        if part in model.model_fields:
            inner = model.model_fields[part].annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return list(model.model_fields)
