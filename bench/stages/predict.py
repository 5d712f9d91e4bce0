"""Predictions: evaluates a trained surrogate on the datasets of a plan."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.contracts import (
    BootstrapPlan,
    Component,
    Datasets,
    Draw,
    FiniteComponent,
    HeldOut,
    HeldOutPlan,
    HeldOutPrediction,
    IndependentPlan,
    LikelihoodPrediction,
    Plan,
    ProfileSummary,
    ReferenceKind,
    Resolution,
    Surrogate,
    Task,
)
from bench.contracts.plan import number_of_sets, observations_of
from bench.errors import PluginError
from bench.inference.intervals import summarise
from bench.inference.lattice import LogRatio, MixtureLikelihood, refine
from bench.seeds import generator
from bench.stages.datasets import EventsOfSet, describe, sets, simulate
from bench.stages.simulate import SimulationBank
from bench.storage.simulations import Arrays, Chunk, SimulationStore, simulations_key
from bench.storage.store import Store

_FULL_SPACING = 0.25  # nodes of all k M events, in their half-widths: under σ/3
_WHOLE = ((0.0, 1.0), (0.0, 1.0))
_STEP = 0.005  # half the finite difference of a score, in unit coordinates

Predicted = list[dict[str, NDArray[Any]]]
Window = tuple[tuple[float, float], ...]


def predict(
    task: Task,
    surrogate: Surrogate,
    plan: Plan,
    seed: int,
    store: Store,
    device: torch.device,
    report: Callable[..., None],
) -> Predicted:
    """Evaluates a surrogate on a plan; returns the arrays of each of its members.

    Raises:
        NonFiniteError: if a log-ratio is NaN or +inf.
        PluginError: if log_ratio returns a wrong shape.
    """
    if isinstance(plan, HeldOutPlan):
        return _held_out(task, surrogate, plan, seed, SimulationStore.of(store), device)
    return _likelihoods(task, surrogate, plan, seed, SimulationStore.of(store), device, report)


def _log_ratio(task: Task, surrogate: Surrogate, x: Tensor, context: Tensor) -> Tensor:
    """Evaluates, and checks the shape that the contract promises."""
    out = surrogate.log_ratio(x, context)
    expected = (len(task.component_names), len(x), len(context))
    if not isinstance(out, Tensor) or out.dim() != 4 or tuple(out.shape[1:]) != expected:
        came = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise PluginError(
            f"log_ratio returned {came}; the contract is (members, components, events, contexts) "
            f"= (members, {', '.join(map(str, expected))})"
        )
    return out.detach()


def _likelihoods(
    task: Task,
    surrogate: Surrogate,
    plan: IndependentPlan | BootstrapPlan,
    seed: int,
    simulations: SimulationStore,
    device: torch.device,
    report: Callable[..., None],
) -> Predicted:
    seen: list[EventsOfSet] = []
    curves: list[list[ProfileSummary]] = []  # by set, by member
    full: list[list[ProfileSummary]] = []
    total = number_of_sets(task, plan)
    probe = torch.zeros(1, *task.event_shape, device=device), task.nominal[None].to(device)
    members = len(_log_ratio(task, surrogate, *probe))
    finer = [dataclasses.replace(r, spacing=_FULL_SPACING, tolerance=None) for r in task.resolution]

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        return _log_ratio(task, surrogate, x, context)

    for events in sets(task, plan, seed, simulations):
        own, window = evaluate(task, log_ratio, events, device, members)
        curves.append(own)
        if isinstance(plan, BootstrapPlan):
            everything = dataclasses.replace(events, counts=torch.ones(1, len(events.x)))
            full.append(evaluate(task, log_ratio, everything, device, members, finer, window)[0])
        seen.append(dataclasses.replace(events, x=events.x[:0]))
        report(stage="evaluate", done=len(seen), total=total)

    datasets = describe(seen).arrays("datasets.")
    predicted = []
    for member in range(len(curves[0])):
        arrays = datasets | _concatenate([c[member] for c in curves]).arrays("curves.")
        if full:
            arrays |= _concatenate([f[member] for f in full]).arrays("full.")
            arrays["full_set"] = np.array([s.number for s in seen], dtype=np.int64)
        predicted.append(arrays)
    return predicted


def evaluate(
    task: Task,
    log_ratio: LogRatio,
    events: EventsOfSet,
    device: torch.device,
    members: int = 1,
    resolution: Sequence[Resolution] | None = None,
    start: Window = _WHOLE,
) -> tuple[list[ProfileSummary], Window]:
    """Evaluates the datasets of one set of events.

    Args:
        task: the task.
        log_ratio: maps events (n, \\*event) and contexts (J, d) to (members, K, n, J).
        events: the set and its datasets.
        device: where log_ratio runs.
        members: how many members log_ratio has.
        resolution: how finely, per parameter; the task's own where None.
        start: where to look for the maxima, unit coordinates.

    Returns:
        What is kept of the datasets, by member, and the window of the final pass.

    Raises:
        NonFiniteError: if a log-ratio is NaN or +inf.
    """
    weighed = MixtureLikelihood(
        log_ratio,
        events.x.to(device),
        events.counts.to(device),
        task.space,
        task.weights,
        events.theta,
        members,
    )
    lattice = refine(weighed, resolution or task.resolution, start=start)
    window = tuple((float(axis[0]), float(axis[-1])) for axis in lattice.axes)
    return _by_member(summarise(lattice, task.space), len(events.counts)), window


def _by_member(curves: ProfileSummary, datasets: int) -> list[ProfileSummary]:
    members = len(curves.area) // datasets
    split = {k: v.reshape(members, datasets, *v.shape[1:]) for k, v in curves.arrays().items()}
    return [ProfileSummary(**{k: v[m] for k, v in split.items()}) for m in range(members)]


def _concatenate(parts: list[ProfileSummary]) -> ProfileSummary:
    arrays = [p.arrays() for p in parts]
    return ProfileSummary(**{key: np.concatenate([a[key] for a in arrays]) for key in arrays[0]})


def _held_out(
    task: Task,
    surrogate: Surrogate,
    plan: HeldOutPlan,
    seed: int,
    simulations: SimulationStore,
    device: torch.device,
) -> Predicted:
    d = len(task.space.context_index)
    unit = torch.full((plan.contexts, len(task.space)), 0.5, dtype=torch.float64)
    drawn = torch.rand(
        plan.contexts, d, generator=generator("held out", task.name, seed), dtype=torch.float64
    )
    index = list(task.space.context_index)
    unit[:, index] = _STEP + (1 - 2 * _STEP) * drawn
    kind = surrogate.reference
    components = task.components("heldout")
    # Every context has reference events of its own: it is the unit of resampling.
    references: tuple[Tensor, ...] = ()
    if kind is not None:
        bank, draw = held_out_bank(task, plan, seed, simulations, kind)
        drawn_events = bank.reference(draw.n, kind, split="heldout").x[0]
        references = torch.split(drawn_events, plan.events)
    own: list[Tensor] = []
    against: list[Tensor] = []
    scores: list[Tensor] = []
    contexts: list[Tensor] = []
    for node in unit:
        around = node.repeat(1 + 2 * d, 1)
        for j, axis in enumerate(index):
            around[1 + 2 * j, axis] += _STEP
            around[2 + 2 * j, axis] -= _STEP
        context = task.space.context_of(task.space.from_unit(around))
        contexts.append(context[0])
        raw = context.float().to(device)
        rng_rows = []
        for k, (name, component) in enumerate(components.items()):
            if isinstance(component, FiniteComponent):
                component = component.block(len(contexts) - 1, plan.contexts)
            rng = generator("held out", task.name, task.version, seed, name, len(contexts))
            at = raw[:1].cpu().expand(plan.events, -1)

            def make(
                component: Component = component, at: Tensor = at, rng: torch.Generator = rng
            ) -> Arrays:
                return {"x": simulate(task, component, at, rng)}

            chunk = held_out_chunk(task, plan, seed, name, len(contexts))
            x = simulations.get(task, chunk, {"x"}, make)["x"].to(device)
            rng_rows.append(_log_ratio(task, surrogate, x, raw)[:, k])
        around_own = torch.stack(rng_rows, 1).double()  # (members, K, n, 1 + 2 d)
        own.append(around_own[..., 0])
        # The context is scaled to [−1, 1]: twice the unit coordinate.
        scores.append((around_own[..., 1::2] - around_own[..., 2::2]) / (4 * _STEP))
        against.append(
            torch.zeros_like(own[-1])
            if kind is None
            else _log_ratio(task, surrogate, references[len(against)].to(device), raw[:1])[
                ..., 0
            ].double()
        )
    stacked = [torch.stack(v, 2).cpu().numpy() for v in (own, against, scores)]
    return [
        HeldOut(
            context=torch.stack(contexts).numpy(),
            own=stacked[0][m],
            reference=stacked[1][m],
            score=stacked[2][m],
            has_density=np.array(surrogate.has_density),
            has_reference=np.array(kind is not None),
        ).arrays()
        for m in range(len(stacked[0]))
    ]


def held_out_bank(
    task: Task, plan: HeldOutPlan, seed: int, store: Store, kind: ReferenceKind
) -> tuple[SimulationBank, Draw]:
    """Return the bank of a held-out plan's reference, and the draw of all its events."""
    n = plan.events * plan.contexts
    bank = SimulationBank(task, store, n, [0], "shared", seed)
    return bank, Draw(None, n, reference=kind)


