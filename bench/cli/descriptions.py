"""Descriptions of everything registered, cached so that lists need not import it."""

import hashlib
import json
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

import bench
from bench.errors import PluginError, UsageError

if TYPE_CHECKING:
    from bench.contracts import Task, Wrapper
    from bench.registry.registry import Kind, Registry

KINDS: tuple["Kind", ...] = (
    "tasks",
    "methods",
    "wrappers",
    "metrics",
    "diagnostics",
    "presets",
)
_LARGEST = 2**20  # bytes of the cache
_INSTALLED = (".dist-info", ".egg-info", ".egg-link")


@dataclass(frozen=True)
class Description:
    """One registered name, as lists show it.

    Args:
        kind: one of `KINDS`.
        name: its name.
        title: what it is, in one line.
        place: where it comes from.
        parameters: names of a task's parameters.
        symbols: their symbols.
        reported: names of those that tables are about.
        factors: constraints of a task, and the random size of its datasets, in words.
        observations: size M of a task's datasets.
        configurations: names of a method's configurations.
        settings: settings of a wrapper, with their defaults.
        level: level of a diagnostic.
        null: source of a diagnostic's p-values, or "none".
        citation: the source of a method, a wrapper or a diagnostic.
        missing: what a method needs and the environment lacks, with the command that installs it.
        loads: whether it can be imported and keeps its contract.
    """

    kind: "Kind"
    name: str
    title: str
    place: str
    parameters: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    reported: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    observations: int = 0
    configurations: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    level: str = ""
    null: str = ""
    citation: str = ""
    missing: str = ""
    loads: bool = True


def describe(registry: "Registry") -> list[Description]:
    """Import and describe everything; the registry's failures say what does not load."""
    return [_described(registry, kind, name) for kind in KINDS for name in registry.names(kind)]


def _described(registry: "Registry", kind: "Kind", name: str) -> Description:
    from bench.experiment.preset import read_preset

    place = registry.item(kind, name).place
    try:
        if kind == "presets":
            return Description(kind, name, read_preset(registry, name, {}).description, place)
        loaded: Any = registry.get(kind, name)
    except PluginError:
        return Description(kind, name, "does not load", place, loads=False)
    except UsageError as error:
        registry.failures[f"preset {name!r} from {place}"] = str(error)
        return Description(kind, name, "does not load", place, loads=False)
    if kind == "tasks":
        parameters = loaded.space.parameters
        symbols = tuple(parameter.symbol or parameter.name for parameter in parameters)
        names = tuple(loaded.space.names)
        return Description(
            kind,
            name,
            loaded.title or name,
            place,
            parameters=names,
            symbols=symbols,
            reported=tuple(names[i] for i in loaded.reported_index),
            factors=_factors(loaded),
            observations=loaded.observations,
        )
    if kind == "methods":
        return Description(
            kind,
            name,
            loaded.title or name,
            place,
            configurations=tuple(loaded.configurations),
            citation=loaded.citation,
            missing=loaded.unavailable(),
        )
    if kind == "wrappers":
        title, citation = loaded.title or name, loaded.citation
        return Description(kind, name, title, place, settings=_settings(loaded), citation=citation)
    if kind == "diagnostics":
        own = {field: getattr(loaded, field) for field in ("level", "null", "citation")}
        return Description(kind, name, loaded.description, place, **own)
    return Description(kind, name, loaded.description, place)


def _settings(wrapper: "type[Wrapper]") -> tuple[str, ...]:
    """Describe the settings of a wrapper, with their defaults."""
    return tuple(
        name if field.is_required() else f"{name}={field.get_default(call_default_factory=True)}"
        for name, field in wrapper.Config.model_fields.items()
    )


def _factors(task: "Task") -> tuple[str, ...]:
    """Describe the factors of a task's likelihood beside those of observations."""
    found = [
        f"{c.parameter} ~ {'N' if c.kind == 'normal' else 'log-N'}({c.centre:g}, {c.width:g})"
        for c in task.constraints
    ]
    return (*found, *(["a Poisson number of observations"] if task.has_rate else []))


def cached() -> list[Description] | None:
    """Return the cached descriptions, or None if the cache is missing, stale or damaged."""
    try:
        path = _cache()
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        content = json.loads(path.read_bytes())
        if content["state"] != _state():
            return None
        found = [Description(**_tuples(entry)) for entry in content["entries"]]
    except Exception:  # the file may hold anything
        return None
    whole = {entry.kind for entry in found} == {*KINDS} and all(map(_sound, found))
    return found if whole else None


def _sound(entry: Description) -> bool:
    """Return whether every field of an entry has its type."""
    default = Description("tasks", "", "", "")
    for field in fields(Description):
        value = getattr(entry, field.name)
        if type(value) is not type(getattr(default, field.name)):
            return False
        if isinstance(value, tuple) and not all(isinstance(name, str) for name in value):
            return False
    return True


def keep(descriptions: list[Description]) -> None:
    """Cache descriptions in the user's cache folder, if it can be written."""
    temporary = ""
    try:
        content = {"state": _state(), "entries": [asdict(entry) for entry in descriptions]}
        path = _cache()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump(content, file)
        os.replace(temporary, path)
    except (OSError, RuntimeError, ImportError):  # RuntimeError: there is no home folder
        with suppress(OSError):
            os.unlink(temporary)


def _cache() -> Path:
    return platformdirs.user_cache_path("nlbench") / "descriptions.json"


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}


def _state() -> str:
    """Return a digest of the installed packages and of the files that entry points name.

    Raises:
        ImportError: if another package registers anything: it is read anew every time.
    """
    state: list[Any] = [bench.__version__, sys.version]
    for folder in sys.path:
        with suppress(OSError):
            state += sorted(n for n in os.listdir(folder or ".") if n.endswith(_INSTALLED))
    for kind in KINDS:
        for point in sorted(entry_points(group=f"nlbench.{kind}"), key=lambda point: point.name):
            state += [kind, point.name, point.value]
            module = point.value.partition(":")[0]
            if not module.startswith("bench."):
                raise ImportError("files that packages of others import cannot be watched")
            package = module if kind == "presets" else module.rpartition(".")[0]
            state += _files(package)
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


@cache
def _files(package: str) -> list[tuple[str, int, int]]:
    """Return name, time of change and size of the files of a package, which is not imported.

    Raises:
        ImportError: if there is no such package.
    """
    spec = find_spec(package)
    if spec is None:
        raise ImportError(f"there is no {package}")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = [file for folder in folders for file in sorted(folder.glob("*.*"))]
    files = files or [Path(spec.origin or "")]
    status = [(str(file), file.stat()) for file in files]
    return [(name, found.st_mtime_ns, found.st_size) for name, found in status]
