"""Evaluation of a trained surrogate on the datasets of a plan."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.contracts import (
    BootstrapPlan,
    BoxSummary,
    BoxWindow,
    Datasets,
    HeldOut,
    HeldOutPlan,
    HeldOutPrediction,
    IndependentPlan,
    LatticeWindow,
    LikelihoodPrediction,
    Plan,
    ProfileSummary,
    Resolution,
    Surrogate,
    Task,
)
from bench.contracts.plan import number_of_sets
from bench.errors import NonFiniteError, StoreError
from bench.inference.box import summarise_box
from bench.inference.intervals import summarise
from bench.inference.lattice import refine
from bench.inference.likelihood import LogRatio, MixtureLikelihood
from bench.inference.polynomials import Window
from bench.stages.datasets import EventsOfSet, describe, sets
from bench.stages.held_out import log_ratio_of, predict_held_out
from bench.stages.members import open_fit, restore, simulated
from bench.storage.entries import JobContext, done, is_done
from bench.storage.fit_spec import FitSpec
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store

_FULL_SPACING = 0.25  # spacing for all k M events, in their half-widths: under σ/3

Predicted = list[dict[str, NDArray[Any]]]
Windows = tuple[Window, ...]
_Part = ProfileSummary | LatticeWindow | BoxSummary | BoxWindow
_P = TypeVar("_P", ProfileSummary, LatticeWindow, BoxSummary, BoxWindow)


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
    of_sets: list[Evaluated] = []
    full: list[Evaluated] = []
    total = number_of_sets(task, plan)
    probe = torch.zeros(1, *task.event_shape, device=device), task.nominal[None].to(device)
    members = len(log_ratio_of(task, surrogate, *probe))
    finer = [dataclasses.replace(r, spacing=_FULL_SPACING, tolerance=None) for r in task.resolution]

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        return log_ratio_of(task, surrogate, x, context)

    boxed = isinstance(plan, IndependentPlan)
    for events in sets(task, plan, seed, simulations):
        own = evaluate(task, log_ratio, events, device, members, boxed=boxed)
        of_sets.append(own)
        if not boxed:
            everything = dataclasses.replace(events, counts=torch.ones(1, len(events.x)))
            found = evaluate(task, log_ratio, everything, device, members, finer, own.around)
            full.append(found)
        seen.append(dataclasses.replace(events, x=events.x[:0]))
        report(stage="evaluate", done=len(seen), total=total)

    datasets = describe(seen).arrays("datasets.")
    predicted = []
    for member in range(members):
        arrays = datasets | _joined([e.curves[member] for e in of_sets], "curves.")
        arrays |= _joined([e.box[member] for e in of_sets if e.box], "box.")
        if full:
            arrays |= _joined([f.curves[member] for f in full], "full.")
            arrays["full_set"] = np.array([s.number for s in seen], dtype=np.int64)
        predicted.append(arrays)
    return predicted


class Evaluated(NamedTuple):
    """Likelihoods of the datasets of one set.

    Args:
        curves: summaries and windows of the datasets, by member.
        box: the same inside the box, by member; empty unless they are asked for.
        around: window of the lattice, unit coordinates.
    """

    curves: list[tuple[ProfileSummary, LatticeWindow]]
    box: list[tuple[BoxSummary, BoxWindow]]
    around: Windows


def evaluate(
    task: Task,
    log_ratio: LogRatio,
    events: EventsOfSet,
    device: torch.device,
    members: int = 1,
    resolution: Sequence[Resolution] | None = None,
    start: Windows | None = None,
    *,
    boxed: bool = False,
) -> Evaluated:
    r"""Evaluate the datasets of one set of events.

    Args:
        task: the task.
        log_ratio: maps events (n, \*event) and contexts (J, d) to (members, K, n, J).
        events: the set and its datasets.
        device: device of log_ratio.
        members: number of members of log_ratio.
        resolution: required resolution of each parameter; the task's own if None.
        start: window that contains the maxima, unit coordinates; the whole space if None.
        boxed: whether to summarise the likelihoods inside the inner box too.

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
    box = task.space.box if boxed else None
    lattice = refine(weighed, resolution or task.resolution, start=start, box=box)
    inside = lattice.inside
    curves, window = summarise(lattice, task.space, task.reported_index)
    inner: list[tuple[BoxSummary, BoxWindow]] = []
    if inside is not None:
        found, cut = summarise_box(inside, task.space, events.theta, task.reported_index)
        inner = list(zip(found.split(members), cut.split(members), strict=True))
    return Evaluated(
        list(zip(curves.split(members), window.split(members), strict=True)),
        inner,
        tuple((float(axis[0]), float(axis[-1])) for axis in lattice.axes),
    )


def _joined(of_sets: Sequence[Sequence[_Part]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of consecutive sets by name, for saving; none where there are no sets."""
    found: dict[str, NDArray[Any]] = {}
    for parts in zip(*of_sets, strict=True):
        found |= type(parts[0]).concatenate(parts).arrays(prefix)
    return found


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

    def of(kind: type[_P], prefix: str, name: str = "mle") -> _P | None:
        return kind.from_arrays(arrays, prefix) if f"{prefix}{name}" in arrays else None

    return LikelihoodPrediction(
        names=task.space.names,
        low=np.array([p.low for p in parameters]),
        high=np.array([p.high for p in parameters]),
        log_scale=np.array([p.scale == "log" for p in parameters]),
        reported=task.reported_index,
        datasets=Datasets.from_arrays(arrays, "datasets."),
        curves=ProfileSummary.from_arrays(arrays, "curves."),
        window=of(LatticeWindow, "curves.", "joint"),
        full=of(ProfileSummary, "full."),
        full_window=of(LatticeWindow, "full.", "joint"),
        full_set=arrays.get("full_set"),
        box=of(BoxSummary, "box."),
        box_window=of(BoxWindow, "box.", "joint"),
    )
