"""What worker processes do: fit members, predict with them. Each job saves what it makes."""

import math
import os
import platform
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch

import bench
from bench.contracts import FitContext, Method, Surrogate, Task
from bench.errors import NonFiniteError, PluginError
from bench.nn.calibration import Calibration
from bench.registry.registry import Kind, Registry
from bench.seeds import digest, generator
from bench.stages.calibrate import Calibrated, calibrate
from bench.stages.ensemble import Ensemble
from bench.stages.predict import predict
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.arrays import described
from bench.storage.entries import (
    JobContext,
    done,
    failed,
    is_done,
    is_recorded,
    plan_of,
    read_done,
)
from bench.storage.fit_spec import FitSpec
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store

Report = Callable[..., None]


def _open(place: JobContext, spec: FitSpec) -> tuple[Store, Task, Method]:
    """Opens the store, and loads the task and the method that the fit was planned with.

    Raises:
        PluginError: if a plugin file has been edited since: its results would go by a wrong name.
    """
    registry = Registry(place.plugins)
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
    return Store.open(place.root), task, method(config)


def fit(*, report: Report, place: JobContext, spec: FitSpec, members: Sequence[int]) -> str:
    """Trains a block of members and saves each; returns "done" or "reused".

    A member that did not come out finite is recorded as failed, and the others are kept.

    Raises:
        NonFiniteError: if no member came out finite.
    """
    store, task, method = _open(place, spec)
    device = torch.device(place.device)
    with store.lock(spec.fit_key(members[0])):
        keys = [spec.fit_key(m) for m in members]
        if all(is_done(store, key, place.overwrite_before) for key in keys):
            return "reused"
        simulations = SimulationStore(store, report)
        features = features_of(task, simulations)
        bank = SimulationBank(
            task,
            simulations,
            spec.identity["budget"],
            members,
            "shared" if spec.oracle else spec.identity["training_data"],
            spec.identity["seed"],
        )
        fit_context = FitContext(
            task, bank, features, device, partial(generator, "fit", spec.identity), report
        )
        # Members that draw from global generators, as other packages do, shall be reproducible too.
        global_seed = int(digest("global", spec.identity, list(members))[:8], 16)
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002
        random.seed(global_seed)
        begin, simulating = time.perf_counter(), simulations.seconds
        surrogate = method.fit(fit_context)
        seconds = time.perf_counter() - begin - (simulations.seconds - simulating)
        state = {k: v.detach().cpu().numpy() for k, v in (surrogate.state() or {}).items()}
        bad = _not_finite(spec, state, len(members))
        if len(bad) == len(members):
            raise NonFiniteError(bad[0])
        for i, (member, key) in enumerate(zip(members, keys, strict=True)):
            simulated = _simulated(store, key, simulations if i == 0 else None)
            if i in bad:
                if not is_recorded(store, key, place.overwrite_before):
                    store.write(key, failed(bad[i], "NonFiniteError", simulated=simulated))
                continue
            own = {name: array[i : i + 1] for name, array in state.items()}
            curves = surrogate.log.curves[i] if i < len(surrogate.log.curves) else {}
            record = done(
                member=member,
                seconds=seconds / len(members),
                stack=len(members),
                calls=bank.spent,
                calls_made=bank.made,
                simulated=simulated,
                parameters=surrogate.log.parameters,
                curves={name: _finite(asdict(curve)) for name, curve in curves.items()},
                environment=_environment(device),
                state=described(own),
            )
            store.write(key, record, own)
    return "done"


def average(*, report: Report, place: JobContext, spec: FitSpec, members: Sequence[int]) -> str:
    """Notes, for each member of an ensemble, what it averages and what that cost in all.

    Raises:
        StoreError: if a fit that it averages is missing or damaged, or failed.
    """
    store = Store.open(place.root)
    for member in members:
        key = spec.fit_key(member)
        with store.lock(key):
            if is_done(store, key, place.overwrite_before):
                continue
            records = [read_done(store, k).record for k in spec.base_keys(member)]
            shared = spec.identity["training_data"] != "fresh"
            made = [r.get("calls_made") for r in records]
            record = done(
                member=member,
                seconds=sum(r["seconds"] for r in records),
                stack=1,
                calls=records[0]["calls"] if shared else sum(r["calls"] for r in records),
                calls_made=made[0] if shared or None in made else sum(made),
                parameters=sum(r["parameters"] for r in records),
                curves={},
                environment=records[0]["environment"],
            )
            store.write(key, record)
    return "done"


