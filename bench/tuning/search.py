"""Definition of a search: the values of a method's settings to try, and on which tasks."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from bench.contracts import Method, Settings, Task
from bench.errors import NotApplicable, PluginError, UsageError
from bench.experiment.preset import explain
from bench.registry.registry import Registry
from bench.seeds import digest

FACTOR = 3
"""One in `FACTOR` combinations goes on to the next rung, with `FACTOR` times the epochs."""

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Search:
    """Search of settings by mean validation loss.

    Args:
        method: name of the method.
        base: the method's settings before any value is tried.
        values: values to try for each setting, by dotted name.
        tasks: names of the tasks whose mean validation loss decides.
        budget: simulator calls of a trial.
        members: trained networks per trial in the last rung; earlier rungs train one.
        epochs: epochs of the last rung; each earlier rung has a third of the next one's.
        rungs: number of rungs.
        seed: seed of the simulations.
        device: where networks train, "cpu" or "cuda". Rounding differs, so trials of one device
            are not reused on the other.
    """

    method: str
    base: Values
    values: Mapping[str, Sequence[Any]]
    tasks: tuple[str, ...]
    budget: int
    members: int
    epochs: int
    rungs: int
    seed: int
    device: str = "cpu"


@dataclass(frozen=True)
class Trial:
    """Result of one combination of values in one rung.

    Args:
        rung: number of the rung, from 0.
        epochs: passes over the training data.
        values: the combination.
        losses: validation loss at the best epoch, summed over components, (tasks, members); NaN
            where training failed.
        seconds: training time over all tasks and members.
        problem: reason of a failed training, else empty.
        kept: whether the combination goes on; in the last rung, whether it is the best.
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
        """Mean over tasks and members; infinite if any training failed."""
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
    only: Sequence[str] = (),
) -> Search:
    """Resolve names, check that there is something to tune, and return the search.

    Args:
        registry: the names.
        method: name of a method; the search starts from its default configuration.
        tasks: names of tasks.
        budget: as in `Search`.
        members: as in `Search`.
        epochs: as in `Search`.
        rungs: as in `Search`.
        seed: as in `Search`.
        device: as in `Search`.
        only: values to which settings are restricted, each as "SETTING=VALUE".

    Raises:
        UsageError: if the method declares no values to try, or not these, cannot run on a task, or
            `rungs` asks for less than an epoch.
        PluginError: if its values do not fit its settings.
    """
    found = registry.method(method)
    if not found.search:
        raise UsageError(f"method {method!r} declares no values to try (its attribute `search`)")
    if epochs < (least := FACTOR ** (rungs - 1)):
        raise UsageError(
            f"{rungs} rungs need at least {least} epochs in the last one, and epochs = {epochs}"
        )
    base = dict(next(iter(found.configurations.values())))
    for name in tasks:
        if problem := untunable(registry, method, name):
            raise UsageError(f"method {method!r} cannot be tuned on {name}: {problem}")
    several = [with_effect(found, registry.task(name)) for name in tasks]
    if any(one != several[0] for one in several):
        raise UsageError(
            f"method {method!r} tries other settings on some of {', '.join(tasks)} than on others; "
            "tune it for them in turn, with --task"
        )
    values = _restricted(method, several[0], only)
    return Search(method, base, values, tuple(tasks), budget, members, epochs, rungs, seed, device)


def with_effect(method: type[Method], task: Task) -> dict[str, Sequence[Any]]:
    """Return the values to try of those settings that have an effect on a task."""
    base = dict(next(iter(method.configurations.values())))

    def identity(name: str, value: Any) -> str:
        return digest(method(configured(method, base, {name: value}, 1)).settings(task))

    return {
        name: values
        for name, values in method.search.items()
        if len({identity(name, value) for value in values}) > 1
    }


def _restricted(
    method: str, search: Mapping[str, Sequence[Any]], only: Sequence[str]
) -> dict[str, Sequence[Any]]:
    """Return the values that a method tries, restricted to the ones in `only`."""
    chosen: dict[str, list[Any]] = {}
    for text in only:
        setting, _, wanted = text.partition("=")
        names = [n for n in search if setting in (n, n.rpartition(".")[2])]
        if not names:
            raise UsageError(
                f"{text!r} is no SETTING=VALUE of what {method!r} tries: "
                f"{', '.join(n.rpartition('.')[2] for n in search)}"
            )
        declared = search[names[0]]
        found = [v for v in declared if wanted == str(v) or _number(wanted) == v]
        if not found:
            raise UsageError(
                f"{method!r} does not try {wanted!r} as {setting}; it tries "
                f"{', '.join(map(str, declared))}"
            )
        chosen.setdefault(names[0], []).extend(found)
    return {name: list(dict.fromkeys(chosen.get(name, values))) for name, values in search.items()}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def untunable(registry: Registry, method: str, task: str) -> str:
    """Return the reason why a method cannot be tuned on a task; empty if it can.

    Raises:
        PluginError: if its values do not fit its settings.
    """
    found, where = registry.method(method), registry.task(task)
    base = dict(next(iter(found.configurations.values())))
    configs = [configured(found, base, values, 1) for values in combinations(found.search)]
    try:
        where.check()
        for config in configs:
            found(config).check(where)
    except NotApplicable as error:
        return str(error)
    searched = combinations(with_effect(found, where))
    configs = [configured(found, base, values, 1) for values in searched]
    if len({digest(found(config).settings(where)) for config in configs}) < len(configs):
        return "some of the values that it declares have no effect there"
    return ""


def combinations(values: Mapping[str, Sequence[Any]]) -> list[Values]:
    """Return every combination of the values of several settings."""
    return [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]


def configured(method: type[Method], base: Values, values: Values, epochs: int) -> Settings:
    """Return settings with some values replaced, by dotted name, and a number of epochs.

    The number is that of `training` and of every other training among the settings. A minimum
    number of gradient steps is set to 0: it would give large batches more epochs than small ones.

    Raises:
        PluginError: if they are not valid.
    """
    settings = method.Config.model_validate(base).model_dump()
    fixed = {"training.epochs": epochs}
    for part, own in settings.items():
        if isinstance(own, dict) and "epochs" in own:
            fixed |= {f"{part}.epochs": epochs} | ({f"{part}.steps": 0} if "steps" in own else {})
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
