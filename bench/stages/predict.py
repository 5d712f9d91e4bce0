"""Evaluation of a trained surrogate on the datasets of a plan."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from bench.contracts import (
    BootstrapPlan,
    BoxSummary,
    BoxWindow,
    Datasets,
    EventsOfSet,
    HeldOut,
    HeldOutPlan,
    HeldOutPrediction,
    IndependentPlan,
    LatticeWindow,
    LikelihoodPrediction,
    Plan,
    PosteriorDraws,
    ProfileSummary,
    Surrogate,
    Task,
)
from bench.contracts.plan import evaluator_of, number_of_sets
from bench.errors import NonFiniteError, StoreError
from bench.inference.datasets import log_ratio_of
from bench.stages.datasets import describe, sets
from bench.stages.evaluators import EVALUATORS, Evaluated, Saved
from bench.stages.held_out import predict_held_out
from bench.stages.members import open_fit, simulated
from bench.storage.entries import JobContext, done, is_done
from bench.storage.fit_spec import FitSpec
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store

Predicted = list[dict[str, NDArray[Any]]]
_P = TypeVar("_P", ProfileSummary, LatticeWindow, BoxSummary, BoxWindow, PosteriorDraws)


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
        NotApplicable: if the plan needs gradients in the context, and there are none.
        PluginError: if log_ratio returns a wrong shape, or nothing depends on a parameter.
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
    probe = torch.zeros(1, *task.event_shape, device=device), task.nominal[None].to(device)
    members = len(log_ratio_of(task, surrogate, *probe))
    seen: list[EventsOfSet] = []

    def noted() -> Iterator[EventsOfSet]:
        for events in sets(task, plan, seed, simulations):
            seen.append(dataclasses.replace(events, x=events.x[:0]))
            yield events

    parts: list[Evaluated] = []
    evaluator = EVALUATORS[evaluator_of(task, plan)]
    for part in evaluator(task, surrogate, plan, noted(), device, members, simulations):
        parts.append(part)
        report(stage="evaluate", done=len(seen), total=number_of_sets(task, plan))

    datasets = describe(seen).arrays("datasets.")
    predicted = []
    for member in range(members):
        arrays = datasets | _joined([p.curves[member] for p in parts], "curves.")
        arrays |= _joined([p.box[member] for p in parts if p.box], "box.")
        arrays |= _joined([p.full[member] for p in parts if p.full], "full.")
        arrays |= _joined([p.draws[member] for p in parts if p.draws], "draws.")
        if any(p.full for p in parts):
            arrays["full_set"] = np.array([s.number for s in seen], dtype=np.int64)
        predicted.append(arrays)
    return predicted


def _joined(parts: Sequence[Sequence[Saved]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of consecutive datasets by name, for saving; none where there are none."""
    found: dict[str, NDArray[Any]] = {}
    for same in zip(*parts, strict=True):
        found |= type(same[0]).concatenate(same).arrays(prefix)
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
    opened = open_fit(context, spec)
    store, task = opened.store, opened.task
    device = torch.device(context.device)
    with store.lock(spec.prediction_key(folder, members[0])):
        keys = {m: spec.prediction_key(folder, m) for m in members}
        wanted = [m for m in members if not is_done(store, keys[m], context.overwrite_before, task)]
        if not wanted:
            return "reused"
        simulations = SimulationStore(store, report)

        def evaluate_block(block: Sequence[int]) -> None:
            surrogate = opened.restore(block, device, simulations)
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
        constraint_width=task.constraint_widths().numpy(),
        draws=of(PosteriorDraws, "draws.", "theta"),
    )
