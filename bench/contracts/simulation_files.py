"""Files of simulations: pairs of parameters and observations in .npz and .parquet, checked."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.contracts.parameters import Parameter
from bench.errors import DataError
from bench.seeds import canonical_json

Array = NDArray[Any]

FEWEST = 100
"""Smallest number of rows of a file."""
_UNFILLED = 0.1  # largest share of a parameter's range without rows, at either end
_WHOLE = 2**24  # whole numbers up to here are exact in float32
_ROUNDING = 1e-6  # of a range: float32 parameters may be this far outside


@dataclass(frozen=True)
class StoredSimulations:
    r"""Stored pairs: datasets of M observations, each with its parameters.

    Args:
        theta: parameters, (n, P) float64.
        x: observations, (n, M, \*event) float32.
    """

    theta: Tensor
    x: Tensor

    def __len__(self) -> int:
        return len(self.theta)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shapes and numbers, the same for every format of file."""
        found = hashlib.sha256(canonical_json([*self.theta.shape, *self.x.shape]).encode())
        for array in (self.theta, self.x):
            found.update(array.numpy().data)
        return found.hexdigest()


def read_simulations(
    file: str | Path,
    parameters: Sequence[Parameter],
    *,
    observations: int = 1,
    columns: Sequence[str] = (),
) -> StoredSimulations:
    r"""Read pairs of parameters and observations, and check every row.

    An .npz file holds the arrays `theta`, (n, P), and `x`, (n, \*event), or (n, M, \*event) if a
    row has several observations. A .parquet file has one column per parameter, and columns of
    numbers, or of lists of equal length, for the elements of x.

    Args:
        file: the file.
        parameters: names, in the order of theta's columns, and ranges.
        observations: number M of observations in a row.
        columns: names of the columns of x in a .parquet file; all others where empty.

    Raises:
        DataError: if the file cannot be read or a row is not allowed; the message is one line.
    """
    path = Path(file)
    names = [parameter.name for parameter in parameters]
    theta, x = read_arrays(path, names, columns)
    for what, array in (("theta", theta), ("x", x)):
        whole = array.dtype.kind in "iu"
        if not whole and array.dtype not in (np.float32, np.float64):
            _refuse(path, f"{what} is {array.dtype}; allowed are float32, float64 and integers")
        if whole and array.size and max(-int(array.min()), int(array.max())) > _WHOLE:
            _refuse(path, f"{what} holds whole numbers beyond 2^24, which float32 rounds")
    if theta.ndim == 1 and len(names) == 1:
        theta = theta[:, None]
    if theta.ndim != 2 or theta.shape[1] != len(names):
        _refuse(path, f"theta has shape {theta.shape}; it must be (n, {len(names)}) for {names}")
    if x.ndim < 1 or len(x) != len(theta):
        _refuse(path, f"theta has {len(theta)} rows, and x has shape {x.shape}; rows must agree")
    if len(x) < FEWEST:
        _refuse(path, f"it has {len(x)} rows; at least {FEWEST} are needed")
    several = observations > 1
    if several and (x.ndim < 2 or x.shape[1] != observations):
        _refuse(
            path,
            f"x has shape {x.shape}; with observations = {observations} its second axis must be "
            f"{observations}",
        )
    has_axis = several or (x.ndim > 2 and x.shape[1] == 1)
    x = x.reshape(len(x), observations, *(x.shape[1 + has_axis :] or (1,)))
    if not x.size:
        _refuse(path, f"x has shape {x.shape}, which holds no number")
    theta = np.ascontiguousarray(theta, np.float64)
    with np.errstate(over="ignore"):  # too large a number becomes infinite, and is refused
        x = np.ascontiguousarray(x, np.float32)
    _check_rows(path, theta, x, parameters)
    return StoredSimulations(torch.from_numpy(theta), torch.from_numpy(x))


