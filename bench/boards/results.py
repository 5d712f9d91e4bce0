"""Read access to the content of a results folder."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contracts import Metric
from bench.errors import UsageError
from bench.storage import schema
from bench.storage.arrays import SETS
from bench.storage.entries import inspect
from bench.storage.fit_spec import label, prefix, size
from bench.storage.store import Entry, Store

_DAMAGED = {"error": "its record is damaged; run again"}
_IDENTIFIES = ("task", "method", "configuration", "oracle", "identity")


@dataclass
class SavedFit:
    """Fit in a results folder.

    Args:
        folder: folder of its entries.
        task, method, configuration, oracle, identity: see storage.fit_spec.FitSpec.
        members: records of the finished members, by number.
        failed: one-line reasons of the failed members, by number.
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
        """Label in tables."""
        return label(self.method, self.configuration, self.identity)

    @property
    def budget(self) -> int:
        """Number of simulator calls of one member."""
        return int(self.identity["budget"])

    @property
    def size(self) -> int:
        """Number of trained members that one member takes."""
        return size(self.identity)


def of_training(record: Mapping[str, Any], name: str) -> float:
    """Return seconds or steps of a member's training, summed over its networks.

    Members of a stack train together and share the time. NaN without training.
    """
    curves = record["curves"].values()
    shared = 1 if name == "steps" else record["stack"]
    return float(sum(curve[name] for curve in curves) / shared) if curves else nan


@dataclass(frozen=True)
class Scores:
    """Scores of a fit's members on one plan.

    Args:
        members: the members, in order.
        point: evaluation point of each set, −1 where θ was drawn uniformly, (S,).
        block: block of observations from which each set is drawn, the unit of resampling, (S,).
        values: by "metric/key", (members, S).
        undefined: reasons of undefined metrics, by name.
        versions: versions of each metric among the scores of the members.
    """

    members: tuple[int, ...]
    point: NDArray[np.int64]
    block: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]
    undefined: dict[str, str]
    versions: dict[str, set[int]]

    def current(self, metrics: Sequence[Metric]) -> "Scores":
        """Return these scores without values of metrics that have another version now."""
        changed = {m.name for m in metrics if self.versions.get(m.name, {m.version}) != {m.version}}
        kept = {k: v for k, v in self.values.items() if k.partition("/")[0] not in changed}
        return replace(self, values=kept)


def not_results(folder: Path, lacks: str = "run.json") -> UsageError:
    """Return the error for a folder that is not a results folder.

    It names the results folders inside.

    Args:
        folder: the folder.
        lacks: file that was looked for.
    """
    inside = sorted(path.parent.name for path in folder.glob("*/run.json"))
    if inside:
        problem = f"name one of those in it: {', '.join(inside)}"
    else:
        problem = f"it has no {lacks}" if folder.exists() else "it does not exist"
    return UsageError(f"{folder} is not a results folder: {problem}")


