"""The datasets of a plan, simulated from seeds that no method has a part in.

Where observations are finite, datasets are drawn from disjoint blocks of the test split, each with
enough of every component for a set at any θ. Blocks reappear: at every evaluation point, and under
θ uniform where there are fewer than datasets. They are the unit of resampling.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.contracts import (
    BootstrapPlan,
    Component,
    Datasets,
    FiniteComponent,
    HeldOutPlan,
    IndependentPlan,
    Plan,
    Split,
    Task,
)
from bench.errors import NonFiniteError, NotApplicable, PluginError
from bench.numerics.seeds import generator
from bench.stages.simulations import Arrays, Chunk, SimulationStore, simulations_key


@dataclass(frozen=True)
class EventsOfSet:
    """A set of events and the datasets made of it.

    Args:
        number: number of the set in the plan.
        block: the block of observations that it is drawn from; the unit of resampling.
        point: index of the evaluation point, −1 where θ was drawn uniformly.
        theta: generating parameters, (P,) float64.
        x: events, (n, \\*event).
        counts: how often each of B datasets holds each event, (B, n) float32.
    """

    number: int
    block: int
    point: int
    theta: Tensor
    x: Tensor
    counts: Tensor


def observations_of(task: Task, split: Split) -> int | None:
    """How many observations of every component a split holds; None where it is simulated."""
    sizes = [c.size for c in task.components(split).values() if c.size is not None]
    return min(sizes, default=None)


def fit_to(task: Task, plan: Plan) -> Plan:
    """Shrinks a plan to what a task's observations suffice for.

    A bootstrap plan loses sets first, then takes smaller ones; an independent plan loses datasets
    at the evaluation points; a held-out plan takes fewer events at each context.

    Raises:
        NotApplicable: if there is not one dataset.
    """
    held_out = isinstance(plan, HeldOutPlan)
    size = observations_of(task, "heldout" if held_out else "test")
    if size is None:
        return plan
    if isinstance(plan, HeldOutPlan):
        if size < 2 * plan.contexts:
            raise NotApplicable(
                f"{task.name} has {size} held-out observations of a component, and the plan takes "
                f"2 at each of {plan.contexts} contexts"
            )
        return plan.model_copy(update={"events": min(plan.events, size // plan.contexts)})
    available = size // (plan.observations or task.observations)
    if available == 0:
        raise NotApplicable(
            f"{task.name} has {size} test observations of a component, and a dataset takes up to "
            f"{plan.observations or task.observations}"
        )
    if isinstance(plan, IndependentPlan):
        return plan.model_copy(update={"per_point": min(plan.per_point, available)})
    multiple = min(plan.multiple, available)
    sets = min(plan.sets, available // multiple)
    return plan.model_copy(update={"multiple": multiple, "sets": sets})


def number_of_blocks(task: Task, plan: Plan) -> int | None:
    """Into how many disjoint blocks a plan divides a task's observations; None for simulators."""
    size = observations_of(task, "test")
    if size is None:
        return None
    if isinstance(plan, HeldOutPlan):
        return plan.contexts
    if isinstance(plan, BootstrapPlan):
        return plan.sets
    available = size // (plan.observations or task.observations)
    return max(min(plan.uniform, available), plan.per_point)


def number_of_sets(task: Task, plan: IndependentPlan | BootstrapPlan) -> int:
    """How many sets of events a plan has on a task."""
    points = len(task.points)
    if isinstance(plan, IndependentPlan):
        return plan.uniform + plan.per_point * points
    return plan.sets * points


def sets(
    task: Task,
    plan: IndependentPlan | BootstrapPlan,
    seed: int,
    simulations: SimulationStore | None = None,
) -> Iterator[EventsOfSet]:
    """Simulates a plan's sets of events, one after the other.

    Where simulator calls are expensive, sets are kept with the other simulations.

    Seeds derive from the task, the kind of plan, the seed, the point and the number of the set at
    that point: of a simulator, a longer plan begins with the datasets of a shorter one. Finite
    observations are cut into as many blocks as the plan takes, so there θ alone stays the same.

    Raises:
        PluginError: if a component is finite and cannot be cut into blocks.
    """
    observations = plan.observations or task.observations
    of = number_of_blocks(task, plan)
    for number, (point, i, chunk) in enumerate(set_chunks(task, plan, seed)):
        block = number if of is None else i % of
        components = {
            name: c if c.size is None else _finite(name, c).block(block, of or 1)
            for name, c in task.components("test").items()
        }
        rng = generator(
            "dataset", task.name, task.version, dict(task.settings), plan.kind, seed, point, i
        )
        theta = (
            task.space.draw_inner(1, rng)[0] if point < 0 else task.points[point].to(torch.float64)
        )
        size = observations * (plan.multiple if isinstance(plan, BootstrapPlan) else 1)

        def make(
            theta: Tensor = theta,
            rng: torch.Generator = rng,
            size: int = size,
            components: Mapping[str, Component] = components,
        ) -> Arrays:
            stratified = isinstance(plan, BootstrapPlan) and plan.stratified
            x = events(task, theta, size, rng, stratified=stratified, components=components)
            if isinstance(plan, IndependentPlan):
                return {"x": x}
            shape = plan.bootstraps, observations
            return {"x": x, "drawn": torch.randint(size, shape, generator=rng)}

        names = {"x"} if isinstance(plan, IndependentPlan) else {"x", "drawn"}
        arrays = make() if simulations is None else simulations.get(task, chunk, names, make)
        if isinstance(plan, IndependentPlan):
            counts = torch.ones(1, observations)
        else:
            drawn = arrays["drawn"]
            counts = torch.zeros(plan.bootstraps, size)
            counts.scatter_add_(1, drawn, torch.ones(()).expand(drawn.shape))
        x = arrays["x"]
        yield EventsOfSet(number, block, point, theta, x, counts)


