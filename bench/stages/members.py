"""Steps that several jobs share: loading a planned fit, and restoring trained members."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.contracts import (
    FitLog,
    Method,
    ReferenceKind,
    Surrogate,
    Task,
    Wrapper,
    log_ratio_paired,
    sample,
)
from bench.errors import PluginError
from bench.inference.critical import CriticalValues, critical_values_of
from bench.registry.registry import Kind, Registry
from bench.seeds import digest
from bench.stages.simulate import features_of
from bench.storage.entries import JobContext, read_done
from bench.storage.fit_spec import FitSpec, Wrapping
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store

Progress = Callable[..., None]
"""Function that shows progress, as in :class:`bench.contracts.FitContext`."""


@dataclass(frozen=True)
class OpenFit:
    """Fit with the objects that make it.

    Args:
        store: the results folder.
        spec: the fit.
        task: its task.
        method: its method.
        wrappers: its wrappers, the innermost first.
    """

    store: Store
    spec: FitSpec
    task: Task
    method: Method
    wrappers: tuple[Wrapper, ...] = ()

    @property
    def base(self) -> "OpenFit":
        """Fit whose members the outermost wrapper takes."""
        return OpenFit(self.store, self.spec.base, self.task, self.method, self.wrappers[:-1])

    def restore(
        self,
        members: Sequence[int],
        device: torch.device,
        simulations: SimulationStore | None = None,
    ) -> Surrogate:
        """Rebuild members from their states, as one surrogate.

        A wrapped member is rebuilt from those that it takes.

        Raises:
            StoreError: if a state is missing or damaged, or its fit failed.
        """
        learned = not self.spec.wrappings or self.spec.wrappings[-1].calls > 0
        if self.wrappers and learned and len(members) > 1:  # their states may differ in shape
            return _Joined([self.restore([m], device, simulations) for m in members])
        state = self._state(members, device) if learned else {}
        if not self.wrappers:
            features = features_of(self.task, simulations or self.store)
            return self.method.restore(self.task, features, state)
        return self.wrappers[-1].restore(self.taken(members, device, simulations), state)

    def taken(
        self,
        members: Sequence[int],
        device: torch.device,
        simulations: SimulationStore | None = None,
    ) -> list[Surrogate]:
        """Rebuild the surrogates that the outermost wrapper takes for some members."""
        numbers = zip(*(self.spec.base_members(m) for m in members), strict=True)
        return [self.base.restore(some, device, simulations) for some in numbers]

    def _state(self, members: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        states = [read_done(self.store, self.spec.fit_key(member)).arrays for member in members]
        return {
            name: torch.from_numpy(np.concatenate([own[name] for own in states])).to(device)
            for name in states[0]
        }


def open_fit(context: JobContext, spec: FitSpec) -> OpenFit:
    """Open the store and load the objects with which a fit was planned.

    Raises:
        PluginError: if a plugin file has been edited since, because its identity would be wrong.
    """
    registry = context.registry
    for kind, name, plugin in parts_of(spec):
        item = registry.item(kind, name)
        if item.plugin_hash != plugin:
            raise PluginError(f"{item.place} was edited while the run was under way; run again")
    found = registry.task(spec.task)
    if digest(dict(found.settings)) != digest(spec.identity["task"]["settings"]):
        raise PluginError(
            f"the settings or data of {spec.task} changed while the run was under way; run again"
        )
    made = registry.method(spec.method)
    return OpenFit(
        Store.open(context.root),
        spec,
        found,
        made(made.Config.model_validate(spec.identity["method"]["config"])),
        tuple(wrapper_of(registry, one) for one in spec.wrappings),
    )


def parts_of(spec: FitSpec) -> list[tuple[Kind, str, str]]:
    """Return kind, name and plugin hash of a fit's task, method and wrappers."""
    task, method = (spec.identity[part] for part in ("task", "method"))
    return [
        ("tasks", task["name"], task["plugin"]),
        ("methods", method["name"], method["plugin"]),
        *(("wrappers", one.name, one.plugin) for one in spec.wrappings),
    ]


def wrapper_of(registry: Registry, wrapping: Wrapping) -> Wrapper:
    """Create the wrapper of a fit."""
    found = registry.wrapper(wrapping.name)
    return found(found.Config.model_validate(wrapping.config))


class _Joined:
    """Surrogate of several members, from one surrogate for each.

    Args:
        parts: the surrogates.
    """

    def __init__(self, parts: Sequence[Surrogate]) -> None:
        self.parts = parts
        self.log = FitLog(parts[0].log.parameters, [c for part in parts for c in part.log.curves])

    @property
    def reference(self) -> ReferenceKind | None:
        return self.parts[0].reference

    @property
    def has_density(self) -> bool:
        return self.parts[0].has_density

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        return torch.cat([part.log_ratio(x, context) for part in self.parts])

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        own = context.unbind() if context.dim() == 3 else [context] * len(self.parts)
        pairs = zip(self.parts, own, strict=True)
        return torch.cat([log_ratio_paired(part, x, at) for part, at in pairs])

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        return torch.cat([sample(part, context, generator) for part in self.parts])

    @property
    def critical_values(self) -> list[CriticalValues] | None:
        found = [critical_values_of(part, 1)[0] for part in self.parts]
        known = [own for own in found if own is not None]
        return known if len(known) == len(found) else None

    def state(self) -> Mapping[str, Tensor] | None:
        states = [dict(part.state() or {}) for part in self.parts]
        return {f"{i}/{key}": tensor for i, own in enumerate(states) for key, tensor in own.items()}


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
