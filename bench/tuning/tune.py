"""Search of a method's settings by successive halving, on validation loss alone.

Successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943): every combination of the values
that a method declares trains for a few epochs. The best third, at least four, trains again for
three times as many epochs. Each rung starts anew, because learning-rate schedules have a fixed
length. The search never uses a test metric, and its simulations are separate from those of the
leaderboards. All trials of a task share simulations, initialisation and shuffles, so they differ by
their settings alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch

from bench.contracts import FitContext, Task
from bench.execution.executor import Call, Event, Outcome
from bench.execution.pool import Workers
from bench.registry.registry import Registry
from bench.seeds import digest, generator
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.simulations import SimulationStore
from bench.storage.store import SCHEMA, Store
from bench.tuning.search import FACTOR, Search, Trial, Values, combinations, configured

FEWEST = 4
"""Least number of combinations that go on: the best after few epochs may not be the best later."""
FIRST_MEMBER = 1_000_000
"""First member number of tuning, which separates its simulations and seeds from benchmarks."""


def tune(
    search: Search,
    registry: Registry,
    store: Store,
    workers: int,
    limits: tuple[float, float],
    on_trial: Callable[[Trial, int, int], None],
    on_event: Callable[[Event], None] = lambda event: None,
) -> list[Trial]:
    """Run a search and return its trials; trials in the store are not repeated.

    Args:
        search: the search.
        registry: the names.
        store: where trials are kept.
        workers: worker processes, at most.
        limits: seconds and GiB that one training may take.
        on_trial: called after every trial with the trial, the number of finished trials in its
            rung, and the rung's total.
        on_event: as in `Workers`.

    Returns:
        Every trial, by rung and then by loss.
    """
    survivors: Sequence[Values] = combinations(search.values)
    done: list[Trial] = []
    for rung in range(search.rungs):
        trials: list[Trial] = []
        for trial in _rung(search, rung, survivors, registry, store, workers, limits, on_event):
            trials.append(trial)
            on_trial(trial, len(trials), len(survivors))
        trials.sort(key=lambda t: t.loss)
        last = rung == search.rungs - 1
        keep = 1 if last else max(FEWEST, len(trials) // FACTOR)
        keep = min(keep, sum(math.isfinite(t.loss) for t in trials))
        done += [replace(t, kept=i < keep) for i, t in enumerate(trials)]
        survivors = [t.values for t in trials[:keep]]
        if not survivors:
            break
    return done


def _rung(
    search: Search,
    rung: int,
    survivors: Sequence[Values],
    registry: Registry,
    store: Store,
    workers: int,
    limits: tuple[float, float],
    on_event: Callable[[Event], None],
) -> Iterator[Trial]:
    """Train all remaining combinations; yield each one once all its trainings have ended."""
    last = rung == search.rungs - 1
    epochs = search.epochs // FACTOR ** (search.rungs - 1 - rung)
    members = range(search.members if last else 1)
    method = registry.method(search.method)
    place = {"root": str(store.root.absolute()), "plugins": registry.plugins}
    jobs: list[Call] = []
    results: dict[str, dict[str, Any]] = {}
    waiting: list[tuple[Values, list[str]]] = []  # combinations, and keys of their trainings
    for values in survivors:
        config = configured(method, search.base, values, epochs).model_dump(mode="json")
        waiting.append((values, []))
        for task, member in product(search.tasks, members):
            identity = _identity(registry, search, task, config, FIRST_MEMBER + member)
            key = f"trials/{search.method}/{digest(identity)[:16]}"
            waiting[-1][1].append(key)
            record = store.record(key)
            if record is not None and "losses" in record:
                results[key] = record
            else:
                jobs.append(Call(key, train_one, {**place, "identity": identity, "key": key}))

    def ready() -> Iterator[Trial]:
        for trained in [w for w in waiting if results.keys() >= {*w[1]}]:
            waiting.remove(trained)
            values, keys = trained
            yield _trial(search, rung, epochs, values, [results[key] for key in keys])

    yield from ready()
    if not jobs:
        return
    seconds, gibibytes = limits
    with Workers(min(workers, len(jobs)), seconds, int(gibibytes * 2**30), on_event) as pool:
        for outcome in pool.run(jobs):
            results[outcome.key] = _result(outcome)
            yield from ready()


def _result(outcome: Outcome) -> dict[str, Any]:
    if outcome.status == "done":
        return dict(outcome.value)
    return {"losses": {"": None}, "seconds": outcome.seconds, "problem": outcome.error}


def _trial(
    search: Search, rung: int, epochs: int, values: Values, records: Sequence[Mapping[str, Any]]
) -> Trial:
    """Return the trial of the given records, ordered by task and then by member."""
    losses = [sum(math.nan if v is None else v for v in r["losses"].values()) for r in records]
    by_task = np.reshape(losses, (len(search.tasks), -1)).astype(float).tolist()
    problem = next((str(r["problem"]) for r in records if r.get("problem")), "")
    seconds = sum(float(r["seconds"]) for r in records)
    return Trial(rung, epochs, values, tuple(map(tuple, by_task)), seconds, problem)


def _identity(
    registry: Registry, search: Search, task: str, config: Values, member: int
) -> dict[str, Any]:
    found = registry.task(task)
    return {
        "schema": SCHEMA,
        "task": task,
        "task_version": found.version,
        "task_settings": dict(found.settings),
        "task_plugin": registry.item("tasks", task).plugin_hash,
        "method": search.method,
        "method_version": registry.method(search.method).version,
        "method_plugin": registry.item("methods", search.method).plugin_hash,
        "config": dict(config),
        "budget": search.budget,
        "seed": search.seed,
        "device": search.device,
        "member": member,
    }


def train_one(
    *,
    report: Callable[..., None],
    root: str,
    plugins: Sequence[str],
    identity: Mapping[str, Any],
    key: str,
) -> dict[str, Any]:
    """Train and save one member with one combination of settings; workers call it."""
    registry, store = Registry(plugins), Store.open(root)
    task: Task = registry.task(identity["task"])
    found = registry.method(identity["method"])
    method = found(found.Config.model_validate(identity["config"]))
    member, seed = identity["member"], identity["seed"]
    simulations = SimulationStore(store, report)
    bank = SimulationBank(task, simulations, identity["budget"], [member], "fresh", seed)
    fit_context = FitContext(
        task,
        bank,
        features_of(task, simulations),
        torch.device(identity["device"]),
        partial(generator, "tune", task.name, found.name, seed),
        report,
    )
    surrogate = method.fit(fit_context)
    curves = surrogate.log.curves[0]
    losses = {name: min(filter(math.isfinite, c.validation_loss)) for name, c in curves.items()}
    seconds = sum(curve.seconds for curve in curves.values())
    record = {**identity, "losses": losses, "seconds": seconds}
    store.write(key, record)
    return record
