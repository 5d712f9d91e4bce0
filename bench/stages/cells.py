"""Cells: one method, in one configuration, on one task, at one budget; and their identity."""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from bench.contracts import HeldOutPlan, Method, Plan, Task
from bench.errors import NotApplicable, PluginError, UsageError
from bench.numerics.seeds import digest
from bench.stages.check import blamed_on
from bench.stages.predict import EVALUATION
from bench.stages.preset import Preset, explain
from bench.stages.registry import Registry, unknown
from bench.stages.store import SCHEMA


@dataclass(frozen=True)
class Cell:
    """What is trained: everything that a member's numbers depend on but its own number.

    The configuration's name, the number of members, the device and the workers are not part of
    the identity: equal configurations share one fit, and more members train only what is missing.
    """

    task: str
    method: str
    configuration: str
    identity: dict[str, Any]
    oracle: bool

    @property
    def key(self) -> str:
        """Short hash of the identity."""
        return digest(self.identity)[:12]

    @property
    def label(self) -> str:
        """How the cell is called in progress and tables."""
        return label(self.method, self.configuration)

    @property
    def folder(self) -> str:
        """Where its parts are kept, under fits/, predictions/ and scores/."""
        return f"{self.task}/{self.method}-{self.key}"

    def fit_key(self, member: int) -> str:
        """Key of a member's fit."""
        return f"fits/{self.folder}/member-{member:03d}"

    def prediction_key(self, plan: str, member: int) -> str:
        """Key of a member's prediction for a plan's folder."""
        return f"predictions/{self.folder}/{plan}/member-{member:03d}"

    def score_key(self, plan: str, member: int) -> str:
        """Key of a member's scores for a plan's folder."""
        return f"scores/{self.folder}/{plan}/member-{member:03d}"


def label(method: str, configuration: str) -> str:
    """How a method in a configuration is called; "default" goes without saying."""
    return method if configuration == "default" else f"{method}:{configuration}"


class _MayBeOracle(Protocol):
    @property
    def method(self) -> str: ...
    @property
    def oracle(self) -> bool: ...


_CellOrFit = TypeVar("_CellOrFit", bound=_MayBeOracle)


def truth_among(cells: Iterable[_CellOrFit]) -> _CellOrFit | None:
    """The exact likelihood among cells or fits of one task; a plugin's oracle only without it."""
    oracles = [cell for cell in cells if cell.oracle]
    return min(oracles, key=lambda cell: cell.method != "exact", default=None)


@dataclass(frozen=True)
class Absent:
    """What a run lacks, and why: because it cannot be, or because something is broken."""

    task: str
    label: str
    reason: str
    broken: bool = False


def plan_folder(task: Task, plan: Plan, seed: int) -> str:
    """Name of the folder of a plan's predictions: its kind and the hash of what defines it."""
    resolution = () if isinstance(plan, HeldOutPlan) else [asdict(r) for r in task.resolution]
    return f"{plan.kind}-{digest(SCHEMA, EVALUATION, plan.model_dump(), seed, resolution)[:8]}"


def make_cell(
    registry: Registry, task: Task, name: str, configuration: str, preset: Preset, budget: int
) -> Cell:
    """Resolves a cell.

    Raises:
        NotApplicable: if the method cannot run on the task.
        UsageError: if there is no such configuration.
        PluginError: if the configuration's own settings are invalid, or the method's code fails.
    """
    with blamed_on(f"method {name!r} from {registry.item('methods', name).place}"):
        method = registry.method(name)
        instance = configure(method, configuration)
        instance.check(task)
        identity = _identity(registry, task, name, instance, preset, budget)
        cell = Cell(task.name, name, configuration, identity, bool(method.oracle))
        digest(identity)  # whatever is not JSON fails here, where the method is to blame
    return cell


def _identity(
    registry: Registry, task: Task, name: str, method: Method, preset: Preset, budget: int
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "task": {
            "name": task.name,
            "version": task.version,
            "settings": dict(task.settings),
            "plugin": registry.item("tasks", task.name).plugin_hash,
        },
        "method": {
            "name": name,
            "version": method.version,
            "plugin": registry.item("methods", name).plugin_hash,
            "config": method.config.model_dump(mode="json"),
        },
        "budget": 0 if method.oracle else budget,
        "training_data": "none" if method.oracle else preset.training_data,
        "seed": 0 if method.oracle else preset.seed,
    }


def configure(method: type[Method], configuration: str) -> Method:
    """Creates a method in one of its named configurations."""
    if configuration not in method.configurations:
        known = list(method.configurations)
        raise UsageError(unknown(f"configuration of {method.name}", configuration, known))
    try:
        return method(method.Config.model_validate(method.configurations[configuration]))
    except ValidationError as error:
        raise PluginError(
            f"configuration {configuration!r} of method {method.name}: "
            f"{explain(error, method.Config)}"
        ) from error


def select(patterns: Sequence[str], names: Sequence[str], what: str) -> list[str]:
    """Names that match any pattern, in the order of `names`.

    Raises:
        UsageError: if a pattern matches nothing.
    """
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise UsageError(unknown(what, pattern, names))
    return [n for n in names if any(fnmatch.fnmatchcase(n, p) for p in patterns)]


def select_tasks(registry: Registry, preset: Preset) -> tuple[list[Task], list[Absent]]:
    """Tasks that a preset names; a plugin that does not load is absent, with its reason."""
    tasks, absent = [], []
    for name in select(preset.tasks, registry.names("tasks"), "task"):
        try:
            tasks.append(registry.task(name))
        except PluginError as error:
            absent.append(Absent(name, "every method", str(error), broken=True))
    return tasks, absent


def select_cells(
    registry: Registry, tasks: Sequence[Task], preset: Preset
) -> tuple[list[Cell], list[Absent]]:
    """Cells of a preset, the exact likelihood always among them where a task has one."""
    names = registry.names("methods")
    chosen: list[tuple[str, str]] = []
    absent: list[Absent] = []
    for name in names:
        try:
            full = [f"{name}:{c}" for c in registry.method(name).configurations]
        except PluginError as error:
            if any(fnmatch.fnmatchcase(name, p.partition(":")[0]) for p in preset.methods):
                absent += [Absent(task.name, name, str(error), broken=True) for task in tasks]
            continue
        for candidate in full:
            matched = any(
                fnmatch.fnmatchcase(candidate if ":" in p else name, p) for p in preset.methods
            )
            if matched or registry.method(name).oracle:
                chosen.append((name, candidate.partition(":")[2]))
    for pattern in preset.methods:
        _check_pattern(registry, pattern, names)
    cells: dict[str, Cell] = {}
    for task in tasks:
        for name, configuration in sorted(
            chosen, key=lambda c: (not registry.method(c[0]).oracle, c)
        ):
            for budget in preset.budgets:
                try:
                    cell = make_cell(registry, task, name, configuration, preset, budget)
                    cells.setdefault(cell.folder, cell)
                except (NotApplicable, PluginError) as error:
                    broken = isinstance(error, PluginError)
                    absent.append(Absent(task.name, label(name, configuration), str(error), broken))
    return list(cells.values()), list(dict.fromkeys(absent))


def _check_pattern(registry: Registry, pattern: str, names: Sequence[str]) -> None:
    name, colon, configuration = pattern.partition(":")
    matched = select([name], names, "method")
    if not colon:
        return
    labels = []
    for method in matched:
        try:
            labels += list(registry.method(method).configurations)
        except PluginError:
            return
    select([configuration], labels, f"configuration of {name}")
