"""Cost of scores: seconds of trainings with and without them, taken in turns on one thread.

A tenth of the steps is timed, which are equally many with and without scores: the ratio of seconds
is that of whole trainings. The ratio to the best epoch takes in at which share of its training each
network was best, by the records of a results folder.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import nan, sqrt
from pathlib import Path
from typing import Any

import torch

from bench.boards.columns import parenthesised
from bench.boards.render import csv_of, markdown_table
from bench.boards.results import Results
from bench.contracts import FitContext, Task
from bench.errors import UsageError
from bench.registry.registry import Registry
from bench.seeds import generator
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store

NAME = "score-times"
TASKS = ("sis", "gp", "student-t", "gaussians-near")
BUDGETS = (1_000, 10_000)
METHODS = ("nler", "nler-sa")
"""The method without scores, and the one with them."""
_CONFIGURATION = "tuned"
_PART = 10  # a training is timed for 1/10 of its steps


@dataclass(frozen=True)
class ScoreTime:
    """Seconds of one core for one network, without and with scores.

    Args:
        task: name of the task.
        calls: simulator calls.
        simulations_s, scores_s: of so many simulations and their scores.
        training_s: of a training without scores.
        ratio, ratio_error: of a training with scores over that without.
        to_best, to_best_error: the same up to the best epoch; NaN without records.
        with_scores, with_scores_error: the same with the seconds for simulations and scores.
    """

    task: str
    calls: int
    simulations_s: float
    scores_s: float
    training_s: float
    ratio: float
    ratio_error: float
    to_best: float
    to_best_error: float
    with_scores: float
    with_scores_error: float


def choose(registry: Registry, names: Sequence[str]) -> list[Task]:
    """Return the tasks to time, whose components must know their scores.

    Args:
        registry: where they are from.
        names: patterns of names.

    Raises:
        UsageError: if a pattern matches nothing, or a task has no scores.
    """
    tasks = [
        registry.task(name) for pattern in names for name in registry.select("tasks", [pattern])
    ]
    for task in tasks:
        task.check()
        if not all(hasattr(c, "score") for c in task.components("train").values()):
            raise UsageError(f"task {task.name!r} has no scores to time")
    return tasks


def measure(registry: Registry, results: Results, task: Task, calls: int, turns: int) -> ScoreTime:
    """Time a task at a budget.

    Args:
        registry: where the methods are from.
        results: the folder whose records say at which epoch networks were best.
        task: the task.
        calls: simulator calls of a network.
        turns: trainings of each method.
    """
    simulations, scores = _simulating(task, calls)
    with tempfile.TemporaryDirectory() as folder:
        taken = _training(registry, task, calls, Store(Path(folder)), turns)
    ratio, error = _mean([augmented / plain for plain, augmented in taken])
    plain = _PART * _mean([plain for plain, _ in taken])[0]
    best = [_mean(_to_best(results, task.name, calls, method)) for method in METHODS]
    relative = sqrt((error / ratio) ** 2 + sum((e / b) ** 2 for b, e in best))
    to_best = ratio * best[1][0] / best[0][0]
    whole = (simulations + scores + ratio * plain) / (simulations + plain)
    of = task.name, calls, simulations, scores, plain, ratio, error, to_best, to_best * relative
    return ScoreTime(*of, whole, error * plain / (simulations + plain))


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return CPU seconds of a call and its result: other work on the machine hardly counts."""
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def _simulating(task: Task, calls: int) -> tuple[float, float]:
    """Return seconds of so many simulations, and of their scores."""
    rng = generator("score times", task.name)
    totals = [0.0, 0.0]
    components = task.components("train").values()
    for component in components:
        scored: Any = component
        for first in range(0, calls // len(components), task.chunk):
            count = min(task.chunk, calls // len(components) - first)
            context = task.space.draw_context(count, rng)
            seconds, x = _timed(partial(component.simulate, context, rng))
            totals[0] += seconds
            totals[1] += _timed(partial(scored.score, x.float(), context))[0]
    return totals[0], totals[1]


def _training(
    registry: Registry, task: Task, calls: int, store: Store, turns: int
) -> list[tuple[float, ...]]:
    """Return seconds of a part of a training: one tuple per turn, one number per method."""
    methods = []
    for name in METHODS:
        kind = registry.method(name)
        config: Any = kind.Config.model_validate(kind.configurations[_CONFIGURATION])
        part = {"epochs": 1, "steps": config.training.steps // _PART}
        training = config.training.model_copy(update=part)
        methods.append(kind(config.model_copy(update={"training": training})))
    features = features_of(task, store)

    def fit(method: Any, turn: int) -> None:
        bank, stream = SimulationBank(task, store, calls, [turn]), partial(generator, "score times")
        method.fit(FitContext(task, bank, features, torch.device("cpu"), stream, lambda **_: None))

    found = []
    for turn in range(turns + 1):
        for name in task.component_names:  # so that they are there
            each = calls // len(task.component_names)
            SimulationBank(task, store, calls, [turn]).draw(name, each, score=True)
        order = METHODS if turn % 2 else METHODS[::-1]
        took = {name: _timed(partial(fit, methods[METHODS.index(name)], turn))[0] for name in order}
        found.append(tuple(took[name] for name in METHODS))
    return found[1:]  # the first of anything takes longer


def _to_best(results: Results, task: str, calls: int, method: str) -> list[float]:
    """Return the share of its training after which each network was best."""
    shares = []
    for fit in results.fits:
        if (fit.task, fit.label, fit.budget) == (task, f"{method}:{_CONFIGURATION}", calls):
            for record in fit.members.values():
                curves = record["curves"].values()
                best = sum(c["best_epoch"] / len(c["validation_loss"]) for c in curves)
                shares.append(best / len(curves))
    return shares


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error; NaN of nothing, and an error of NaN of one."""
    if not values:
        return nan, nan
    error = statistics.stdev(values) / sqrt(len(values)) if len(values) > 1 else nan
    return statistics.fmean(values), error


def markdown(rows: Sequence[ScoreTime]) -> str:
    """Render a table: tasks and budgets down."""
    lines = [
        [
            *(f"`{r.task}`", f"{r.calls:,}"),
            *(f"{s:.2g}" for s in (r.simulations_s, r.scores_s, r.training_s)),
            parenthesised(r.ratio, r.ratio_error),
            parenthesised(r.with_scores, r.with_scores_error),
            parenthesised(r.to_best, r.to_best_error),
        ]
        for r in rows
    ]
    head = ["task", "calls", "simulations, s", "scores, s", "training without, s", "ratio"]
    return markdown_table([*head, "with simulations and scores", "to the best epoch"], lines)


def csv(rows: Sequence[ScoreTime]) -> str:
    """Render comma-separated values."""
    return csv_of([asdict(row) for row in rows])
