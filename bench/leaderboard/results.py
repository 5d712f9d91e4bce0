"""Results: what a results folder holds, read only."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import UsageError
from bench.stages import records
from bench.stages.cells import label
from bench.stages.check import is_column
from bench.stages.store import Store

_IDENTIFIES = ("task", "method", "configuration", "oracle", "identity")
_SETS = {"point", "set", "block"}


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


def not_results(folder: Path, lacks: str = "run.json") -> UsageError:
    """Return the error for what is not a results folder, with the results folders that lie in it.

    Args:
        folder: the folder.
        lacks: what was looked for in it.
    """
    inside = sorted(path.parent.name for path in folder.glob("*/run.json"))
    if inside:
        problem = f"name one of those in it: {', '.join(inside)}"
    else:
        problem = f"it has no {lacks}" if folder.exists() else "it does not exist"
    return UsageError(f"{folder} is not a results folder: {problem}")


class Results:
    """Reads a results folder; damaged parts count as missing.

    Args:
        store: the folder.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.run: dict[str, Any] = records.read(store, "run") or {}
        self.fits: list[Fit] = []
        self.plans: dict[str, dict[str, Any]] = {}
        self._datasets: dict[tuple[str, str], dict[str, NDArray[Any]]] = {}
        for key in store.keys("plans"):
            record = records.read(store, key)
            if record is not None:
                self.plans[key.removeprefix("plans/")] = record
        for key in store.keys("fits"):
            if key.endswith("/fit"):
                self._read_fit(key)

    def _read_fit(self, key: str) -> None:
        record = records.read(self.store, key)
        folder = key.removeprefix("fits/").removesuffix("/fit")
        if record is None or not _belongs(record, folder) or not record.get("shown", True):
            return  # not shown are fits that others calibrate, and that nothing else was asked of
        fit = Fit(folder=folder, **{name: record[name] for name in _IDENTIFIES})
        for member_key in self.store.keys(f"fits/{folder}"):
            found = re.fullmatch(r"member-(\d+)", member_key.rsplit("/", 1)[1])
            if found is None:
                continue
            number = int(found[1])
            member = records.read(self.store, member_key)
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
            key = f"scores/{fit.folder}/{plan}/member-{number:03d}"
            entry = self.store.read(key)
            record = records.shown(key, entry.record) if entry is not None else None
            if entry is None or record is None or record["status"] != "done":
                continue
            arrays = {k: v for k, v in entry.arrays.items() if k in _SETS or is_column(k)}
            if self._same_datasets(fit.task, plan, arrays):
                members.append(number)
                rows.append(arrays)
                undefined |= record.get("undefined", {})
        if not rows:
            return None
        common = set.intersection(*(set(r) for r in rows)) - _SETS
        values = {name: np.stack([r[name] for r in rows]) for name in sorted(common)}
        block = rows[0].get("block", rows[0]["set"])  # older scores have sets of their own alone
        return Scores(tuple(members), rows[0]["point"], block, values, undefined)

    def simulated(self, task: str) -> dict[str, int]:
        """Return the simulator calls that all results of a task took, by purpose.

        Jobs that were stopped by a limit have left no record of theirs.
        """
        total: Counter[str] = Counter()
        for stage in ("fits", "predictions", "scores"):
            for key in self.store.keys(f"{stage}/{task}"):
                prediction = key.replace("scores/", "predictions/", 1)
                if stage == "scores" and self.store.record(prediction) is not None:
                    continue  # of which scores have a copy
                record = records.read(self.store, key) or {}
                total.update(record.get("simulated", {}))
        return dict(total)

    def _same_datasets(self, task: str, plan: str, arrays: dict[str, NDArray[Any]]) -> bool:
        """Whether scores are numbers of the very datasets that others on this plan are of."""
        if not {"point", "set"} <= set(arrays):
            return False
        sets = {name: arrays[name] for name in _SETS if name in arrays}
        shape = sets["set"].shape
        if len(shape) != 1 or any(
            array.shape != shape or array.dtype != (np.int64 if name in sets else np.float64)
            for name, array in arrays.items()
        ):
            return False
        known = self._datasets.setdefault((task, plan), sets)
        return all(np.array_equal(known[name], sets[name]) for name in ("point", "set"))

    def failures(self, fit: Fit) -> dict[str, str]:
        """One-line reasons of every member's failed fit or prediction, by what failed."""
        reasons = {f"fit of member {m}": reason for m, reason in sorted(fit.failed.items())}
        for stage in ("predictions", "scores"):
            for key in self.store.keys(f"{stage}/{fit.folder}"):
                record = records.read(self.store, key)
                if record is not None and record["status"] in ("failed", "n/a"):
                    plan, member = key.rsplit("/", 2)[1:]
                    reasons[f"{stage[:-1]} of {member.replace('-', ' ')} on {plan}"] = str(
                        record.get("error")
                    )
        return reasons


def _belongs(record: dict[str, Any], folder: str) -> bool:
    """Whether a folder of a fit is called as fits like this one are."""
    task, method = re.escape(record["task"]), re.escape(record["method"])
    return (
        re.fullmatch(rf"{task}/(ensemble-\d+-)?(calibrated-)?{method}-[\w-]+", folder) is not None
    )
