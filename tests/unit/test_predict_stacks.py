"""Predictions of members in one pass agree with those one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.contracts import BootstrapPlan, FitLog, HeldOutPlan, IndependentPlan, Plan, Task
from bench.errors import StoreError
from bench.experiment.jobs import PredictJob
from bench.experiment.preset import Preset
from bench.experiment.schedule import schedule
from bench.inference.likelihood import ExactLikelihood
from bench.registry.registry import Registry
from bench.stages.predict import predict
from bench.storage.store import Store

CPU = torch.device("cpu")
TASKS = ("gaussians-near", "gaussians-far")
PLANS = {
    "independent": IndependentPlan(uniform=4, per_point=0, observations=30),
    "bootstrap": BootstrapPlan(sets=1, multiple=2, bootstraps=3, observations=30),
}
HELD_OUT = HeldOutPlan(contexts=3, events=5)


class Moved:
    """Exact densities in float64, with contexts shifted per member by a share of the range."""

    reference = None
    has_density = True

    def __init__(self, task: Task, shares: Sequence[float]) -> None:
        self.exact, self.log = ExactLikelihood(task), FitLog()
        low, high = (torch.tensor([getattr(p, end) for p in task.space.context]) for end in
                     ("low", "high"))  # fmt: skip
        self.shares, self.low, self.high = shares, low.double(), high.double()

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        middle = 0.5 * (self.low + self.high)
        moved = [middle + (1 - share) * (context.double() - middle) for share in self.shares]
        return torch.cat([self.exact.log_ratio(x.double(), eta) for eta in moved])

    def state(self) -> None:
        return None


def predicted(
    task: Task, plan: Plan, shares: Sequence[float], folder: Path
) -> list[dict[str, NDArray[np.generic]]]:
    store = Store(folder)
    return predict(task, Moved(task, shares), plan, 0, store, CPU, lambda **fields: None)


@pytest.mark.parametrize("name", TASKS)
def test_held_out_log_ratios_are_the_same(name: str, tmp_path: Path) -> None:
    task, shares = Registry().task(name), (0.0, 0.1, 0.2)
    together = predicted(task, HELD_OUT, shares, tmp_path)
    for one, share in zip(together, shares, strict=True):
        (alone,) = predicted(task, HELD_OUT, [share], tmp_path)
        for key, values in alone.items():
            np.testing.assert_allclose(one[key], values, rtol=1e-12, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", TASKS)
def test_members_that_are_alike_are_the_same_to_rounding(name: str, tmp_path: Path) -> None:
    """Equal members use the nodes of a single one."""
    task = Registry().task(name)
    together = predicted(task, PLANS["independent"], (0.1, 0.1), tmp_path)
    (alone,) = predicted(task, PLANS["independent"], [0.1], tmp_path)
    for one in together:
        for key, values in alone.items():
            np.testing.assert_allclose(one[key], values, rtol=1e-9, atol=1e-9, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("kind", PLANS)
def test_members_that_differ_share_nodes_within_their_tolerance(
    name: str, kind: str, tmp_path: Path
) -> None:
    """The lattice's tolerance is a hundredth of a half-width, for both ends."""
    task, shares = Registry().task(name), (0.0, 0.1, 0.2)
    together = predicted(task, PLANS[kind], shares, tmp_path)
    for one, share in zip(together, shares, strict=True):
        (alone,) = predicted(task, PLANS[kind], [share], tmp_path)
        half = 0.5 * (alone["curves.upper"] - alone["curves.lower"])
        for key, most in (("lower", 0.02), ("upper", 0.02), ("mle", 0.05)):
            moved = np.abs(one[f"curves.{key}"] - alone[f"curves.{key}"]) / half
            assert moved.max() < most, key
        truth = "curves.log_ratio_truth"
        np.testing.assert_allclose(one[truth], alone[truth], atol=0.02)


@pytest.mark.slow
def test_a_stack_is_trained_in_one_job_and_a_bad_member_fails_alone(
    tmp_path: Path,
) -> None:
    preset = Preset(
        tasks=("gaussians-far",),
        methods=("lre:unnormalised",),
        members=3,
        budgets=(600,),
        device="cpu",
        stack=3,
        plans=({"kind": "heldout", "contexts": 2, "events": 4},),
    )
    found = schedule(Registry(), preset, Store(tmp_path))
    found.record(["bench", "run"])
    jobs = [job for job in found.jobs if not job.spec.oracle]
    assert sorted((job.stage, job.members) for job in jobs) == [
        ("fit", (0, 1, 2)),
        *(("predict", (m,)) for m in range(3)),  # as on every CPU
        *(("score", (m,)) for m in range(3)),
    ]
    fit, first = jobs[:2]
    assert isinstance(first, PredictJob)
    assert first.after == (fit.key,)
    predicting = replace(first, members=(0, 1, 2))  # as on a GPU
    fit.perform(lambda **fields: None)
    (tmp_path / f"{fit.spec.fit_key(1)}.safetensors").write_bytes(b"")
    with pytest.raises(StoreError, match=r"member-001\.safetensors: it is missing, truncated"):
        predicting.perform(lambda **fields: None)
    store = Store.open(tmp_path)
    done = [(store.record(key) or {}).get("status") for key in predicting.keys]
    assert done == ["done", None, "done"]
