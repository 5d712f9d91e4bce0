"""The fit harness: trains a method on a task as a run would, and watches; fits are kept."""

import copy
import random
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from bench.contracts import (
    Component,
    Draw,
    Features,
    FitContext,
    Method,
    ReferenceKind,
    Simulations,
    Split,
    Surrogate,
    Task,
)
from bench.experiment.selection import configure
from bench.seeds import generator
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store
from bench.testing.guard import guarded

Length = Literal["short", "middle"]
_LENGTHS: dict[Length, dict[str, int]] = {
    "short": {"epochs": 1, "steps": 20},
    "middle": {"steps": 600},
}  # to how many settings of these names are cut


@dataclass
class Watched:
    """What a fit has done besides learning.

    Args:
        splits: the splits that it drew.
        drawn: simulations that it drew for training, by what they are of.
        calls: functions of components that it called without the bank.
        spent: simulator calls per member.
        changed: shared state of the process that it changed, and how.
    """

    splits: set[Split] = field(default_factory=set)
    drawn: dict[tuple[Any, ...], int] = field(default_factory=dict)
    calls: set[str] = field(default_factory=set)
    spent: int = 0
    changed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WatchedFit:
    """A surrogate, and how it came about."""

    surrogate: Surrogate
    watched: Watched


class FitHarness:
    """A method on a task, with simulations in a temporary folder.

    Args:
        method: the method.
        configuration: which of its configurations; the first where None.
        task: the task.
        seed: seed of simulations and training.
    """

    def __init__(
        self, method: type[Method], configuration: str | None, task: Task, seed: int = 0
    ) -> None:
        self.type, self.task, self.seed = method, task, seed
        self.configuration = configuration or next(iter(method.configurations))
        self.method = configure(method, self.configuration)
        folder = tempfile.mkdtemp(prefix="nlbench-check-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._store = Store(Path(folder))
        self._fits: dict[tuple[object, ...], WatchedFit] = {}

    def _of_length(self, length: Length) -> Method:
        """The method with its epochs and steps cut, where it has settings of these names."""
        settings = self.method.config.model_dump()
        _cut(settings, _LENGTHS[length])
        return self.type(self.type.Config.model_validate(settings))

    @cached_property
    def features(self) -> Features:
        """The task's features."""
        return features_of(self.task, self._store)

    def fit(
        self,
        members: Sequence[int],
        budget: int,
        *,
        length: Length = "short",
        again: int = 0,
        device: str = "cpu",
    ) -> WatchedFit:
        """Trains members, or returns what was trained before.

        Args:
            members: the block.
            budget: simulator calls per member.
            length: to what length training is cut.
            again: another number trains anew.
            device: where.
        """
        key = (tuple(members), budget, length, again, device)
        if key not in self._fits:
            self._fits[key] = self._fit(members, budget, length, device)
        return self._fits[key]

    def _fit(self, members: Sequence[int], budget: int, length: Length, device: str) -> WatchedFit:
        seen = Watched()
        oracle = self.type.oracle
        bank = _WatchedBank(
            self.task,
            self._store,
            0 if oracle else budget,
            members,
            "shared" if oracle else "fresh",
            self.seed,
            seen,
        )
        features = self.features
        fit_context = FitContext(
            torch.device(device),
            lambda member, purpose: generator("check", self.seed, member, purpose),
            lambda **_: None,
        )
        method = self._of_length(length)
        with guarded():
            _seed_globals(self.seed)
            with guarded() as changed:
                surrogate = method.fit(
                    _watched(self.task, seen), bank, features, members, fit_context
                )
        seen.spent, seen.changed = bank.spent, changed
        return WatchedFit(surrogate, seen)

    def stored(self, surrogate: Surrogate) -> dict[str, Tensor] | None:
        """The surrogate's state as it comes back from the disk."""
        state = surrogate.state()
        if state is None:
            return None
        arrays = {name: value.detach().cpu().numpy() for name, value in state.items()}
        self._store.write("check/state", {}, arrays)
        entry = self._store.read("check/state")
        assert entry is not None
        return {name: torch.from_numpy(a.copy()) for name, a in entry.arrays.items()}

    def restore(self, state: dict[str, Tensor]) -> Surrogate:
        """A surrogate from its state, by a method that has not trained."""
        return self.type(self.method.config).restore(self.task, self.features, state)


class _WatchedBank(SimulationBank):
    """The suite's bank, which notes what is drawn."""

    def __init__(
        self,
        task: Task,
        store: Store,
        budget: int,
        members: Sequence[int],
        training_data: Literal["fresh", "shared"],
        seed: int,
        seen: Watched,
    ) -> None:
        super().__init__(task, store, budget, members, training_data, seed)
        self._seen = seen

    def draw(
        self,
        component: str,
        n: int,
        *,
        split: Split = "train",
        at: Tensor | Literal["prior"] = "prior",
        score: bool = False,
    ) -> Simulations:
        self._seen.splits.add(split)
        note(self._seen.drawn, Draw(component, n, at))
        return super().draw(component, n, split=split, at=at, score=score)

    def reference(self, n: int, kind: ReferenceKind, *, split: Split = "train") -> Simulations:
        self._seen.splits.add(split)
        note(self._seen.drawn, Draw(None, n, reference=kind))
        return super().reference(n, kind, split=split)


def note(drawn: dict[tuple[Any, ...], int], draw: Draw) -> None:
    """Adds a draw; of the same simulations the longest counts."""
    at = draw.at if isinstance(draw.at, str) else tuple(draw.at.tolist())
    key = draw.component, at, draw.reference
    drawn[key] = max(draw.n, drawn.get(key, 0))


def _watched(task: Task, seen: Watched) -> Task:
    """A copy of a task that notes when its components are called; the bank has the original."""
    shown = copy.copy(task)

    def components(split: Split) -> dict[str, Component]:
        return {name: _noted(c, seen) for name, c in task.components(split).items()}

    vars(shown)["components"] = components
    return shown


def _noted(component: Component, seen: Watched) -> Any:
    def noted(name: str) -> Callable[..., Any]:
        def call(self: object, *arguments: Any, **options: Any) -> Any:
            seen.calls.add(name)
            return getattr(component, name)(*arguments, **options)

        return call

    has = [n for n in ("simulate", "log_prob", "score", "block") if hasattr(component, n)]
    # A class of its own: protocols look for methods there, not on the object.
    made = type(type(component).__name__, (), {"size": component.size} | {n: noted(n) for n in has})
    return made()


def _cut(settings: dict[str, Any], to: dict[str, int]) -> None:
    for name, value in settings.items():
        if isinstance(value, dict):
            _cut(value, to)
        elif name in to and isinstance(value, int):
            settings[name] = min(value, to[name])


def _seed_globals(seed: int) -> None:
    """As a run does before every fit."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