def calibrate_fits(
    *, report: Report, place: JobContext, spec: FitSpec, members: Sequence[int]
) -> str:
    """Calibrates stored fits with simulations that they have not seen, and saves the maps.

    Raises:
        StoreError: if a fit that it calibrates is missing or damaged, or failed.
        NotApplicable: if the fits have no reference.
    """
    store, task, method = _open(place, spec)
    device, settings = torch.device(place.device), spec.identity["calibration"]
    for member in members:
        key = spec.fit_key(member)
        with store.lock(key):
            if is_done(store, key, place.overwrite_before):
                continue
            (base_key,) = spec.base_keys(member)
            base = read_done(store, base_key).record
            simulations = SimulationStore(store, report)
            fitted = _restore(store, task, method, spec.uncalibrated, member, device, simulations)
            training_data, seed = spec.identity["training_data"], spec.identity["seed"]
            calls = settings["calls"]
            bank = SimulationBank(task, simulations, calls, [member], training_data, seed)
            rng = generator("calibration", spec.identity, member)
            begin, simulating = time.perf_counter(), simulations.seconds
            made = calibrate(fitted, task, bank, settings["kind"], device, rng)
            state = {k: v.numpy() for k, v in made.state().items()}
            bad = _not_finite(spec, state, 1)
            if bad:
                raise NonFiniteError(bad[0])
            seconds = time.perf_counter() - begin - (simulations.seconds - simulating)
            known = bank.made is not None and base.get("calls_made") is not None
            record = done(
                member=member,
                seconds=base["seconds"] + seconds,
                stack=1,
                calls=base["calls"] + bank.spent,
                calls_made=base["calls_made"] + bank.made if known else None,
                simulated=_simulated(store, key, simulations),
                parameters=base["parameters"],
                curves=base["curves"],
                environment=base["environment"],
                state=described(state),
            )
            store.write(key, record, state)
    return "done"


def _simulated(store: Store, key: str, simulations: SimulationStore | None) -> dict[str, int]:
    """Simulator calls that an entry's jobs have made, by purpose: earlier ones and this one."""
    earlier = (store.record(key) or {}).get("simulated")
    total: Counter[str] = Counter() if simulations is None else Counter(simulations.made)
    if isinstance(earlier, dict):  # folders may come from others
        total.update({k: n for k, n in earlier.items() if isinstance(n, int)})
    return dict(total)


def _finite(value: Any) -> Any:
    """JSON knows no NaN: a loss that is not finite becomes null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _not_finite(spec: FitSpec, state: dict[str, Any], members: int) -> dict[int, str]:
    """Which rows of the members' axis hold a number that is not finite, and where."""
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


def _environment(device: torch.device) -> dict[str, str]:
    return {
        "nlbench": bench.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def predict_member(
    *,
    report: Report,
    place: JobContext,
    spec: FitSpec,
    member: int,
    plan: dict[str, Any],
    folder: str,
    seed: int,
) -> str:
    """Evaluates a member on a plan and saves the prediction; returns "done" or "reused"."""
    store, task, method = _open(place, spec)
    key = spec.prediction_key(folder, member)
    device = torch.device(place.device)
    with store.lock(key):
        if is_done(store, key, place.overwrite_before, task):
            return "reused"
        simulations = SimulationStore(store, report)
        surrogate = _restore(store, task, method, spec, member, device, simulations)
        begin = time.perf_counter()
        arrays = predict(task, surrogate, plan_of(plan), seed, simulations, device, report)[0]
        seconds = time.perf_counter() - begin
        simulated = _simulated(store, key, simulations)
        store.write(key, done(member=member, seconds=seconds, simulated=simulated), arrays)
    return "done"


def _restore(
    store: Store,
    task: Task,
    method: Method,
    spec: FitSpec,
    member: int,
    device: torch.device,
    simulations: SimulationStore | None = None,
) -> Surrogate:
    """Rebuilds a member from its state; where it averages or calibrates others, on top of them."""
    if spec.size > 1:
        first, base = member * spec.size, spec.base
        averaged = range(first, first + spec.size)
        return Ensemble(
            [_restore(store, task, method, base, m, device, simulations) for m in averaged]
        )
    arrays = read_done(store, spec.fit_key(member)).arrays
    state = {k: torch.from_numpy(v.copy()).to(device) for k, v in arrays.items()}
    if spec.calibration:
        base = spec.uncalibrated
        fitted = _restore(store, task, method, base, member, device, simulations)
        return Calibrated(fitted, Calibration.from_state(state))
    return method.restore(task, features_of(task, simulations or store), state)
