"""Conversion of event files into one array for each process and split.

A hash of the event's kinematics decides its split (train, validation, test), so that the split does
not depend on the download, the order or further files. Weights are not read: every event counts
once, also one that occurs several times.
"""

import errno
import hashlib
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, NonNegativeInt, field_validator, model_validator

from bench.errors import DataError

from .columns import READABLE as _UNPACKED
from .columns import Batch, batches

MAIN = ("signal", "background")
FURTHER = ("ttbar", "diboson")
"""Processes that a file may lack."""
PROCESSES = (*MAIN, *FURTHER)
SPLITS = {"train": 0.35, "validation": 0.10, "test": 0.55}
"""Shares of the events.

Tests get more than half: errors depend on the number of disjoint test blocks, and files are small.
"""
PARTS = tuple((process, split) for process in PROCESSES for split in SPLITS)
READABLE = (*_UNPACKED, ".zip")


class Manifest(BaseModel):
    """List of the stored events.

    Args:
        digest: hash of the signal and background events, and the folder that holds all.
        further: hash of the other events; empty if an earlier version, which left them out, wrote.
        counts: events of each process and split.
        repeated: number of removed duplicates of events.
        sources: files, and their rows.
        schemas: name of each source's schema; empty if an earlier version wrote none.
        unreadable: reasons of the files that were left out.
    """

    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    further: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    counts: list[NonNegativeInt]
    repeated: NonNegativeInt = 0
    sources: list[tuple[str, NonNegativeInt]]
    schemas: list[str] = []
    unreadable: list[str] = []

    @field_validator("counts")
    @classmethod
    def _one_for_each_part(cls, counts: list[int]) -> list[int]:
        if len(counts) == len(MAIN) * len(SPLITS):
            counts = [*counts, *[0] * (len(FURTHER) * len(SPLITS))]
        if len(counts) != len(PARTS):
            raise ValueError("counts and parts differ in number")
        return counts

    @model_validator(mode="after")
    def _a_schema_for_each_source(self) -> "Manifest":
        if len(self.schemas) not in (0, len(self.sources)):
            raise ValueError("schemas and sources differ in number")
        return self


@dataclass(frozen=True)
class _Source:
    """File that was read: name, rows, name of its schema."""

    name: str
    rows: int
    schema: str


def files_of(path: Path) -> list[Path]:
    """Return a file, or the readable files of a folder in order of their names."""
    if path.is_file():
        if not path.name.endswith(READABLE):
            raise DataError(f"{path} is not readable: allowed are {', '.join(READABLE)}")
        return [path]
    if not path.is_dir():
        what = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise DataError(f"{path} {what}")
    found = sorted(p for p in path.iterdir() if p.is_file() and _is_data(p.name, READABLE))
    if not found:
        raise DataError(f"{path} holds no file that ends in {', '.join(READABLE)}")
    return found


def _is_data(name: str, readable: tuple[str, ...]) -> bool:
    """Return whether a file's name indicates events; macOS adds files that start with "._"."""
    return name.endswith(readable) and not Path(name).name.startswith("._")