class Results:
    """Reader of a results folder; damaged entries count as missing.

    Args:
        store: the folder.

    Attributes:
        damaged: damaged files of entries that were read, with the reason, by the entry's key.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.damaged: dict[str, str] = {}
        self.run: dict[str, Any] = schema.read(store, "run") or {}
        self.fits: list[SavedFit] = []
        self.plans: dict[str, dict[str, Any]] = {}
        self._datasets: dict[tuple[str, str], NDArray[np.int64]] = {}
        for key in store.keys("plans"):
            if (record := schema.read(store, key)) is not None:
                self.plans[key.removeprefix("plans/")] = record
        for key in store.keys("fits"):
            if key.endswith("/fit"):
                self._read_fit(key)

    def _read_fit(self, key: str) -> None:
        record = schema.read(self.store, key)
        folder = key.removeprefix("fits/").removesuffix("/fit")
        if record is None or not _belongs(record, folder) or not record.get("shown", True):
            return  # hidden fits are inputs of wrapped fits only
        fit = SavedFit(folder=folder, **{name: record[name] for name in _IDENTIFIES})
        for member_key in self.store.keys(f"fits/{folder}"):
            found = re.fullmatch(r".*/member-(\d+)", member_key)
            if found is None:
                continue
            member = schema.read(self.store, member_key) or _DAMAGED
            if member.get("status") == "done":
                fit.members[int(found[1])] = member
            else:
                fit.failed[int(found[1])] = str(member.get("error", member.get("status")))
        self.fits.append(fit)

    def entry(self, key: str) -> Entry | None:
        """Read a finished entry; None if it is missing or damaged. Damage is recorded."""
        entry, damage = inspect(self.store, key, plans=self.plans)
        if damage:
            self.damaged[key] = damage
        return entry if entry and entry.record.get("status", "done") == "done" else None

    def scores(self, fit: SavedFit, plan: str) -> Scores | None:
        """Return the scores of a fit's members on a plan; None if no member has scores."""
        members, rows = [], []
        undefined: dict[str, str] = {}
        versions: dict[str, set[int]] = {}
        for number in sorted(fit.members):
            key = f"scores/{fit.folder}/{plan}/member-{number:03d}"
            entry = self.entry(key)
            if entry is not None and self._same_datasets(fit.task, plan, key, entry):
                members.append(number)
                rows.append(entry.arrays)
                undefined |= entry.record.get("undefined", {})
                scored = (entry.record.get("inputs") or {}).get("metrics")
                for name, known in scored.items() if isinstance(scored, dict) else ():
                    versions.setdefault(name, set()).add(known[0])
        if not rows:
            return None
        common = set.intersection(*(set(r) for r in rows)) - set(SETS)
        values = {name: np.stack([r[name] for r in rows]) for name in sorted(common)}
        block = rows[0].get("block", rows[0]["set"])  # older scores have sets only
        return Scores(tuple(members), rows[0]["point"], block, values, undefined, versions)

    def simulated(self, task: str) -> dict[str, int]:
        """Return the simulator calls of all results of a task, by purpose.

        Calls of jobs that were stopped by a limit are not recorded.
        """
        total: Counter[str] = Counter()
        for stage in ("fits", "predictions", "scores"):
            for key in self.store.keys(f"{stage}/{task}"):
                prediction = key.replace("scores/", "predictions/", 1)
                if stage == "scores" and self.store.record(prediction) is not None:
                    continue  # counted in the copy that scores have
                record = schema.read(self.store, key) or {}
                total.update(record.get("simulated", {}))
        return dict(total)

    def _same_datasets(self, task: str, plan: str, key: str, entry: Entry) -> bool:
        """Return whether scores have the evaluation points of other scores on this plan."""
        point = entry.arrays["point"]
        same = np.array_equal(self._datasets.setdefault((task, plan), point), point)
        if not same:
            self.damaged[key] = f"{key}.safetensors: 'point' numbers other sets than other scores"
        return same

    def failures(self, fit: SavedFit) -> dict[str, str]:
        """Return one-line reasons of failed fits, predictions and scores, by job."""
        reasons = {f"fit of member {m}": reason for m, reason in sorted(fit.failed.items())}
        for stage in ("predictions", "scores"):
            for key in self.store.keys(f"{stage}/{fit.folder}"):
                record = schema.read(self.store, key)
                if record is not None and record["status"] in ("failed", "n/a"):
                    plan, member = key.rsplit("/", 2)[1:]
                    reasons[f"{stage[:-1]} of {member.replace('-', ' ')} on {plan}"] = str(
                        record.get("error")
                    )
        return reasons


def _belongs(record: dict[str, Any], folder: str) -> bool:
    """Return whether the folder's name is one of a fit with this task and method."""
    name = re.escape(f"{record['task']}/{prefix(record['identity'])}{record['method']}-")
    return re.fullmatch(rf"{name}[\w-]+", folder) is not None
