"""Datasets of a plan, simulated from seeds that do not depend on the method.

Recorded observations are finite. Their datasets are drawn from disjoint blocks of the test split,
each of which contains enough of every component for a set at any θ. Blocks are used repeatedly: at
every evaluation point, and for uniform θ if there are fewer blocks than datasets. They are the unit
of resampling.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from bench.contracts import (
    BootstrapPlan,
    Component,
    Datasets,
    EventsOfSet,
    FiniteComponent,
    IndependentPlan,
    StoredTask,
    Task,
)
from bench.contracts.plan import layout, number_of_blocks, observations_of, shares
from bench.errors import NonFiniteError, PluginError, counted
from bench.inference.auxiliary import expected_number
from bench.seeds import generator
from bench.storage.simulations import Arrays, Chunk, SimulationStore, simulations_key


def sets(
    task: Task,
    plan: IndependentPlan | BootstrapPlan,
    seed: int,
    simulations: SimulationStore | None = None,
) -> Iterator[EventsOfSet]:
    """Simulate a plan's sets of events, one after the other.

    If simulator calls are expensive, sets are stored with the other simulations. Seeds derive from
    the task, the kind of plan, the seed, the point and the number of the set at that point, so the
    simulated datasets of a shorter plan are the first ones of a longer plan. Finite observations
    are cut into as many blocks as the plan needs, so for these only θ stays the same.

    Stored datasets come as they are, in an order that depends on the seed.

    Raises:
        PluginError: if a component is finite and cannot be cut into blocks.
    """
    observations = plan.observations or task.observations
    if isinstance(task, StoredTask):
        yield from _stored_sets(task, plan, seed, observations * plan.multiple)
        return
    of = number_of_blocks(task, plan)
    spread = None
    if isinstance(plan, IndependentPlan) and plan.theta == "sobol":
        spread = sobol(task, (plan.first or 0) + plan.uniform, seed)
    for number, (point, i, block, chunk) in enumerate(set_chunks(task, plan, seed)):
        components = {
            name: c if c.size is None else _finite(name, c).block(block, of or 1)
            for name, c in task.components("test").items()
        }
        rng = generator(
            "dataset", task.name, task.version, dict(task.settings), plan.kind, seed, point, i
        )
        if point >= 0:
            theta = task.points[point].to(torch.float64)
        else:
            theta = task.draw_parameters(1, rng)[0] if spread is None else spread[i]
        size = observations * plan.multiple

        def make(
            theta: Tensor = theta,
            rng: torch.Generator = rng,
            size: int = size,
            components: Mapping[str, Component] = components,
        ) -> Arrays:
            stratified = isinstance(plan, BootstrapPlan) and plan.stratified
            arrays = simulate_set(task, theta, size, rng, components, stratified=stratified)
            if isinstance(plan, BootstrapPlan):
                shape = plan.bootstraps, observations
                arrays["drawn"] = torch.randint(size, shape, generator=rng)
            return arrays

        names = names_of_set(task)
        names |= {"drawn"} if isinstance(plan, BootstrapPlan) else set()
        arrays = make() if simulations is None else simulations.get(task, chunk, names, make)
        if isinstance(plan, IndependentPlan):
            counts = torch.ones(1, len(arrays["x"]))
        else:
            drawn = arrays["drawn"]
            counts = torch.zeros(plan.bootstraps, size)
            counts.scatter_add_(1, drawn, torch.ones(()).expand(drawn.shape))
        measured = arrays.get("measured", torch.zeros(0, dtype=torch.float64))
        yield EventsOfSet(number, block, point, theta, arrays["x"], counts, measured)


def _stored_sets(
    task: StoredTask, plan: IndependentPlan | BootstrapPlan, seed: int, size: int
) -> Iterator[EventsOfSet]:
    """Yield stored datasets at their own parameters, each with its first observations."""
    stored, nothing = task.datasets(seed), torch.zeros(0, dtype=torch.float64)
    first = (plan.first or 0) if isinstance(plan, IndependentPlan) else 0
    part = slice(first, first + shares(plan)[0])
    for i, (theta, x) in enumerate(zip(stored.theta[part], stored.x[part], strict=True)):
        yield EventsOfSet(i, i, -1, theta, x[:size], torch.ones(1, size), nothing)


def names_of_set(task: Task) -> set[str]:
    """Return the names of the arrays of `simulate_set`."""
    return {"x", "measured"} if task.constraints else {"x"}


def simulate_set(
    task: Task,
    theta: Tensor,
    size: int,
    rng: torch.Generator,
    components: Mapping[str, Component],
    *,
    stratified: bool = False,
) -> Arrays:
    r"""Simulate the events of a set at θ, and the auxiliary measurements of constraints.

    Args:
        task: the task.
        theta: generating parameters, (P,).
        size: number of events; a typical one where the task has a rate.
        rng: generator of random numbers.
        components: the task's components.
        stratified: as in `events`.

    Returns:
        `x`, (n, \*event), and `measured`, (C,), if there are constraints.
    """
    size = _number(task, theta, size, rng)
    arrays = {"x": events(task, theta, size, rng, stratified=stratified, components=components)}
    if task.constraints:
        arrays["measured"] = _measured(task, theta, rng)
    return arrays


def _number(task: Task, theta: Tensor, size: int, rng: torch.Generator) -> int:
    """Return the number of events of a dataset at θ, given its size without a rate.

    Raises:
        PluginError: if the rate is not positive and finite.
    """
    rate = expected_number(task, theta)
    if rate is None:
        return size
    return int(torch.poisson(rate * size / task.observations, generator=rng))


def _measured(task: Task, theta: Tensor, rng: torch.Generator) -> Tensor:
    """Draw the auxiliary measurements of the constraints at θ, (C,) float64."""
    values = dict(zip(task.space.names, theta, strict=True))
    return torch.stack([c.measure(values[c.parameter], rng) for c in task.constraints])


def sobol(task: Task, n: int, seed: int) -> Tensor:
    """Return true parameters at n points of a scrambled Sobol sequence, (n, P) float64.

    The sequence fills the box more evenly than random parameters do (Owen 1998, J. Complexity 14).
    """
    rng = generator("sobol", task.name, task.version, dict(task.settings), seed)
    scrambled = qmc.Sobol(len(task.space), seed=int(torch.randint(2**31, (), generator=rng)))
    return task.true_parameters(torch.from_numpy(scrambled.random(1 << (n - 1).bit_length())[:n]))


def set_chunks(
    task: Task, plan: IndependentPlan | BootstrapPlan, seed: int
) -> Iterator[tuple[int, int, int, Chunk]]:
    """Yield the point, the number at that point, the block and the chunk of each set."""
    size = plan.observations or task.observations
    size *= plan.multiple
    recorded = observations_of(task, "test") is not None
    counts = ("uniform", "per_point", "sets", "first")
    what = {key: value for key, value in plan.definition().items() if key not in counts}
    what |= {"observations": plan.observations or task.observations}
    where = (
        array.tolist() for array in layout(plan, len(task.points), number_of_blocks(task, plan))
    )
    for point, i, block in zip(*where, strict=True):
        key = None
        if task.expensive and not recorded:
            identity = [task.name, task.version, dict(task.settings), what, seed, point, i]
            key = simulations_key(task, identity)
        calls = 0 if recorded else size
        yield point, i, block, Chunk(key, calls, "evaluation", random=task.has_rate)


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
    r"""Simulate n events at θ, (n, \*event) float32, components mixed by their weights.

    Stratified sets hold exactly round(n w) events of each component, and the remaining ones of the
    last. `components` are by default the task's for the test split.

    Raises:
        PluginError: if there are too few recorded observations, or as `simulate`.
    """
    weights = task.weights(theta).double()
    sources = components or task.components("test")
    if stratified:
        counts = (n * weights[:-1]).round().long().tolist()
        counts.append(n - sum(counts))
    elif n == 0:
        return torch.zeros(0, *task.event_shape)
    else:
        labels = torch.multinomial(weights, n, replacement=True, generator=rng)
        counts = torch.bincount(labels, minlength=len(sources)).tolist()
    context = task.space.context_of(theta).float()
    parts = []
    for (name, component), count in zip(sources.items(), counts, strict=True):
        if component.size is not None and count > component.size:
            raise PluginError(
                f"a dataset takes {counted(count, 'observation')} of {name}, and its block of "
                f"recorded ones has {component.size:,}; ask for fewer observations or datasets"
            )
        if count:
            parts.append(simulate(task, component, context.expand(count, -1), rng))
    return torch.cat(parts)


def simulate(task: Task, component: Component, context: Tensor, rng: torch.Generator) -> Tensor:
    r"""Simulate one observation per context, (n, \*event) float32, and check the result.

    Raises:
        PluginError: if the shape differs from the contract.
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
    """Return the description of the datasets of sets, in order."""
    repeats = [len(s.counts) for s in sets_seen]
    return Datasets(
        theta=np.repeat(np.stack([s.theta.numpy() for s in sets_seen]), repeats, axis=0),
        point=np.repeat(np.array([s.point for s in sets_seen], dtype=np.int64), repeats),
        set=np.repeat(np.array([s.number for s in sets_seen], dtype=np.int64), repeats),
        block=np.repeat(np.array([s.block for s in sets_seen], dtype=np.int64), repeats),
    )
