"""Training of a block of members, each of which is saved."""

import math
import os
import platform
import random
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch

import bench
from bench.contracts import FitContext
from bench.errors import NonFiniteError
from bench.seeds import digest, generator
from bench.stages.members import Progress, not_finite, open_fit, simulated
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.arrays import described
from bench.storage.entries import JobContext, done, failed, is_done, is_recorded
from bench.storage.fit_spec import FitSpec
from bench.storage.simulations import SimulationStore


def fit_members(
    context: JobContext, spec: FitSpec, members: Sequence[int], report: Progress
) -> str:
    """Train a block of members and save each; return "done" or "reused".

    A member whose state is not finite is recorded as failed, and the others are kept.

    Raises:
        NonFiniteError: if no member's state is finite.
    """
    opened = open_fit(context, spec)
    store, task, method = opened.store, opened.task, opened.method
    device = torch.device(context.device)
    with store.lock(spec.fit_key(members[0])):
        keys = [spec.fit_key(m) for m in members]
        if all(is_done(store, key, context.overwrite_before) for key in keys):
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
            task, bank, features, device, partial(generator, "fit", spec.entropy), report
        )
        # Other packages draw from global generators, whose results must be reproducible, too.
        global_seed = int(digest("global", spec.entropy, list(members))[:8], 16)
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002
        random.seed(global_seed)
        begin, simulating = time.perf_counter(), simulations.seconds
        surrogate = method.fit(fit_context)
        seconds = time.perf_counter() - begin - (simulations.seconds - simulating)
        state = {k: v.detach().cpu().numpy() for k, v in (surrogate.state() or {}).items()}
        bad = not_finite(spec, state, len(members))
        if len(bad) == len(members):
            raise NonFiniteError(bad[0])
        for i, (member, key) in enumerate(zip(members, keys, strict=True)):
            calls_made = simulated(store, key, simulations if i == 0 else None)
            if i in bad:
                if not is_recorded(store, key, context.overwrite_before):
                    store.write(key, failed(bad[i], "NonFiniteError", simulated=calls_made))
                continue
            own = {name: array[i : i + 1] for name, array in state.items()}
            curves = surrogate.log.curves[i] if i < len(surrogate.log.curves) else {}
            record = done(
                member=member,
                seconds=seconds / len(members),
                stack=len(members),
                calls=bank.spent,
                calls_made=bank.made,
                simulated=calls_made,
                parameters=surrogate.log.parameters,
                curves={name: _finite(asdict(curve)) for name, curve in curves.items()},
                environment=_environment(device),
                state=described(own),
            )
            store.write(key, record, own)
    return "done"


def _finite(value: Any) -> Any:
    """Replace non-finite losses by None, because JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _environment(device: torch.device) -> dict[str, str]:
    return {
        "nlbench": bench.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
