"""What `bench list` prints."""

from collections.abc import Sequence

from bench.errors import PluginError, UsageError
from bench.stages.preset import read_preset
from bench.stages.registry import Kind, Registry


def listing(registry: Registry, kinds: Sequence[Kind]) -> str:
    """Lists names with what they are and where they come from."""
    blocks = []
    for kind in kinds:
        rows = [(name, *_describe(registry, kind, name)) for name in registry.names(kind)]
        width = max((len(name) for name, *_ in rows), default=0)
        lines = [f"{name:<{width}}  {what}  [{place}]" for name, what, place in rows]
        blocks.append("\n".join([kind, *(f"  {line}" for line in lines)]))
    return "\n\n".join(blocks)


def _describe(registry: Registry, kind: Kind, name: str) -> tuple[str, str]:
    place = registry.item(kind, name).place
    try:
        if kind == "presets":
            return read_preset(registry, name, {}).description, place
        loaded = registry.get(kind, name)
    except PluginError:  # among the registry's failures now
        return "does not load", place
    except UsageError as error:
        registry.failures[f"preset {name!r} from {place}"] = str(error)
        return "does not load", place
    if kind == "tasks":
        parameters = ", ".join(loaded.space.names)
        return f"{loaded.title or name}: parameters {parameters}, M = {loaded.observations}", place
    if kind == "methods":
        source = f"; {loaded.citation}" if loaded.citation else ""
        return f"{loaded.title or name} ({', '.join(loaded.configurations)}){source}", place
    return loaded.description, place
