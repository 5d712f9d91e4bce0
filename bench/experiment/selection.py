"""Selection of a preset's tasks and fits: name patterns, ensembles and calibrated methods."""

import fnmatch
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast, get_args

from pydantic import ValidationError

from bench.contracts import Method, Task
from bench.errors import NotApplicable, PluginError, UsageError, counted
from bench.experiment.preset import Preset, explain
from bench.nn.calibration import CalibrationKind
from bench.registry.registry import Registry, select, unknown
from bench.registry.validate import plugin_errors
from bench.seeds import digest
from bench.storage.fit_spec import DEFAULT_CALIBRATION, FitSpec, label
from bench.storage.store import SCHEMA

_CALIBRATED = re.compile(r"calibrated\(\s*([^\s,()]+)\s*(?:,\s*(\w+)\s*)?\)")
_ENSEMBLE = re.compile(r"ensemble\(\s*([^\s,()]+|calibrated\([^()]*\))\s*,\s*(\d{1,4})\s*\)")


@dataclass(frozen=True)
class Absent:
    """Task or method that is missing from a run, with the reason."""

    task: str
    label: str
    reason: str
    broken: bool = False


@dataclass(frozen=True)
class MethodPattern:
    """Parsed pattern of methods.

    Args:
        method: pattern of method names.
        configuration: pattern of configurations; None matches all.
        ensemble: number of members to average; 1 for single members.
        calibration: kind of calibration of the log-ratios; None for no calibration.
    """

    method: str
    configuration: str | None
    ensemble: int
    calibration: CalibrationKind | None = None

    @classmethod
    def parse(cls, pattern: str) -> "MethodPattern":
        """Parse `METHOD`, `METHOD:CONFIGURATION`, `calibrated(…)` of them, or `ensemble(any,N)`.

        Raises:
            UsageError: if an ensemble is written in another way, or is one of fewer than two, or if
                a calibrated method is written in another way.

        Example:
            >>> MethodPattern.parse("ensemble(calibrated(lre:tuned),5)")
            MethodPattern(method='lre', configuration='tuned', ensemble=5, calibration='platt')
        """
        found, members, calibration = pattern, 1, None
        if pattern.startswith("ensemble("):
            matched = _ENSEMBLE.fullmatch(pattern)
            if matched is None or int(matched[2]) < 2:
                raise UsageError(
                    f"method {pattern!r}: an ensemble is written 'ensemble(METHOD,N)' or "
                    "'ensemble(METHOD:CONFIGURATION,N)', with N at least 2"
                )
            found, members = matched[1], int(matched[2])
        if found.startswith("calibrated("):
            matched = _CALIBRATED.fullmatch(found)
            kind = DEFAULT_CALIBRATION if matched is None else matched[2] or DEFAULT_CALIBRATION
            if matched is None or kind not in get_args(CalibrationKind):
                raise UsageError(
                    f"method {pattern!r}: a calibrated method is written 'calibrated(METHOD)' or "
                    "'calibrated(METHOD,isotonic)', METHOD or METHOD:CONFIGURATION; ensembles go "
                    "around it: 'ensemble(calibrated(METHOD),N)'"
                )
            found, calibration = matched[1], cast(CalibrationKind, kind)
        name, colon, configuration = found.partition(":")
        return cls(name, configuration if colon else None, members, calibration)

    def matches(self, method: str, configuration: str) -> bool:
        """Return whether the pattern matches a method in a configuration."""
        return fnmatch.fnmatchcase(method, self.method) and (
            self.configuration is None or fnmatch.fnmatchcase(configuration, self.configuration)
        )


def select_tasks(registry: Registry, preset: Preset) -> tuple[list[Task], list[Absent]]:
    """Return the tasks that a preset names, and those that fail to load or run, with reasons."""
    tasks, absent = [], []
    for name in registry.select("tasks", preset.tasks):
        try:
            task = registry.task(name)
            with plugin_errors(f"task {name!r} from {registry.item('tasks', name).place}"):
                task.check()
            tasks.append(task)
        except (NotApplicable, PluginError) as error:
            broken = isinstance(error, PluginError)
            absent.append(Absent(name, "every method", str(error), broken))
    return tasks, absent


