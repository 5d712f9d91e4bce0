"""Reader of events from parquet and csv files, which checks the required columns."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import DataError, counted, printable

READABLE = (".parquet", ".csv", ".csv.gz")
_ROWS = 1 << 18  # rows of a batch
_LEPTON = ("PRI_lep_pt", "PRI_lep_eta", "PRI_lep_phi")
_MOST_NAMES, _LONGEST_NAME = 40, 40  # column names in a message, and their length
_LARGEST = {"eta": 10.0, "phi": 3.2}
"""Largest allowed angles; larger values are degrees, or −999, which marks missing values."""


@dataclass(frozen=True)
class _Schema:
    """Columns of a file format, and the process that each of its labels means."""

    name: str
    hadron: tuple[str, str, str]
    label: str
    labels: Mapping[str, str]

    @property
    def columns(self) -> tuple[str, ...]:
        return (*_LEPTON, *self.hadron, self.label)


_SCHEMAS = (
    _Schema(
        "FAIR Universe",
        ("PRI_had_pt", "PRI_had_eta", "PRI_had_phi"),
        "detailed_labels",
        {"htautau": "signal", "ztautau": "background", "ttbar": "ttbar", "diboson": "diboson"},
    ),
    _Schema(
        "HiggsML 2014",
        ("PRI_tau_pt", "PRI_tau_eta", "PRI_tau_phi"),
        "Label",
        {"s": "signal", "b": "background"},
    ),
)


@dataclass(frozen=True)
class Batch:
    """Batch of events of a file.

    Args:
        lepton: pT in GeV, η and φ, (n, 3) float32.
        hadron: the same of the hadronic tau.
        opening: cosh Δη − cos Δφ of the two, (n,) float32.
        process: signal, background, ttbar or diboson, (n,) str.
        schema: name of the schema that the file follows.
    """

    lepton: NDArray[np.float32]
    hadron: NDArray[np.float32]
    opening: NDArray[np.float32]
    process: NDArray[np.str_]
    schema: str


def batches(path: Path, name: str) -> Iterator[tuple[Batch, int | None]]:
    """Yield the batches of a file, each with the file's number of rows if known.

    Args:
        path: the file; parquet, or csv, which may be compressed.
        name: name of the file in messages.

    Raises:
        DataError: if it cannot be read, lacks columns, or has impossible values.
    """
    import pyarrow

    try:
        reading = _parquet(path, name) if path.suffix == ".parquet" else _csv(path, name)
        first = 0
        for table, schema, total in reading:
            yield _checked(table, schema, name, first), total
            first += table.num_rows
    except (pyarrow.ArrowException, OSError, EOFError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{name} cannot be read: {' '.join(str(error).split())}") from error
    if first == 0:
        raise DataError(f"{name} has no rows")


def _parquet(path: Path, name: str) -> Iterator[tuple[Any, _Schema, int | None]]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        rows = file.metadata.num_rows
        schema = _schema(file.schema_arrow.names, name, rows)
        _check_types(file.schema_arrow, schema, f"{name} ({counted(rows, 'row')})")
        for batch in file.iter_batches(_ROWS, columns=list(schema.columns)):
            yield batch, schema, rows


def _csv(path: Path, name: str) -> Iterator[tuple[Any, _Schema, int | None]]:
    import pyarrow
    from pyarrow import csv

    with pyarrow.input_stream(str(path), compression="detect") as stream:
        header = stream.read(1 << 16).partition(b"\n")[0].decode("utf-8-sig", errors="replace")
    names = [column.strip("\r").strip('"') for column in header.split(",")]
    found = re.findall(r"(?<![A-Za-z0-9_])PRI_", header)
    if len(found) > sum(column.startswith("PRI_") for column in names):
        raise DataError(f"{name}: names of columns must be separated by commas, without spaces")
    schema = _schema(names, name, None)
    types = {c: pyarrow.float64() for c in schema.columns} | {schema.label: pyarrow.string()}
    convert = csv.ConvertOptions(column_types=types, include_columns=list(schema.columns))
    options = csv.ReadOptions(block_size=1 << 24)
    try:
        with pyarrow.input_stream(str(path), compression="detect") as stream:
            for batch in csv.open_csv(stream, read_options=options, convert_options=convert):
                yield batch, schema, None
    except pyarrow.ArrowInvalid as error:  # the error counts columns
        said = re.sub(r"In CSV column #(\d+)", lambda found: names[int(found[1])], str(error))
        raise DataError(f"{name} cannot be read: {' '.join(said.split())}") from error


def _schema(names: Sequence[str], name: str, rows: int | None) -> _Schema:
    """Find the schema that a file follows, by the columns of the hadronic tau.

    Raises:
        DataError: if there is none; the message names the expected columns and those of the file.
    """
    where = name if rows is None else f"{name} ({counted(rows, 'row')})"
    for schema in _SCHEMAS:
        missing = [column for column in schema.columns if column not in names]
        if not missing:
            if twice := [column for column in schema.columns if names.count(column) > 1]:
                raise DataError(f"{where} has column {twice[0]} twice")
            return schema
        if schema.hadron[0] in names or schema.label in names:
            raise DataError(
                f"{where} lacks column{'s' * (len(missing) > 1)} {', '.join(missing)} of the "
                f"{schema.name} schema ({', '.join(schema.columns)}); {_columns_of(names)}"
            )
    known = " or ".join(f"{', '.join(s.columns)} ({s.name})" for s in _SCHEMAS)
    raise DataError(f"{where} follows no known schema; it must have {known}; {_columns_of(names)}")


def _columns_of(names: Sequence[str]) -> str:
    """Return a list of a file's columns as text, on one line of bounded length."""
    shown = [printable(name)[:_LONGEST_NAME] for name in names if name.strip()]
    more = f" and {len(shown) - _MOST_NAMES:,} more" if len(shown) > _MOST_NAMES else ""
    return f"it has {', '.join(shown[:_MOST_NAMES]) or 'no named column'}{more}"


