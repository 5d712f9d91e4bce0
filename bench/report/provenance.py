"""Provenance of numbers: commands, versions, machines, hashes."""

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

from bench.report.tables import Cell, Table
from bench.seeds import digest
from bench.storage import schema
from bench.storage.store import Store

if TYPE_CHECKING:  # it imports pandas and torch, which are slow
    from bench.report.load import Loaded

_SHOWN = ("nlbench", "python", "torch", "device", "machine", "cores")


@dataclass(frozen=True)
class Part:
    """Provenance of one results folder.

    Args:
        folder: its path, as it was given.
        command: command that made it.
        author: who made it, as its preset says.
        when: dates of the first and the last training or score, in UTC.
        settings: members, seed, budgets, in words.
        plugins: plugin files that it needed.
        fingerprint: SHA-256 of the records of its run, plans, fits and scores, which hold the
            checksums of everything else.
    """

    folder: str
    command: str
    author: str
    when: str
    settings: str
    plugins: tuple[str, ...]
    fingerprint: str


def parts(loaded: "Loaded") -> list[Part]:
    """Return the results folders of a report."""
    return [_part(store) for store in loaded.folders.stores]


def _part(store: Store) -> Part:
    run = schema.read(store, "run") or {}
    preset = run.get("preset", {})
    told = {
        "members": preset.get("members", ""),
        "training data": preset.get("training_data", ""),
        "seed": preset.get("seed", ""),
        "budgets": ", ".join(f"{budget:,}" for budget in preset.get("budgets", ())),
        "plans": ", ".join(plan["kind"] for plan in preset.get("plans", ())),
    }
    settings = [f"{title} {value}" for title, value in told.items() if value != ""]
    return Part(
        str(store.root),
        shlex.join(map(str, run.get("command", ()))),
        str(preset.get("author", "")),
        _dates(store),
        "; ".join(settings),
        tuple(map(str, run.get("plugins", ()))),
        fingerprint(store),
    )


def _dates(store: Store) -> str:
    """Return the days of the first and the last finished record: "2026-11-22 to 2026-11-29"."""
    keys = (key for part in ("fits", "scores") for key in store.keys(part))
    records = (schema.read(store, key) for key in keys if not key.endswith("/fit"))
    finished = [r["finished"] for r in records if r and r.get("finished")]
    ends = (datetime.fromtimestamp(end, UTC) for end in finished and (min(finished), max(finished)))
    return " to ".join(sorted({f"{end:%Y-%m-%d}" for end in ends}))


def fingerprint(store: Store) -> str:
    """Return the SHA-256 of the records of a results folder: run, plans, fits and scores."""
    parts = (store.keys(part) for part in ("plans", "fits", "scores"))
    return digest([[key, store.record(key)] for key in ("run", *chain.from_iterable(parts))])


def machines(loaded: "Loaded") -> Table:
    """Return a table of versions and machines, with the number of networks trained on each."""
    found = Counter(
        tuple(str(record["environment"].get(name, "–")) for name in _SHOWN)
        for fit in loaded.results.fits
        for record in fit.members.values()
        if not fit.oracle
    )
    rows = [[*map(Cell, where), Cell(f"{n:,}", sort=n)] for where, n in sorted(found.items())]
    return Table(
        "machines", "Versions and machines", [*_SHOWN, "networks"], rows, words=len(_SHOWN)
    )


def fits(loaded: "Loaded") -> Table:
    """Return a table with a line for each fit: its hash, members and failures."""
    rows = []
    for fit in sorted(loaded.results.fits, key=lambda f: (f.task, f.label, f.folder)):
        seconds = sum(record["seconds"] for record in fit.members.values())
        failed = "; ".join(f"member {m}: {why}" for m, why in sorted(fit.failed.items()))
        rows.append(
            [
                Cell(fit.task),
                Cell(fit.label, method=fit.label),
                Cell(fit.folder.rsplit("-", 1)[-1]),
                Cell(failed),
                Cell(f"{fit.budget:,}", sort=fit.budget),
                Cell(str(fit.identity["seed"]), sort=fit.identity["seed"]),
                Cell(str(len(fit.members)), sort=len(fit.members)),
                Cell(f"{seconds:,.0f}", sort=seconds),
            ]
        )
    columns = ["task", "method", "fit", "failed", "calls", "seed", "members", "seconds"]
    return Table("fits", "Fits behind the numbers", columns, rows, words=4)


def tables_of_studies(loaded: "Loaded") -> Iterator[tuple[str, str]]:
    """Yield the paths of tables of studies, with the SHA-256 of their bytes."""
    for path in loaded.study_files:
        yield str(path), hashlib.sha256(path.read_bytes()).hexdigest()
