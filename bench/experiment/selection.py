"""Selection of a preset's tasks and fits: name patterns and wrapped methods."""

import fnmatch
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError

from bench.contracts import Method, Task, Wrapper
from bench.errors import NotApplicable, PluginError, UsageError, counted
from bench.experiment.preset import Preset, explain
from bench.registry.registry import Registry, select, unknown
from bench.registry.validate import plugin_errors
from bench.seeds import digest
from bench.storage.fit_spec import FitSpec, Wrapping, label, wrappings
from bench.storage.store import SCHEMA

_WRAPPED = re.compile(r"([\w.+-]+)\s*\((.*)\)", re.DOTALL)


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
        wrappers: name and written settings of each wrapper, the innermost first.
    """

    method: str
    configuration: str | None
    wrappers: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def parse(cls, pattern: str) -> "MethodPattern":
        """Parse `METHOD`, `METHOD:CONFIGURATION`, or `WRAPPER(any,SETTING,…)`.

        Raises:
            UsageError: if parentheses or commas are misplaced.

        Example:
            >>> MethodPattern.parse("ensemble(calibrated(lre:tuned),5)").wrappers
            (('calibrated', ()), ('ensemble', ('5',)))
        """
        found, wrappers = pattern.strip(), []
        while matched := _WRAPPED.fullmatch(found):
            found, *arguments = _separated(matched[2])
            wrappers.append((matched[1], tuple(arguments)))
        written = (text for _, arguments in wrappers for text in arguments)
        if not found or any(set("(),") & set(text) for text in (found, *written)):
            raise UsageError(
                f"method {pattern!r}: a wrapped method is written 'WRAPPER(METHOD,SETTING,…)', as "
                "in 'ensemble(lre:tuned,5)'"
            )
        name, colon, configuration = found.partition(":")
        return cls(name, configuration if colon else None, tuple(reversed(wrappers)))

    def written(self, configuration: str) -> str:
        """Return the pattern with a configuration."""
        found = f"{self.method}:{configuration}"
        for name, arguments in self.wrappers:
            found = f"{name}({','.join((found, *arguments))})"
        return found

    def matches(self, method: str, configuration: str) -> bool:
        """Return whether the pattern matches a method in a configuration."""
        return fnmatch.fnmatchcase(method, self.method) and (
            self.configuration is None or fnmatch.fnmatchcase(configuration, self.configuration)
        )


def _separated(text: str) -> list[str]:
    """Split at the commas outside parentheses."""
    depth, parts = 0, [""]
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


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
        UsageError: if a pattern matches nothing, names no wrapper, or wraps the exact likelihood.
    """
    patterns = [MethodPattern.parse(pattern) for pattern in preset.methods]
    wrappers = {pattern: configured(registry, pattern) for pattern in patterns}
    chosen: dict[tuple[str, str], dict[Written, tuple[Wrapper, ...]]] = {}
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
            if method.oracle and any(p.wrappers for p in matching):
                raise UsageError(f"{name!r} is the exact likelihood, which wrappers do not take")
            if matching or method.oracle:
                forms = [form for p in matching for form in _forms(wrappers[p])] or [()]
                chosen[name, configuration] = {_written(form): form for form in forms}
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
                for _, form in sorted(chosen[name, configuration].items(), key=_simpler):
                    part = wrapped(registry, spec, form)
                    why = _why_not(part, form, task, preset)
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


def _why_not(spec: FitSpec, form: Sequence[Wrapper], task: Task, preset: Preset) -> str:
    """Return the reason why a preset cannot include a fit; empty if it can."""
    if spec.size > preset.members:
        return f"it takes {spec.size:,} members, and this run has {preset.members:,}"
    for wrapper, one in zip(form, spec.wrappings, strict=True):
        try:
            with plugin_errors(f"wrapper {wrapper.name!r}"):
                wrapper.check(task, one.calls)
        except NotApplicable as error:
            return str(error)
    return ""


Written = tuple[tuple[str, tuple[str, ...]], ...]
"""Names and settings of wrappers, as labels show them; the innermost first."""


def configured(registry: Registry, pattern: MethodPattern) -> tuple[Wrapper, ...]:
    """Create the wrappers of a pattern, the innermost first.

    Raises:
        UsageError: if there is no such wrapper, or its settings are wrong.
        PluginError: if a wrapper does not load.
    """
    found = tuple(_configured(registry, name, written) for name, written in pattern.wrappers)
    for inner in found[:-1]:
        if inner.outermost:
            raise UsageError(f"{inner.name} must be the outermost wrapper")
    return found


