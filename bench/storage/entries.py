"""Entries of the store that jobs write: finished, failed or missing."""

import re
import reprlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from bench.contracts import Plan, Task
from bench.errors import StoreError
from bench.registry.registry import Defined, Registry, registry_of
from bench.storage import arrays, schema
from bench.storage.store import Entry, Store

_ENTRY = re.compile(r"^simulations/|/member-\d+$")  # other files are ignored


@dataclass(frozen=True)
class JobContext:
    """Context of a job.

    Args:
        root: the store's folder.
        plugins: plugin files.
        device: where networks run.
        overwrite_before: entries made before this time are made again; 0 keeps all.
        objects: tasks, methods and metrics of this process; jobs with such stay in it.
    """

    root: str
    plugins: tuple[str, ...]
    device: str
    overwrite_before: float
    objects: tuple[Defined, ...] = ()

    @property
    def registry(self) -> Registry:
        """Names that a job knows."""
        return registry_of(self.plugins, self.objects)


def is_done(
    store: Store, key: str, overwrite_before: float = 0.0, task: Task | None = None
) -> bool:
    """Return whether an entry is undamaged, finished, and not to be overwritten."""
    return is_recorded(store, key, overwrite_before) and read(store, key, task) is not None


def is_recorded(store: Store, key: str, overwrite_before: float = 0.0) -> bool:
    """Return whether an entry's record is finished and current, with or without arrays."""
    record = store.record(key) or {}
    return record.get("status") == "done" and record.get("finished", 0.0) >= overwrite_before


def done(**fields: Any) -> dict[str, Any]:
    """Return the record of a finished entry."""
    return {"status": "done", "finished": time.time(), **fields}


def failed(error: str, error_type: str, **fields: Any) -> dict[str, Any]:
    """Return the record of a failed entry, with the reason."""
    return {"status": "failed", "error": error, "error_type": error_type, **fields}


def inspect(
    store: Store,
    key: str,
    task: Task | None = None,
    plans: Mapping[str, dict[str, Any]] | None = None,
) -> tuple[Entry | None, str]:
    """Read an entry, and describe its damage.

    Args:
        store: the folder.
        key: key of simulations, a member's fit, a prediction or scores.
        task: the entry's task, if known: arrays must have its sizes.
        plans: records of the folder's plans, if they have been read.

    Returns:
        The entry, with a record whose texts are safe to print; None if it is missing, damaged or a
        file of another origin. Then the damaged file, as a path in the folder, and the reason, in
        one line; empty if nothing is damaged. Columns of scores with unprintable names are left
        out, and count as damage.
    """
    if not _ENTRY.search(key) or store.where(key) is None:
        return None, ""
    found = store.read(key)
    if found is None:
        part = "json: it" if store.record(key) is None else "safetensors: it"
        return None, f"{key}.{part} is missing, truncated or altered"
    record = schema.shown(key, found.record)
    if record is None:
        return None, f"{key}.json: it is no record of what belongs there"
    if record.get("status", "done") != "done":
        return Entry(record, {}), ""
    bad = arrays.unreadable(key, found.arrays)
    entry = Entry(record, {n: a for n, a in found.arrays.items() if n not in bad})
    plan = None
    if key.startswith(("predictions/", "scores/")):
        name = key.split("/")[-2]
        plan = schema.read(store, f"plans/{name}") if plans is None else plans.get(name)
    said = arrays.problem(key, found.record, entry.arrays, plan, task)
    if said:
        return None, f"{key}.safetensors: {said}"
    if bad:
        return entry, f"{key}.safetensors: {reprlib.repr(bad[0])} is no name of a column"
    return entry, ""


def read(store: Store, key: str, task: Task | None = None) -> Entry | None:
    """Read an entry, as `inspect` does; return None if it is missing or anything is damaged."""
    entry, damage = inspect(store, key, task)
    return None if damage else entry


def read_done(store: Store, key: str, task: Task | None = None) -> Entry:
    """Read the finished entry of an earlier job.

    Raises:
        StoreError: if it is missing or damaged, or its job failed.
    """
    entry, damage = inspect(store, key, task)
    if damage:
        raise StoreError(f"{store.root / damage}; run again to make it anew")
    if entry is None:
        raise StoreError(f"{store.root / key} is missing or damaged; run again to make it anew")
    if entry.record.get("status") != "done":
        raise StoreError(f"{key} failed: {entry.record.get('error')}")
    return entry


def plan_of(values: dict[str, Any]) -> Plan:
    """Rebuild a plan from its settings."""
    plan: Plan = TypeAdapter(Plan).validate_python(values)
    return plan
