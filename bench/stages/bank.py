"""The bank: simulations in seeded chunks, kept on disk, metered per member."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bench.contracts import (
    Component,
    Features,
    HasScore,
    ReferenceKind,
    Simulations,
    Split,
    Task,
)
from bench.errors import BudgetExceeded, NotApplicable
from bench.numerics.seeds import digest, generator
from bench.stages.datasets import observations_of, simulate
from bench.stages.store import Store

TrainingData = Literal["fresh", "shared", "bootstrap"]
Make = Callable[[torch.Generator, int, Callable[[str], torch.Generator]], dict[str, Tensor]]
"""Makes so many simulations, contexts from one generator, observations of a component from another.
"""

SHARED = "NLBENCH_SIMULATIONS"

FEATURE_SIMULATIONS = 10_000
"""Simulations that fix the standardisation. Like the bounds they belong to the task's definition,
are the same for every method, and are not charged to a budget."""


class SimulationBank:
    """A task's simulations for a block of members; see :class:`bench.contracts.Bank`.

    A chunk's seed derives from task, stream, split, seed and chunk number alone, so that a small
    draw is a prefix of a large one, whatever the method or budget.

    Args:
        task: the task.
        store: where chunks are kept, unless the environment variable NLBENCH_SIMULATIONS names a
            folder, which many runs and workers may share.
        budget: simulator calls that each member may spend.
        members: the members of the block.
        training_data: "fresh" gives every member simulations of its own, "shared" the same to
            all, "bootstrap" resamples the shared ones with each member's own generator.
        seed: the run's seed.
    """

    def __init__(
        self,
        task: Task,
        store: Store,
        budget: int,
        members: Sequence[int],
        training_data: TrainingData = "fresh",
        seed: int = 0,
    ) -> None:
        self.task = task
        self.store = Store.open(os.environ.get(SHARED) or store.root)
        self.budget = budget
        self.members = tuple(members)
        self.training_data = training_data
        self.seed = seed
        self._drawn: dict[str, int] = {}

    @property
    def spent(self) -> int:
        """Simulator calls drawn so far, per member."""
        return sum(self._drawn.values())

    def draw(
        self,
        component: str,
        n: int,
        *,
        split: Split = "train",
        at: Tensor | Literal["prior"] = "prior",
        score: bool = False,
    ) -> Simulations:
        """Draws n simulations of a component; see :class:`bench.contracts.Bank`."""
        source = self.task.components(split)[component]
        if score and not isinstance(source, HasScore):
            raise NotApplicable(f"component {component!r} of {self.task.name} has no score")
        if not isinstance(at, str) and at.shape != self.task.nominal.shape:
            raise ValueError(
                f"at has shape {tuple(at.shape)}; a context of {self.task.name} has "
                f"{tuple(self.task.nominal.shape)}"
            )
        where = "prior" if isinstance(at, str) else [float(v) for v in at]
        stream = digest(component, split, where)
        self._charge(stream, n)

        def contexts(count: int, rng: torch.Generator) -> Tensor:
            if isinstance(at, str):
                return self.task.space.draw_context(count, rng)
            return at.to(torch.float32).expand(count, -1)

        def make(
            rng: torch.Generator, count: int, of: Callable[[str], torch.Generator]
        ) -> dict[str, Tensor]:
            return _simulate(self.task, source, contexts(count, rng), of(component), score)

        return self._gather(n, stream, split, make, score)

    def reference(self, n: int, kind: ReferenceKind, *, split: Split = "train") -> Simulations:
        """Draws n simulations of a reference; see :class:`bench.contracts.Bank`."""
        stream = digest("reference", kind, split)
        self._charge(stream, n)
        components = self.task.components(split)

        def make(
            rng: torch.Generator, count: int, of: Callable[[str], torch.Generator]
        ) -> dict[str, Tensor]:
            context = (
                self.task.nominal.expand(count, -1)
                if kind == "fixed"
                else self.task.space.draw_context(count, rng)
            )
            label = torch.randint(len(components), (count,), generator=rng)
            x = torch.empty(count, *self.task.event_shape)
            for k, (name, component) in enumerate(components.items()):
                rows = label == k
                if bool(rows.any()):
                    x[rows] = simulate(self.task, component, context[rows], of(name))
            return {"x": x, "context": context}

        return self._gather(n, stream, split, make, score=False)

    def _charge(self, stream: str, n: int) -> None:
        if n < 1:
            raise BudgetExceeded(
                f"a draw of {n} simulations: at least one simulation must be drawn, and the budget "
                f"is {self.budget}"
            )
        extra = max(0, n - self._drawn.get(stream, 0))
        if self.spent + extra > self.budget:
            raise BudgetExceeded(
                f"{n} simulations cost {extra} calls, and of the budget of {self.budget} only "
                f"{self.budget - self.spent} are left"
            )
        self._drawn[stream] = self._drawn.get(stream, 0) + extra

    def _gather(
        self,
        n: int,
        stream: str,
        split: Split,
        make: Make,
        score: bool,
    ) -> Simulations:
        """Assembles n simulations for every member from chunks, simulating what is missing."""
        if self.training_data == "fresh":
            parts = [
                self._prefix(n, f"member {m}", stream, split, make, score) for m in self.members
            ]
            stacked = {key: torch.stack([p[key] for p in parts]) for key in parts[0]}
        else:
            shared = self._prefix(n, "shared", stream, split, make, score)
            stacked = {k: v.expand(len(self.members), *v.shape) for k, v in shared.items()}
            if self.training_data == "bootstrap":
                rngs = [generator("bootstrap", self.seed, m, stream) for m in self.members]
                # In order, so that copies stay together: a method that holds out the first rows
                # for validation does not train on them too.
                rows = [torch.randint(n, (n,), generator=rng).sort().values for rng in rngs]
                stacked = {k: torch.stack([v[0][r] for r in rows]) for k, v in stacked.items()}
        return Simulations(stacked["x"], stacked["context"], stacked.get("score"))

    def _prefix(
        self,
        n: int,
        data: str,
        stream: str,
        split: Split,
        make: Make,
        score: bool,
    ) -> dict[str, Tensor]:
        if observations_of(self.task, split) is not None:
            # They lie on the disk already. Every draw of a member has them in the same order, so
            # that first rows, which methods hold out, are of the same observations everywhere.
            identity = self._identity(data, stream, split)

            def order(component: str) -> torch.Generator:
                return generator("observations", *identity[:3], component, *identity[4:])

            return make(generator("contexts", *identity), n, order)
        size = self.task.chunk
        chunks = [
            self._chunk(data, stream, split, number, make, score) for number in range(-(-n // size))
        ]
        return {key: torch.cat([c[key] for c in chunks])[:n] for key in chunks[0]}

    def _identity(self, data: str, stream: str, split: Split) -> list[Any]:
        task = self.task
        return [task.name, task.version, dict(task.settings), stream, split, data, self.seed]

    def _chunk(
        self,
        data: str,
        stream: str,
        split: Split,
        number: int,
        make: Make,
        score: bool,
    ) -> dict[str, Tensor]:
        identity = [*self._identity(data, stream, split), number]
        # An edited plugin file may simulate something else under the same name and version.
        name = digest(identity, self.task.plugin_hash)
        key = f"simulations/{self.task.name}/{name[:2]}/{name[:32]}"
        wanted = {"x", "context", "score"} if score else {"x", "context"}
        entry = self.store.read(key)
        if entry is None or not wanted <= set(entry.arrays):
            with self.store.lock(key):
                entry = self.store.read(key)
                if entry is None or not wanted <= set(entry.arrays):
                    rng = generator("simulations", *identity)
                    made = make(rng, self.task.chunk, lambda component: rng)
                    self.store.write(key, {}, {k: v.numpy() for k, v in made.items()})
                    return made
        return {k: torch.from_numpy(entry.arrays[k].copy()) for k in sorted(wanted)}


def _simulate(
    task: Task, source: Component, context: Tensor, rng: torch.Generator, score: bool
) -> dict[str, Tensor]:
    x = simulate(task, source, context, rng)
    out = {"x": x, "context": context.contiguous()}
    if score:
        assert isinstance(source, HasScore)
        out["score"] = source.score(x, context).double()
    return out


def features_of(task: Task, store: Store) -> Features:
    """Estimates the task's one standardisation, the same for every seed, method and member."""
    bank = SimulationBank(task, store, FEATURE_SIMULATIONS, [0], "shared", seed=0)
    drawn = bank.reference(FEATURE_SIMULATIONS, "evidence", split="features")
    return Features.estimate(task, drawn.x[0])
