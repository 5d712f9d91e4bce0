"""Evaluation of a trained surrogate on the datasets of a plan."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.contracts import (
    BootstrapPlan,
    Datasets,
    HeldOut,
    HeldOutPlan,
    HeldOutPrediction,
    IndependentPlan,
    LikelihoodPrediction,
    Plan,
    ProfileSummary,
    Resolution,
    Surrogate,
    Task,
)
from bench.contracts.plan import number_of_sets
from bench.errors import NonFiniteError, StoreError
from bench.inference.intervals import summarise
from bench.inference.lattice import refine
from bench.inference.likelihood import LogRatio, MixtureLikelihood
from bench.stages.datasets import EventsOfSet, describe, sets
from bench.stages.held_out import log_ratio_of, predict_held_out
from bench.stages.members import open_fit, restore, simulated
from bench.storage.entries import JobContext, done, is_done
from bench.storage.fit_spec import FitSpec
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store

_FULL_SPACING = 0.25  # spacing for all k M events, in their half-widths: under σ/3
_WHOLE = ((0.0, 1.0), (0.0, 1.0))

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
    """Evaluate a surrogate on a plan; return the arrays of each of its members.

    Raises:
        NonFiniteError: if a log-ratio is NaN or +inf.
        PluginError: if log_ratio returns a wrong shape.
    """
    if isinstance(plan, HeldOutPlan):
        return predict_held_out(task, surrogate, plan, seed, SimulationStore.of(store), device)
    return _likelihoods(task, surrogate, plan, seed, SimulationStore.of(store), device, report)


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
    members = len(log_ratio_of(task, surrogate, *probe))
    finer = [dataclasses.replace(r, spacing=_FULL_SPACING, tolerance=None) for r in task.resolution]

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        return log_ratio_of(task, surrogate, x, context)

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
    r"""Evaluate the datasets of one set of events.

    Args:
        task: the task.
        log_ratio: maps events (n, \*event) and contexts (J, d) to (members, K, n, J).
        events: the set and its datasets.
        device: device of log_ratio.
        members: number of members of log_ratio.
        resolution: required resolution of each parameter; the task's own if None.
        start: window that contains the maxima, unit coordinates.

    Returns:
        The summaries of the datasets, by member, and the window of the final pass.

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


def predict_members(
    context: JobContext,
    spec: FitSpec,
    members: Sequence[int],
    plan: Plan,
    folder: str,
    seed: int,
    report: Callable[..., None],
) -> str:
    """Evaluate members on a plan in one pass and save predictions; return "done" or "reused".

    If one of several members cannot be evaluated, each is evaluated by itself.

    Raises:
        StoreError: if one of their fits is missing or damaged, or failed.
        NonFiniteError: if one of their log-ratios is NaN or +inf.
    """
    store, task, method = open_fit(context, spec)
    device = torch.device(context.device)
    with store.lock(spec.prediction_key(folder, members[0])):
        keys = {m: spec.prediction_key(folder, m) for m in members}
        wanted = [m for m in members if not is_done(store, keys[m], context.overwrite_before, task)]
        if not wanted:
            return "reused"
        simulations = SimulationStore(store, report)

        def evaluate_block(block: Sequence[int]) -> None:
            surrogate = restore(store, task, method, spec, block, device, simulations)
            begin = time.perf_counter()
            predicted = predict(task, surrogate, plan, seed, simulations, device, report)
            seconds = (time.perf_counter() - begin) / len(block)
            for i, (member, arrays) in enumerate(zip(block, predicted, strict=True)):
                calls = simulated(store, keys[member], simulations if i == 0 else None)
                record = done(member=member, seconds=seconds, simulated=calls)
                store.write(keys[member], record, arrays)

        try:
            evaluate_block(wanted)
        except (NonFiniteError, StoreError) as error:
            if len(wanted) == 1:
                raise
            problems: list[Exception] = []
            for member in wanted:
                try:
                    evaluate_block([member])
                except (NonFiniteError, StoreError) as problem:
                    problems.append(problem)
            if problems:
                raise problems[0] from error
    return "done"


def load(
    task: Task, plan: Plan, arrays: Mapping[str, NDArray[Any]]
) -> LikelihoodPrediction | HeldOutPrediction:
    """Rebuild a prediction from saved arrays."""
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
