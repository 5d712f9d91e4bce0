"""Simulations on disk: made in chunks, stored, and counted in simulator calls."""

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from bench.contracts import Task
from bench.seeds import digest
from bench.storage.entries import read
from bench.storage.store import Store

SHARED = "NLBENCH_SIMULATIONS"
"""Environment variable that names a folder of simulations for many runs and workers."""

Purpose = Literal["standardisation", "training", "evaluation"]
PURPOSES: tuple[Purpose, ...] = ("standardisation", "training", "evaluation")
Arrays = dict[str, Tensor]

_SIZES = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Chunk sizes of an expensive task; sums of the first ones give all round numbers."""
_SHARE = 20
"""Inverse of the largest ratio of a chunk to the simulations before it; it limits unused ones."""


def chunk_sizes(task: Task, n: int) -> list[int]:
    """Return the sizes of the chunks that hold the first n simulations of a stream.

    They do not depend on n: the chunks of a shorter draw are the first of a longer one. If calls
    are expensive, at most a twentieth of n, or four calls, remain unused.

    Example:
        >>> from types import SimpleNamespace
        >>> chunk_sizes(SimpleNamespace(expensive=False, chunk=5000), 5001)
        [5000, 5000]
        >>> sizes = chunk_sizes(SimpleNamespace(expensive=True, chunk=5000), 501)
        >>> sizes[:2], sizes[-2:], sum(sizes)
        ([5, 5], [20, 20], 520)
    """
    sizes: list[int] = []
    total = 0
    while total < n:
        size = task.chunk
        if task.expensive:
            size = min(size, max((s for s in _SIZES if _SHARE * s <= total), default=_SIZES[0]))
        sizes.append(size)
        total += size
    return sizes


@dataclass(frozen=True)
class Chunk:
    """Simulations that are made together.

    Args:
        key: key in the store; None if they are not stored, and made whenever they are needed.
        calls: simulator calls that they take.
        purpose: purpose of the calls.
        random: whether the number of simulations is random; `calls` is then a typical one.
    """

    key: str | None
    calls: int
    purpose: Purpose
    random: bool = False


def simulations_key(task: Task, identity: Sequence[Any]) -> str:
    """Return the key of simulations with this identity."""
    # An edited plugin file may simulate something else under the same name and version.
    name = digest(identity, task.plugin_hash)
    return f"simulations/{task.name}/{name[:2]}/{name[:32]}"


class SimulationStore(Store):
    """Store of simulations, which counts the simulator calls that it has made.

    Args:
        store: the results folder; NLBENCH_SIMULATIONS may name another one.
        report: function that receives a job's progress. It is also called at the begin and the end
            of simulations, which do not count against the job's time limit.

    Attributes:
        made: simulator calls so far, by purpose.
        seconds: duration of the simulations, including waits for other processes that make them.
    """

    def __init__(self, store: Store, report: Callable[..., None] = lambda **_: None) -> None:
        self.root = Path(os.environ.get(SHARED) or store.root)
        self.report = report
        self.made: Counter[Purpose] = Counter()
        self.seconds = 0.0

    @classmethod
    def of(cls, store: Store) -> "SimulationStore":
        """Return the simulations of a results folder; return a SimulationStore unchanged."""
        return store if isinstance(store, cls) else cls(store)

    def get(
        self,
        task: Task,
        chunk: Chunk,
        names: Set[str],
        make: Callable[[], Arrays],
        extra: Mapping[str, Callable[[Arrays], Tensor]] = MappingProxyType({}),
    ) -> Arrays:
        """Return a chunk's simulations: read them if they are stored, else make them.

        Args:
            task: the task.
            chunk: the chunk.
            names: names of the arrays that `make` returns.
            make: calls the simulator.
            extra: by name, further arrays that are computed from these, without the simulator.
        """
        if chunk.key is None:
            return self._make(chunk, make)
        wanted = {*names, *extra}
        arrays = self._arrays(task, chunk)
        if not wanted <= arrays.keys():
            begin = time.monotonic()
            self.report(simulating=chunk.calls if task.expensive else 1)
            try:
                with self.lock(chunk.key):
                    arrays = self._arrays(task, chunk)
                    if not wanted <= arrays.keys():
                        if not names <= arrays.keys():
                            arrays = self._make(chunk, make)
                        arrays |= {k: f(arrays) for k, f in extra.items() if k not in arrays}
                        self.write(chunk.key, {}, {k: v.numpy() for k, v in arrays.items()})
            finally:
                seconds = time.monotonic() - begin
                self.seconds += seconds
                self.report(simulated=seconds)
        return {k: arrays[k] for k in sorted(wanted)}

    def _make(self, chunk: Chunk, make: Callable[[], Arrays]) -> Arrays:
        arrays = make()
        self.made[chunk.purpose] += chunk.calls
        return arrays

    def _arrays(self, task: Task, chunk: Chunk) -> Arrays:
        """Read a chunk's arrays; return an empty dictionary if they are missing or damaged."""
        entry = None if chunk.key is None else read(self, chunk.key, task)
        arrays = {} if entry is None else entry.arrays
        if "x" in arrays and not chunk.random and len(arrays["x"]) != chunk.calls:
            return {}
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
