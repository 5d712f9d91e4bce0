"""What scores cost: `python results/score_times.py`, to results/studies/score-times.csv.

Trains `nler` and `nler-sa` in turns, in one process on one thread, for a tenth of their steps,
which are equally many with and without scores: the ratio of their seconds is that of whole
trainings. That to the best epoch takes in at which share of its training each network was best, by
the records of results/scores. Simulations and scores are timed in the same process. It takes about
ten minutes.
"""

import csv
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from math import sqrt
from pathlib import Path
from typing import Any

import torch

from bench.contracts import FitContext, Task
from bench.leaderboard.results import Results
from bench.registry.registry import Registry
from bench.seeds import generator
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store

TASKS = ("sis", "gp", "student-t", "gaussians-near")
BUDGETS = (1_000, 10_000)
METHODS = ("nler", "nler-sa")
TURNS = 5
OUT = Path(__file__).parent


def seconds(function: Callable[[], Any]) -> float:
    """CPU seconds of a call: other work on the machine hardly counts."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def simulating(task: Task, calls: int) -> tuple[float, float]:
    """Seconds of so many simulations, and of their scores."""
    rng = generator("score times", task.name)
    totals = [0.0, 0.0]
    components = task.components("train").values()
    for component in components:
        for first in range(0, calls // len(components), task.chunk):
            count = min(task.chunk, calls // len(components) - first)
            context = task.space.draw_context(count, rng)
            drawn: list[torch.Tensor] = []
            totals[0] += seconds(
                lambda c=component, at=context, out=drawn: out.append(c.simulate(at, rng))
            )
            totals[1] += seconds(partial(component.score, drawn[0].float(), context))
    return totals[0], totals[1]


def training(registry: Registry, task: Task, calls: int, store: Store) -> list[tuple[float, ...]]:
    """Seconds of a tenth of a training, in turns: one tuple per turn, one number per method."""
    methods = []
    for name in METHODS:
        kind = registry.method(name)
        config = kind.Config.model_validate(kind.configurations["tuned"])
        tenth = config.training.model_copy(
            update={"epochs": 1, "steps": config.training.steps // 10}
        )
        methods.append(kind(config.model_copy(update={"training": tenth})))
    features = features_of(task, store)

    def fit(method: Any, turn: int) -> None:
        bank, stream = SimulationBank(task, store, calls, [turn]), partial(generator, "score times")
        method.fit(FitContext(task, bank, features, torch.device("cpu"), stream, lambda **_: None))

    found = []
    for turn in range(TURNS + 1):
        for name in task.component_names:  # so that they are there
            each = calls // len(task.component_names)
            SimulationBank(task, store, calls, [turn]).draw(name, each, score=True)
        order = METHODS if turn % 2 else METHODS[::-1]
        took = {name: seconds(partial(fit, methods[METHODS.index(name)], turn)) for name in order}
        found.append(tuple(took[name] for name in METHODS))
    return found[1:]  # the first of anything takes longer


def to_best(results: Results, task: str, calls: int, method: str) -> list[float]:
    """At which share of its training each network was best."""
    shares = []
    for fit in results.fits:
        if (fit.task, fit.label) == (task, f"{method}:tuned") and fit.identity["budget"] == calls:
            for record in fit.members.values():
                curves = record["curves"].values()
                best = sum(c["best_epoch"] / len(c["validation_loss"]) for c in curves)
                shares.append(best / len(curves))
    return shares


def mean(values: list[float]) -> tuple[float, float]:
    """Mean and standard error."""
    return statistics.fmean(values), statistics.stdev(values) / sqrt(len(values))


def main() -> None:
    """Prints the table and writes it."""
    torch.set_num_threads(1)
    registry, results = Registry(), Results(Store.open(OUT / "scores"))
    rows = []
    for name, calls in product(TASKS, BUDGETS):
        task = registry.task(name)
        simulations, scores = simulating(task, calls)
        with tempfile.TemporaryDirectory() as folder:
            turns = training(registry, task, calls, Store(Path(folder)))
        ratio, error = mean([augmented / plain for plain, augmented in turns])
        plain = 10 * mean([plain for plain, _ in turns])[0]
        best = [mean(to_best(results, name, calls, method)) for method in METHODS]
        relative = sqrt((error / ratio) ** 2 + sum((e / b) ** 2 for b, e in best))
        whole = (simulations + scores + ratio * plain) / (simulations + plain)
        rows.append(
            {
                "task": name,
                "calls": calls,
                "simulations_s": simulations,
                "scores_s": scores,
                "training_s": plain,
                "ratio": ratio,
                "ratio_error": error,
                "to_best": ratio * best[1][0] / best[0][0],
                "to_best_error": ratio * best[1][0] / best[0][0] * relative,
                "with_scores": whole,
                "with_scores_error": error * plain / (simulations + plain),
            }
        )
        print({k: v if isinstance(v, str) else round(v, 3) for k, v in rows[-1].items()})
    with (OUT / "studies" / "score-times.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
