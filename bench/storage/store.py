"""Store of arrays and records, written atomically and checked when read.

An entry is a record (JSON) and, if it has arrays, a safetensors file beside it. The record contains
the checksum of the arrays' file and of itself, and is written last. An entry without a valid
record, or copied from another key, counts as missing and is made again. Entries may be in a pack;
separate files take precedence. Nothing is ever unpickled. Folders may come from others: only
regular files of a reasonable size are read, and no symbolic link is followed out of the folder.
"""

import contextlib
import functools
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from bench.errors import StoreError
from bench.seeds import canonical_json, digest
from bench.storage.pack import PACK, PARTS, Pack, pack_of, packed

SCHEMA = 1
"""Version of stored data, part of every identity; raise it when their meaning changes."""

_LARGEST = {"json": 2**23, "safetensors": 2**32}  # largest size of an entry's files in bytes
_PART, _WRITABLE = ".nlbench-part-", ".nlbench-writable-"  # names that no other program uses
_STALE = 3600.0  # seconds after which an unfinished file is abandoned


@dataclass(frozen=True)
class Entry:
    """Content of the store under a key: a JSON-serialisable record and named arrays."""

    record: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


class Store:
    """Folder of entries, safe to share between processes.

    Args:
        root: the folder; created if need be.
        advice: what to do if it cannot be written.

    Raises:
        StoreError: if the folder cannot be written.

    Example:
        >>> import tempfile
        >>> store = Store(Path(tempfile.mkdtemp()))
        >>> store.write("fits/ab/member-000", {"status": "done"}, {"w": np.ones(2)})
        >>> store.read("fits/ab/member-000").arrays["w"]
        array([1., 1.])
        >>> store.read("fits/ab/member-001") is None
        True
    """

    def __init__(self, root: Path, advice: str = "choose another folder with --out") -> None:
        self.root = Path(root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.root, prefix=_WRITABLE):
                pass
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.root}: {error.strerror or error}; {advice}"
            ) from error
        self._sweep()

    @classmethod
    def open(cls, root: str | Path) -> "Store":
        """Open a folder that is known to be writable, without testing it."""
        store = cls.__new__(cls)
        store.root = Path(root)
        return store

    def write(
        self, key: str, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """Write an entry, replacing an older one; an equal record without arrays is not rewritten.

        Raises:
            StoreError: if the disk refuses, or the file would be too large to be read again.
        """
        body = {**record, "key": key}
        if not arrays and canonical_json(self.record(key)) == canonical_json(dict(record)):
            return
        if arrays:
            payload = save_arrays({k: np.ascontiguousarray(v) for k, v in arrays.items()})
            body["arrays_sha256"] = hashlib.sha256(payload).hexdigest()
            self._write_part(f"{key}.safetensors", payload)
        body["record_sha256"] = digest(body)
        self._write_part(f"{key}.json", (canonical_json(body) + "\n").encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file atomically: readers see the old content or the new, never a part."""
        path = self.root / name
        self._refuse_outside(path.parent)
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_PART)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except OSError as error:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error

    def record(self, key: str) -> dict[str, Any] | None:
        """Read a record; return None if it is missing, truncated or altered."""
        if (pack := self._pack_with(key)) is not None:
            return pack.record(key)
        try:
            body = json.loads(self._content(f"{key}.json"))
            claimed = body.pop("record_sha256")
            sound = digest(body) == claimed and body.pop("key", key) == key
            return body if sound else None
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            return None

    def read(self, key: str) -> Entry | None:
        """Read an entry; return None if a part of it is missing, truncated or altered."""
        record = self.record(key)
        if record is None:
            return None
        if "arrays_sha256" not in record:
            return Entry(record, {})
        if (pack := self._pack_with(key)) is not None:
            return Entry(record, pack.arrays(key)) if pack.has_arrays(key) else None
        try:
            payload = self._content(f"{key}.safetensors")
            if hashlib.sha256(payload).hexdigest() != record["arrays_sha256"]:
                return None
            return Entry(record, load_arrays(payload))
        except (OSError, SafetensorError, ValueError, KeyError):  # KeyError: an unknown dtype
            return None

    def where(self, key: str) -> Path | None:
        """Return the folder that has a record under a key, damaged or not, or None."""
        return self.root if self.holds(f"{key}.json") else None

    def holds(self, name: str) -> bool:
        """Return whether a file of this name exists, damaged or not, or a pack has its content."""
        if os.path.lexists(self.root / name):
            return True
        key, _, kind = name.rpartition(".")
        pack = self._pack_with(key)
        return pack is not None and (kind == "json" or pack.has_arrays(key))

    def files(self, key: str) -> dict[str, bytes]:
        """Return the files of an entry by name, unchanged; empty if it is damaged or packed."""
        if self.read(key) is None or self._pack_with(key) is not None:
            return {}
        paths = [self.root / f"{key}.safetensors", self.root / f"{key}.json"]  # record last
        return {p.relative_to(self.root).as_posix(): p.read_bytes() for p in paths if p.exists()}

    def keys(self, prefix: str) -> list[str]:
        """Return the keys with a record under a folder, sorted; records are not checked."""
        folder, pack = self.root / prefix, pack_of(self.root)
        found = {key for key in (pack.keys() if pack else ()) if key.startswith(f"{prefix}/")}
        if folder.is_dir() and self._is_inside(folder):
            found |= {
                path.relative_to(self.root).with_suffix("").as_posix()
                for path in folder.rglob("*.json")
            }
        return sorted(found)

    def pack(self, windows: Iterable[tuple[str, dict[str, Any]]] = ()) -> tuple[int, int]:
        """Move scores, fit records and plans into the folder's pack.

        The pack keeps its earlier entries; newer files replace them. A file is removed only after
        the new pack is written. Weights, and the records beside them, stay.

        Args:
            windows: keys and records of windows, which replace those of the earlier pack.

        Returns:
            Number of entries in the pack, and number of removed files.

        Raises:
            StoreError: if an entry is damaged, or the disk refuses.
        """
        with self.lock("pack"):
            return self._pack(windows)

    def _pack(self, windows: Iterable[tuple[str, dict[str, Any]]]) -> tuple[int, int]:
        entries: dict[str, Entry] = {}
        packed_files: dict[Path, os.stat_result] = {}
        for key in (key for part in PARTS for key in self.keys(part)):
            scores = key.startswith("scores/")
            files = [self.root / f"{key}.json"]
            if scores:
                files.append(self.root / f"{key}.safetensors")
            elif os.path.lexists(self.root / f"{key}.safetensors"):
                files = []  # the record stays beside its arrays
            if not os.path.lexists(self.root / f"{key}.json"):
                files = []  # it is in the pack; a job may be writing new arrays
            found = {path: path.stat() for path in files if path.is_file()}
            entry = self.read(key) if scores else Entry(self.record(key) or {}, {})
            if entry is None or not entry.record:
                raise StoreError(
                    f"{self.root / key}.json is damaged; `bench run` makes it anew, then pack again"
                )
            entries[key] = entry
            packed_files |= found
        if not entries:
            raise StoreError(f"{self.root} has no records to pack")
        entries |= {key: Entry(record, {}) for key, record in windows}
        self.write_bytes(PACK, packed((key, e.record, e.arrays) for key, e in entries.items()))
        removed = 0
        for path, status in packed_files.items():
            with contextlib.suppress(OSError):
                if self._is_inside(path.parent) and _same_file(path.lstat(), status):
                    path.unlink()
                    removed += 1
        for folder in sorted({p for path in packed_files for p in path.parents}, reverse=True):
            if folder != self.root and folder.is_relative_to(self.root):
                with contextlib.suppress(OSError):  # the folder is not empty
                    folder.rmdir()
        return len(entries), removed

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold a lock on a key; the operating system releases it if the process dies.

        Raises:
            StoreError: if the disk refuses.
        """
        path = self.root / "locks" / (digest(key)[:24] + ".lock")
        self._refuse_outside(path)
        lock = FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise StoreError(f"cannot lock {path}: {error.strerror or error}") from error
        try:
            yield
        finally:
            lock.release()

    def _pack_with(self, key: str) -> Pack | None:
        """Return the pack if it contains an entry that has no file of its own."""
        if os.path.lexists(self.root / f"{key}.json"):
            return None
        pack = pack_of(self.root)
        return pack if pack is not None and key in pack else None

    def _write_part(self, name: str, content: bytes) -> None:
        """Write a file of an entry, which must be small enough to be read again."""
        path = self.root / name
        largest = _LARGEST[path.suffix[1:]]
        if len(content) > largest:
            raise StoreError(f"cannot write {path}: it would be larger than {largest:,} bytes")
        self.write_bytes(name, content)

    def _content(self, name: str) -> bytes:
        """Read a file.

        Raises:
            OSError: if the system refuses.
            ValueError: if it is outside the folder, not a regular file, or too large.
        """
        path = self.root / name
        if not self._is_inside(path):
            raise ValueError(f"{path} is not inside {self.root}")
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a named pipe would block
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST[path.suffix[1:]]:
                raise ValueError(f"{path} is no regular file of a reasonable size")
            return file.read()

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._real)

    @functools.cached_property
    def _real(self) -> str:
        return os.path.realpath(self.root)

    def _refuse_outside(self, path: Path) -> None:
        if not self._is_inside(path):
            raise StoreError(f"cannot write {path}: it leads out of {self.root}")

    def _sweep(self) -> None:
        """Remove unfinished files of processes that were killed while writing."""
        for path in [*self.root.rglob(f"{_PART}*"), *self.root.glob(f"{_WRITABLE}*")]:
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE:
                    path.unlink()


def _same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Return whether a file has not been replaced or changed between two looks."""
    names = ("st_ino", "st_dev", "st_size", "st_mtime_ns")
    return all(getattr(one, name) == getattr(other, name) for name in names)
