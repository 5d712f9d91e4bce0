"""Which cells a preset asks for: patterns of names, and ensembles."""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.contracts import Task
from bench.errors import NotApplicable, PluginError, UsageError
from bench.stages.cells import Absent, Cell, label, make_cell
from bench.stages.check import blamed_on
from bench.stages.preset import Preset
from bench.stages.registry import Registry, unknown

_ENSEMBLE = re.compile(r"ensemble\(\s*([^\s,()]+)\s*,\s*(\d{1,4})\s*\)")


@dataclass(frozen=True)
class Wanted:
    """What one pattern of methods asks for.

    Args:
        method: pattern of method names.
        configuration: pattern of configurations; any where None.
        ensemble: how many members to average; 1 for the members themselves.
    """

    method: str
    configuration: str | None
    ensemble: int

    @classmethod
    def parse(cls, pattern: str) -> "Wanted":
        """Reads `METHOD`, `METHOD:CONFIGURATION` or `ensemble(either of them,N)`.

        Raises:
            UsageError: if an ensemble is written in another way, or is one of fewer than two.

        Example:
            >>> Wanted.parse("ensemble(lre:tuned,5)")
            Wanted(method='lre', configuration='tuned', ensemble=5)
        """
        found, members = pattern, 1
        if pattern.startswith("ensemble("):
            matched = _ENSEMBLE.fullmatch(pattern)
            if matched is None or int(matched[2]) < 2:
                raise UsageError(
                    f"method {pattern!r}: an ensemble is written 'ensemble(METHOD,N)' or "
                    "'ensemble(METHOD:CONFIGURATION,N)', with N at least 2"
                )
            found, members = matched[1], int(matched[2])
        name, colon, configuration = found.partition(":")
        return cls(name, configuration if colon else None, members)

    def matches(self, method: str, configuration: str) -> bool:
        """Whether it asks for a method in a configuration."""
        return fnmatch.fnmatchcase(method, self.method) and (
            self.configuration is None or fnmatch.fnmatchcase(configuration, self.configuration)
        )


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
    """Tasks that a preset names; what does not load or cannot run is absent, with its reason."""
    tasks, absent = [], []
    for name in select(preset.tasks, registry.names("tasks"), "task"):
        try:
            task = registry.task(name)
            with blamed_on(f"task {name!r} from {registry.item('tasks', name).place}"):
                task.check()
            tasks.append(task)
        except (NotApplicable, PluginError) as error:
            broken = isinstance(error, PluginError)
            absent.append(Absent(name, "every method", str(error), broken))
    return tasks, absent


def select_cells(
    registry: Registry, tasks: Sequence[Task], preset: Preset
) -> tuple[list[Cell], list[Absent]]:
    """Cells of a preset, with what they need: the exact likelihood, and the bases of ensembles.

    Raises:
        UsageError: if a pattern matches nothing, or asks for an ensemble of what has one member.
    """
    patterns = [Wanted.parse(pattern) for pattern in preset.methods]
    chosen: dict[tuple[str, str], list[int]] = {}  # sizes of ensembles, 1 for the members
    absent: list[Absent] = []
    for name in registry.names("methods"):
        try:
            method = registry.method(name)
        except PluginError as error:
            if any(fnmatch.fnmatchcase(name, p.method) for p in patterns):
                absent += [Absent(task.name, name, str(error), broken=True) for task in tasks]
            continue
        for configuration in method.configurations:
            sizes = {p.ensemble for p in patterns if p.matches(name, configuration)}
            if method.oracle and sizes - {1}:
                raise UsageError(f"an ensemble of {name!r} makes no sense: it has one member")
            if sizes or method.oracle:
                chosen[name, configuration] = sorted(sizes | {1})
    for pattern in patterns:
        _check(registry, pattern)
    cells: dict[str, Cell] = {}
    for task in tasks:
        for name, configuration in sorted(
            chosen, key=lambda c: (not registry.method(c[0]).oracle, c)
        ):
            for budget in preset.budgets:
                try:
                    cell = make_cell(registry, task, name, configuration, preset, budget)
                except (NotApplicable, PluginError) as error:
                    broken = isinstance(error, PluginError)
                    absent.append(Absent(task.name, label(name, configuration), str(error), broken))
                    continue
                for size in chosen[name, configuration]:
                    part = cell.ensemble(size) if size > 1 else cell
                    if size <= preset.members:
                        cells.setdefault(part.folder, part)
                    else:
                        why = f"it takes {size} members, and this run has {preset.members}"
                        absent.append(Absent(task.name, part.label, why))
    return list(cells.values()), list(dict.fromkeys(absent))


def _check(registry: Registry, wanted: Wanted) -> None:
    """Refuses a pattern that matches nothing, with near matches."""
    matched = select([wanted.method], registry.names("methods"), "method")
    if wanted.configuration is None:
        return
    labels = []
    for method in matched:
        try:
            labels += list(registry.method(method).configurations)
        except PluginError:
            return
    select([wanted.configuration], labels, f"configuration of {wanted.method}")
