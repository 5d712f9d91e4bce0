"""On a CUDA device: the results of the CPU within tolerance, members faster as a stack."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from bench.methods.dle import DLE, DLEConfig, ZukoFlow
from bench.methods.lre import LRE, LREConfig

from bench.contracts import IndependentPlan, Run, Surrogate
from bench.numerics.networks import StackedMLP
from bench.numerics.seeds import generator
from bench.numerics.stacks import Stack
from bench.stages.bank import SimulationBank, features_of
from bench.stages.predict import predict
from bench.stages.registry import Registry
from bench.stages.store import Store

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
METHODS = [
    LRE(LREConfig(hidden=(32, 32))),
    DLE(DLEConfig(transforms=2, hidden=(16, 16))),
]


def fitted(method: LRE | DLE, device: torch.device, folder: Path, budget: int = 4000) -> Surrogate:
    """Three members, trained for a few steps."""
    task, store = Registry().task("gaussians-near"), Store(folder)
    bank = SimulationBank(task, store, budget, [0, 1, 2], "fresh", 0)
    run = Run(device, lambda m, what: generator("cuda", m, what), lambda **_: None)
    short = method.config.model_copy(
        update={"training": method.config.training.model_copy(update={"epochs": 1, "steps": 0})}
    )
    return type(method)(short).fit(task, bank, features_of(task, store), [0, 1, 2], run)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_short_trainings_agree(method: LRE | DLE, tmp_path: Path) -> None:
    """Random numbers are drawn on the CPU, so that only rounding differs."""
    states = [fitted(method, device, tmp_path).state() for device in (CPU, CUDA)]
    assert states[0] is not None
    assert states[1] is not None
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name].cpu(), value, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_predictions_agree(method: LRE | DLE, tmp_path: Path) -> None:
    """The same weights give the same intervals."""
    state = fitted(method, CPU, tmp_path).state()
    assert state is not None
    task, store = Registry().task("gaussians-near"), Store(tmp_path)
    plan = IndependentPlan(uniform=3, per_point=0, observations=200)
    both = []
    for device in (CPU, CUDA):
        moved = {name: value.detach().to(device) for name, value in state.items()}
        surrogate = method.restore(task, features_of(task, store), moved)
        both.append(predict(task, surrogate, plan, 0, store, device, lambda **_: None)[0])
    for name in ("curves.lower", "curves.upper", "curves.area"):
        on_cpu, on_cuda = (torch.from_numpy(arrays[name]) for arrays in both)
        torch.testing.assert_close(on_cuda, on_cpu, rtol=0, atol=2e-3)


@pytest.mark.parametrize("kind", ["classifier", "flow"])
def test_a_stack_of_ten_is_faster_than_ten(kind: str) -> None:
    """Small networks are bound by the launching of kernels."""

    def make(members: int) -> StackedMLP | Stack:
        seeds = [generator("cuda", m) for m in range(members)]
        if kind == "classifier":
            return StackedMLP((3, 120, 120, 120, 1), "silu", seeds).to(CUDA)
        return Stack.create(ZukoFlow(2, 1, 4, 8, (64, 64), 32, "relu"), seeds).to(CUDA)

    def seconds(members: int) -> float:
        net = make(members)
        y = torch.randn(members, 4096, 3 if kind == "classifier" else 2, device=CUDA)
        inputs = (y,) if kind == "classifier" else (y, torch.rand(members, 4096, 1, device=CUDA))
        best = float("inf")
        for _ in range(10):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            net(*inputs).mean().backward()
            torch.cuda.synchronize()
            best = min(best, time.perf_counter() - begin)
        return best

    assert seconds(10) < 5 * seconds(1)