def select_specs(
    registry: Registry, tasks: Sequence[Task], preset: Preset
) -> tuple[list[FitSpec], list[Absent]]:
    """Return the fits of a preset, and those that are absent, with reasons.

    The fits include the exact likelihood and the members that ensembles average.

    Raises:
        UsageError: if a pattern matches nothing, or asks for an ensemble or a calibration of the
            exact likelihood.
    """
    patterns = [MethodPattern.parse(pattern) for pattern in preset.methods]
    chosen: dict[tuple[str, str], set[tuple[CalibrationKind | None, int]]] = {}
    """Calibrations and sizes of ensembles, 1 for the members, by method and configuration."""
    absent: list[Absent] = []
    for name in registry.names("methods"):
        try:
            method = registry.method(name)
        except PluginError as error:
            if any(fnmatch.fnmatchcase(name, p.method) for p in patterns):
                absent += [Absent(task.name, name, str(error), broken=True) for task in tasks]
            continue
        for configuration in method.configurations:
            matching = [p for p in patterns if p.matches(name, configuration)]
            if method.oracle and any(p.ensemble > 1 for p in matching):
                raise UsageError(f"an ensemble of {name!r} makes no sense: it has one member")
            if method.oracle and any(p.calibration for p in matching):
                raise UsageError(f"{name!r} needs no calibration: it is the exact likelihood")
            if matching or method.oracle:
                forms = {(p.calibration, size) for p in matching for size in (1, p.ensemble)}
                chosen[name, configuration] = forms or {(None, 1)}
    for pattern in patterns:
        _check(registry, pattern)
    specs: dict[str, FitSpec] = {}
    for task in tasks:
        for name, configuration in sorted(
            chosen, key=lambda c: (not registry.method(c[0]).oracle, c)
        ):
            for budget in preset.budgets:
                try:
                    spec = make_spec(registry, task, name, configuration, preset, budget)
                except (NotApplicable, PluginError) as error:
                    broken = isinstance(error, PluginError)
                    absent.append(Absent(task.name, label(name, configuration), str(error), broken))
                    continue
                for kind, size in sorted(chosen[name, configuration], key=str):
                    part = spec.calibrated(kind) if kind else spec
                    part = part.ensemble(size) if size > 1 else part
                    why = _why_not(part, task, preset)
                    if why:
                        absent.append(Absent(task.name, part.label, why))
                    else:
                        specs.setdefault(part.folder, part)
    return list(specs.values()), list(dict.fromkeys(absent))


def uninstalled(registry: Registry, patterns: Sequence[str]) -> dict[str, str]:
    """Return, by method, the missing package and the command that installs it.

    Args:
        registry: the names.
        patterns: patterns of methods, as of `bench run`.

    Raises:
        UsageError: if a pattern is malformed.
    """
    wanted = [MethodPattern.parse(pattern) for pattern in patterns]
    found = {}
    for name in registry.names("methods"):
        if any(fnmatch.fnmatchcase(name, one.method) for one in wanted):
            with suppress(PluginError), plugin_errors(name):
                if missing := registry.method(name).unavailable():
                    found[name] = missing
    return found


def refuse_uninstalled(registry: Registry, patterns: Sequence[str]) -> None:
    """Raise UsageError if a method that is requested by its exact name lacks a package.

    Raises:
        UsageError: if there is one; the message contains the command that installs the package.
    """
    named = {MethodPattern.parse(pattern).method for pattern in patterns}
    for name, missing in uninstalled(registry, patterns).items():
        if name in named:
            raise UsageError(missing)


def _why_not(spec: FitSpec, task: Task, preset: Preset) -> str:
    """Return the reason why a preset cannot include a fit; empty if it can."""
    if spec.size > preset.members:
        return f"it takes {spec.size:,} members, and this run has {preset.members:,}"
    if spec.calibration and spec.calibration["calls"] < 2 * len(task.component_names):
        calls = spec.calibration["calls"]
        return f"its budget leaves {counted(calls, 'simulation')} for calibration: too few"
    return ""


def _check(registry: Registry, wanted: MethodPattern) -> None:
    """Raise UsageError for a pattern that matches nothing; the message suggests similar names."""
    matched = [n for n in registry.names("methods") if fnmatch.fnmatchcase(n, wanted.method)]
    if not matched:
        configuration = "" if wanted.configuration is None else f":{wanted.configuration}"
        registry.refuse("methods", f"{wanted.method}{configuration}")
    if wanted.configuration is None:
        return
    labels = []
    for method in matched:
        try:
            labels += list(registry.method(method).configurations)
        except PluginError:
            return
    select([wanted.configuration], labels, f"configuration of {wanted.method}")


def make_spec(
    registry: Registry, task: Task, name: str, configuration: str, preset: Preset, budget: int
) -> FitSpec:
    """Return the identity of a method's fit on a task.

    Raises:
        NotApplicable: if the method cannot run on the task.
        UsageError: if there is no such configuration.
        PluginError: if the configuration's own settings are invalid, or the method's code fails.
    """
    with plugin_errors(f"method {name!r} from {registry.item('methods', name).place}"):
        method = registry.method(name)
        if missing := method.unavailable():  # a plugin's `check` may not test this
            raise NotApplicable(missing)
        instance = configure(method, configuration)
        instance.check(task)
        identity = _identity(registry, task, name, instance, preset, budget)
        spec = FitSpec(task.name, name, configuration, identity, bool(method.oracle))
        digest(identity)  # an identity that is not JSON fails here, so that the method is named
    return spec


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
            # It changes chunks and standardisation.
            **({"expensive": True} if task.expensive else {}),
        },
        "method": {
            "name": name,
            "version": method.version,
            "plugin": registry.item("methods", name).plugin_hash,
            "config": method.settings(task),
        },
        "budget": 0 if method.oracle else budget,
        "training_data": "none" if method.oracle else preset.training_data,
        "seed": 0 if method.oracle else preset.seed,
    }


def configure(method: type[Method], configuration: str) -> Method:
    """Create a method in one of its named configurations."""
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
