"""Identity of fits: one method, in one configuration, on one task, at one budget."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, Protocol, TypeVar

from bench.contracts import HeldOutPlan, Plan, Task
from bench.contracts.plan import number_of_blocks
from bench.seeds import digest, lasting
from bench.storage.store import SCHEMA

EVALUATION = 1
"""Version of the evaluation; part of every prediction's identity."""

_SEEDS = 2**31  # more than any seed of a run


@dataclass(frozen=True)
class Wrapping:
    """Wrapper around a fit, with everything that determines its numbers.

    Args:
        name: name of the wrapper.
        arguments: its settings, as written in labels; trailing defaults are left out.
        config: all its settings.
        members: fits that one wrapped member takes.
        calls: simulator calls of a member's budget that it spends.
        version: version of the wrapper.
        plugin: hash of its plugin file; empty for packages.
    """

    name: str
    arguments: tuple[str, ...]
    config: Mapping[str, Any]
    members: int = 1
    calls: int = 0
    version: int = 1
    plugin: str = ""


_Identity = dict[str, Any]


def wrappings(identity: Mapping[str, Any]) -> tuple[Wrapping, ...]:
    """Return the wrappers of a fit's identity, the innermost first.

    An innermost calibration, and an ensemble around it or around the method, have keys of their
    own. Further wrappers are in a list.
    """
    found = []
    if calibration := identity.get("calibration"):
        kind, calls, version = (calibration[name] for name in ("kind", "calls", "version"))
        written = () if kind == "platt" else (kind,)
        found += [Wrapping("calibrated", written, {"kind": kind}, 1, calls, version)]
    if members := identity.get("ensemble"):
        found += [Wrapping("ensemble", (str(members),), {"members": members}, members)]
    for one in identity.get("wrappers", ()):
        found.append(Wrapping(**{**one, "arguments": tuple(one["arguments"])}))
    return tuple(found)


def _wrapped(identity: _Identity, new: Wrapping) -> _Identity:
    """Return an identity with one more wrapper."""
    plain = "ensemble" not in identity and "wrappers" not in identity
    if new.name == "calibrated" and plain and "calibration" not in identity:
        own = {"kind": new.config["kind"], "calls": new.calls, "version": new.version}
        return {**identity, "calibration": own}
    if new.name == "ensemble" and plain:
        return {**identity, "ensemble": new.members}
    listed = {**asdict(new), "arguments": list(new.arguments)}
    return {**identity, "wrappers": [*identity.get("wrappers", ()), listed]}


def _unwrapped(identity: _Identity) -> _Identity:
    """Return an identity without its outermost wrapper, which leaves the rest of the budget."""
    *others, outermost = wrappings(identity)
    keys = ("calibration", "ensemble", "wrappers")
    inner = {key: value for key, value in identity.items() if key not in keys}
    inner["budget"] = identity["budget"] - outermost.calls
    for other in others:
        inner = _wrapped(inner, other)
    return inner


@dataclass(frozen=True)
class FitSpec:
    """Specification of a fit: everything that determines a member's numbers, except its own number.

    The configuration's name, the number of members, the device and the workers are not part of the
    identity: equal configurations share one fit, and more members train only the missing ones.
    A wrapped fit is made from members of another fit, which has the rest of the budget.
    """

    task: str
    method: str
    configuration: str
    identity: dict[str, Any]
    oracle: bool

    @cached_property
    def entropy(self) -> dict[str, Any]:
        """Identity from which seeds derive: equal in all processes that define equal objects."""
        found: dict[str, Any] = lasting(self.identity)
        return found

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
        """Number of trained members that one member takes."""
        return size(self.identity)

    @cached_property
    def wrappings(self) -> tuple[Wrapping, ...]:
        """Wrappers, the innermost first; empty for a trained fit."""
        return wrappings(self.identity)

    @cached_property
    def base(self) -> "FitSpec":
        """Fit whose members the outermost wrapper takes; itself if it is trained."""
        if not self.wrappings:
            return self
        return replace(self, identity=_unwrapped(self.identity))

    @property
    def trained(self) -> "FitSpec":
        """Innermost fit."""
        return self.base.trained if self.wrappings else self

    @property
    def seed(self) -> int:
        """Seed of its simulations: wrappers that learn take others than those inside them."""
        inner = sum(one.calls > 0 for one in self.wrappings[:-1])
        return int(self.identity["seed"]) + inner * _SEEDS

    def wrapped(self, new: Wrapping) -> "FitSpec":
        """Return this fit with a wrapper around it, at the same budget."""
        return replace(self, identity=_wrapped(self.identity, new))

    @cached_property
    def folder(self) -> str:
        """Folder of its entries, under fits/, predictions/ and scores/."""
        return f"{self.task}/{prefix(self.identity)}{self.method}-{self.key}"

    @property
    def fit_record(self) -> str:
        """Key of the record that describes the fit."""
        return f"fits/{self.folder}/fit"

    def fit_key(self, member: int) -> str:
        """Return the key of a member's fit."""
        return f"fits/{self.folder}/member-{member:03d}"

    def base_members(self, member: int) -> range:
        """Return the numbers of the members of `base` that a member takes."""
        taken = self.wrappings[-1].members if self.wrappings else 0
        return range(member * taken, (member + 1) * taken)

    def base_keys(self, member: int) -> list[str]:
        """Return the keys of fits that a member takes; empty if it is trained."""
        return [self.base.fit_key(m) for m in self.base_members(member)]

    def state_keys(self, member: int) -> list[str]:
        """Return the keys of all fits that a member's prediction reads."""
        inner = [key for m in self.base_members(member) for key in self.base.state_keys(m)]
        return [self.fit_key(member), *inner]

    def prediction_key(self, plan: str, member: int) -> str:
        """Return the key of a member's prediction for a plan's folder."""
        return f"predictions/{self.folder}/{plan}/member-{member:03d}"

    def score_key(self, plan: str, member: int) -> str:
        """Return the key of a member's scores for a plan's folder."""
        return f"scores/{self.folder}/{plan}/member-{member:03d}"


def label(method: str, configuration: str, identity: Mapping[str, Any] | None = None) -> str:
    """Return the name of a method in a configuration; "default" is omitted."""
    name = method if configuration == "default" else f"{method}:{configuration}"
    for one in wrappings(identity or {}):
        name = f"{one.name}({','.join((name, *one.arguments))})"
    return name


def size(identity: Mapping[str, Any]) -> int:
    """Return the number of trained members that one member takes."""
    return prod(one.members for one in wrappings(identity))


def prefix(identity: Mapping[str, Any]) -> str:
    """Return the beginning of a folder's name: its wrappers, the outermost first."""
    found = ""
    for one in wrappings(identity):
        found = f"{one.name}-{one.members}-{found}" if one.members > 1 else f"{one.name}-{found}"
    return found


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
