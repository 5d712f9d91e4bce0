"""Results folders as commands see them: opened, checked, summed up in leaderboards."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UsageError

if TYPE_CHECKING:  # they import torch, which takes its time
    from bench.leaderboard import Leaderboard
    from bench.stages.registry import Registry
    from bench.stages.store import Store


def open_results(folder: str | None) -> "Store":
    """Opens an existing results folder; the newest under results/ where none is named.

    Raises:
        UsageError: if there is none.
    """
    from bench.stages.store import Store

    if folder is None:
        runs = sorted(Path("results").glob("*/run.json"), key=lambda p: p.stat().st_mtime)
        if not runs:
            raise UsageError("there are no results under results/; name a folder or `bench run`")
        return Store.open(runs[-1].parent)
    if not os.path.isfile(Path(folder) / "run.json"):
        from bench.leaderboard.results import not_results

        raise not_results(Path(folder))
    return Store.open(folder)


def damaged(store: "Store") -> list[str]:
    """Says which of the records that the rest hangs on are damaged, one line each."""
    from bench.stages import records

    keys = ["run", *store.keys("plans"), *(k for k in store.keys("fits") if k.endswith("/fit"))]
    return [
        f"{store.root / key}.json; `bench run` makes it anew"
        for key in keys
        if records.read(store, key) is None
    ]


def boards(store: "Store", registry: "Registry", tasks: Sequence[str]) -> "list[Leaderboard]":
    """Builds the leaderboards of the tasks that match a pattern."""
    from bench.leaderboard import Results, build

    return build(Results(store), registry.metrics(), tasks)


def write_leaderboards(store: "Store", registry: "Registry") -> None:
    """Keeps the leaderboards beside the results, for whoever has no bench at hand."""
    from bench.leaderboard import FORMATS

    everything = boards(store, registry, ("*",))
    for form in ("md", "csv", "json"):
        store.write_bytes(f"leaderboard.{form}", FORMATS[form](everything).encode())
