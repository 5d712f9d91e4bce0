"""Steps that several jobs share: loading a planned fit, and restoring trained members."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from bench.contracts import Method, Surrogate, Task
from bench.errors import PluginError
from bench.nn.calibration import Calibration
from bench.registry.registry import Kind
from bench.seeds import digest
from bench.stages.calibrated import Calibrated
from bench.stages.ensemble import Ensemble
from bench.stages.simulate import features_of
from bench.storage.entries import JobContext, read_done
from bench.storage.fit_spec import FitSpec
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store

Progress = Callable[..., None]
"""Function that shows progress, as in :class:`bench.contracts.FitContext`."""


def open_fit(context: JobContext, spec: FitSpec) -> tuple[Store, Task, Method]:
    """Open the store and load the task and the method with which the fit was planned.

    Raises:
        PluginError: if a plugin file has been edited since, because its identity would be wrong.
    """
    registry = context.registry
    kinds: tuple[tuple[Kind, str], ...] = (("tasks", "task"), ("methods", "method"))
    for kind, part in kinds:
        item = registry.item(kind, spec.identity[part]["name"])
        if item.plugin_hash != spec.identity[part]["plugin"]:
            raise PluginError(f"{item.place} was edited while the run was under way; run again")
    task = registry.task(spec.task)
    if digest(dict(task.settings)) != digest(spec.identity["task"]["settings"]):
        raise PluginError(
            f"the settings or data of {spec.task} changed while the run was under way; run again"
        )
    method = registry.method(spec.method)
    config = method.Config.model_validate(spec.identity["method"]["config"])
    return Store.open(context.root), task, method(config)


def restore(
    store: Store,
    task: Task,
    method: Method,
    spec: FitSpec,
    members: Sequence[int],
    device: torch.device,
    simulations: SimulationStore | None = None,
) -> Surrogate:
    """Rebuild members from their states, as one surrogate.

    A member that averages or calibrates other fits is rebuilt from these.

    Raises:
        StoreError: if a state is missing or damaged, or its fit failed.
    """
    if spec.size > 1:
        averaged = [[m * spec.size + i for m in members] for i in range(spec.size)]
        base = spec.base
        return Ensemble(
            [restore(store, task, method, base, own, device, simulations) for own in averaged]
        )
    states = [read_done(store, spec.fit_key(member)).arrays for member in members]
    state = {
        name: torch.from_numpy(np.concatenate([own[name] for own in states])).to(device)
        for name in states[0]
    }
    if spec.calibration:
        base = spec.uncalibrated
        fitted = restore(store, task, method, base, members, device, simulations)
        return Calibrated(fitted, Calibration(**state))
    return method.restore(task, features_of(task, simulations or store), state)


def simulated(store: Store, key: str, simulations: SimulationStore | None) -> dict[str, int]:
    """Return an entry's simulator calls by purpose, the sum over earlier jobs and this one."""
    earlier = (store.record(key) or {}).get("simulated")
    total: Counter[str] = Counter() if simulations is None else Counter(simulations.made)
    if isinstance(earlier, dict):  # folders may come from others
        total.update({k: n for k, n in earlier.items() if isinstance(n, int)})
    return dict(total)


def not_finite(spec: FitSpec, state: dict[str, Any], members: int) -> dict[int, str]:
    """Return an error message for each member whose state is not finite, by row.

    Raises:
        PluginError: if the first axis of an array is not the members'.
    """
    bad: dict[int, str] = {}
    for name, array in state.items():
        if array.ndim == 0 or len(array) != members:
            raise PluginError(
                f"state {name!r} of {spec.label} has shape {array.shape}; its first axis must be "
                f"the members, {members} of them"
            )
        if np.issubdtype(array.dtype, np.floating):
            for row in np.flatnonzero(~np.isfinite(array.reshape(members, -1)).all(1)):
                bad[int(row)] = f"state {name!r} of {spec.label} holds NaN or infinite numbers"
    return bad
