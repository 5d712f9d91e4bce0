"""CUDA device: results agree with the CPU's, and stacks are faster than single members."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from bench.methods.dle import DLE, DLEConfig
from bench.methods.exact import Exact
from bench.methods.histogram import Histogram
from bench.methods.lre import LRE, LREConfig
from bench.methods.nler import NLER, NLERSA, NLERConfig
from seeded import fit_context

from bench.contracts import IndependentPlan, Method, Surrogate, sample
from bench.nn.flows import ZukoFlow
from bench.nn.networks import StackedMLP
from bench.nn.score_matching import ScoreTerms
from bench.nn.stacks import Stack
from bench.nn.steps import GradientSteps
from bench.registry.registry import Registry
from bench.seeds import generator
from bench.stages.predict import predict
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
METHODS = [
    LRE(LREConfig(hidden=(32, 32))),
    DLE(DLEConfig(transforms=2, hidden=(16, 16))),
    NLERSA(NLERConfig(width=4, scores=ScoreTerms(weights="fixed"))),
]
UNTRAINED = [Exact(Exact.Config()), Histogram(Histogram.Config())]


def fitted(method: Method, device: torch.device, folder: Path, budget: int = 4000) -> Surrogate:
    """Train three members for a few steps."""
    task, store = Registry().task("gaussians-near"), Store(folder)
    bank = SimulationBank(task, store, budget, [0, 1, 2], "fresh", 0)
    given = fit_context(task, bank, features_of(task, store), what="cuda", device=device)
    if isinstance(method, (LRE, DLE, NLER)):
        training = method.config.training.model_copy(update={"epochs": 1, "steps": 0})
        method = type(method)(method.config.model_copy(update={"training": training}))
    return method.fit(given)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_short_trainings_agree(method: LRE | DLE | NLER, tmp_path: Path) -> None:
    """Random numbers are drawn on the CPU, so only rounding differs."""
    states = [fitted(method, device, tmp_path).state() for device in (CPU, CUDA)]
    assert states[0] is not None
    assert states[1] is not None
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name].cpu(), value, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_training_repeats_bit_by_bit(method: LRE | DLE | NLER, tmp_path: Path) -> None:
    first, again = (fitted(method, CUDA, tmp_path).state() for _ in range(2))
    assert first is not None
    assert again is not None
    for name, value in first.items():
        assert torch.equal(again[name], value), name


@pytest.mark.parametrize("method", [METHODS[1], *UNTRAINED], ids=lambda m: m.name)
def test_samples_agree(method: Method, tmp_path: Path) -> None:
    """Random numbers are drawn on the CPU, so only rounding differs."""
    task, surrogate = Registry().task("gaussians-near"), fitted(method, CPU, tmp_path)
    context = task.space.draw_context(200, generator("cuda", "contexts"))
    state = {name: value.to(CUDA) for name, value in (surrogate.state() or {}).items()}
    moved = method.restore(task, features_of(task, Store(tmp_path)), state)
    here = sample(surrogate, context, generator("cuda", "samples"))
    there = sample(moved, context.to(CUDA), generator("cuda", "samples"))
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["sis", "gp"])
def test_flows_of_counts_and_fields_agree(name: str, tmp_path: Path) -> None:
    """Noise, cosines and their units are moved to the device of the evaluation."""
    task, store = Registry().task(name), Store(tmp_path)
    settings = {"affine": {"hidden": (16, 16), "training": {"epochs": 1, "steps": 0}}}
    method, values = DLE(DLEConfig.model_validate(settings)), []
    x = task.components("test")[task.component_names[0]].simulate(
        task.nominal.expand(20, 2), generator("cuda", "x")
    )
    for device in (CPU, CUDA):
        bank = SimulationBank(task, store, 1000, [0, 1], "fresh", 0)
        given = fit_context(task, bank, features_of(task, store), what="cuda", device=device)
        surrogate = method.fit(given)
        values.append(surrogate.log_ratio(x.to(device), task.points.float().to(device)).cpu())
    torch.testing.assert_close(values[1], values[0], rtol=1e-2, atol=0.5)


@pytest.mark.parametrize("schedule", [0, 20])
def test_recorded_steps_are_the_same_steps(schedule: int) -> None:
    """A graph replays the kernels of an eager step, including learning rate and clipping."""
    batches = [torch.randn(2, 64, 3, generator=generator("batch", i)) for i in range(20)]

    def trained(record: bool) -> list[torch.Tensor]:
        generators = [generator("net", m) for m in range(2)]
        net = StackedMLP.create((3, 16, 1), "silu", generators).to(CUDA)

        def loss(x: torch.Tensor) -> torch.Tensor:
            return (net(x).squeeze(-1) - x.sum(-1)).square().mean(1)

        steps = GradientSteps(net.parameters(), loss, 1e-2, cycle=schedule, clip=0.5, record=record)
        for batch in batches:
            steps(batch.to(CUDA))
        return [*net.parameters(), steps.total]

    for recorded, eager in zip(trained(True), trained(False), strict=True):
        torch.testing.assert_close(recorded, eager, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_recorded_runs_as_it_is() -> None:
    """A loss that depends on values prevents recording, and training continues without it."""
    parameter = torch.ones(1, 3, device=CUDA, requires_grad=True)

    def loss(x: torch.Tensor) -> torch.Tensor:
        out = (parameter * x).square().sum(1)
        return out if bool((out > -1).all()) else out * 0

    steps = GradientSteps([parameter], loss, 1e-1)
    for _ in range(10):
        steps(torch.ones(1, 3, device=CUDA))
    assert float(parameter.detach().max()) < 0.5
    assert torch.randn(3, device=CUDA).isfinite().all()


@pytest.mark.parametrize("method", [*METHODS, *UNTRAINED], ids=lambda m: m.name)
def test_predictions_agree(method: Method, tmp_path: Path) -> None:
    """The same weights give the same intervals."""
    state = fitted(method, CPU, tmp_path).state() or {}
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
    """Kernel launches dominate the time of small networks."""

    def make(members: int) -> StackedMLP | Stack:
        seeds = [generator("cuda", m) for m in range(members)]
        if kind == "classifier":
            return StackedMLP.create((3, 120, 120, 120, 1), "silu", seeds).to(CUDA)
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
