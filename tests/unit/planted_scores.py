"""A results folder with scores that are planted, as a run stores them."""

from pathlib import Path
from typing import Any

import numpy as np

from bench.boards.results import Results
from bench.contracts import IndependentPlan
from bench.contracts.plan import layout
from bench.storage.store import Store

PLAN = "independent-1"
MEMBER = {
    "status": "done",
    "seconds": 1.0,
    "stack": 1,
    "calls": 1,
    "parameters": 1,
    "curves": {},
    "environment": {"device": "cpu"},
}

UNDEFINED = dict.fromkeys(("coverage", "interval_score", "width"), "not planted")


def planted(
    path: Path,
    methods: dict[str, dict[str, Any]],
    *,
    task: str = "gaussians-near",
    uniform: int = 40,
    per_point: int = 0,
) -> Results:
    """Store scores and open the folder.

    Args:
        path: the folder.
        methods: by "METHOD:CONFIGURATION", values (members, sets) by "metric/key". Entries of
            "identity", and a "budget" other than 1000, are part of the fit's identity.
        task: name of a task with nine evaluation points.
        uniform: datasets with θ uniform.
        per_point: datasets at each evaluation point.
    """
    store = Store(path)
    store.write("run", {}, {})
    plan = IndependentPlan(uniform=uniform, per_point=per_point)
    store.write(f"plans/{PLAN}", {"plan": plan.model_dump(), "seed": 0}, {})
    point, _, _ = layout(plan, 9, None)
    for number, (label, given) in enumerate(methods.items()):
        values = dict(given)
        name, _, configuration = label.partition(":")
        more, budget = values.pop("identity", {}), values.pop("budget", 1000)
        kind = "calibrated-" if "calibration" in more else ""
        kind = f"ensemble-{more['ensemble']}-" if "ensemble" in more else kind
        folder = f"{task}/{kind}{name}-{number:08x}"
        oracle = name == "exact"
        identity = {
            "budget": 0 if oracle else budget,
            "seed": 0,
            "training_data": "none" if oracle else "fresh",
            "method": {"name": name, "config": {"of": configuration.partition("#")[0]}},
            **more,
        }
        record = {
            "task": task,
            "method": name,
            "configuration": configuration.partition("#")[0] or "default",
            "oracle": oracle,
            "identity": identity,
        }
        store.write(f"fits/{folder}/fit", record, {})
        for member in range(len(next(iter(values.values())))):
            arrays = {name: np.asarray(value, float)[member] for name, value in values.items()}
            arrays |= {"point": point, "set": np.arange(len(point))}
            store.write(f"fits/{folder}/member-{member:03d}", MEMBER, {})
            key = f"scores/{folder}/{PLAN}/member-{member:03d}"
            store.write(key, {"status": "done", "undefined": UNDEFINED}, arrays)
    return Results(Store.open(path))
