"""Results folders as commands see them: opened, checked, summed up in leaderboards."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UsageError

if TYPE_CHECKING:  # they import torch, which takes its time
    from bench.leaderboard import Leaderboard, Results
    from bench.registry.registry import Registry
    from bench.storage.store import Store


def open_results(folder: str | None, write: bool = False) -> "Store":
    """Opens an existing results folder; the newest under results/ where none is named.

    Args:
        folder: the folder.
        write: whether it will be written to, which is tried.

    Raises:
        UsageError: if there is none.
        StoreError: if it cannot be written to.
    """
    from bench.storage.store import Store

    found = _existing(folder)
    return Store(found, "copy it, or make it writable") if write else Store.open(found)


def _existing(folder: str | None) -> Path:
    if folder is None:
        runs = sorted(Path("results").glob("*/run.json"), key=lambda p: p.stat().st_mtime)
        if not runs:
            raise UsageError("there are no results under results/; name a folder or `bench run`")
        return runs[-1].parent
    if not os.path.isfile(Path(folder) / "run.json"):
        from bench.leaderboard.results import not_results

        raise not_results(Path(folder))
    return Path(folder)


def damaged_entries(results: "Results") -> list[str]:
    """Lists the damaged entries among those that have been read, one line each."""
    store = results.store
    found = [(store.where(key), damage) for key, damage in sorted(results.damaged.items())]
    return [f"{root / damage}; `bench run` makes it anew" for root, damage in found if root]


def damaged(store: "Store") -> list[str]:
    """Says which of the records that the rest hangs on are damaged, one line each."""
    from bench.storage import schema

    keys = ["run", *store.keys("plans"), *(k for k in store.keys("fits") if k.endswith("/fit"))]
    return [
        f"{store.root / key}.json; `bench run` makes it anew"
        for key in keys
        if schema.read(store, key) is None
    ]


def write_leaderboards(
    store: "Store", registry: "Registry"
) -> tuple["Results", list["Leaderboard"]]:
    """Keep the leaderboards beside the results, for whoever has no bench at hand.

    Returns:
        What was read for them, and the leaderboards.
    """
    from bench.leaderboard import FORMATS, Results, build

    results = Results(store)
    everything = build(results, registry.metrics())
    for form in ("md", "csv", "json"):
        store.write_bytes(f"leaderboard.{form}", FORMATS[form](everything).encode())
    return results, everything
