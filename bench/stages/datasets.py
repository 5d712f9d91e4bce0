"""The datasets of a plan, simulated from seeds that no method has a part in."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.contracts import BootstrapPlan, Datasets, IndependentPlan, Task
from bench.numerics.seeds import generator


@dataclass(frozen=True)
class EventsOfSet:
    """A set of events and the datasets made of it.

    Args:
        number: number of the set in the plan; the unit of resampling.
        point: index of the evaluation point, −1 where θ was drawn uniformly.
        theta: generating parameters, (P,) float64.
        x: events, (n, \\*event).
        counts: how often each of B datasets holds each event, (B, n) float32.
    """

    number: int
    point: int
    theta: Tensor
    x: Tensor
    counts: Tensor


def number_of_sets(task: Task, plan: IndependentPlan | BootstrapPlan) -> int:
    """How many sets of events a plan has on a task."""
    points = len(task.points)
    if isinstance(plan, IndependentPlan):
        return plan.uniform + plan.per_point * points
    return plan.sets * points


def sets(task: Task, plan: IndependentPlan | BootstrapPlan, seed: int) -> Iterator[EventsOfSet]:
    """Simulates a plan's sets of events, one after the other.

    Seeds derive from the task, the kind of plan, the seed, the point and the number of the set at
    that point: a longer plan begins with the datasets of a shorter one.
    """
    observations = plan.observations or task.observations
    where = [(-1, i) for i in range(plan.uniform)] if isinstance(plan, IndependentPlan) else []
    each = plan.per_point if isinstance(plan, IndependentPlan) else plan.sets
    where += [(point, i) for point in range(len(task.points)) for i in range(each)]
    for number, (point, i) in enumerate(where):
        rng = generator(
            "dataset", task.name, task.version, dict(task.settings), plan.kind, seed, point, i
        )
        theta = (
            task.space.draw_inner(1, rng)[0] if point < 0 else task.points[point].to(torch.float64)
        )
        if isinstance(plan, IndependentPlan):
            x = events(task, theta, observations, rng, stratified=False)
            counts = torch.ones(1, observations)
        else:
            size = plan.multiple * observations
            x = events(task, theta, size, rng, stratified=plan.stratified)
            drawn = torch.randint(size, (plan.bootstraps, observations), generator=rng)
            counts = torch.zeros(plan.bootstraps, size)
            counts.scatter_add_(1, drawn, torch.ones(()).expand(drawn.shape))
        yield EventsOfSet(number, point, theta, x, counts)


def events(task: Task, theta: Tensor, n: int, rng: torch.Generator, *, stratified: bool) -> Tensor:
    """Simulates n events at θ, (n, \\*event) float32, components mixed by their weights.

    Stratified sets hold exactly round(n w) events of each component (the last takes the rest).
    """
    weights = task.weights(theta).double()
    components = list(task.components("test").values())
    if stratified:
        counts = (n * weights[:-1]).round().long().tolist()
        counts.append(n - sum(counts))
    else:
        labels = torch.multinomial(weights, n, replacement=True, generator=rng)
        counts = torch.bincount(labels, minlength=len(components)).tolist()
    context = task.space.context_of(theta).float()
    return torch.cat(
        [
            component.simulate(context.expand(count, -1), rng).float()
            for component, count in zip(components, counts, strict=True)
            if count
        ]
    )


def describe(sets_seen: list[EventsOfSet]) -> Datasets:
    """Tabulates the datasets of sets, in order."""
    repeats = [len(s.counts) for s in sets_seen]
    return Datasets(
        theta=np.repeat(np.stack([s.theta.numpy() for s in sets_seen]), repeats, axis=0),
        point=np.repeat(np.array([s.point for s in sets_seen], dtype=np.int64), repeats),
        set=np.repeat(np.array([s.number for s in sets_seen], dtype=np.int64), repeats),
    )
