"""Fits: one method, in one configuration, on one task, at one budget; and their identity."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

from bench.contracts import HeldOutPlan, Plan, Task
from bench.contracts.plan import number_of_blocks
from bench.nn.calibration import CalibrationKind
from bench.seeds import digest
from bench.storage.store import SCHEMA

CALIBRATION_SHARE = 10
"""One in so many simulator calls of a calibrated fit is for the calibration."""
DEFAULT_CALIBRATION: CalibrationKind = "platt"
CALIBRATION = 1
"""Version of the calibration; part of the identity of calibrated fits."""
EVALUATION = 1
"""Version of the evaluation; part of every prediction's identity."""


@dataclass(frozen=True)
class FitSpec:
    """A fit: everything that a member's numbers depend on but its own number.

    The configuration's name, the number of members, the device and the workers are not part of
    the identity: equal configurations share one fit, and more members train only what is missing.
    An ensemble averages another fit's members: nothing is trained for it, and its member i
    averages `size` of theirs. A calibrated fit maps the log-ratios of another one's, which have
    what the calibration leaves of its budget.
    """

    task: str
    method: str
    configuration: str
    identity: dict[str, Any]
    oracle: bool

    @cached_property
    def key(self) -> str:
        """Short hash of the identity."""
        return digest(self.identity)[:12]

    @property
    def label(self) -> str:
        """The name in progress and tables."""
        return label(self.method, self.configuration, self.identity)

    @property
    def size(self) -> int:
        """The number of trained members that one member of it averages."""
        return size(self.identity)

    @property
    def calibration(self) -> dict[str, Any] | None:
        """The calibration of its log-ratios: kind, simulator calls, version; None without one."""
        return self.identity.get("calibration")

    def calibrated(self, kind: CalibrationKind) -> "FitSpec":
        """The fit of its budget that spends a tenth of it on calibrating."""
        calls = self.identity["budget"] // CALIBRATION_SHARE
        calibration = {"kind": kind, "calls": calls, "version": CALIBRATION}
        return replace(self, identity={**self.identity, "calibration": calibration})

    @property
    def uncalibrated(self) -> "FitSpec":
        """The fit that it calibrates: with what the calibration leaves of the budget."""
        identity = {k: v for k, v in self.identity.items() if k != "calibration"}
        calls = self.calibration["calls"] if self.calibration else 0
        return replace(self, identity={**identity, "budget": identity["budget"] - calls})

    @property
    def base(self) -> "FitSpec":
        """The fit whose members it averages."""
        return replace(self, identity={k: v for k, v in self.identity.items() if k != "ensemble"})

    def ensemble(self, size: int) -> "FitSpec":
        """The fit that averages so many of its members."""
        return replace(self, identity={**self.identity, "ensemble": size})

    @cached_property
    def folder(self) -> str:
        """The folder of its parts, under fits/, predictions/ and scores/."""
        ensemble = f"ensemble-{self.size}-" if self.size > 1 else ""
        calibrated = "calibrated-" if self.calibration else ""
        return f"{self.task}/{ensemble}{calibrated}{self.method}-{self.key}"

    @property
    def fit_record(self) -> str:
        """Key of what says what its fits are."""
        return f"fits/{self.folder}/fit"

    def fit_key(self, member: int) -> str:
        """Key of a member's fit."""
        return f"fits/{self.folder}/member-{member:03d}"

    def base_keys(self, member: int) -> list[str]:
        """Keys of the fits that a member averages or calibrates; none where it is trained."""
        if self.size > 1:
            first = member * self.size
            return [self.base.fit_key(m) for m in range(first, first + self.size)]
        return [self.uncalibrated.fit_key(member)] if self.calibration else []

    def state_keys(self, member: int) -> list[str]:
        """Keys of all fits whose states a member's prediction reads."""
        if self.size > 1:
            first, base = member * self.size, self.base
            return [k for m in range(first, first + self.size) for k in base.state_keys(m)]
        return [self.fit_key(member), *self.base_keys(member)]

    def prediction_key(self, plan: str, member: int) -> str:
        """Key of a member's prediction for a plan's folder."""
        return f"predictions/{self.folder}/{plan}/member-{member:03d}"

    def score_key(self, plan: str, member: int) -> str:
        """Key of a member's scores for a plan's folder."""
        return f"scores/{self.folder}/{plan}/member-{member:03d}"


def label(method: str, configuration: str, identity: Mapping[str, Any] | None = None) -> str:
    """Return the name of a method in a configuration; "default" goes without saying."""
    name = method if configuration == "default" else f"{method}:{configuration}"
    identity = identity or {}
    if calibration := identity.get("calibration"):
        kind = "" if calibration["kind"] == DEFAULT_CALIBRATION else f",{calibration['kind']}"
        name = f"calibrated({name}{kind})"
    members = size(identity)
    return f"ensemble({name},{members})" if members > 1 else name


def size(identity: Mapping[str, Any]) -> int:
    """Return the number of trained members that one member averages."""
    return int(identity.get("ensemble", 1))


class _MayBeOracle(Protocol):
    @property
    def method(self) -> str: ...
    @property
    def oracle(self) -> bool: ...


_SpecOrFit = TypeVar("_SpecOrFit", bound=_MayBeOracle)


def truth_among(specs: Iterable[_SpecOrFit]) -> _SpecOrFit | None:
    """The exact likelihood among the fits of one task; a plugin's oracle only without it."""
    oracles = [spec for spec in specs if spec.oracle]
    return min(oracles, key=lambda spec: spec.method != "exact", default=None)


def plan_folder(task: Task, plan: Plan, seed: int) -> str:
    """Name of the folder of a plan's predictions: its kind and the hash of what defines it."""
    resolution = () if isinstance(plan, HeldOutPlan) else [asdict(r) for r in task.resolution]
    defined = [SCHEMA, EVALUATION, plan.model_dump(), seed, resolution]
    blocks = number_of_blocks(task, plan)
    defined += [] if blocks is None else [blocks]
    return f"{plan.kind}-{digest(*defined)[:8]}"
