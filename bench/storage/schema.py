"""Schemas of the records of a results folder, which may come from others.

An undamaged file with a record that matches none of these schemas counts as damaged.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.contracts import Plan
from bench.errors import printable
from bench.inference.intervals import NODES
from bench.registry.validate import NAME
from bench.storage.store import Store

MOST_WINDOWS = 4
"""Largest number of windows of a member on a plan."""

_Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
_Count = Annotated[int, Field(ge=0, le=10**15)]
_Limit = Annotated[float, Field(gt=0)]
_Seconds = Annotated[float, Field(ge=0, le=1e15)]
_Loss = Annotated[float, Field(ge=-1e15, le=1e15)]
_Time = Annotated[float, Field(ge=0, le=253402300799)]  # seconds, before the year 10,000
_Two = Field(min_length=2, max_length=2)
_Values = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], _Two]
_Origin = Annotated[list[Annotated[float, Field(ge=-1, le=1)]], _Two]
_Spacing = Annotated[list[Annotated[float, Field(gt=0, le=1)]], _Two]


class _Record(BaseModel):
    """Record with validated keys; other keys are ignored."""

    model_config = ConfigDict(strict=True)


class _Kind(_Record):
    kind: str


class _Preset(_Record):
    author: str = ""
    members: _Count = 0
    budgets: list[_Count] = []
    plans: list[_Kind] = []
    time_limit: _Limit = 3600.0
    memory_limit: _Limit = 4.0
    tolerance: Annotated[float, Field(gt=0, le=100)] = 5.0


class _Absent(_Record):
    task: str
    label: str
    reason: str
    broken: bool = False


class _Run(_Record):
    command: list[str]
    preset: _Preset
    plugins: list[Any] = []
    cells: list[str] = []
    absent: list[_Absent] = []


class _Plan(_Record):
    plan: Plan
    seed: _Count
    blocks: _Count | None = None
    asked: Plan | None = None


class _Method(_Record):
    config: dict[str, Any] = {}


class _Wrapping(_Record):
    name: _Name
    arguments: list[Annotated[str, Field(pattern=r"^[^(),#]{0,100}$")]]
    config: dict[str, Any] = {}
    members: Annotated[int, Field(ge=1, le=10_000)] = 1
    calls: _Count = 0
    version: int = 1
    plugin: str = ""


class _Calibration(_Record):
    kind: _Name
    calls: _Count = 0
    version: int = 1


class _Identity(_Record):
    task: dict[str, Any] = {}
    budget: _Count
    training_data: Literal["fresh", "shared", "bootstrap", "none"]
    seed: _Count
    ensemble: Annotated[int, Field(ge=1, le=10_000)] = 1
    method: _Method = _Method()
    calibration: _Calibration | None = None
    wrappers: Annotated[list[_Wrapping], Field(max_length=20)] = []


class _Fit(_Record):
    task: _Name
    method: _Name
    configuration: _Name
    oracle: bool
    identity: _Identity
    shown: bool = True


class _Curve(_Record):
    steps: _Count
    seconds: _Seconds
    seconds_to_best: _Seconds
    train_loss: list[_Loss | None] = []
    validation_loss: list[_Loss | None] = []


class _Environment(_Record):
    device: str


class _Member(_Record):
    finished: _Time = 0.0
    seconds: _Seconds
    stack: Annotated[int, Field(ge=1, le=10_000)]
    calls: _Count
    calls_made: _Count | None = None
    simulated: dict[str, _Count] = {}
    parameters: _Count
    curves: dict[str, _Curve]
    environment: _Environment
    state: dict[str, str] | None = None


class _Prediction(_Record):
    simulated: dict[str, _Count] = {}


class _Inputs(_Record):
    prediction: str | None = None
    truth: str | None = None
    metrics: dict[str, Annotated[list[int | str], Field(min_length=2)]] | str = {}


class _Scores(_Record):
    finished: _Time = 0.0
    inputs: _Inputs | None = None
    undefined: dict[str, str] = {}
    simulated: dict[str, _Count] = {}
    columns: list[str] = []


class _Windows(_Record):
    point: list[Annotated[int, Field(ge=-1, le=10**15)]]
    dataset: list[_Count]
    theta: list[_Values]
    mle: list[_Values]
    origin: list[_Origin]
    spacing: list[_Spacing]
    root: list[Annotated[str, Field(pattern=f"^[0-9a-f]{{{2 * NODES**2}}}$")]]
    status: None = None  # windows are never unfinished

    @model_validator(mode="after")
    def _has_a_few(self) -> Self:
        lengths = {len(getattr(self, n)) for n in type(self).model_fields if n != "status"}
        if len(lengths) > 1 or not 1 <= max(lengths) <= MOST_WINDOWS:
            raise ValueError("its lists are not those of a few windows")
        return self


class _Surrogate(_Record):
    fit: Annotated[str, Field(pattern=r"^fits/[\w./+-]+/fit$")]
    preset: dict[str, Any]
    method: str


class _Unfinished(_Record):
    status: str
    error: str = ""
    simulated: dict[str, _Count] = {}


_MODELS: dict[str, type[_Record]] = {
    r"run": _Run,
    r"surrogate": _Surrogate,
    r"plans/[\w-]+": _Plan,
    r"fits/[\w./+-]+/fit": _Fit,
    r"fits/[\w./+-]+": _Member,
    r"scores/[\w./+-]+": _Scores,
    r"predictions/[\w./+-]+": _Prediction,
    r"windows/[\w./+-]+": _Windows,
    r"simulations/[\w./+-]+": _Record,
}


def read(store: Store, key: str) -> dict[str, Any] | None:
    """Read a record with texts safe to print; return None if it is missing or invalid."""
    record = store.record(key)
    return None if record is None else shown(key, record)


def shown(key: str, record: dict[str, Any]) -> dict[str, Any] | None:
    """Return a record with texts safe to print; None if it does not match the schema of its key."""
    model = next((m for pattern, m in _MODELS.items() if re.fullmatch(pattern, key)), None)
    if model is None:
        return None
    if model in (_Member, _Scores, _Prediction) and record.get("status") != "done":
        model = _Unfinished
    try:
        found = model.model_validate(record)
        out: dict[str, Any] = _on_one_line(record)
    except (ValidationError, RecursionError):
        return None
    if isinstance(found, _Plan):  # with every setting
        for name in ("plan", "asked"):
            if (plan := getattr(found, name)) is not None:
                out[name] = plan.model_dump(mode="json")
    return out


def _on_one_line(value: Any) -> Any:
    """Put all texts of a value on one line, without terminal control characters."""
    if isinstance(value, dict):
        return {_on_one_line(key): _on_one_line(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_on_one_line(inner) for inner in value]
    return printable(value) if isinstance(value, str) and not value.isprintable() else value