def read_arrays(path: Path, names: Sequence[str], columns: Sequence[str]) -> tuple[Array, Array]:
    """Read the arrays theta and x of a file as they are.

    Args:
        path: the file.
        names: names of the parameters, which are columns of a .parquet file.
        columns: names of the columns of x in a .parquet file; all others where empty.

    Raises:
        DataError: if the file cannot be read, or an array or column is missing.
    """
    if not path.is_file():
        _refuse(path, "it is not a file" if path.exists() else "it does not exist")
    readers: Mapping[str, Callable[[Path, Sequence[str], Sequence[str]], tuple[Array, Array]]] = {
        ".npz": _read_npz,
        ".parquet": _read_parquet,
    }
    if path.suffix not in readers:
        _refuse(path, f"simulations are read from {' and '.join(readers)} files")
    return readers[path.suffix](path, names, columns)


def ranges(
    file: str | Path, names: Sequence[str] = ()
) -> dict[str, tuple[float, float, tuple[float, float]]]:
    """Return the range of every parameter of a file, rounded outwards, and its inner 80 %.

    Args:
        file: the file.
        names: names of the parameters, in order; those of an .npz file are by default theta1 to
            thetaP.

    Raises:
        DataError: if the file cannot be read, or has another number of parameters.
    """
    path = Path(file)
    theta, _ = read_arrays(path, names, ())
    columns = theta.reshape(len(theta), -1).T if theta.ndim in (1, 2) else np.zeros((0, 0))
    known = names or [f"theta{j + 1}" for j in range(len(columns))]
    if not len(columns) or len(known) != len(columns):
        _refuse(path, f"theta has shape {theta.shape}; it must be (n, {len(known) or 'P'})")
    if columns.dtype.kind != "f" or not np.isfinite(columns).all():
        _refuse(path, f"theta, of type {theta.dtype}, holds other than finite real numbers")
    if len({*known}) != len(known):
        _refuse(path, f"names of parameters are not distinct: {', '.join(known)}")
    found = {}
    for name, values in zip(known, columns, strict=True):
        least, most = float(values.min()), float(values.max())
        if least == most:
            _refuse(path, f"{name} is {least} in all rows; a parameter must vary")
        digits = 2 - math.floor(math.log10(most - least))
        low = round(math.floor(least * 10.0**digits) / 10.0**digits, digits)
        high = round(math.ceil(most * 10.0**digits) / 10.0**digits, digits)
        tenth = (high - low) / 10
        inner = round(low + tenth, digits + 1), round(high - tenth, digits + 1)
        found[name] = low, high, inner
    return found


def _refuse(path: Path, problem: str) -> NoReturn:
    raise DataError(f"{path.name}: {problem}")


def _read_npz(path: Path, names: Sequence[str], columns: Sequence[str]) -> tuple[Array, Array]:
    if columns:
        _refuse(path, "an .npz file has no columns; its observations are the array x")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = {"theta", "x"} - {*archive}
            if missing:
                _refuse(path, f"it has no array {min(missing)!r}, but {', '.join(archive)}")
            return archive["theta"], archive["x"]
    except (OSError, ValueError, TypeError, AttributeError, EOFError, BadZipFile):
        _refuse(path, "it is no .npz archive of numbers, as numpy.savez writes")


def _read_parquet(path: Path, names: Sequence[str], columns: Sequence[str]) -> tuple[Array, Array]:
    import pyarrow  # slow to import
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException):
        _refuse(path, "it is no .parquet file")
    chosen = list(columns) or [name for name in table.column_names if name not in names]
    for name in (*names, *chosen):
        if table.column_names.count(name) != 1:
            known = ", ".join(table.column_names)
            _refuse(path, f"it must have one column {name!r}; its columns are {known}")
    if not names or not chosen:
        _refuse(path, f"it has no column of {'x' if names else 'a parameter'}")
    theta = np.stack([_column(path, table, name) for name in names], -1)
    found = {name: _column(path, table, name) for name in chosen}
    first, *others = found.items()
    for name, values in others:
        if values.shape != first[1].shape:
            _refuse(path, f"columns {first[0]!r} and {name!r} hold lists of different lengths")
    x = np.stack([*found.values()], -1)
    # One column of lists is a series of numbers.
    return theta, x[..., 0] if x.ndim == 3 and x.shape[-1] == 1 else x


