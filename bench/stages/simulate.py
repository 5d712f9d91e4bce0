"""Bank of simulations: seeded chunks, stored on disk and charged to each member's budget."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bench.contracts import (
    DatasetDraw,
    Draw,
    EventsOfSet,
    Features,
    HasScore,
    ReferenceKind,
    Simulations,
    Split,
    StoredSimulations,
    StoredTask,
    Task,
    TrainingData,
)
from bench.contracts.plan import observations_of
from bench.errors import BudgetExceeded, NotApplicable, counted
from bench.seeds import digest, generator
from bench.stages.datasets import names_of_set, simulate, simulate_set
from bench.storage.simulations import (
    Arrays,
    Chunk,
    Purpose,
    SimulationStore,
    chunk_sizes,
    simulations_key,
)
from bench.storage.store import Store

Make = Callable[[torch.Generator, int, Callable[[str], torch.Generator]], Arrays]
"""Function that makes a number of simulations.

It takes a generator of contexts, the number, and a function that returns the generator of a
component's observations.
"""
Extra = Mapping[str, Callable[[Arrays], Tensor]]
"""Functions that compute further arrays, such as scores, from the simulated ones."""

_SHARED = "shared"
FEATURE_SIMULATIONS = {False: 10_000, True: 500}
"""Number of simulations that fix the standardisation; the key is whether calls are expensive.