def held_out_chunk(task: Task, plan: HeldOutPlan, seed: int, component: str, context: int) -> Chunk:
    """Return the simulations of a component at a context, counted from 1, of a held-out plan."""
    if observations_of(task, "heldout") is not None:
        return Chunk(None, 0, "evaluation")
    key = None
    if task.expensive:
        what = [plan.model_dump(mode="json"), seed, component, context]
        identity = [task.name, task.version, dict(task.settings), *what]
        key = simulations_key(task, identity)
    return Chunk(key, plan.events, "evaluation")


def load(
    task: Task, plan: Plan, arrays: Mapping[str, NDArray[Any]]
) -> LikelihoodPrediction | HeldOutPrediction:
    """Rebuilds a prediction from saved arrays."""
    if isinstance(plan, HeldOutPlan):
        names = tuple(p.name for p in task.space.context)
        return HeldOutPrediction(task.component_names, names, HeldOut.from_arrays(arrays))
    parameters = task.space.parameters
    return LikelihoodPrediction(
        names=task.space.names,
        low=np.array([p.low for p in parameters]),
        high=np.array([p.high for p in parameters]),
        log_scale=np.array([p.scale == "log" for p in parameters]),
        datasets=Datasets.from_arrays(arrays, "datasets."),
        curves=ProfileSummary.from_arrays(arrays, "curves."),
        full=ProfileSummary.from_arrays(arrays, "full.") if "full_set" in arrays else None,
        full_set=arrays.get("full_set"),
    )