def prepare(
    files: list[Path],
    working: Path,
    report: Callable[..., None],
    skip: Callable[[Mapping[str, str]], bool],
) -> Manifest:
    """Read event files in batches; write one file for each process and each split.

    Args:
        files: parquet, csv or zip files.
        working: an empty folder; the events are written to its `events`.
        report: shows progress.
        skip: decides whether to go on without the files that cannot be read.

    Raises:
        DataError: if no file can be read, or `skip` refuses, or a process has too few events.
    """
    folder = working / "events"
    folder.mkdir()
    sources: list[_Source] = []
    unreadable: dict[str, str] = {}
    with ExitStack() as stack:
        events, keys = (
            [stack.enter_context((at / f"{p}-{s}.{kind}").open("wb")) for p, s in PARTS]
            for at, kind in ((folder, "f32"), (working, "u64"))
        )
        for path in files:
            ends = [written.tell() for written in (*events, *keys)]
            try:
                sources += [
                    _append(part, name, events, keys, report)
                    for part, name in _unpacked(path, working)
                ]
            except DataError as error:
                unreadable[path.name] = str(error)
                for written, end in zip((*events, *keys), ends, strict=True):
                    written.seek(end)
                    written.truncate()
    if unreadable and not (sources and skip(unreadable)):
        reasons = "; ".join(unreadable.values())
        if not sources:
            raise DataError(reasons)
        raise DataError(
            f"{len(unreadable)} of {len(files)} files cannot be read: {reasons}; "
            "--skip-unreadable goes on without them"
        )
    repeated, counts = 0, []
    main, further = hashlib.sha256(), hashlib.sha256()
    for process, split in PARTS:
        path = folder / f"{process}-{split}.f32"
        repeated += _keep_once(path, working / f"{process}-{split}.u64")
        counts.append(path.stat().st_size // 12)
        with path.open("rb") as file:
            whole = main if process in MAIN else further
            whole.update(hashlib.file_digest(file, "sha256").digest())
    manifest = Manifest(
        digest=main.hexdigest(),
        further=further.hexdigest(),
        counts=counts,
        repeated=repeated,
        sources=[(source.name, source.rows) for source in sources],
        schemas=[source.schema for source in sources],
        unreadable=list(unreadable.values()),
    )
    for process in MAIN:
        if not all(n for (of, _), n in zip(PARTS, counts, strict=True) if of == process):
            raise DataError(
                f"{', '.join(source.name for source in sources)}: too few {process} events, "
                f"{counts_of(manifest, process)}; every part needs some"
            )
    return manifest


def counts_of(manifest: Manifest, process: str) -> str:
    """Return the number of events of a process in each split, as text."""
    counted = zip(PARTS, manifest.counts, strict=True)
    return ", ".join(f"{split} {n:,}" for (of, split), n in counted if of == process)


def _append(
    path: Path,
    name: str,
    events: Sequence[BinaryIO],
    keys: Sequence[BinaryIO],
    report: Callable[..., None],
) -> _Source:
    """Write a file's events and their keys to the files of the parts."""
    rows, schema = 0, ""
    for batch, total in batches(path, name):
        schema = batch.schema
        rows += len(batch.process)
        key = _keys(batch)
        part = np.digitize(_uniform(key), np.cumsum(list(SPLITS.values()))[:-1])
        kept = np.stack([batch.lepton[:, 0], batch.hadron[:, 0], batch.opening], -1)
        for i, (process, _) in enumerate(PARTS):
            chosen = (batch.process == process) & (part == i % len(SPLITS))
            events[i].write(kept[chosen].astype("<f4").tobytes())
            keys[i].write(key[chosen].tobytes())
        report(stage=f"read {name}", done=rows, total=total)
    return _Source(name, rows, schema)


def _unpacked(path: Path, working: Path) -> Iterator[tuple[Path, str]]:
    """Yield a file and its name; the members of an archive are unpacked one at a time."""
    if path.suffix != ".zip":
        yield path, path.name
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.namelist() if _is_data(m, _UNPACKED)]
            if not members:
                raise DataError(f"{path} holds no parquet or csv file")
            for member in members:
                own = working / f"member{''.join(Path(member).suffixes[-2:])}"
                with archive.open(member) as packed, own.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
                yield own, f"{path.name}/{Path(member).name}"
                with suppress(OSError):
                    own.unlink()
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        RuntimeError,
        EOFError,
        OSError,
    ) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise DataError(f"{path} is not a sound zip archive: {error}") from error


def _keys(batch: Batch) -> NDArray[np.uint64]:
    """Return a hash of each event's six recorded momenta, (n,).

    It is the finaliser of SplitMix64 (Steele, Lea & Flood 2014), chained over the columns.
    """
    state = np.zeros(len(batch.lepton), dtype=np.uint64)
    for column in (*batch.lepton.T, *batch.hadron.T):
        bits = np.ascontiguousarray(column + np.float32(0), dtype="<f4")  # −0 becomes 0
        state = (state ^ bits.view("<u4").astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def _uniform(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each event."""
    return (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _keep_once(events: Path, keys: Path) -> int:
    """Remove events that also occur in an earlier row; return their number."""
    key = np.fromfile(keys, dtype=np.uint64)
    ordered = np.sort(key)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return 0
    rows = np.flatnonzero(np.isin(key, repeated))
    again = np.delete(rows, np.unique(key[rows], return_index=True)[1])
    held = np.fromfile(events, dtype="<f4").reshape(-1, 3)
    np.delete(held, again, axis=0).tofile(events)
    return len(again)
