"""Results: what a results folder holds, read only."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.stages.cells import label
from bench.stages.store import Store

_IDENTIFIES = {"task", "method", "configuration", "oracle", "identity"}


@dataclass
class Fit:
    """A fit that the folder knows of.

    Args:
        folder: where its parts are.
        task, method, configuration, oracle, identity: what it is; see stages.cells.Cell.
        members: records of the members that are done, by number.
        failed: one-line reasons of the members that are not, by number.
    """

    folder: str
    task: str
    method: str
    configuration: str
    oracle: bool
    identity: dict[str, Any]
    members: dict[int, dict[str, Any]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How tables call it."""
        return label(self.method, self.configuration, self.identity)


@dataclass(frozen=True)
class Scores:
    """The scores of a fit's members on one plan.

    Args:
        members: the members, in order.
        point: evaluation point of each set, −1 where θ was drawn uniformly, (S,).
        block: the block of observations that each set is drawn from, the unit of resampling, (S,).
        values: by "metric/key", (members, S).
        undefined: reasons of metrics that are not defined.
    """

    members: tuple[int, ...]
    point: NDArray[np.int64]
    block: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]
    undefined: dict[str, str]


class Results:
    """Reads a results folder; damaged parts count as missing.

    Args:
        store: the folder.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.run: dict[str, Any] = store.record("run") or {}
        self.fits: list[Fit] = []
        self.plans: dict[str, dict[str, Any]] = {}
        for key in store.keys("plans"):
            record = store.record(key)
            if record is not None:
                self.plans[key.removeprefix("plans/")] = record
        for key in store.keys("fits"):
            if key.endswith("/fit"):
                self._read_fit(key)

    def _read_fit(self, key: str) -> None:
        record = self.store.record(key)
        if record is None or not set(record) >= _IDENTIFIES:
            return
        folder = key.removeprefix("fits/").removesuffix("/fit")
        fit = Fit(folder=folder, **{name: record[name] for name in _IDENTIFIES})
        for member_key in self.store.keys(f"fits/{folder}"):
            found = re.fullmatch(r"member-(\d+)", member_key.rsplit("/", 1)[1])
            if found is None:
                continue
            number = int(found[1])
            member = self.store.record(member_key)
            if member is None:
                fit.failed[number] = "its record is damaged; run again"
            elif member.get("status") == "done":
                fit.members[number] = member
            else:
                fit.failed[number] = str(member.get("error", member.get("status")))
        self.fits.append(fit)

    def scores(self, fit: Fit, plan: str) -> Scores | None:
        """Scores of a fit's members on a plan; None if no member has any."""
        members, rows = [], []
        undefined: dict[str, str] = {}
        for number in sorted(fit.members):
            entry = self.store.read(f"scores/{fit.folder}/{plan}/member-{number:03d}")
            if entry is not None and entry.record.get("status") == "done":
                members.append(number)
                rows.append(entry.arrays)
                undefined |= entry.record.get("undefined", {})
        if not rows:
            return None
        common = set.intersection(*(set(r) for r in rows)) - {"point", "set", "block"}
        values = {name: np.stack([r[name] for r in rows]) for name in sorted(common)}
        block = rows[0].get("block", rows[0]["set"])  # older scores have sets of their own alone
        return Scores(tuple(members), rows[0]["point"], block, values, undefined)

    def failures(self, fit: Fit) -> dict[str, str]:
        """One-line reasons of every member's failed fit or prediction, by what failed."""
        reasons = {f"fit of member {m}": reason for m, reason in sorted(fit.failed.items())}
        for stage in ("predictions", "scores"):
            for key in self.store.keys(f"{stage}/{fit.folder}"):
                record = self.store.record(key)
                if record is not None and record.get("status") in ("failed", "n/a"):
                    plan, member = key.rsplit("/", 2)[1:]
                    reasons[f"{stage[:-1]} of {member.replace('-', ' ')} on {plan}"] = str(
                        record.get("error")
                    )
        return reasons
