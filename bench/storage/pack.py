"""Packs: scores, fit records, plans, windows and studies of a results folder in one parquet file.

A row is a set of a member's scores; entries without arrays have one row. `record` is the entry's
record as JSON, in its first row. Columns of scores that an entry lacks are null, and NaN stays NaN.
The file contains the digest of its content, which is checked. Weights, predictions and simulations
are not packed.
"""

import hashlib
import io
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from bench.errors import StoreError, message_of
from bench.seeds import canonical_json

PACK = "pack.parquet"
"""Name of a pack in its results folder."""
PARTS = ("plans", "fits", "scores", "windows", "bootstrap-k", "diagnostics")
"""Folders whose records are packed: those of runs, and of studies."""
FORMATS = (1, 2)
"""Versions of the layout: the second has windows."""

_FORMAT_KEY, _DIGEST_KEY = b"nlbench-pack", b"nlbench-digest"
_OWN = ("key", "record")
_LARGEST = 2**30  # largest size of a pack in bytes
_MOST_CELLS = 2**28  # cells of its table
_UNREADABLE = (
    OSError,
    MemoryError,
    ValueError,
    KeyError,
    TypeError,
    RecursionError,
    pa.ArrowException,
)

Row = tuple[dict[str, Any], dict[str, NDArray[Any]]]


def packed(entries: Iterable[tuple[str, dict[str, Any], dict[str, NDArray[Any]]]]) -> bytes:
    """Return the bytes of a pack.

    Args:
        entries: key, record and arrays (S,) of each entry, integers or floating-point numbers.
    """
    names: list[str] = []
    records: list[str | None] = []
    columns: dict[str, list[tuple[int, NDArray[Any]]]] = {}
    for key, record, arrays in sorted(entries, key=lambda entry: entry[0]):
        first, rows = len(names), max((len(a) for a in arrays.values()), default=1)
        names += [key] * rows
        records += [canonical_json(record), *[None] * (rows - 1)]
        for name, values in arrays.items():
            columns.setdefault(name, []).append((first, values))
    made = [pa.array(names).dictionary_encode(), pa.array(records, pa.large_string())]
    for parts in columns.values():
        whole = np.zeros(len(names), np.result_type(*(values for _, values in parts)))
        absent = np.ones(len(names), bool)
        for first, values in parts:
            whole[first : first + len(values)] = values
            absent[first : first + len(values)] = False
        made.append(pa.array(whole, mask=absent, from_pandas=False))
    table = pa.table(made, [*_OWN, *columns])
    version = FORMATS[any(key.startswith("windows/") for key in names)]
    about = {_FORMAT_KEY: str(version).encode(), _DIGEST_KEY: _digest(table).encode()}
    table = table.replace_schema_metadata(about)
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    buffer = io.BytesIO()
    parquet.write_table(
        table,
        buffer,
        compression="zstd",
        compression_level=19,
        use_dictionary=["key"],
        use_byte_stream_split=floats,
    )
    return buffer.getvalue()


def _digest(table: pa.Table) -> str:
    """Return the SHA-256 of names, values and null masks of a table's columns."""
    whole = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        whole.update(name.encode())
        if name in _OWN:
            whole.update(json.dumps(column.to_pylist()).encode())
        else:
            whole.update(column.is_valid().to_numpy().tobytes())
            whole.update(column.fill_null(0).to_numpy().tobytes())
    return whole.hexdigest()


class Pack:
    """Entries of a pack, in memory.

    Args:
        path: the file.

    Raises:
        StoreError: if it is damaged, too large, or of another version.
    """

    def __init__(self, path: Path) -> None:
        try:
            regular = path.is_file() and not path.is_symlink()
            if not regular or path.stat().st_size > _LARGEST:
                raise ValueError("it is no regular file of a reasonable size")
            try:
                path.open("rb").close()
            except OSError as error:
                raise StoreError(f"cannot read pack {path}: {error.strerror}") from error
            size = parquet.read_metadata(path)
            if size.num_rows * size.num_columns > _MOST_CELLS:
                raise ValueError("it has too many rows")
            about = parquet.read_schema(path).metadata or {}
            version = about.get(_FORMAT_KEY, b"").decode()
            if version not in map(str, FORMATS):
                raise ValueError(
                    f"its format is {version or 'unknown'}, and this nlbench reads "
                    f"{' and '.join(map(str, FORMATS))}"
                )
            table = parquet.read_table(path, memory_map=False)
            if about.get(_DIGEST_KEY, b"").decode() != _digest(table):
                raise ValueError("its content is not what was written")
            records = table.column("record").combine_chunks()
            starts = np.flatnonzero(records.is_valid().to_numpy(zero_copy_only=False))
            keys = table.column("key").take(pa.array(starts)).to_pylist()
            self._records = {
                key: json.loads(text, parse_constant=_refuse_constant)
                for key, text in zip(keys, records.take(pa.array(starts)).to_pylist(), strict=True)
            }
            names = table.column("key").to_pylist()
            changes = [i for i, name in enumerate(names) if not i or name != names[i - 1]]
            sound = starts.tolist() == changes and len(self._records) == len(starts) > 0
            if not (sound and all(map(_is_record, self._records.items()))):
                raise ValueError("its keys or records are not those of a pack")
        except _UNREADABLE as error:
            what = (message_of(error) or type(error).__name__)[:200]
            raise StoreError(
                f"pack {path} is damaged: {what}; restore it, or remove it to make all anew"
            ) from error
        ends = [*starts[1:].tolist(), len(table)]
        self._rows = dict(zip(keys, zip(starts.tolist(), ends, strict=True), strict=True))
        self._table = table.drop_columns(list(_OWN))

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def keys(self) -> list[str]:
        """Return the keys of all entries."""
        return [*self._records]

    def record(self, key: str) -> dict[str, Any] | None:
        """Return an entry's record, or None."""
        record = self._records.get(key)
        return None if record is None else json.loads(json.dumps(record))

    def has_arrays(self, key: str) -> bool:
        """Return whether the pack contains arrays of an entry: those of scores, but no weights."""
        return key.startswith("scores/") and "arrays_sha256" in self._records.get(key, {})

    def arrays(self, key: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of scores by name, (S,) each."""
        first, end = self._rows[key]
        part = self._table.slice(first, end - first)
        return {
            name: column.to_numpy().copy()
            for name, column in zip(part.column_names, part.columns, strict=True)
            if not column.null_count
        }


def _is_record(item: tuple[Any, Any]) -> bool:
    """Return whether a key is a path inside a results folder, and its record an object."""
    key, record = item
    if not (isinstance(key, str) and isinstance(record, dict)):
        return False
    part, *others = key.split("/")
    named = all(name and name not in (".", "..") and len(name) <= 255 for name in others)
    return part in PARTS and bool(others) and named and key.isprintable()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"a record holds {name}")


def pack_of(root: Path) -> Pack | None:
    """Return the pack of a results folder, or None; it is read again only if the file changes.

    Raises:
        StoreError: as `Pack`.
    """
    path = root / PACK
    try:
        status = path.lstat()
    except OSError:
        return None
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, modified: int, size: int) -> Pack:
    return Pack(path)
