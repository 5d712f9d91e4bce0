"""Entries of the store that jobs make: finished, failed, or not there yet."""

import time
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from bench.contracts import Plan
from bench.errors import StoreError
from bench.stages.store import Entry, Store


@dataclass(frozen=True)
class Place:
    """Where a job works: the store's folder, the plugins, the device; plain values only."""

    root: str
    plugins: tuple[str, ...]
    device: str
    overwrite_before: float
    """Entries made before this time are made again; 0 keeps all."""


def is_done(store: Store, key: str, overwrite_before: float = 0.0) -> bool:
    """Whether an entry is sound, finished, and not to be overwritten."""
    return is_recorded(store, key, overwrite_before) and store.read(key) is not None


def is_recorded(store: Store, key: str, overwrite_before: float = 0.0) -> bool:
    """Whether an entry's record is so, be its arrays kept or not."""
    record = store.record(key) or {}
    return record.get("status") == "done" and record.get("finished", 0.0) >= overwrite_before


def done(**fields: Any) -> dict[str, Any]:
    """The record of what a job has made."""
    return {"status": "done", "finished": time.time(), **fields}


def failed(error: str, error_type: str, **fields: Any) -> dict[str, Any]:
    """The record of what did not come about, and why."""
    return {"status": "failed", "error": error, "error_type": error_type, **fields}


def read_done(store: Store, key: str) -> Entry:
    """Reads what an earlier job made.

    Raises:
        StoreError: if it is missing or damaged, or its job failed.
    """
    entry = store.read(key)
    if entry is None:
        raise StoreError(f"{store.root / key} is missing or damaged; run again to make it anew")
    if entry.record.get("status") != "done":
        raise StoreError(f"{key} failed: {entry.record.get('error')}")
    return entry


def plan_of(values: dict[str, Any]) -> Plan:
    """Rebuilds a plan from its settings."""
    plan: Plan = TypeAdapter(Plan).validate_python(values)
    return plan
