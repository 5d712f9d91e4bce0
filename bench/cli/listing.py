"""Tables of registered names for `bench list`."""

from collections.abc import Sequence
from typing import Any

from bench.errors import PluginError, UsageError, printable
from bench.experiment.preset import read_preset
from bench.leaderboard.render import markdown_table
from bench.registry.registry import Kind, Registry


def listing(registry: Registry, kinds: Sequence[Kind]) -> str:
    """Return a text with one line per name: its description and its source."""
    blocks = []
    for kind in kinds:
        rows = [
            [printable(text) for text in (name, *_describe(registry, kind, name))]
            for name in registry.names(kind)
        ]
        width = max((len(name) for name, *_ in rows), default=0)
        lines = [f"{name:<{width}}  {what}  [{place}]" for name, what, place in rows]
        blocks.append("\n".join([kind, *(f"  {line}" for line in lines)]))
    return "\n\n".join(blocks)


def markdown(registry: Registry, kinds: Sequence[Kind]) -> str:
    """Return registered names as tables of GitHub-flavoured Markdown, as in the README."""
    return "\n\n".join(_table(registry, kind) for kind in kinds)


def _table(registry: Registry, kind: Kind) -> str:
    header = {
        "tasks": ["task", "model", "parameters", "M"],
        "methods": ["method", "what it is", "configurations", "source"],
    }.get(kind, [kind[:-1], "what it is"])
    rows = []
    for name in registry.names(kind):
        try:
            loaded: Any = None if kind == "presets" else registry.get(kind, name)
        except PluginError:  # recorded in the registry's failures
            continue
        if kind == "tasks":
            parameters = ", ".join(p.symbol or p.name for p in loaded.space.parameters)
            cells = [loaded.title or name, parameters, str(loaded.observations)]
        elif kind == "methods":
            configurations = ", ".join(f"`{c}`" for c in loaded.configurations)
            cells = [loaded.title or name, configurations, loaded.citation]
        else:
            cells = [_describe(registry, kind, name)[0]]
        rows.append([f"`{name}`", *cells])
    return markdown_table(header, rows).rstrip("\n")


def _describe(registry: Registry, kind: Kind, name: str) -> tuple[str, str]:
    place = registry.item(kind, name).place
    try:
        if kind == "presets":
            return read_preset(registry, name, {}).description, place
        loaded = registry.get(kind, name)
    except PluginError:  # recorded in the registry's failures
        return "does not load", place
    except UsageError as error:
        registry.failures[f"preset {name!r} from {place}"] = str(error)
        return "does not load", place
    if kind == "tasks":
        parameters = ", ".join(loaded.space.names)
        return f"{loaded.title or name}: parameters {parameters}, M = {loaded.observations}", place
    if kind == "methods":
        source = f"; {loaded.citation}" if loaded.citation else ""
        missing = f"; not available: {loaded.unavailable()}" if loaded.unavailable() else ""
        what = f"{loaded.title or name} ({', '.join(loaded.configurations)}){source}{missing}"
        return what, place
    return loaded.description, place
