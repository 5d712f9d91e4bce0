"""Several results folders read as one; fits are identified independent of their folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.boards.results import not_results
from bench.storage import schema
from bench.storage.store import Entry, Store


class Folders(Store):
    """Entries of several stores, for reading.

    Entries with the same identity are the same fit, plan or member. The first folder with a
    finished entry is used. The tolerance is that of the runs if they agree, else the default. Lists
    of absent methods from the last runs are combined.

    Args:
        stores: the folders, in order of precedence.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = tuple(stores)
        self.root = self.stores[0].root if self.stores else Path()

    def record(self, key: str) -> dict[str, Any] | None:
        """Read a record; see Store.record."""
        if key == "run":
            return self._run()
        store = self._holder(key)
        return store.record(key) if store is not None else None

    def _run(self) -> dict[str, Any] | None:
        """Return the first run, with the tolerance that all have and all absent methods."""
        runs = [run for store in self.stores if (run := schema.read(store, "run")) is not None]
        if not runs:
            return None
        tolerances = {run["preset"].get("tolerance") for run in runs}
        preset = {k: v for k, v in runs[0]["preset"].items() if k != "tolerance"}
        if len(tolerances) == 1 and None not in tolerances:
            preset["tolerance"] = tolerances.pop()
        absent = [one for run in runs for one in run.get("absent", [])]
        return runs[0] | {"preset": preset, "absent": absent}

    def read(self, key: str) -> Entry | None:
        """Read an entry; see Store.read."""
        store = self._holder(key)
        return store.read(key) if store is not None else None

    def keys(self, prefix: str) -> list[str]:
        """Return the keys in any of the folders; see Store.keys."""
        return sorted({key for store in self.stores for key in store.keys(prefix)})

    def where(self, key: str) -> Path | None:
        """Return the folder whose entry is used."""
        store = self._holder(key)
        return store.root if store is not None else None

    def _holder(self, key: str) -> Store | None:
        having = [s for s in self.stores if s.holds(f"{key}.json")]
        if len(having) < 2:
            return having[0] if having else None
        sound = [(s, record) for s in having if (record := s.record(key)) is not None]
        done = [s for s, record in sound if record.get("status", "done") == "done"]
        return next(iter(done or [s for s, _ in sound]), None)


def open_folders(paths: Sequence[str | os.PathLike[str]]) -> tuple[Folders, list[Path]]:
    """Open results folders, and folders with tables of studies.

    Raises:
        UsageError: if one of them is neither, such as a parent of results folders.
    """
    stores, studies = [], []
    for path in dict.fromkeys(Path(p) for p in paths):
        tables = sorted(file for file in path.glob("*.csv") if file.is_file())
        if (path / "run.json").is_file():
            stores.append(Store.open(path))
        elif tables and not any(path.glob("*/run.json")):
            studies += tables
        else:
            raise not_results(path, "run.json and no tables")
    return Folders(stores), studies
