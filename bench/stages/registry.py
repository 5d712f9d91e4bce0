"""The registry: tasks, methods, metrics and presets by name, built-ins and plugins alike.

Everything is found through entry points of installed packages, the suite's own included, and in
plugin files. Objects are imported when they are asked for; one that fails is listed with its
reason and breaks nothing else.
"""

import difflib
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from bench.contracts import Method, Metric, Task
from bench.errors import PluginError, UsageError

Kind = Literal["tasks", "methods", "metrics", "presets"]
KINDS: tuple[Kind, ...] = ("tasks", "methods", "metrics", "presets")


@dataclass(frozen=True)
class Item:
    """One registered name.

    Args:
        kind: what it is.
        name: its name.
        place: where it comes from, for people.
        load: imports it.
        plugin_hash: SHA-256 of a plugin file's bytes, which stands in for its version.
    """

    kind: Kind
    name: str
    place: str
    load: Callable[[], Any]
    plugin_hash: str = ""


class Registry:
    """All names that this process knows.

    Args:
        plugins: plugin files: each defines tasks (instances of Task), methods (subclasses of
            Method) or metrics (instances of Metric) at its top level.

    Raises:
        PluginError: if two places define the same name.
        UsageError: if a plugin file does not exist.
    """

    def __init__(self, plugins: Sequence[str | Path] = ()) -> None:
        self.plugins = tuple(str(Path(p).resolve()) for p in plugins)
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

    def _add_all(self, items: Iterable[Item]) -> None:
        for item in items:
            known = self._items[item.kind].get(item.name)
            if known is not None and known.place != item.place:
                raise PluginError(
                    f"{item.kind[:-1]} {item.name!r} is defined twice: in {known.place} and in "
                    f"{item.place}; rename one"
                )
            self._items[item.kind][item.name] = item

    def names(self, kind: Kind) -> list[str]:
        """All names of a kind, sorted."""
        return sorted(self._items[kind])

    def item(self, kind: Kind, name: str) -> Item:
        """The entry under a name.

        Raises:
            UsageError: if there is none; the message has near matches.
        """
        try:
            return self._items[kind][name]
        except KeyError:
            raise UsageError(unknown(kind[:-1], name, self.names(kind))) from None

    def get(self, kind: Kind, name: str) -> Any:
        """Imports an object and checks it against its contract.

        Raises:
            UsageError: if there is no such name.
            PluginError: if it cannot be imported or breaks its contract.
        """
        item = self.item(kind, name)
        try:
            loaded = item.load()
            if kind == "tasks" and not isinstance(loaded, Task) and callable(loaded):
                loaded = loaded()
        except PluginError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self.failures[f"{kind[:-1]} {name} ({item.place})"] = reason
            raise PluginError(f"{kind[:-1]} {name!r} from {item.place} fails: {reason}") from error
        _check(kind, item, loaded)
        return loaded

    def task(self, name: str) -> Task:
        """The task under a name."""
        task: Task = self.get("tasks", name)
        return task

    def method(self, name: str) -> type[Method]:
        """The method class under a name."""
        method: type[Method] = self.get("methods", name)
        return method

    def metrics(self) -> list[Metric]:
        """Every metric that loads, by name; those that fail are among the failures."""
        loaded = []
        for name in self.names("metrics"):
            try:
                loaded.append(self.get("metrics", name))
            except PluginError as error:
                self.failures.setdefault(f"metric {name}", str(error))
        return loaded


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """The message for an unknown name, with near matches."""
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
    return f"unknown {what} {name!r}; {hint}"


def _entry_item(kind: Kind, point: EntryPoint) -> Item:
    package = point.dist.name if point.dist is not None else "an installed package"
    return Item(kind, point.name, f"{package} ({point.value})", point.load)


def _preset_items(point: EntryPoint, failures: dict[str, str]) -> list[Item]:
    """Every TOML file in the package that a preset entry point names."""
    try:
        package = files(point.value)
        found = [f for f in package.iterdir() if f.name.endswith(".toml")]
    except (ImportError, OSError, TypeError) as error:
        failures[f"presets {point.name} ({point.value})"] = f"{type(error).__name__}: {error}"
        return []
    return [
        Item("presets", f.name.removesuffix(".toml"), f"{point.value}/{f.name}", f.read_text)
        for f in found
    ]


def _plugin_items(path: Path, failures: dict[str, str]) -> list[Item]:
    if not path.is_file():
        raise UsageError(f"plugin file {path} does not exist")
    content = path.read_bytes()
    version = hashlib.sha256(content).hexdigest()
    module_name = f"nlbench_plugin_{path.stem}_{version[:12]}"
    try:
        module = sys.modules.get(module_name) or _import(module_name, path)
    except Exception as error:
        failures[f"plugin {path}"] = f"{type(error).__name__}: {error}"
        return []
    items: list[Item] = []
    for value in vars(module).values():
        kind: Kind | None = None
        if isinstance(value, Task):
            kind = "tasks"
        elif isinstance(value, Metric):
            kind = "metrics"
        elif (
            inspect.isclass(value)
            and issubclass(value, Method)
            and value.__module__ == module_name
            and isinstance(getattr(value, "name", None), str)
        ):
            kind = "methods"
        if kind is not None:
            items.append(Item(kind, value.name, str(path), partial(_itself, value), version))
    if not items:
        failures[f"plugin {path}"] = (
            "defines no Task instance, no Metric instance and no Method subclass with a name"
        )
    return items


def _itself(value: Any) -> Any:
    return value


def _import(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _check(kind: Kind, item: Item, loaded: Any) -> None:
    """Raises PluginError if a loaded object breaks its contract in a way that can be seen."""
    where = f"{kind[:-1]} {item.name!r} from {item.place}"
    if kind == "tasks":
        if not isinstance(loaded, Task):
            raise PluginError(f"{where} is not a bench.contracts.Task but {type(loaded).__name__}")
        needed = ("name", "version", "space", "nominal", "points", "observations", "event_shape")
        missing = [a for a in needed if not hasattr(loaded, a)]
        if missing:
            raise PluginError(f"{where} lacks {', '.join(missing)}")
    elif kind == "methods":
        if not (inspect.isclass(loaded) and issubclass(loaded, Method)):
            raise PluginError(f"{where} is not a subclass of bench.contracts.Method")
        if inspect.isabstract(loaded):
            missing = sorted(loaded.__abstractmethods__)
            raise PluginError(f"{where} does not define {', '.join(missing)}")
        for name in ("fit", "restore", "fit_component", "restore_component"):
            _check_signature(where, loaded, name)
        if not loaded.configurations:
            raise PluginError(f"{where} has no named configuration")
    elif kind == "metrics" and not isinstance(loaded, Metric):
        raise PluginError(f"{where} is not a bench.contracts.Metric but {type(loaded).__name__}")
    if kind != "presets" and loaded.name != item.name:
        raise PluginError(f"{where} calls itself {loaded.name!r}; the two names must agree")


def _check_signature(where: str, method: type[Method], name: str) -> None:
    function = getattr(method, name, None)
    expected = next(
        (vars(base)[name] for base in reversed(method.__mro__) if name in vars(base)), None
    )
    if function is None or expected is None:
        return
    wanted = list(inspect.signature(expected).parameters)
    signature = inspect.signature(function)
    try:
        signature.bind(*wanted)
    except TypeError as error:
        raise PluginError(
            f"{where}: {name}{signature} has a wrong signature ({error}); it must take "
            f"({', '.join(wanted)})"
        ) from None
