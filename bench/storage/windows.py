"""Windows: likelihoods of two parameters around the maxima of a few datasets, for packs.

They are a part of a prediction. A fall of the log-likelihood is kept as the square root of twice
the fall, in one byte: a Gaussian's number of standard deviations, in steps of 0.02 up to 5.1.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bench.inference.intervals import NODES
from bench.storage import entries
from bench.storage.schema import MOST_WINDOWS
from bench.storage.store import Store

_STEP = 0.02


@dataclass(frozen=True)
class Windows:
    """Windows of one member's likelihoods of W datasets.

    Args:
        point: evaluation point of each dataset, −1 where θ was drawn uniformly, (W,).
        dataset: number of each dataset in its plan, (W,).
        theta: generating parameters, (W, 2).
        mle: maximum-likelihood estimates, (W, 2).
        origin: first node, unit coordinates, (W, 2).
        spacing: distance between nodes, unit coordinates, (W, 2).
        root: square root of twice the fall from the maximum, in steps, (W, NODES, NODES) uint8.
    """

    point: NDArray[np.int64]
    dataset: NDArray[np.int64]
    theta: NDArray[np.float64]
    mle: NDArray[np.float64]
    origin: NDArray[np.float64]
    spacing: NDArray[np.float64]
    root: NDArray[np.uint8]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take the windows of a few datasets from the arrays of a prediction."""
        chosen = _chosen(arrays["datasets.point"])
        fall = np.maximum(-arrays["curves.joint"][chosen].astype(float), 0)
        root = np.rint(np.sqrt(2 * fall) / _STEP)
        return cls(
            point=arrays["datasets.point"][chosen],
            dataset=chosen,
            theta=arrays["datasets.theta"][chosen],
            mle=arrays["curves.mle"][chosen],
            origin=arrays["curves.origin"][chosen],
            spacing=arrays["curves.spacing"][chosen],
            root=np.minimum(root, 255).astype(np.uint8),
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Rebuild windows from a record that matches its schema."""
        root = np.frombuffer(bytes.fromhex("".join(record["root"])), np.uint8)
        return cls(
            point=np.array(record["point"], np.int64),
            dataset=np.array(record["dataset"], np.int64),
            theta=np.array(record["theta"], np.float64),
            mle=np.array(record["mle"], np.float64),
            origin=np.array(record["origin"], np.float64),
            spacing=np.array(record["spacing"], np.float64),
            root=root.reshape(-1, NODES, NODES),
        )

    def record(self) -> dict[str, Any]:
        """Return the record that packs keep: lists, and nodes as hexadecimal digits."""
        lists = {f.name: getattr(self, f.name).tolist() for f in fields(self)}
        return lists | {"root": [window.tobytes().hex() for window in self.root]}

    @property
    def fall(self) -> NDArray[np.float64]:
        """Log-likelihoods minus their maxima at the nodes, cut at −13, (W, NODES, NODES)."""
        fall: NDArray[np.float64] = -0.5 * (_STEP * self.root.astype(np.float64)) ** 2
        return fall


def has_windows(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Return whether a prediction has likelihoods of two parameters on a lattice."""
    return "curves.joint" in arrays and arrays["curves.joint"].ndim == 3


def of_predictions(store: Store) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield keys and records of the windows of a folder's saved predictions that have scores."""
    for key in store.keys("predictions"):
        _, _, member = key.partition("/")
        if not store.holds(f"scores/{member}.json"):
            continue
        entry = entries.read(store, key)
        if entry is not None and has_windows(entry.arrays):
            yield f"windows/{member}", Windows.of(entry.arrays).record()


def _chosen(point: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first dataset of evenly chosen points, or the first datasets without points."""
    points, first = np.unique(point, return_index=True)
    first = first[points >= 0].astype(np.int64)
    if not len(first):
        return np.arange(min(MOST_WINDOWS, len(point)))
    places = np.linspace(0, len(first) - 1, min(MOST_WINDOWS, len(first)))
    return np.take(first, places.round().astype(np.int64))
