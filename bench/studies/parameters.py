"""Cost of the gradient evaluator against the number of parameters, on linear Gaussian tasks.

Profile likelihoods of these tasks have closed forms, which the intervals of `exact` are compared
with. One parameter is reported, and all others are profiled.
"""

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.boards.render import csv_of, markdown_table
from bench.contracts import FitContext, IndependentPlan, ProfileSummary, Surrogate, Task
from bench.registry.registry import Registry
from bench.seeds import generator
from bench.stages.datasets import sets
from bench.stages.evaluators import by_gradient
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store
from bench.studies.numbers import code

NAME = "parameters"
PARAMETERS = (1, 2, 5, 7, 10, 20)
METHODS = ("exact", "lre", "nler")
"""Methods in their configuration `tuned`, if they have one."""

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class EvaluationCost:
    """One line of the table: a method on a task. Costs are means over datasets.

    Args:
        parameters: number of parameters P.
        method: name of the method.
        calls: simulator calls of its training, 0 for `exact`.
        datasets: number of datasets.
        observations: number of observations in a dataset.
        passes: forward passes per event for the maximum, 18 interval ends and a statistic.
        restarts: the same for the scan and restarts.
        information: the same for the observed information.
        seconds: core-seconds of a dataset.
        unresolved: share of datasets that fail the evaluator's own checks.
        worst: largest distance of an end of a 68.27 % interval from the closed form, in
            half-widths; NaN of a trained method.
    """

    parameters: int
    method: str
    calls: int
    datasets: int
    observations: int
    passes: float
    restarts: float
    information: float
    seconds: float
    unresolved: float
    worst: float


def measure(
    registry: Registry,
    task: Task,
    intervals: Callable[[Tensor], tuple[Tensor, Tensor]],
    name: str,
    calls: int,
    epochs: int,
    datasets: int,
) -> EvaluationCost:
    """Train a method on a task, and evaluate it.

    Args:
        registry: where the method is from.
        task: the task, whose first parameter alone is reported.
        intervals: closed form of the ends of 68.27 % intervals of datasets (D, M, …), (D, P) each.
        name: name of the method.
        calls: simulator calls of a training.
        epochs: passes over the training data.
        datasets: number of datasets.
    """
    plan = IndependentPlan(kind="independent", uniform=datasets, per_point=0)
    # As datasets of a point they need no draws from posteriors.
    drawn = [replace(events, point=0) for events in sets(task, plan, 0)]
    surrogate = _fitted(registry, task, name, calls, epochs)
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        evaluated = by_gradient(
            task, surrogate, plan, drawn, _CPU, 1, SimulationStore(Store(Path(folder)))
        )
        found = [part.curves[0][0] for part in evaluated]
    seconds = time.process_time() - begin
    curves = ProfileSummary.concatenate([c for c in found if isinstance(c, ProfileSummary)])
    passes, restarts, information = curves.evaluations.mean(0)
    x = torch.stack([events.x for events in drawn])
    low, high = (end[:, :1].numpy() for end in intervals(x))
    off = np.maximum(np.abs(curves.lower - low), np.abs(curves.upper - high)) / (0.5 * (high - low))
    oracle = registry.method(name).oracle
    return EvaluationCost(
        len(task.space),
        name,
        0 if oracle else calls,
        datasets,
        task.observations,
        round(float(passes), 1),
        round(float(restarts), 1),
        round(float(information), 1),
        float(f"{seconds / datasets:.3g}"),
        round(float(curves.unresolved.mean()), 4),
        float(f"{off.max():.1e}") if oracle else math.nan,
    )


def _fitted(registry: Registry, task: Task, name: str, calls: int, epochs: int) -> Surrogate:
    """Train one member of a method."""
    kind = registry.method(name)
    config: Any = kind.Config.model_validate(kind.configurations.get("tuned", {}))
    if not kind.oracle:
        training = config.training.model_copy(update={"epochs": epochs, "steps": 1})
        config = config.model_copy(update={"training": training})
    with tempfile.TemporaryDirectory() as folder:
        store, stream = Store(Path(folder)), partial(generator, NAME, name)
        bank, features = SimulationBank(task, store, calls, [0]), features_of(task, store)
        return kind(config).fit(FitContext(task, bank, features, _CPU, stream, lambda **_: None))


def csv(rows: Sequence[EvaluationCost]) -> str:
    """Render one line per task and method."""
    return csv_of([asdict(row) for row in rows])


def markdown(rows: Sequence[EvaluationCost]) -> str:
    """Render a table: tasks and methods down."""
    head = ["parameters", "method", "passes", "restarts", "information", "s per dataset"]
    lines = [
        [
            str(row.parameters),
            code(row.method),
            *(f"{n:.0f}" for n in (row.passes, row.restarts, row.information)),
            f"{row.seconds:.2g}",
            f"{100 * row.unresolved:.0f} %",
            "–" if math.isnan(row.worst) else f"{row.worst:.0e}",
        ]
        for row in rows
    ]
    return markdown_table([*head, "unresolved", "off by at most"], lines)
