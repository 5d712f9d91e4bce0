"""Access of commands to results folders: opening, damage reports and leaderboards."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.echo import tell
from bench.errors import UsageError, printable

if TYPE_CHECKING:  # they import torch, which is slow
    from bench.boards import Results
    from bench.storage.store import Store


def open_results(folder: str | None, write: bool = False) -> "Store":
    """Open an existing results folder; by default the newest under results/.

    Args:
        folder: the folder.
        write: whether it will be written to; if so, this tries to write.

    Raises:
        UsageError: if the folder has no results.
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
        from bench.boards.results import not_results

        raise not_results(Path(folder))
    return Path(folder)


def damaged_entries(results: "Results") -> list[str]:
    """Return one line per damaged entry among the entries that have been read."""
    store = results.store
    found = [(store.where(key), damage) for key, damage in sorted(results.damaged.items())]
    return [f"{root / damage}; `bench run` makes it anew" for root, damage in found if root]


def damaged(store: "Store") -> list[str]:
    """Return one line per damaged record that others depend on: the run, its plans and its fits."""
    from bench.storage import schema

    keys = ["run", *store.keys("plans"), *(k for k in store.keys("fits") if k.endswith("/fit"))]
    return [
        f"{store.root / key}.json; `bench run` makes it anew"
        for key in keys
        if schema.read(store, key) is None
    ]


def report_folder(results: Sequence[str | Path]) -> Path:
    """Return the folder to which `bench report` writes by default."""
    name = Path(results[0]).resolve().name if len(results) == 1 else "comparison"
    return Path("reports") / name


def tell_outdated(store: "Store") -> None:
    """Print one line if the report in the default folder was made from other results than now."""
    from bench.report.output import made_from

    folder, root = report_folder([store.root]), os.path.abspath(printable(str(store.root)))
    known = [found for path, found in made_from(folder).items() if os.path.abspath(path) == root]
    if not known:
        return
    from bench.report.provenance import fingerprint

    if fingerprint(store) not in known:
        renews = shlex.join(["bench", "report", str(store.root)])
        tell(f"{folder} was made from older results; `{renews}` renews it")
