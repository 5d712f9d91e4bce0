"""The store: arrays and records, written atomically, checked when read.

An entry is a record (JSON) and, where there are arrays, a safetensors file beside it. The record
holds the checksum of the arrays' file and of itself, and is written last: an entry without a sound
record does not exist, and is made again. Nothing is ever unpickled.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
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
from bench.numerics.seeds import canonical_json, digest

SCHEMA = 1
"""Raise it when what is stored changes its meaning; it enters every identity."""


@dataclass(frozen=True)
class Entry:
    """What the store holds under a key: a JSON-able record and named arrays."""

    record: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


class Store:
    """A folder of entries, safe to share between processes.

    Args:
        root: the folder; created if need be.

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

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.root, prefix=".writable-"):
                pass
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.root}: {error.strerror or error}; choose another folder "
                "with --out"
            ) from error

    @classmethod
    def open(cls, root: str | Path) -> "Store":
        """Opens a folder that is known to be writable, without trying."""
        store = cls.__new__(cls)
        store.root = Path(root)
        return store

    def write(
        self, key: str, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """Writes an entry; what was there is replaced.

        Raises:
            StoreError: if the disk refuses.
        """
        body = dict(record)
        if arrays:
            payload = save_arrays({k: np.ascontiguousarray(v) for k, v in arrays.items()})
            body["arrays_sha256"] = hashlib.sha256(payload).hexdigest()
            self.write_bytes(f"{key}.safetensors", payload)
        body["record_sha256"] = digest(body)
        self.write_bytes(f"{key}.json", (canonical_json(body) + "\n").encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Writes a file atomically: readers see the old content or the new, never a part."""
        path = self.root / name
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
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
        """Reads a record; None if it is missing, truncated or altered."""
        try:
            body = json.loads((self.root / f"{key}.json").read_bytes())
            claimed = body.pop("record_sha256")
            return body if digest(body) == claimed else None
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            return None

    def read(self, key: str) -> Entry | None:
        """Reads an entry; None if a part of it is missing, truncated or altered."""
        record = self.record(key)
        if record is None:
            return None
        if "arrays_sha256" not in record:
            return Entry(record, {})
        try:
            payload = (self.root / f"{key}.safetensors").read_bytes()
            if hashlib.sha256(payload).hexdigest() != record["arrays_sha256"]:
                return None
            return Entry(record, load_arrays(payload))
        except (OSError, SafetensorError, ValueError):
            return None

    def keys(self, prefix: str) -> list[str]:
        """Keys that have a record under a folder, sorted; their soundness is not checked."""
        folder = self.root / prefix
        if not folder.is_dir():
            return []
        return sorted(
            path.relative_to(self.root).with_suffix("").as_posix()
            for path in folder.rglob("*.json")
        )

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Holds a key for this process; freed by the operating system if the process dies.

        Raises:
            StoreError: if the disk refuses.
        """
        path = self.root / "locks" / (digest(key)[:24] + ".lock")
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
