"""Registry of tasks, methods, metrics and other kinds by name, built-in or from plugins.

Names come from entry points of installed packages, the suite's own included, and from plugin
files. Objects are imported on demand. One that fails to import is listed with its reason and
does not affect the others.
"""

import difflib
import fnmatch
import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, Literal, NoReturn, cast, get_args
from uuid import uuid4
from weakref import WeakKeyDictionary

from bench.contracts import Diagnostic, Method, Metric, Task, Wrapper
from bench.errors import NotApplicable, PluginError, UsageError
from bench.registry.plugins import import_plugin, plugin_files, plugin_version
from bench.registry.validate import blamed, check, plugin_errors
from bench.seeds import OBJECT

Kind = Literal["tasks", "methods", "wrappers", "metrics", "diagnostics", "presets"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_VERSIONS: MutableMapping[Any, str] = WeakKeyDictionary()
"""Versions of the objects that registries of this process have loaded."""

Defined = Task | Metric | Diagnostic | type[Method] | type[Wrapper]
"""Object that a plugin file, or a program, may define."""

_INSTANCES: dict[Kind, type] = {"tasks": Task, "metrics": Metric, "diagnostics": Diagnostic}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One registered name.

    Args:
        kind: kind of the object: one of `KINDS`.
        name: its name.
        place: description of the package or file that defines it.
        load: function that imports and returns the object.
        plugin_hash: SHA-256 of a plugin file and of what it imports from its folder, used as its
            version; empty for packages.
    """

    kind: Kind
    name: str
    place: str
    load: Callable[[], Any]
    plugin_hash: str = ""


class Registry:
    """Registry of all names that this process knows.

    Args:
        plugins: plugin files: each defines tasks (instances of Task), methods (subclasses of
            Method), wrappers (subclasses of Wrapper), metrics (instances of Metric) or diagnostics
            (instances of Diagnostic) at its top level.
        objects: such objects of this process, which other processes cannot know.

    Raises:
        PluginError: if two places define the same name, or names that differ by case alone.
        UsageError: if a plugin file does not exist.

    Attributes:
        failures: reason for each object that does not load, one line each.
    """

    def __init__(self, plugins: Sequence[str | Path] = (), objects: Sequence[Defined] = ()) -> None:
        self.objects = tuple(objects)
        self.plugins = tuple(dict.fromkeys(os.path.realpath(p) for p in plugins))
        self.failures: dict[str, str] = {}
        self._items: dict[Kind, dict[str, Item]] = {kind: {} for kind in KINDS}
        for kind in KINDS:
            for point in entry_points(group=f"nlbench.{kind}"):
                if kind == "presets":
                    self._add_all(_preset_items(point, self.failures))
                else:
                    self._add_all([_entry_item(kind, point)])
        for path in self.plugins:
            self._add_all(_plugin_items(Path(path), self.failures))
        for value in self.objects:
            self._add_object(value)

    def _add_object(self, value: Defined) -> None:
        kind = _kind(value, getattr(value, "__module__", ""))
        if kind is None or not isinstance(value.name, str):
            raise UsageError(
                f"{value!r:.80} is neither an instance of Task, Metric or Diagnostic nor a "
                "subclass of Method or Wrapper"
            )
        load = partial(_identity, value)
        if self._is_known(kind, value):
            self._items[kind][value.name] = replace(self._items[kind][value.name], load=load)
            return
        # A version of its own: results of an edited object are never taken for its own.
        version = _VERSIONS.setdefault(value, OBJECT + uuid4().hex)
        self._add_all([Item(kind, value.name, "this process", load, version)])

    def _is_known(self, kind: Kind, value: Defined) -> bool:
        """Return whether an object is one of this registry's, or a task made as one of them."""
        known = self._items[kind].get(value.name)
        if known is None or known.plugin_hash != _VERSIONS.get(value, ""):
            return False
        loaded = self.get(kind, value.name)
        return loaded is value or (kind == "tasks" and type(loaded) is type(value))

    def _add_all(self, items: Iterable[Item]) -> None:
        for item in items:
            names = self._items[item.kind]
            known = names.get(item.name)
            if known is not None and not _same(known, item):
                raise PluginError(
                    f"{item.kind[:-1]} {item.name!r} is defined twice: in {known.place} and in "
                    f"{item.place}; rename one"
                )
            # Names become folders, and some file systems ignore case.
            like = next((n for n in names if n.casefold() == item.name.casefold()), item.name)
            if like != item.name:
                raise PluginError(
                    f"{item.kind[:-1]} {item.name!r} from {item.place} differs from {like!r} from "
                    f"{names[like].place} by case alone; rename one"
                )
            names.setdefault(item.name, item)

    def names(self, kind: Kind) -> list[str]:
        """Return all names of a kind, sorted."""
        return sorted(self._items[kind])

    def item(self, kind: Kind, name: str) -> Item:
        """Return the entry under a name.

        Raises:
            UsageError: if there is none; the message has near matches.
        """
        try:
            return self._items[kind][name]
        except KeyError:
            message = unknown(kind[:-1], name, self.names(kind))
            raise UsageError(message + self._not_loaded()) from None

    def labels(self) -> list[str]:
        """Return METHOD:CONFIGURATION for every configuration of the methods that load."""
        found = []
        for name in self.names("methods"):
            with suppress(PluginError):
                found += [f"{name}:{c}" for c in self.method(name).configurations]
        return found

    def select(self, kind: Kind, patterns: Sequence[str]) -> list[str]:
        """Return the names of a kind that match any pattern, sorted.

        Raises:
            UsageError: if a pattern matches nothing.
        """
        for pattern in patterns:
            if not fnmatch.filter(self.names(kind), pattern):
                self.refuse(kind, pattern)
        return select(patterns, self.names(kind), kind[:-1])

    def refuse(self, kind: Kind, name: str) -> NoReturn:
        """Raise UsageError for an unknown name; the message suggests similar names."""
        labels = self.labels() if kind == "methods" else ()
        message = unknown(kind[:-1], name, self.names(kind), labels)
        raise UsageError(message + self._not_loaded())

    def _not_loaded(self) -> str:
        """Return a list of the plugins that failed to load, which may define an unknown name."""
        failed = [item for item in self.failures.items() if item[0].startswith("plugin ")]
        return "".join(f"; not loaded: {what}: {why}" for what, why in failed)

    def get(self, kind: Kind, name: str) -> Any:
        """Import an object and check it against its contract.

        Raises:
            UsageError: if there is no such name.
            PluginError: if it cannot be imported or breaks its contract.
        """
        item = self.item(kind, name)
        where = f"{kind[:-1]} {name!r} from {item.place}"
        try:
            with plugin_errors(where):
                loaded = item.load()
                if kind == "tasks" and not isinstance(loaded, Task) and callable(loaded):
                    loaded = loaded()
                try:
                    check(kind, name, loaded)
                except PluginError as error:
                    raise PluginError(f"{where}: {error}") from None
        except PluginError as error:
            _log.debug("%s", where, exc_info=True)
            self.failures[where] = str(error).removeprefix(f"{where}: ")
            raise
        if kind != "presets":
            _VERSIONS[loaded] = item.plugin_hash
        if kind == "tasks":
            # The identity of stored simulations contains it; see SimulationBank.
            vars(loaded)["plugin_hash"] = item.plugin_hash
        return loaded

    def task(self, name: str) -> Task:
        """Return the task under a name."""
        return cast(Task, self.get("tasks", name))

    def runnable(self, names: Iterable[str]) -> tuple[list[Task], dict[str, str]]:
        """Return the tasks under these names that can run, and the reasons to skip the others."""
        tasks, skipped = [], {}
        for name in names:
            try:
                task = self.task(name)
                task.check()
            except (NotApplicable, PluginError) as error:
                skipped[name] = str(error)
                continue
            tasks.append(task)
        return tasks, skipped

    def method(self, name: str) -> type[Method]:
        """Return the method class under a name."""
        return cast(type[Method], self.get("methods", name))

    def wrapper(self, name: str) -> type[Wrapper]:
        """Return the wrapper class under a name."""
        return cast(type[Wrapper], self.get("wrappers", name))

    def metrics(self) -> list[Metric]:
        """Return all metrics that load, sorted by name; the others are recorded in `failures`."""
        return self._loaded("metrics")

    def diagnostics(self) -> list[Diagnostic]:
        """Return all diagnostics that load, as `metrics` does."""
        return self._loaded("diagnostics")

    def _loaded(self, kind: Kind) -> list[Any]:
        loaded = []
        for name in self.names(kind):
            with suppress(PluginError):
                loaded.append(self.get(kind, name))
        return loaded


def adopt(value: Defined, version: str) -> None:
    """Give an object of this program the version that it had in another, unless it has one."""
    if version:
        _VERSIONS.setdefault(value, version)


def registry_of(plugins: Sequence[str], objects: Sequence[Defined] = ()) -> Registry:
    """Return the registry of a job's process, rebuilt only when a plugin file changes.

    Raises:
        PluginError, UsageError: as Registry.
    """
    files = [Path(path) for path in plugins]
    versions = (plugin_version(plugin_files(f)) if f.is_file() else "" for f in files)
    return _built(tuple(plugins), tuple(versions), tuple(objects))


@lru_cache(maxsize=1)
def _built(
    plugins: tuple[str, ...], versions: tuple[str, ...], objects: tuple[Defined, ...]
) -> Registry:
    return Registry(plugins, objects)


def unknown(what: str, name: str, known: Sequence[str], more: Sequence[str] = ()) -> str:
    """Return the error message for an unknown name, with similar names.

    Args:
        what: kind of the name, for the message.
        name: the unknown name.
        known: the known names.
        more: further names to suggest if they are similar; they are never listed in full.

    Example:
        >>> unknown("method", "lre_tuned", ["dle", "lre"], ["dle:tuned", "lre:tuned"])
        "unknown method 'lre_tuned'; did you mean lre:tuned?"
    """
    wanted = _folded(name)
    candidates: dict[str, list[str]] = {}
    for candidate in (*known, *more):
        candidates.setdefault(_folded(candidate), []).append(candidate)
    near = candidates.get(wanted, [])
    if not near:
        close = difflib.get_close_matches(wanted, candidates, n=3)
        near = [c for folded in close for c in candidates[folded]]
    near = near or [k for k in known if wanted.startswith(f"{_folded(k)}-")]
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
    shown = name if len(name) <= 60 else f"{name[:57]}..."
    return f"unknown {what} {shown!r}; {hint}"


def _folded(name: str) -> str:
    """Return a name in lower case, with every separator of words replaced by "-"."""
    return re.sub("[-_: ]+", "-", name.casefold())


def select(patterns: Sequence[str], names: Sequence[str], what: str) -> list[str]:
    """Return the names that match any pattern, in the order of `names`.

    Raises:
        UsageError: if a pattern matches nothing.
    """
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise UsageError(unknown(what, pattern, names))
    return [n for n in names if any(fnmatch.fnmatchcase(n, p) for p in patterns)]


def _entry_item(kind: Kind, point: EntryPoint) -> Item:
    package = point.dist.name if point.dist is not None else "an installed package"
    return Item(kind, point.name, f"{package} ({point.value})", point.load)


def _preset_items(point: EntryPoint, failures: dict[str, str]) -> list[Item]:
    """Return an item for every TOML file in the package that a preset entry point names."""
    try:
        package = package_files(point.value)
        found = [f for f in package.iterdir() if f.name.endswith(".toml")]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # importing a package runs its code
        failures[f"presets {point.name} ({point.value})"] = blamed(error)
        return []
    return [
        Item(
            "presets",
            f.name.removesuffix(".toml"),
            f"{point.value}/{f.name}",
            partial(f.read_text, encoding="utf-8"),
        )
        for f in found
    ]


def _plugin_items(path: Path, failures: dict[str, str]) -> list[Item]:
    if not os.path.isfile(path):
        problem = "is not a file" if os.path.exists(path) else "does not exist"
        raise UsageError(f"plugin {path} {problem}")
    try:
        files = plugin_files(path)
    except OSError as error:
        raise UsageError(
            f"cannot read plugin {error.filename or path}: {error.strerror}"
        ) from error
    version = plugin_version(files)
    try:
        with redirect_stdout(sys.stderr):  # standard output is reserved for results
            module = import_plugin(path, files)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        _log.debug("plugin %s", path, exc_info=True)
        failures[f"plugin {path}"] = str(error) if isinstance(error, PluginError) else blamed(error)
        return []
    items: list[Item] = []
    for variable, value in vars(module).items():
        kind = _kind(value, module.__name__)
        place, name = f"{path} ({variable})", getattr(value, "name", None)
        if kind is not None and isinstance(name, str):
            items.append(Item(kind, name, place, partial(getattr, module, variable), version))
        elif kind is not None:
            failures[f"plugin {place}"] = "its name is not a string"
    if not items:
        failures.setdefault(
            f"plugin {path}",
            "defines no task, simulator, method, wrapper, metric or diagnostic with a name",
        )
    return items


def _identity(value: Any) -> Any:
    return value


def _kind(value: Any, module: str) -> Kind | None:
    """Return the kind under which a plugin file's top-level value is registered, or None."""
    for kind, type_ in _INSTANCES.items():
        if isinstance(value, type_):
            return kind
    if inspect.isclass(value) and value.__module__ == module and hasattr(value, "name"):
        if issubclass(value, Method):
            return "methods"
        if issubclass(value, Wrapper):
            return "wrappers"
    return None


def _same(known: Item, item: Item) -> bool:
    """Return whether two items are the same object: a package found twice, or a plugin's import."""
    if known.place == item.place:
        return True
    with suppress(Exception):
        return bool(item.plugin_hash) and known.load() is item.load()
    return False
