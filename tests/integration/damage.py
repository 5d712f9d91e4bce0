"""Damage that passes checksums: arrays of an entry are changed and checksums recomputed."""

import hashlib
import json
import struct

import numpy as np
from safetensors.numpy import load, save

from bench.seeds import canonical_json, digest


def replace(root, key, payload):
    """Write bytes as an entry's arrays, with correct checksums."""
    (root / f"{key}.safetensors").write_bytes(payload)
    path = root / f"{key}.json"
    body = json.loads(path.read_text())
    del body["record_sha256"]
    body["arrays_sha256"] = hashlib.sha256(payload).hexdigest()
    path.write_text(canonical_json(body | {"record_sha256": digest(body)}) + "\n")


def rewrite(root, key, change):
    """Change an entry's arrays, by a function that edits a dictionary or returns another."""
    arrays = {k: v.copy() for k, v in load((root / f"{key}.safetensors").read_bytes()).items()}
    arrays = change(arrays) or arrays
    replace(root, key, save({k: np.array(v, order="C") for k, v in arrays.items()}))


def one(damage):
    """Convert the damage of one array to a change of a named array."""

    def of(name):
        def change(arrays):
            arrays[name] = damage(arrays[name])

        return change

    return of


def missing(name):
    return lambda arrays: {k: v for k, v in arrays.items() if k != name} or {"other": np.zeros(1)}


def first(value):
    """Return a damage that sets the first number of an array."""

    def damage(array):
        array = array.copy()
        array.flat[0] = value
        return array

    return one(damage)


def other_type(array):
    return array.astype(np.float16 if array.dtype.kind == "f" else np.uint8)


SHAPES = {
    "missing": missing,
    "an axis more": one(lambda a: a[..., None]),
    "an axis before": one(lambda a: a[None]),
    "an axis less": one(lambda a: a.reshape(-1)[0]),
    "another type": one(other_type),
    "empty": one(lambda a: a[:0]),
    "short": one(lambda a: a[:-1]),
    "long": one(lambda a: np.concatenate([a, a])),
}
NOT_FINITE = {"NaN": first(np.nan), "inf": first(np.inf)}
NUMBERS = {
    "far": first(10**6),
    "negative": first(-7),
    "all the same": one(np.zeros_like),
    "backwards": one(lambda a: a[::-1] + 1),
}


def _with_dtype(payload, name):
    """Return the payload with another dtype of the same size, or an unknown one, in its header."""
    (length,) = struct.unpack("<Q", payload[:8])
    header = json.loads(payload[8 : 8 + length])
    for array in header.values():
        array["dtype"] = name
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload[8 + length :]


FILES = {
    "no bytes": lambda payload: b"",
    "a length alone": lambda payload: payload[:8],
    "half a header": lambda payload: payload[:60],
    "half the numbers": lambda payload: payload[: len(payload) - 9],
    "too long": lambda payload: payload + b"more",
    "a huge header": lambda payload: struct.pack("<Q", 2**62) + payload[8:],
    "no JSON": lambda payload: payload[:8] + b"\xff" * (len(payload) - 8),
    "an unknown type": lambda payload: _with_dtype(payload, "F65"),
    "no arrays": lambda payload: save({}),
    **{
        f"type {name}": lambda payload, name=name: _with_dtype(payload, name)
        for name in ("F8_E4M3", "F8_E5M2", "BF16", "F4", "C64", "U64")
    },
}