def _column(path: Path, table: Any, name: str) -> Array:
    """Return a column of numbers, (n,), or of lists of equal length, (n, length)."""
    import pyarrow
    from pyarrow import compute

    column = table.column(name).combine_chunks()
    shape: tuple[int, ...] = (len(column),)
    if hasattr(column.type, "value_type") and not pyarrow.types.is_dictionary(column.type):
        lengths = compute.list_value_length(column).drop_null().unique().to_pylist()
        if len(lengths) > 1:
            _refuse(path, f"column {name!r} holds lists of {min(lengths)} to {max(lengths)} items")
        shape = (len(column), *lengths)
        flat = column.flatten()
    else:
        flat = column
    if column.null_count or flat.null_count:
        _refuse(path, f"column {name!r} has missing values")
    floating = flat.type in (pyarrow.float32(), pyarrow.float64())
    if not floating and not pyarrow.types.is_integer(flat.type):
        _refuse(path, f"column {name!r} is {flat.type}; allowed are float, double and integers")
    values: Array = flat.to_numpy(zero_copy_only=False).reshape(shape)
    return values


def _check_rows(path: Path, theta: Array, x: Array, parameters: Sequence[Parameter]) -> None:
    """Refuse rows that are not finite, out of range or equal, and ranges that are not filled."""
    for what, array in (("theta", theta), ("x", x)):
        bad = ~np.isfinite(array).reshape(len(array), -1).all(1)
        if bad.any():
            _refuse(path, f"{what} is NaN or infinite (as float32) in row {int(bad.argmax())}")
    for parameter, values in zip(parameters, theta.T, strict=True):
        name, low, high = parameter.name, parameter.low, parameter.high
        slack = _ROUNDING * (high - low)
        bad = (values < low - slack) | (values > high + slack)
        if bad.any():
            row = int(bad.argmax())
            _refuse(path, f"{name} = {values[row]:.6g} in row {row} is outside [{low}, {high}]")
        # On its scale, so that logarithmic ranges are not cut.
        bounds = np.array([low, values.min(), values.max(), high])
        scaled = np.log(np.maximum(bounds, low)) if parameter.scale == "log" else bounds
        unfilled = np.diff(scaled)[[0, 2]] / (scaled[3] - scaled[0])
        if unfilled.max() > _UNFILLED:
            _refuse(
                path,
                f"{name} is {bounds[1]:.6g} to {bounds[2]:.6g}, which does not fill its range "
                f"[{low}, {high}]; declare a range that the simulations fill",
            )
    if (rows := _equal_rows(theta, x)) is not None:
        _refuse(path, f"rows {rows[0]} and {rows[1]} are equal; remove copies")


def _equal_rows(theta: Array, x: Array) -> tuple[int, int] | None:
    """Return the numbers of two equal rows, or None."""
    _, group, count = np.unique(theta[:, 0], return_inverse=True, return_counts=True)
    candidates = np.flatnonzero(count[group] > 1)
    if not len(candidates):
        return None
    parts = [np.ascontiguousarray(array[candidates]) for array in (theta, x)]
    bytes_of = [array.reshape(len(candidates), -1).view(np.uint8) for array in parts]
    rows = np.concatenate(bytes_of, 1)
    keys = rows.view(np.dtype((np.void, rows.shape[1])))[:, 0]
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    if not len(same):
        return None
    one, other = sorted(candidates[order[same[0] : same[0] + 2]].tolist())
    return one, other