Like the bounds, the standardisation belongs to the task's definition, is the same for every method,
and is not charged to a budget. 500 simulations fix the mean of a Gaussian to 0.04 and its scale to
0.03 standard deviations. Inputs of networks need no more, and a density is exact for any scale.
"""
_PURPOSES: dict[Split, Purpose] = {"features": "standardisation", "heldout": "evaluation"}


class SimulationBank:
    """Simulations of a task for a block of members; see :class:`bench.contracts.Bank`.

    A chunk's seed derives from task, stream, split, seed and chunk number only, so a small draw
    is a prefix of a large one, for every method and budget.

    Args:
        task: the task.
        store: the results folder, or its simulations.
        budget: simulator calls that each member may spend.
        members: the members of the block.
        training_data: "fresh" draws separate simulations for every member, "shared" the same for
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
        self.simulations = SimulationStore.of(store)
        self.budget = budget
        self.members = tuple(members)
        self.training_data = training_data
        self.seed = seed
        self._drawn: dict[tuple[str, Split], int] = {}
        self._toys: dict[str, int] = {}
        self._sets: dict[Split, list[StoredSimulations]] = {}

    @property
    def spent(self) -> int:
        """Simulator calls drawn so far, per member."""
        return sum(self._toys.values()) + sum(self._drawn.values())

    @property
    def made(self) -> int | None:
        """Simulator calls of all chunks that contain the draws, per member, whoever made them.

        None for recorded observations.
        """
        splits: set[Split] = {split for _, split in self._drawn}
        splits |= {"calibration"} if self._toys else set()
        if any(observations_of(self.task, split) is not None for split in splits):
            return None
        drawn = self._drawn.values()
        simulated = sum(sum(chunk_sizes(self.task, n)) for n in drawn)
        return simulated + sum(self._toys.values())

    def chunks(self, draw: Draw | DatasetDraw, split: Split = "train") -> list[Chunk]:
        """Return the chunks that a draw reads or makes, for all members; simulate nothing."""
        if observations_of(self.task, split) is not None:
            return []
        if isinstance(draw, DatasetDraw):
            every = self._sets_of_data()
            return [c for data in every for c, _ in self._toy_chunks(draw, data, split)]
        stream = _stream(draw, split)
        return [
            chunk
            for data in self._sets_of_data()
            for chunk, _ in self._chunks(draw.n, data, stream, split)
        ]

    def draw(
        self,
        component: str,
        n: int,
        *,
        split: Split = "train",
        at: Tensor | Literal["prior"] = "prior",
        score: bool = False,
    ) -> Simulations:
        """Draw n simulations of a component; see :class:`bench.contracts.Bank`."""
        source = self.task.components(split)[component]
        if score and not isinstance(source, HasScore):
            raise NotApplicable(f"component {component!r} of {self.task.name} has no score")
        if not isinstance(at, str) and at.shape != self.task.nominal.shape:
            raise ValueError(
                f"at has shape {tuple(at.shape)}; a context of {self.task.name} has "
                f"{tuple(self.task.nominal.shape)}"
            )
        if isinstance(self.task, StoredTask):
            if not isinstance(at, str):
                raise NotApplicable("there are no stored simulations at a chosen context")
            return self._stored(self.task, Draw(component, n), split)
        stream = _stream(Draw(component, n, at), split)
        self._charge(stream, split, n)

        def contexts(count: int, rng: torch.Generator) -> Tensor:
            if isinstance(at, str):
                return self.task.space.draw_context(count, rng)
            return at.to(torch.float32).expand(count, -1)

        def make(rng: torch.Generator, count: int, of: Callable[[str], torch.Generator]) -> Arrays:
            context = contexts(count, rng)
            x = simulate(self.task, source, context, of(component))
            return {"x": x, "context": context.contiguous()}

        def scored(arrays: Arrays) -> Tensor:
            assert isinstance(source, HasScore)
            return source.score(arrays["x"], arrays["context"]).double()

        return self._gather(n, stream, split, make, {"score": scored} if score else {})

    def draw_contexts(self, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw n contexts for every member; see :class:`bench.contracts.Bank`."""
        if not isinstance(self.task, StoredTask):
            return torch.stack([self.task.space.draw_context(n, rng) for rng in generators])
        sets = self._stored_sets(self.task, "train")
        every = sets * (len(generators) // len(sets))
        drawn = [
            own.theta[torch.randint(len(own), (n,), generator=rng)]
            for own, rng in zip(every, generators, strict=True)
        ]
        return torch.stack(drawn).float()

    def reference(self, n: int, kind: ReferenceKind, *, split: Split = "train") -> Simulations:
        """Draw n simulations of a reference; see :class:`bench.contracts.Bank`."""
        if isinstance(self.task, StoredTask):
            if kind == "fixed":
                raise NotApplicable("there are no stored simulations of a fixed reference")
            return self._stored(self.task, Draw(None, n, reference=kind), split)
        stream = _stream(Draw(None, n, reference=kind), split)
        self._charge(stream, split, n)
        components = self.task.components(split)

        def make(rng: torch.Generator, count: int, of: Callable[[str], torch.Generator]) -> Arrays:
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

        return self._gather(n, stream, split, make, {})

    def datasets(self, draw: DatasetDraw, *, split: Split = "calibration") -> list[EventsOfSet]:
        """Draw toys; see :class:`bench.contracts.Bank`."""
        task, (data, *others) = self.task, self._sets_of_data()
        if others:
            raise ValueError("toys are drawn for one member at a time")
        stored = isinstance(task, StoredTask)
        if (draw.pool or draw.repeats > 1) and (stored or task.has_auxiliary):
            raise NotApplicable("toys of this task have parameters of their own")
        stream = _toys(draw, split)
        extra = max(0, draw.n - self._toys.get(stream, 0))
        if extra > self.budget - self.spent:
            raise BudgetExceeded(
                f"toys cost {counted(extra, 'call')}, and of the budget of {self.budget:,} only "
                f"{self.budget - self.spent:,} are left"
            )
        self._toys[stream] = self._toys.get(stream, 0) + extra
        size, nothing = draw.observations, torch.zeros(0, dtype=torch.float64)
        if isinstance(task, StoredTask):
            rows, (low, high) = self._stored_sets(task, split)[0], task.space.box
            unit = task.space.to_unit(rows.theta)
            inner = ((unit >= low) & (unit <= high)).all(-1).nonzero().squeeze(-1)[: draw.sets]
            return [
                EventsOfSet(i, i, -1, rows.theta[i], rows.x[i, :size], torch.ones(1, size), nothing)
                for i in inner.tolist()
            ]
        components, found = task.components(split), []
        for i, (chunk, identity) in enumerate(self._toy_chunks(draw, data, split)):
            rng = generator("toys", *identity)
            theta = task.draw_parameters(1, rng)[0]

            def make(theta: Tensor = theta, rng: torch.Generator = rng) -> Arrays:
                return simulate_set(task, theta, draw.size, rng, components)

            arrays = self.simulations.get(task, chunk, names_of_set(task), make)
            counts = _counts(draw, len(arrays["x"]), generator("resampling", *identity))
            measured = arrays.get("measured", nothing)
            found.append(EventsOfSet(i, i, -1, theta, arrays["x"], counts, measured))
            if task.expensive:
                self.simulations.report(stage="simulations", done=i + 1, total=draw.sets)
        return found

    def _toy_chunks(
        self, draw: DatasetDraw, data: str, split: Split
    ) -> list[tuple[Chunk, list[Any]]]:
        """Return the chunk of each set of toys, with the data of its seed; cheap ones have no key.

        The sets of a shorter draw are the first ones of a longer draw.
        """
        recorded = observations_of(self.task, split) is not None
        stream, chunks = _toys(draw, split), []
        for number in range(draw.sets):
            identity = [*self._identity(data, stream, split), number]
            stored = self.task.expensive and not recorded
            key = simulations_key(self.task, identity) if stored else None
            calls, purpose = 0 if recorded else draw.size, _PURPOSES.get(split, "training")
            chunks.append((Chunk(key, calls, purpose, random=self.task.has_rate), identity))
        return chunks

    def _stored(self, task: StoredTask, draw: Draw, split: Split) -> Simulations:
        """Take stored simulations: a component's from the begin of a training set.

        Those of the reference come from the end, so that the two never overlap.
        """
        stream, n = _stream(draw, split), draw.n
        self._charge(stream, split, n)
        parts = []
        for stored in self._stored_sets(task, split):
            x = stored.x.flatten(0, 1)
            context = stored.theta.float().repeat_interleave(task.observations, 0)
            first = draw.reference is None
            parts.append(
                {k: v[:n] if first else v.flip(0)[:n] for k, v in (("x", x), ("context", context))}
            )
        return self._for_members(parts, n, stream)

    def _stored_sets(self, task: StoredTask, split: Split) -> list[StoredSimulations]:
        """Return the training set of each member, or the shared one."""
        if split not in self._sets:
            numbers = self.members if self.training_data == "fresh" else (0,)
            every = [task.training_set(m, self.budget, split, self.seed) for m in numbers]
            self._sets[split] = every
        return self._sets[split]

    def _charge(self, stream: str, split: Split, n: int) -> None:
        if n < 1:
            raise BudgetExceeded(
                f"a draw of {counted(n, 'simulation')}: at least one simulation must be drawn, and "
                f"the budget is {self.budget:,}"
            )
        drawn = self._drawn.get((stream, split), 0)
        extra = max(0, n - drawn)
        if self.spent + extra > self.budget:
            raise BudgetExceeded(
                f"{counted(n, 'simulation')} cost {counted(extra, 'call')}, and of the budget of "
                f"{self.budget:,} only {self.budget - self.spent:,} are left"
            )
        self._drawn[stream, split] = drawn + extra

    def _sets_of_data(self) -> list[str]:
        """Return the names of the training sets: one per member in order, or a shared one."""
        return [f"member {m}" for m in self.members] if self.training_data == "fresh" else [_SHARED]

    def _gather(self, n: int, stream: str, split: Split, make: Make, extra: Extra) -> Simulations:
        """Assemble n simulations for every member from chunks, and simulate missing chunks."""
        parts = [self._prefix(n, data, stream, split, make, extra) for data in self._sets_of_data()]
        return self._for_members(parts, n, stream)

    def _for_members(self, parts: Sequence[Arrays], n: int, stream: str) -> Simulations:
        """Return the simulations of every member, given one training set or one of each."""
        if self.training_data == "fresh":
            stacked = {key: torch.stack([p[key] for p in parts]) for key in parts[0]}
        else:
            stacked = {k: v.expand(len(self.members), *v.shape) for k, v in parts[0].items()}
            if self.training_data == "bootstrap":
                rngs = [generator("bootstrap", self.seed, m, stream) for m in self.members]
                # Sorted, so that copies are adjacent: a method that holds out the first rows for
                # validation then does not train on copies of them.
                rows = [torch.randint(n, (n,), generator=rng).sort().values for rng in rngs]
                stacked = {k: torch.stack([v[0][r] for r in rows]) for k, v in stacked.items()}
        return Simulations(stacked["x"], stacked["context"], stacked.get("score"))

    def _prefix(
        self, n: int, data: str, stream: str, split: Split, make: Make, extra: Extra
    ) -> Arrays:
        if observations_of(self.task, split) is not None:
            # They are on disk already. All draws of a member have the same order, so the first
            # rows, which methods hold out, belong to the same observations in every draw.
            identity = self._identity(data, stream, split)

            def order(component: str) -> torch.Generator:
                return generator("observations", *identity[:3], component, *identity[4:])

            arrays = make(generator("contexts", *identity), n, order)
            return arrays | {name: compute(arrays) for name, compute in extra.items()}
        parts: list[Arrays] = []
        done = 0
        for chunk, identity in self._chunks(n, data, stream, split):

            def simulated(size: int = chunk.calls, identity: list[Any] = identity) -> Arrays:
                rng = generator("simulations", *identity)
                return make(rng, size, lambda component: rng)

            names = {"x", "context"}
            parts.append(self.simulations.get(self.task, chunk, names, simulated, extra))
            done += chunk.calls
            if self.task.expensive:
                self.simulations.report(stage="simulations", done=min(done, n), total=n)
        return {key: torch.cat([p[key] for p in parts])[:n] for key in parts[0]}

    def _chunks(
        self, n: int, data: str, stream: str, split: Split
    ) -> list[tuple[Chunk, list[Any]]]:
        """Return the chunks that hold the first n simulations, each with the data of its seed."""
        out = []
        for number, size in enumerate(chunk_sizes(self.task, n)):
            identity = [*self._identity(data, stream, split), number]
            identity += [size] if self.task.expensive else []
            key = simulations_key(self.task, identity)
            out.append((Chunk(key, size, _PURPOSES.get(split, "training")), identity))
        return out

    def _identity(self, data: str, stream: str, split: Split) -> list[Any]:
        task = self.task
        return [task.name, task.version, dict(task.settings), stream, split, data, self.seed]


def _toys(draw: DatasetDraw, split: Split) -> str:
    """Return the identity of a stream of toys; its draws are prefixes of each other."""
    return digest("toys", split, draw.observations, draw.repeats, draw.pool)


def _counts(draw: DatasetDraw, events: int, rng: torch.Generator) -> Tensor:
    """Return how often each dataset of a set holds each event, (repeats, events) float32."""
    if draw.pool:
        drawn = torch.randint(events, (draw.repeats, draw.observations), generator=rng)
        counts = torch.zeros(draw.repeats, events)
        return counts.scatter_add_(1, drawn, torch.ones(()).expand(drawn.shape))
    if draw.repeats == 1:
        return torch.ones(1, events)
    return torch.eye(draw.repeats).repeat_interleave(draw.observations, 1)


def _stream(draw: Draw, split: Split) -> str:
    """Return the identity of a draw's stream; its draws are prefixes of each other."""
    if draw.reference is not None:
        return digest("reference", draw.reference, split)
    where = "prior" if isinstance(draw.at, str) else [float(v) for v in draw.at]
    return digest(draw.component, split, where)


def feature_bank(task: Task, store: Store) -> tuple[SimulationBank, Draw]:
    """Return the bank of the standardisation, and the draw that estimates it."""
    n = FEATURE_SIMULATIONS[task.expensive]
    if isinstance(task, StoredTask):
        n = min(n, observations_of(task, "features") or 0)
    bank = SimulationBank(task, store, n, [0], "shared", seed=0)
    return bank, Draw(None, n, reference="evidence")


def features_of(task: Task, store: Store) -> Features:
    """Estimate the task's standardisation, the same for every seed, method and member."""
    bank, draw = feature_bank(task, store)
    drawn = bank.reference(draw.n, "evidence", split="features")
    return Features.estimate(task, drawn.x[0])