def _check_types(types: Any, schema: _Schema, where: str) -> None:
    """Raise DataError for parquet columns that are not numeric, and labels that are not text."""
    from pyarrow import types as kinds

    for column in schema.columns:
        found = types.field(column).type
        if column != schema.label:
            numbers = kinds.is_floating, kinds.is_integer, kinds.is_decimal
            wanted, right = "numbers", any(is_number(found) for is_number in numbers)
        else:
            text = found.value_type if kinds.is_dictionary(found) else found
            wanted, right = "text", str(text) in ("string", "large_string", "string_view")
        if not right:
            raise DataError(f"{where}: {column} is of type {found}, and must be {wanted}")


def _checked(table: Any, schema: _Schema, name: str, first: int) -> Batch:
    """Read one batch; raise DataError for non-finite values, momenta ≤ 0 and unknown labels."""
    with np.errstate(over="ignore"):  # infinite values are refused below
        columns = {
            c: table.column(c).to_numpy(zero_copy_only=False).astype(np.float32)
            for c in schema.columns[:-1]
        }

    def refuse(bad: NDArray[np.bool_], said: str, allowed: str = "") -> None:
        if bad.any():
            rows = f"rows {first:,} to {first + table.num_rows:,}"
            count = counted(int(bad.sum()), "row")
            raise DataError(f"{name}, {rows}: {said} in {count}{allowed}")

    for column, values in columns.items():
        refuse(~np.isfinite(values), f"{column} is not finite")
        if column.endswith("_pt"):
            refuse(values <= 0, f"{column} is not positive")
        largest = _LARGEST.get(column.rpartition("_")[2], np.inf)
        refuse(np.abs(values) > largest, f"{column} is not within ±{largest:g}")
    encoded = table.column(schema.label).dictionary_encode()
    labels = encoded.dictionary.to_pylist()
    refuse(encoded.is_null().to_numpy(zero_copy_only=False), f"{schema.label} is empty")
    index = encoded.indices.to_numpy(zero_copy_only=False)
    for i in np.unique(index):
        if labels[i] not in schema.labels:
            said = f"{schema.label} is {str(labels[i])[:40]!r}"
            refuse(index == i, said, f"; allowed are {', '.join(schema.labels)}")
    meaning = np.array([schema.labels.get(label, "") for label in labels] or [""])
    process = meaning[index] if len(labels) else np.empty(0, dtype="<U1")
    lepton, hadron = (np.stack([columns[c] for c in part], -1) for part in (_LEPTON, schema.hadron))
    apart = lepton.astype(np.float64) - hadron
    with np.errstate(over="ignore"):  # infinite values are refused below
        opening = (np.cosh(apart[:, 1]) - np.cos(apart[:, 2])).astype(np.float32)
    said = f"{_LEPTON[1]}, {schema.hadron[1]} and the angles give no visible mass"
    refuse(~(np.isfinite(opening) & (opening > 0)), said)
    return Batch(lepton, hadron, opening, process, schema.name)
