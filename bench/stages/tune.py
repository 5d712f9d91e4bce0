"""Tuning: which settings of a method train best, by validation loss alone.

Successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943): every combination of the values
that a method declares trains for a few epochs; the best third, four at least, goes on to three
times as many, from the start, as schedules have a fixed length. No test metric is ever looked at,
simulations are none that a leaderboard sees, and all trials of a task share simulations,
initialisation and shuffles, so that they differ by their settings alone.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from bench.contracts import Method, Run, Settings, Task
from bench.errors import NotApplicable, PluginError, UsageError
from bench.numerics.seeds import digest, generator
from bench.stages.bank import SimulationBank, features_of
from bench.stages.executor import Event, Job, Outcome
from bench.stages.preset import explain
from bench.stages.registry import Registry
from bench.stages.store import SCHEMA, Store
from bench.stages.workers import Workers

FACTOR = 3
"""Of so many combinations one goes on to the next rung, for so many times the epochs."""
FEWEST = 4
"""But no fewer than these: what is best after few epochs need not be after many."""
FIRST_MEMBER = 1_000_000
"""Members of tuning count from here: simulations and seeds that no benchmark uses."""

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Search:
    """What is tried.

    Args:
        method: name of the method.
        base: its settings before any value is tried.
        tasks: names of the tasks whose mean validation loss decides.
        budget: simulator calls of a trial.
        members: trained networks per trial in the last rung; one before.
        epochs: of the last rung; earlier ones have thirds of it.
        rungs: how many.
        seed: seed of the simulations.
        device: where networks train, "cpu" or "cuda": rounding differs, so trials do not mix.
    """

    method: str
    base: Values
    tasks: tuple[str, ...]
    budget: int
    members: int
    epochs: int
    rungs: int
    seed: int
    device: str = "cpu"


@dataclass(frozen=True)
class Trial:
    """How one combination did in one rung.

    Args:
        rung: counted from 0.
        epochs: passes over the training data.
        values: the combination.
        losses: validation loss at the best epoch, summed over components, (tasks, members); NaN
            where training failed.
        seconds: training time of all of it.
        problem: why training failed, if it did.
        kept: whether it went on, or in the last rung whether it is the best.
    """

    rung: int
    epochs: int
    values: Values
    losses: tuple[tuple[float, ...], ...]
    seconds: float
    problem: str = ""
    kept: bool = False

    @property
    def loss(self) -> float:
        """Mean over tasks and members; infinite where any training failed."""
        mean = float(np.mean(self.losses))
        return mean if math.isfinite(mean) else math.inf


def make_search(
    registry: Registry,
    method: str,
    tasks: Sequence[str],
    budget: int,
    members: int,
    epochs: int,
    rungs: int,
    seed: int,
    device: str = "cpu",
) -> Search:
    """Resolves names and checks that there is something to tune.

    Args:
        registry: the names.
        method: name of a method; its default configuration is where the search starts.
        tasks: names of tasks.
        budget: as in `Search`, like everything that follows.

    Raises:
        UsageError: if the method declares no values to try, cannot run on a task, or `rungs` asks
            for less than an epoch.
        PluginError: if its values do not fit its settings.
    """
    found = registry.method(method)
    if not found.search:
        raise UsageError(f"method {method!r} declares no values to try (its attribute `search`)")
    if epochs < FACTOR ** (rungs - 1):
        raise UsageError(
            f"{rungs} rungs need at least {FACTOR ** (rungs - 1)} epochs in the last one, and "
            f"epochs = {epochs}"
        )
    base = dict(next(iter(found.configurations.values())))
    for name in tasks:
        if problem := untunable(registry, method, name):
            raise UsageError(f"method {method!r} cannot be tuned on {name}: {problem}")
    return Search(method, base, tuple(tasks), budget, members, epochs, rungs, seed, device)


def untunable(registry: Registry, method: str, task: str) -> str:
    """Why a method cannot be tuned on a task; empty where it can.

    Raises:
        PluginError: if its values do not fit its settings.
    """
    found, where = registry.method(method), registry.task(task)
    base = dict(next(iter(found.configurations.values())))
    configs = [configured(found, base, values, 1) for values in combinations(found)]
    try:
        where.check()
        for config in configs:
            found(config).check(where)
    except NotApplicable as error:
        return str(error)
    if len({digest(found(config).settings(where)) for config in configs}) < len(configs):
        return "some of the values that it declares have no effect there"
    return ""


def combinations(method: type[Method]) -> list[Values]:
    """Every combination of the values that a method declares."""
    return [
        dict(zip(method.search, values, strict=True))
        for values in itertools.product(*method.search.values())
    ]


def configured(method: type[Method], base: Values, values: Values, epochs: int) -> Settings:
    """Settings with some values replaced, by dotted name, and a number of epochs.

    A lower limit on gradient steps is lifted: it would give large batches more epochs than small.

    Raises:
        PluginError: if they are not valid.
    """
    settings = method.Config.model_validate(base).model_dump()
    fixed = {"training.epochs": epochs}
    if "steps" in settings.get("training", {}):
        fixed["training.steps"] = 0
    for name, value in {**values, **fixed}.items():
        *path, last = name.split(".")
        place = settings
        for part in path:
            place = place.get(part, {}) if isinstance(place, dict) else {}
        if last not in place:
            raise PluginError(f"method {method.name!r} would try {name}, which it does not have")
        place[last] = value
    try:
        return method.Config.model_validate(settings)
    except ValidationError as error:
        raise PluginError(
            f"search of method {method.name!r}: {explain(error, method.Config)}"
        ) from (error)


def tune(
    search: Search,
    registry: Registry,
    store: Store,
    workers: int,
    limits: tuple[float, float],
    on_trial: Callable[[Trial, int, int], None],
    on_event: Callable[[Event], None] = lambda event: None,
) -> list[Trial]:
    """Runs a search; trials that are in the store are not run again.

    Args:
        search: what is tried.
        registry: the names.
        store: where trials are kept.
        workers: worker processes, at most.
        limits: seconds and GiB that one training may take.
        on_trial: called with every trial of a rung that ended, how many have, and of how many.
        on_event: as in `Workers`.

    Returns:
        Every trial, by rung and then by loss.
    """
    survivors: Sequence[Values] = combinations(registry.method(search.method))
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
        done += [_marked(t, i < keep) for i, t in enumerate(trials)]
        survivors = [t.values for t in trials[:keep]]
        if not survivors:
            break
    return done


def _marked(trial: Trial, kept: bool) -> Trial:
    return Trial(**{**vars(trial), "kept": kept})


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
    """Trains all that is left; yields each combination once all its trainings have ended."""
    last = rung == search.rungs - 1
    epochs = search.epochs // FACTOR ** (search.rungs - 1 - rung)
    members = range(search.members if last else 1)
    method = registry.method(search.method)
    jobs: list[Job] = []
    results: dict[str, dict[str, Any]] = {}
    parts: list[list[list[str]]] = []  # of each combination, keys (tasks, members)
    for values in survivors:
        config = configured(method, search.base, values, epochs).model_dump(mode="json")
        parts.append([])
        for task in search.tasks:
            parts[-1].append([])
            for member in members:
                identity = _identity(registry, search, task, config, FIRST_MEMBER + member)
                key = f"trials/{search.method}/{digest(identity)[:16]}"
                parts[-1][-1].append(key)
                record = store.record(key)
                if record is not None and "losses" in record:
                    results[key] = record
                    continue
                arguments = {
                    "root": str(store.root.absolute()),
                    "plugins": registry.plugins,
                    "identity": identity,
                    "key": key,
                }
                jobs.append(Job(key, train_one, arguments))
    waiting = list(range(len(survivors)))

    def ready() -> Iterator[Trial]:
        for i in waiting[:]:
            if all(key in results for row in parts[i] for key in row):
                waiting.remove(i)
                yield _trial(rung, epochs, survivors[i], parts[i], results)

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
        value: dict[str, Any] = outcome.value
        return value
    return {"losses": {"": None}, "seconds": outcome.seconds, "problem": outcome.error}


def _trial(
    rung: int,
    epochs: int,
    values: Values,
    keys: list[list[str]],
    results: Mapping[str, Mapping[str, Any]],
) -> Trial:
    records = [[results[key] for key in row] for row in keys]
    losses = tuple(
        tuple(
            float(sum(math.nan if v is None else v for v in record["losses"].values()))
            for record in row
        )
        for row in records
    )
    flat = [record for row in records for record in row]
    problems = [str(r["problem"]) for r in flat if r.get("problem")]
    seconds = sum(float(r["seconds"]) for r in flat)
    return Trial(rung, epochs, values, losses, seconds, problems[0] if problems else "")


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
    """Trains one member with one combination and saves how it went; a job of the workers."""
    registry, store = Registry(plugins), Store.open(root)
    task: Task = registry.task(identity["task"])
    found = registry.method(identity["method"])
    method = found(found.Config.model_validate(identity["config"]))
    member, seed = identity["member"], identity["seed"]
    bank = SimulationBank(task, store, identity["budget"], [member], "fresh", seed)
    run = Run(
        torch.device(identity["device"]),
        lambda m, purpose: generator("tune", task.name, found.name, seed, m, purpose),
        report,
    )
    surrogate = method.fit(task, bank, features_of(task, store), [member], run)
    curves = surrogate.log.curves[0]
    losses = {name: min(filter(math.isfinite, c.validation_loss)) for name, c in curves.items()}
    seconds = sum(curve.seconds for curve in curves.values())
    record = {**identity, "losses": losses, "seconds": seconds}
    store.write(key, record)
    return record