def set_chunks(
    task: Task, plan: IndependentPlan | BootstrapPlan, seed: int
) -> Iterator[tuple[int, int, Chunk]]:
    """Yield the point, the number at that point and the simulations of each set of events."""
    size = plan.observations or task.observations
    size *= plan.multiple if isinstance(plan, BootstrapPlan) else 1
    where = [(-1, i) for i in range(plan.uniform)] if isinstance(plan, IndependentPlan) else []
    each = plan.per_point if isinstance(plan, IndependentPlan) else plan.sets
    where += [(point, i) for point in range(len(task.points)) for i in range(each)]
    recorded = observations_of(task, "test") is not None
    what = plan.model_dump(mode="json", exclude={"uniform", "per_point", "sets"})
    what |= {"observations": plan.observations or task.observations}
    for point, i in where:
        key = None
        if task.expensive and not recorded:
            identity = [task.name, task.version, dict(task.settings), what, seed, point, i]
            key = simulations_key(task, identity)
        yield point, i, Chunk(key, 0 if recorded else size, "evaluation")


def _finite(name: str, component: Component) -> FiniteComponent:
    if not isinstance(component, FiniteComponent):
        raise PluginError(f"component {name!r} has a size and no method `block`")
    return component


def events(
    task: Task,
    theta: Tensor,
    n: int,
    rng: torch.Generator,
    *,
    stratified: bool,
    components: Mapping[str, Component] | None = None,
) -> Tensor:
    """Simulates n events at θ, (n, \\*event) float32, components mixed by their weights.

    Stratified sets hold exactly round(n w) events of each component (the last takes the rest).
    Components are the task's own of the test split where none are given.
    """
    weights = task.weights(theta).double()
    sources = (components or task.components("test")).values()
    if stratified:
        counts = (n * weights[:-1]).round().long().tolist()
        counts.append(n - sum(counts))
    else:
        labels = torch.multinomial(weights, n, replacement=True, generator=rng)
        counts = torch.bincount(labels, minlength=len(sources)).tolist()
    context = task.space.context_of(theta).float()
    return torch.cat(
        [
            simulate(task, component, context.expand(count, -1), rng)
            for component, count in zip(sources, counts, strict=True)
            if count
        ]
    )


def simulate(task: Task, component: Component, context: Tensor, rng: torch.Generator) -> Tensor:
    """Simulates one observation per context, (n, \\*event) float32, as the contract promises.

    Raises:
        PluginError: if the shape is another one.
        NonFiniteError: if a number is not finite.
    """
    x = component.simulate(context, rng)
    expected = (len(context), *task.event_shape)
    if not isinstance(x, Tensor) or tuple(x.shape) != expected:
        came = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise PluginError(
            f"a component of {task.name} simulated {came}; the contract is {expected}"
        )
    x = x.float()
    if not bool(torch.isfinite(x).all()):
        raise NonFiniteError(f"a component of {task.name} simulated NaN or infinite numbers")
    return x


def describe(sets_seen: list[EventsOfSet]) -> Datasets:
    """Tabulates the datasets of sets, in order."""
    repeats = [len(s.counts) for s in sets_seen]
    return Datasets(
        theta=np.repeat(np.stack([s.theta.numpy() for s in sets_seen]), repeats, axis=0),
        point=np.repeat(np.array([s.point for s in sets_seen], dtype=np.int64), repeats),
        set=np.repeat(np.array([s.number for s in sets_seen], dtype=np.int64), repeats),
        block=np.repeat(np.array([s.block for s in sets_seen], dtype=np.int64), repeats),
    )
