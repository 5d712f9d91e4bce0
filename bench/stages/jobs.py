"""What worker processes do: fit a member, predict with it, score it. Each saves what it makes."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

import bench
from bench.contracts import Plan, Run, Surrogate, Task
from bench.errors import NonFiniteError, StoreError
from bench.numerics.seeds import digest, generator
from bench.stages.bank import SimulationBank, features_of
from bench.stages.cells import Cell
from bench.stages.predict import load, predict
from bench.stages.registry import Registry
from bench.stages.score import score
from bench.stages.store import Entry, Store

Report = Callable[..., None]


@dataclass(frozen=True)
class Place:
    """Where a job works: the store's folder, the plugins, the device; plain values only."""

    root: str
    plugins: tuple[str, ...]
    device: str
    overwrite_before: float
    """Entries made before this time are made again; 0 keeps all."""


def is_done(store: Store, key: str, overwrite_before: float = 0.0) -> bool:
    """Whether an entry is sound, finished, and not to be overwritten."""
    entry = store.read(key)
    return (
        entry is not None
        and entry.record.get("status") == "done"
        and entry.record.get("finished", 0.0) >= overwrite_before
    )


def _done(**fields: Any) -> dict[str, Any]:
    return {"status": "done", "finished": time.time(), **fields}


def _method(place: Place, cell: Cell) -> Any:
    method = Registry(place.plugins).method(cell.method)
    return method(method.Config.model_validate(cell.identity["method"]["config"]))


def fit(*, report: Report, place: Place, cell: Cell, members: Sequence[int]) -> str:
    """Trains a block of members and saves each; returns "done" or "reused"."""
    store, registry = Store.open(place.root), Registry(place.plugins)
    task = registry.task(cell.task)
    device = torch.device(place.device)
    with store.lock(cell.fit_key(members[0])):
        keys = [cell.fit_key(m) for m in members]
        if all(is_done(store, key, place.overwrite_before) for key in keys):
            return "reused"
        features = features_of(task, store)
        bank = SimulationBank(
            task,
            store,
            cell.identity["budget"],
            members,
            "shared" if cell.oracle else cell.identity["training_data"],
            cell.identity["seed"],
        )
        run = Run(
            device,
            lambda member, purpose: generator("fit", cell.identity, member, purpose),
            report,
        )
        begin = time.perf_counter()
        surrogate = _method(place, cell).fit(task, bank, features, members, run)
        seconds = time.perf_counter() - begin
        state = {k: v.detach().cpu().numpy() for k, v in (surrogate.state() or {}).items()}
        _check_state(cell, state, len(members))
        for i, (member, key) in enumerate(zip(members, keys, strict=True)):
            curves = surrogate.log.curves[i] if i < len(surrogate.log.curves) else {}
            record = _done(
                member=member,
                seconds=seconds / len(members),
                stack=len(members),
                calls=bank.spent,
                parameters=surrogate.log.parameters,
                curves={name: asdict(curve) for name, curve in curves.items()},
                environment=_environment(device),
            )
            store.write(key, record, {name: array[i : i + 1] for name, array in state.items()})
    return "done"


def _check_state(cell: Cell, state: dict[str, Any], members: int) -> None:
    for name, array in state.items():
        if array.ndim == 0 or len(array) != members:
            raise ValueError(
                f"state {name!r} of {cell.label} has shape {array.shape}; its first axis must be "
                f"the {members} members"
            )
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise NonFiniteError(f"state {name!r} of {cell.label} holds NaN or infinite numbers")


def _environment(device: torch.device) -> dict[str, str]:
    return {
        "nlbench": bench.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def _restore(store: Store, place: Place, cell: Cell, member: int, task: Task) -> Surrogate:
    entry = _read(store, cell.fit_key(member))
    device = torch.device(place.device)
    state = {k: torch.from_numpy(v.copy()).to(device) for k, v in entry.arrays.items()}
    surrogate: Surrogate = _method(place, cell).restore(task, features_of(task, store), state)
    return surrogate


def _read(store: Store, key: str) -> Entry:
    entry = store.read(key)
    if entry is None:
        raise StoreError(f"{store.root / key} is missing or damaged; run again to make it anew")
    return entry


def predict_member(
    *,
    report: Report,
    place: Place,
    cell: Cell,
    member: int,
    plan: dict[str, Any],
    folder: str,
    seed: int,
) -> str:
    """Evaluates a member on a plan and saves the prediction; returns "done" or "reused"."""
    store = Store.open(place.root)
    key = cell.prediction_key(folder, member)
    with store.lock(key):
        if is_done(store, key, place.overwrite_before):
            return "reused"
        task = Registry(place.plugins).task(cell.task)
        surrogate = _restore(store, place, cell, member, task)
        begin = time.perf_counter()
        arrays = predict(
            task, surrogate, _plan(plan), seed, store, torch.device(place.device), report
        )[0]
        store.write(key, _done(member=member, seconds=time.perf_counter() - begin), arrays)
    return "done"


def score_member(
    *,
    report: Report,
    place: Place,
    cell: Cell,
    truth: Cell | None,
    member: int,
    plan: dict[str, Any],
    folder: str,
) -> str:
    """Scores a member's prediction and saves the scores; returns "done" or "reused"."""
    store, registry = Store.open(place.root), Registry(place.plugins)
    key = cell.score_key(folder, member)
    with store.lock(key):
        inputs = score_inputs(store, registry, cell, truth, member, plan["kind"], folder)
        if is_done(store, key) and (store.record(key) or {}).get("inputs") == inputs:
            return "reused"
        own = _read(store, cell.prediction_key(folder, member))
        exact = None if truth is None else store.read(truth.prediction_key(folder, 0))
        metrics = [m for m in registry.metrics() if plan["kind"] in m.plans]
        task = registry.task(cell.task)
        predictions = [
            None if entry is None else load(task, _plan(plan), entry.arrays)
            for entry in (own, exact)
        ]
        arrays, undefined = score(metrics, predictions[0], predictions[1])
        store.write(key, _done(member=member, inputs=inputs, undefined=undefined), arrays)
    return "done"


def score_inputs(
    store: Store,
    registry: Registry,
    cell: Cell,
    truth: Cell | None,
    member: int,
    kind: str,
    folder: str,
) -> str:
    """What a member's scores depend on: its prediction, the truth's, and the metrics."""
    keys = [cell.prediction_key(folder, member)]
    keys += [] if truth is None else [truth.prediction_key(folder, 0)]
    return digest(
        [(store.record(key) or {}).get("arrays_sha256") for key in keys],
        [
            [m.name, m.version, registry.item("metrics", m.name).plugin_hash]
            for m in registry.metrics()
            if kind in m.plans
        ],
    )


def _plan(values: dict[str, Any]) -> Plan:
    plan: Plan = TypeAdapter(Plan).validate_python(values)
    return plan