def _configured(registry: Registry, name: str, written: Sequence[str]) -> Wrapper:
    if name not in registry.names("wrappers"):
        registry.refuse("wrappers", name)
    found = registry.wrapper(name)
    fields = found.Config.model_fields
    names = [n.upper() if field.is_required() else f"[{n.upper()}]" for n, field in fields.items()]
    usage = f"it is written '{name}({','.join(('METHOD', *names))})'"
    values: dict[str, str] = {}
    for place, text in enumerate(written):
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals and place >= len(fields):
            raise UsageError(f"{name} has {counted(len(fields), 'setting')}; {usage}")
        key, value = (key, value) if equals else ([*fields][place], key)
        if key in values:
            raise UsageError(f"{name} has {key} twice; {usage}")
        values[key] = value
    try:
        return found(found.Config.model_validate(values))
    except ValidationError as error:
        raise UsageError(f"{name}: {explain(error, found.Config)}; {usage}") from error


def _written(wrappers: Sequence[Wrapper]) -> Written:
    return tuple((wrapper.name, _arguments(wrapper)) for wrapper in wrappers)


def _arguments(wrapper: Wrapper) -> tuple[str, ...]:
    """Return a wrapper's settings without trailing defaults."""
    fields, values = type(wrapper).Config.model_fields, wrapper.config.model_dump()
    names = [*fields]
    while names and values[names[-1]] == fields[names[-1]].get_default(call_default_factory=True):
        names.pop()
    return tuple(str(values[name]).removesuffix(".0") for name in names)


def _forms(wrappers: tuple[Wrapper, ...]) -> Iterator[tuple[Wrapper, ...]]:
    """Yield the wrappers of a pattern, and of the fits inside that it is compared with.

    They are those with the same budget: what a wrapper that learns takes has less.
    """
    yield wrappers
    if wrappers and type(wrappers[-1]).calls is Wrapper.calls:
        yield from _forms(wrappers[:-1])


def _simpler(form: tuple[Written, object]) -> tuple[int, Written]:
    return len(form[0]), form[0]


def wrapped(registry: Registry, spec: FitSpec, wrappers: Sequence[Wrapper]) -> FitSpec:
    """Return a fit with wrappers around it; the innermost come first.

    Each spends its simulator calls from what those around it leave.

    Raises:
        PluginError: if a wrapper's numbers of calls or members are impossible.
    """
    left, calls = int(spec.identity["budget"]), []
    for wrapper in reversed(wrappers):
        where = f"wrapper {wrapper.name!r}"
        with plugin_errors(where):
            own, members = wrapper.calls(left), wrapper.members
        if not isinstance(own, int) or not 0 <= own <= left:
            raise PluginError(f"{where}: it spends {own!r} of {left:,} simulator calls")
        if not isinstance(members, int) or not 1 <= members < 10_000:
            raise PluginError(f"{where}: it takes {members!r} members, and must take 1 to 9999")
        if any(set("(),#") & set(text) for text in _arguments(wrapper)):
            raise PluginError(f"{where}: its settings must be written without ( ) , #")
        calls.append(own)
        left -= own
    for wrapper, own in zip(wrappers, reversed(calls), strict=True):
        new = Wrapping(
            wrapper.name,
            _arguments(wrapper),
            wrapper.config.model_dump(mode="json"),
            wrapper.members,
            own,
            wrapper.version,
            registry.item("wrappers", wrapper.name).plugin_hash,
        )
        spec = spec.wrapped(new)
    return spec


class _HasIdentity(Protocol):
    @property
    def method(self) -> str: ...
    @property
    def configuration(self) -> str: ...
    @property
    def identity(self) -> dict[str, Any]: ...


def names_fit(registry: Registry, pattern: MethodPattern, fit: _HasIdentity) -> bool:
    """Return whether a pattern is that of a fit, its wrappers included."""
    own = tuple((one.name, one.arguments) for one in wrappings(fit.identity))
    return pattern.matches(fit.method, fit.configuration) and own == _written(
        configured(registry, pattern)
    )


def _check(registry: Registry, wanted: MethodPattern) -> None:
    """Raise UsageError for a pattern that matches nothing; the message suggests similar names."""
    matched = [n for n in registry.names("methods") if fnmatch.fnmatchcase(n, wanted.method)]
    if wanted.method in registry.names("wrappers"):
        raise UsageError(f"{wanted.method!r} is a wrapper: write '{wanted.method}(METHOD)'")
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
