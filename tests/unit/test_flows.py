"""Conditional flows: densities against the change of variables, and what they learn."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from bench.methods.dle import DLE, DLEConfig, FlowShape, ZukoFlow
from bench.methods.dle_nflows import DLENflows, NflowsFlow
from torch import nn

from bench.contracts import HasLogProb, Run
from bench.errors import NotApplicable
from bench.numerics.seeds import generator
from bench.numerics.stacks import Stack
from bench.stages.bank import SimulationBank, features_of
from bench.stages.registry import Registry
from bench.stages.store import Store

REGISTRY = Registry([Path(__file__).parents[1] / "asymmetric.py"])
CPU = torch.device("cpu")
FLOWS = [ZukoFlow, NflowsFlow]
METHODS = [DLE, DLENflows]


def run() -> Run:
    return Run(CPU, lambda member, what: generator("flows", member, what), lambda **_: None)


def shaken(flow: type[FlowShape], seed: int = 0) -> nn.Module:
    """A flow in float64 that is far from the identity, everywhere in its box."""
    torch.manual_seed(seed)
    module = flow(2, 1, 4, 8, (16, 16), 8, "silu")().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.8)
    return module


@pytest.mark.parametrize("flow", FLOWS)
def test_density_integrates_to_one(flow: type[FlowShape]) -> None:
    """Its box [−5, 5]² and the tails beyond, by the midpoint rule."""
    module = shaken(flow)
    n, half = 500, 8.0
    axis = (torch.arange(n, dtype=torch.float64) + 0.5) * (2 * half / n) - half
    y = torch.cartesian_prod(axis, axis)
    for eta in (-0.7, 0.4):
        with torch.no_grad():
            density = module(y, torch.full((len(y), 1), eta, dtype=torch.float64)).exp()
        assert float(density.sum()) * (2 * half / n) ** 2 == pytest.approx(1, abs=5e-3)
        assert float(density.max()) > 0.3  # far from the standard normal's 0.16


@pytest.mark.parametrize("flow", FLOWS)
def test_density_is_the_change_of_variables(flow: type[FlowShape]) -> None:
    """log N(f(y)) + log |det ∂f/∂y|, the Jacobian by autograd, within the box and beyond it."""
    module = shaken(flow)
    y = torch.tensor(
        [[0.1, -0.4], [1.5, 2.5], [-3.0, 0.2], [6.0, 0.5], [-0.3, -7.0], [9.0, 9.0]],
        dtype=torch.float64,
    )
    eta = torch.linspace(-1, 1, len(y), dtype=torch.float64)[:, None]

    def to_normal(y: torch.Tensor, eta: torch.Tensor) -> torch.Tensor:
        inner = module.flow
        if flow is ZukoFlow:
            return inner(module.embedding(eta)).transform(y)
        return inner._transform(y, context=inner._embedding_net(eta))[0]

    log_density = module(y, eta).detach()
    for i in range(len(y)):
        row, context = y[i : i + 1], eta[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda row, context=context: to_normal(row, context)[0], row
        )[:, 0]
        z = to_normal(row, context)[0].detach()
        expected = -0.5 * z.square().sum() - math.log(2 * math.pi) + jacobian.det().abs().log()
        assert float(log_density[i]) == pytest.approx(float(expected), rel=1e-6)


def test_the_first_feature_of_nflows_ignores_the_context() -> None:
    """A block's own order matters: said in the method's docstring and the evidence."""
    module = shaken(NflowsFlow)
    block = module.flow._transform._transforms[0].autoregressive_net
    y = torch.randn(6, 2, dtype=torch.float64)
    out = block(y, torch.randn(6, 8, dtype=torch.float64)).detach().view(6, 2, -1)
    assert float(out[:, 0].std(0).max()) == 0
    assert float(out[:, 1].std(0).max()) > 1e-4


@pytest.mark.parametrize("flow", FLOWS)
def test_members_of_a_stack_of_flows(flow: type[FlowShape]) -> None:
    architecture = flow(2, 1, 2, 4, (8, 8), 4, "relu")
    seeds = [generator("flows", m) for m in range(3)]
    stack = Stack.create(architecture, seeds, vectorise=flow is ZukoFlow)
    stack.to(CPU, torch.float64)
    y = torch.randn(3, 7, 2, dtype=torch.float64)
    eta = torch.rand(3, 7, 1, dtype=torch.float64)
    together = stack(y, eta)
    for m in range(3):
        own = {name: tensor[m : m + 1] for name, tensor in stack.state().items()}
        alone = Stack(architecture, own, vectorise=flow is ZukoFlow)
        torch.testing.assert_close(alone(y[m : m + 1], eta[m : m + 1])[0], together[m])


@pytest.mark.parametrize("method", METHODS)
def test_learns_the_density_of_raw_events(method: type[DLE], tmp_path: Path) -> None:
    """On the asymmetric task, whose Jacobian and components differ; and restores bit by bit."""
    task = REGISTRY.task("asymmetric")
    store = Store(tmp_path)
    features = features_of(task, store)
    config = DLEConfig.model_validate(
        {"transforms": 2, "hidden": (24, 24), "training": {"epochs": 3, "batch_size": 256}}
    )
    bank = SimulationBank(task, store, 20_000, [0, 1], "fresh", 0)
    surrogate = method(config).fit(task, bank, features, [0, 1], run())
    assert bank.spent == 20_000
    assert surrogate.has_density
    assert surrogate.reference is None
    context = task.nominal[None]
    for k, (name, component) in enumerate(task.components("test").items()):
        assert isinstance(component, HasLogProb)
        x = component.simulate(context.expand(2000, -1), generator("flows", name)).float()
        exact = component.log_prob(x.double(), context.double())
        learned = surrogate.log_ratio(x, context)[:, k, :, 0]
        # E[log p − log p̂] is the Kullback–Leibler divergence.
        divergence = (exact - learned).mean(1)
        assert (divergence.abs() < 0.06).all(), (name, divergence)
    state = surrogate.state()
    assert state is not None
    again = method(config).restore(task, features, state)
    contexts = task.space.draw_context(7, generator("contexts"))
    assert torch.equal(again.log_ratio(x[:50], contexts), surrogate.log_ratio(x[:50], contexts))


def test_log_ratio_in_batches_of_one_size(tmp_path: Path) -> None:
    """The last batch is filled up: no event is lost, repeated or moved."""
    task = REGISTRY.task("gaussians-near")
    features = features_of(task, Store(tmp_path))
    method = DLE(DLEConfig(transforms=1, hidden=(8,), embedding=4))
    flow = Stack.create(method._flow(task), [generator("flows", m) for m in range(2)])
    state = {f"{name}/{k}": v for name in task.component_names for k, v in flow.state().items()}
    surrogate = method.restore(task, features, state)
    x = torch.randn(1500, 2)
    contexts = task.space.draw_context(7, generator("contexts"))
    whole = surrogate.log_ratio(x, contexts)  # 10,500 rows
    assert whole.shape == (2, 2, 1500, 7)
    for i, j in ((0, 0), (1170, 2), (1499, 6)):
        alone = surrogate.log_ratio(x[i : i + 1], contexts[j : j + 1])[..., 0, 0]
        torch.testing.assert_close(whole[..., i, j], alone, rtol=1e-5, atol=1e-5)


def test_not_applicable(monkeypatch) -> None:
    task = REGISTRY.task("gaussians-near")
    with pytest.raises(NotApplicable, match="one width"):
        DLENflows(DLEConfig(hidden=(8, 16))).check(task)
    monkeypatch.setattr("bench.methods.dle_nflows.find_spec", lambda name: None)
    with pytest.raises(NotApplicable, match=r"nlbench\[nflows\]"):
        DLENflows(DLEConfig()).check(task)
    DLE(DLEConfig()).check(task)
