"""Identity of fits: one method, in one configuration, on one task, at one budget."""

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
"""One in this many simulator calls of a calibrated fit is used for the calibration."""
DEFAULT_CALIBRATION: CalibrationKind = "platt"
CALIBRATION = 1
"""Version of the calibration; part of the identity of calibrated fits."""
EVALUATION = 1
"""Version of the evaluation; part of every prediction's identity."""


@dataclass(frozen=True)
class FitSpec:
    """Specification of a fit: everything that determines a member's numbers, except its own number.

    The configuration's name, the number of members, the device and the workers are not part of the
    identity: equal configurations share one fit, and more members train only the missing ones.
    An ensemble averages another fit's members without training: its member i averages `size` of
    them. A calibrated fit maps the log-ratios of another fit, which has the rest of the budget.
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
        """Name in progress messages and tables."""
        return label(self.method, self.configuration, self.identity)

    @property
    def size(self) -> int:
        """Number of trained members that one member averages."""
        return size(self.identity)

    @property
    def calibration(self) -> dict[str, Any] | None:
        """Calibration of the log-ratios: kind, simulator calls, version; None without one."""
        return self.identity.get("calibration")

    def calibrated(self, kind: CalibrationKind) -> "FitSpec":
        """Return the calibrated fit of the same budget, a tenth of which is for calibration."""
        calls = self.identity["budget"] // CALIBRATION_SHARE
        calibration = {"kind": kind, "calls": calls, "version": CALIBRATION}
        return replace(self, identity={**self.identity, "calibration": calibration})

    @property
    def uncalibrated(self) -> "FitSpec":
        """Fit that it calibrates, whose budget lacks the calls of the calibration."""
        identity = {k: v for k, v in self.identity.items() if k != "calibration"}
        calls = self.calibration["calls"] if self.calibration else 0
        return replace(self, identity={**identity, "budget": identity["budget"] - calls})

    @property
    def base(self) -> "FitSpec":
        """Fit whose members it averages."""
        return replace(self, identity={k: v for k, v in self.identity.items() if k != "ensemble"})

    def ensemble(self, size: int) -> "FitSpec":
        """Return the fit that averages `size` of its members."""
        return replace(self, identity={**self.identity, "ensemble": size})

    @cached_property
    def folder(self) -> str:
        """Folder of its entries, under fits/, predictions/ and scores/."""
        ensemble = f"ensemble-{self.size}-" if self.size > 1 else ""
        calibrated = "calibrated-" if self.calibration else ""
        return f"{self.task}/{ensemble}{calibrated}{self.method}-{self.key}"

    @property
    def fit_record(self) -> str:
        """Key of the record that describes the fit."""
        return f"fits/{self.folder}/fit"

    def fit_key(self, member: int) -> str:
        """Return the key of a member's fit."""
        return f"fits/{self.folder}/member-{member:03d}"

    def base_keys(self, member: int) -> list[str]:
        """Return the keys of fits that a member averages or calibrates; empty if it is trained."""
        if self.size > 1:
            first = member * self.size
            return [self.base.fit_key(m) for m in range(first, first + self.size)]
        return [self.uncalibrated.fit_key(member)] if self.calibration else []

    def state_keys(self, member: int) -> list[str]:
        """Return the keys of all fits whose states a member's prediction reads."""
        if self.size > 1:
            first, base = member * self.size, self.base
            return [k for m in range(first, first + self.size) for k in base.state_keys(m)]
        return [self.fit_key(member), *self.base_keys(member)]

    def prediction_key(self, plan: str, member: int) -> str:
        """Return the key of a member's prediction for a plan's folder."""
        return f"predictions/{self.folder}/{plan}/member-{member:03d}"

    def score_key(self, plan: str, member: int) -> str:
        """Return the key of a member's scores for a plan's folder."""
        return f"scores/{self.folder}/{plan}/member-{member:03d}"


def label(method: str, configuration: str, identity: Mapping[str, Any] | None = None) -> str:
    """Return the name of a method in a configuration; "default" is omitted."""
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
    """Return the exact likelihood among a task's fits; if there is none, a plugin's oracle."""
    oracles = [spec for spec in specs if spec.oracle]
    return min(oracles, key=lambda spec: spec.method != "exact", default=None)


def plan_folder(task: Task, plan: Plan, seed: int) -> str:
    """Return the folder of a plan's predictions: its kind and the hash of its definition."""
    resolution = () if isinstance(plan, HeldOutPlan) else [asdict(r) for r in task.resolution]
    defined = [SCHEMA, EVALUATION, plan.definition(), seed, resolution]
    blocks = number_of_blocks(task, plan)
    defined += [] if blocks is None else [blocks]
    return f"{plan.kind}-{digest(*defined)[:8]}"
