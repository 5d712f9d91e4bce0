"""Whole runs in this process, and the files in their folder."""

import hashlib
from pathlib import Path

from bench.experiment.preset import Preset
from bench.experiment.schedule import schedule
from bench.registry.registry import Registry
from bench.storage.store import Store

PLUGINS = Path(__file__).parents[1] / "plugins"
TINY = {
    "tasks": ("gaussians-far",),
    "methods": ("simple:default",),
    "members": 2,
    "budgets": (600,),
    "memory_limit": 2.0,
    "plans": (
        {"kind": "independent", "uniform": 3, "per_point": 0, "observations": 50},
        {"kind": "heldout", "contexts": 2, "events": 4},
    ),
}
# Plugin with a small network, trained as the methods of the suite are.
NETWORK = """
from bench.methods.lre import LRE

class Network(LRE):
    name = "network"
    configurations = {"default": {"hidden": [8], "training": {"epochs": 1, "steps": 50}}}
"""


def fitted(plugin):
    log = Path(plugin).with_suffix(".log")
    return log.read_text().splitlines() if log.exists() else []


def benchmark(root, plugins=(), overwrite=False, **changes):
    registry = Registry(plugins)
    return schedule(registry, Preset.model_validate(TINY | changes), Store(root), overwrite)


def inline(run):
    """Run every job in this process, in the planned order; return the messages by key."""
    run.record(["bench", "run"])
    return {p.key: p.perform(lambda **fields: None) for p in run.jobs}


def digests(root, *suffixes, parts=("fits", "predictions", "scores", "simulations")):
    """Return SHA-256 and modification time of the files under a results folder."""
    return {
        str(path.relative_to(root)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for part in parts
        for path in sorted((root / part).rglob("*"))
        if path.is_file() and path.suffix in (suffixes or (".json", ".safetensors"))
    }


def finished(root):
    """Return those of the files that belong to finished work."""
    store = Store.open(root)
    done = {
        key
        for part in ("fits", "predictions", "scores")
        for key in store.keys(part)
        if (store.record(key) or {}).get("status") == "done" and store.read(key) is not None
    }
    return {
        name: value
        for name, value in digests(root, parts=("fits", "predictions", "scores")).items()
        if name.rpartition(".")[0] in done
    }


def contents(found):
    return {name: digest for name, (digest, _) in found.items()}
