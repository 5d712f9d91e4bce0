"""Stacks of modules: members, vectorising, compiling, and fallbacks."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from bench.methods.dle_nflows import NflowsFlow
from seeded import silent
from torch import Tensor, nn

from bench.nn import stacks
from bench.nn.flows import FlowShape, ZukoFlow
from bench.nn.stacks import Stack
from bench.nn.training import Training, train
from bench.seeds import generator

CPU = torch.device("cpu")


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


def make(members: list[int], dtype: torch.dtype = torch.float64, **options) -> Stack:
    seeds = [generator("test stacks", m) for m in members]
    return Stack.create(two_layers, seeds, **options).to(CPU, dtype)


@pytest.mark.parametrize("vectorise", [True, False])
def test_stack_equals_plain_modules(vectorise: bool) -> None:
    stack = make([0, 1, 2], vectorise=vectorise)
    x = torch.randn(3, 5, 3, dtype=torch.float64)
    out = stack(x)
    for m in range(3):
        plain = two_layers().double()
        plain.load_state_dict({k: v[m] for k, v in stack.state().items()})
        torch.testing.assert_close(out[m], plain(x[m]), rtol=1e-12, atol=1e-12)
    assert stack.members == 3
    assert stack.count == sum(p.numel() for p in two_layers().parameters())
    assert torch.equal(Stack(two_layers, stack.state(), vectorise=vectorise)(x), out)


def test_a_member_starts_as_the_module_does_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    stack = make([0, 1], torch.float32)
    assert torch.equal(torch.rand(1), expected)
    seed = int(torch.randint(2**63 - 1, (), generator=generator("test stacks", 1)))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        plain = two_layers()
    for name, parameter in plain.named_parameters():
        assert torch.equal(stack.state()[name][1], parameter)
        assert torch.equal(make([1], torch.float32).state()[name][0], parameter)
        assert not torch.equal(stack.state()[name][0], parameter)


@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("vectorise", [True, False])
def test_a_member_alone_equals_the_member_in_a_stack(vectorise: bool, clip: float) -> None:
    """In float64 on a short run, members do not influence each other."""
    settings = Training(epochs=3, steps=0, batch_size=64, learning_rate=1e-2, clip=clip)

    def trained(members: list[int]) -> tuple[Stack, list]:
        stack = make(members, vectorise=vectorise)
        seeds = [generator("data", m) for m in members]
        x = torch.stack([torch.randn(300, 3, generator=g, dtype=torch.float64) for g in seeds])
        y = x[..., 0] * x[..., 1].sin()

        def loss(x: Tensor, y: Tensor) -> Tensor:
            return (stack(x).squeeze(-1) - y).square().mean(1)

        shuffles = [generator("shuffle", m) for m in members]
        data, held_out = [x[:, 50:], y[:, 50:]], [x[:, :50], y[:, :50]]
        curves = train(stack.parameters(), loss, data, held_out, shuffles, settings, silent)
        return stack, curves

    together, curves = trained([4, 5, 6])
    for i, member in enumerate([4, 5, 6]):
        alone, own = trained([member])
        for a, b in zip(alone.parameters(), together.parameters(), strict=True):
            torch.testing.assert_close(a[0], b[i], rtol=1e-9, atol=1e-10)
        assert own[0].validation_loss == pytest.approx(curves[i].validation_loss, rel=1e-9)
        assert own[0].best_epoch == curves[i].best_epoch


def test_batches_of_one_shape_are_compiled(monkeypatch) -> None:
    """Only these batches are compiled, only without gradients, and values do not change."""
    shapes: list[int] = []

    def backend(function, dynamic: bool):
        assert dynamic is False

        def compiled(parameters, x):
            shapes.append(len(x))
            return function(parameters, x)

        return compiled

    monkeypatch.setattr(torch, "compile", backend)
    architecture = partial(two_layers)  # differs from all architectures compiled before
    state = make([0]).state()
    x = torch.randn(1, 7, 3, dtype=torch.float64)
    fast = Stack(architecture, state, compile_shape=7).to(CPU, torch.float64)
    with torch.no_grad():
        assert torch.equal(fast(x), make([0])(x))
        fast(x[:, :6])
        fast(x)
    assert shapes == [7, 7]
    fast(x).sum().backward()
    assert shapes == [7, 7]


@torch.no_grad()
@pytest.mark.parametrize("when", ["compiling", "running"])
def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch, when: str) -> None:
    attempts: list[int] = []

    def backend(function, dynamic: bool):
        def fail(*inputs):
            attempts.append(1)
            raise RuntimeError("no C++ compiler\n" * 50)

        if when == "compiling":
            fail()
        return fail

    monkeypatch.setattr(torch, "compile", backend)
    architecture = partial(two_layers)
    x = torch.randn(1, 7, 3, dtype=torch.float64)
    stack = Stack(architecture, make([0]).state(), compile_shape=7).to(CPU, torch.float64)
    assert torch.equal(stack(x), make([0])(x))
    assert torch.equal(stack(x), make([0])(x))
    assert len(attempts) == 1  # no second attempt
    assert any(kind[0] is architecture for kind in stacks.uncompilable)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("flow", [ZukoFlow, NflowsFlow])
def test_compiling_for_real(flow: type[FlowShape]) -> None:
    """A spline flow is compiled by PyTorch's compiler if available; otherwise it falls back."""
    architecture = flow(2, 1, transforms=2, bins=8, hidden=(16,), embedding=8, activation="relu")
    generators = [torch.Generator().manual_seed(0)]
    options = {"vectorise": flow is ZukoFlow}
    plain = Stack.create(architecture, generators, **options).to(CPU, torch.float64)
    fast = Stack(architecture, plain.state(), compile_shape=64, **options).to(CPU, torch.float64)
    y = 3 * torch.randn(1, 64, 2, dtype=torch.float64)  # some are outside the box of the splines
    eta = torch.rand(1, 64, 1, dtype=torch.float64)
    torch.testing.assert_close(fast(y, eta), plain(y, eta), rtol=1e-9, atol=1e-9)
