"""Fit harness: trains a method on a task as a run does, records draws, and caches fits."""

import copy
import random
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
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
}  # upper limits on settings with these names


class WatchedBank(SimulationBank):
    """Bank of the suite that records draws.

    Attributes:
        splits: the splits of all draws.
        drawn: number of simulations by component, contexts and reference.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.splits: set[Split] = set()
        self.drawn: dict[tuple[Any, ...], int] = {}

    def draw(self, component: str, n: int, **options: Any) -> Simulations:
        """Draw simulations of a component from the bank, and record the draw."""
        self.splits.add(options.get("split", "train"))
        note(self.drawn, Draw(component, n, options.get("at", "prior")))
        return super().draw(component, n, **options)

    def reference(self, n: int, kind: ReferenceKind, *, split: Split = "train") -> Simulations:
        """Draw simulations of a reference from the bank, and record the draw."""
        self.splits.add(split)
        note(self.drawn, Draw(None, n, reference=kind))
        return super().reference(n, kind, split=split)


def note(drawn: dict[tuple[Any, ...], int], draw: Draw) -> None:
    """Record a draw; of repeated draws of the same simulations the longest counts."""
    at = draw.at if isinstance(draw.at, str) else tuple(draw.at.tolist())
    key = draw.component, at, draw.reference
    drawn[key] = max(draw.n, drawn.get(key, 0))


@dataclass(frozen=True)
class WatchedFit:
    """Surrogate with records of its fit.

    Args:
        surrogate: the surrogate.
        bank: the bank with records of draws.
        calls: functions of components that were called without the bank.
        changed: changes of the shared state of the process, by name.
    """

    surrogate: Surrogate
    bank: WatchedBank
    calls: set[str]
    changed: dict[str, str]


class FitHarness:
    """Method on a task, with simulations in a temporary folder.

    Args:
        method: the method.
        configuration: name of the configuration; the first where None.
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

    @cached_property
    def features(self) -> Features:
        """Features of the task."""
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
        """Train members, or return an earlier fit with the same arguments.

        Args:
            members: the block.
            budget: simulator calls per member.
            length: limit on the length of training.
            again: another number repeats the training.
            device: device of the training.
        """
        key = (tuple(members), budget, length, again, device)
        if key not in self._fits:
            self._fits[key] = self._fit(members, budget, length, device)
        return self._fits[key]

    def _fit(self, members: Sequence[int], budget: int, length: Length, device: str) -> WatchedFit:
        budget, data = (0, "shared") if self.type.oracle else (budget, "fresh")
        bank = WatchedBank(self.task, self._store, budget, members, data, self.seed)
        calls: set[str] = set()
        fit_context = FitContext(
            _watched(self.task, calls),
            bank,
            self.features,
            torch.device(device),
            partial(generator, "check", self.seed),
            lambda **_: None,
        )
        settings = self.method.config.model_dump()
        _cut(settings, _LENGTHS[length])
        method = self.type(self.type.Config.model_validate(settings))
        with guarded():
            # A run does the same before every fit.
            torch.manual_seed(self.seed)
            np.random.seed(self.seed)  # noqa: NPY002
            random.seed(self.seed)
            with guarded() as changed:
                surrogate = method.fit(fit_context)
        return WatchedFit(surrogate, bank, calls, changed)

    def stored(self, surrogate: Surrogate) -> dict[str, Tensor] | None:
        """Return the surrogate's state after writing it to disk and reading it back."""
        state = surrogate.state()
        if state is None:
            return None
        arrays = {name: value.detach().cpu().numpy() for name, value in state.items()}
        self._store.write("check/state", {}, arrays)
        entry = self._store.read("check/state")
        assert entry is not None
        return {name: torch.from_numpy(a.copy()) for name, a in entry.arrays.items()}

    def restore(self, state: dict[str, Tensor]) -> Surrogate:
        """Restore a surrogate from its state, by a method that is not trained."""
        return self.type(self.method.config).restore(self.task, self.features, state)


def _watched(task: Task, calls: set[str]) -> Task:
    """Return a copy of a task that records calls of its components; the bank has the original."""
    shown = copy.copy(task)

    def components(split: Split) -> dict[str, Component]:
        return {name: _noted(c, calls) for name, c in task.components(split).items()}

    vars(shown)["components"] = components
    return shown


def _noted(component: Component, calls: set[str]) -> Any:
    def noted(name: str) -> Callable[..., Any]:
        def call(self: object, *arguments: Any, **options: Any) -> Any:
            calls.add(name)
            return getattr(component, name)(*arguments, **options)

        return call

    has = [n for n in ("simulate", "log_prob", "score", "block") if hasattr(component, n)]
    methods = {n: noted(n) for n in has}
    # Protocols look for methods on the class, so each object needs its own class.
    return type(type(component).__name__, (), {"size": component.size} | methods)()


def _cut(settings: dict[str, Any], to: dict[str, int]) -> None:
    """Limit settings with these names, epochs and steps, where they exist."""
    for name, value in settings.items():
        if isinstance(value, dict):
            _cut(value, to)
        elif name in to and isinstance(value, int):
            settings[name] = min(value, to[name])
