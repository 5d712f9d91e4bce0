"""Conditional flows: densities against the change of variables, and training."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from bench.methods.dle import DLE, DLEConfig
from bench.methods.dle_nflows import DLENflows, NflowsFlow
from bench.tasks.sis import SIS, Outbreak
from seeded import fit_context
from torch import nn

from bench.contracts import HasLogProb
from bench.errors import NotApplicable
from bench.nn import stacks
from bench.nn.coordinates import Coordinates, cell_noise, cosines
from bench.nn.flows import FlowShape, ZukoFlow
from bench.nn.stacks import Stack
from bench.registry.registry import Registry
from bench.seeds import generator
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store
from bench.testing import asymmetric

REGISTRY = Registry([asymmetric.__file__])
CPU = torch.device("cpu")
FLOWS = [ZukoFlow, NflowsFlow]
METHODS = [DLE, DLENflows]


class SmallCounts(SIS):
    """Task with two counts in a population of eight."""

    event_shape = (2,)

    def __init__(self) -> None:
        super().__init__("small-counts")
        self._outbreak = Outbreak(population=8, infected=3, times=2)


def shaken(flow: type[FlowShape], seed: int = 0) -> nn.Module:
    """Return a flow in float64 that is far from the identity in its whole box."""
    torch.manual_seed(seed)
    module = flow(2, 1, 4, 8, (16, 16), 8, "silu")().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.8)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("flow", FLOWS)
def test_density_integrates_to_one(flow: type[FlowShape]) -> None:
    """The integral covers the box [−5, 5]² and the tails, by the midpoint rule."""
    module = shaken(flow)
    n, half = 500, 8.0
    axis = (torch.arange(n, dtype=torch.float64) + 0.5) * (2 * half / n) - half
    y = torch.cartesian_prod(axis, axis)
    for eta in (-0.7, 0.4):
        with torch.no_grad():
            density = module(y, torch.full((len(y), 1), eta, dtype=torch.float64)).exp()
        assert float(density.sum()) * (2 * half / n) ** 2 == pytest.approx(1, abs=5e-3)
        assert float(density.max()) > 0.3  # the standard normal has 0.16


def by_autograd(module: nn.Module, y: torch.Tensor, eta: torch.Tensor) -> torch.Tensor:
    """Return log N(f(y)) + log |det ∂f/∂y|, with the Jacobian of each row by autograd."""

    def to_normal(row: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        inner = module.flow
        if hasattr(module, "embedding"):  # flows of zuko
            return inner(module.embedding(context)).transform(row)
        return inner.transform_to_noise(row, context)

    out = []
    for row, context in zip(y[:, None], eta[:, None], strict=True):
        jacobian = torch.autograd.functional.jacobian(partial(to_normal, context=context), row)
        z = to_normal(row, context).detach()
        constant = 0.5 * z.numel() * math.log(2 * math.pi)
        out.append(jacobian[0, :, 0].det().abs().log() - 0.5 * z.square().sum() - constant)
    return torch.stack(out)


@pytest.mark.parametrize("flow", FLOWS)
def test_density_is_the_change_of_variables(flow: type[FlowShape]) -> None:
    """Densities agree inside and outside the box."""
    y = torch.tensor(
        [[0.1, -0.4], [1.5, 2.5], [-3.0, 0.2], [6.0, 0.5], [-0.3, -7.0], [9.0, 9.0]],
        dtype=torch.float64,
    )
    eta = torch.linspace(-1, 1, len(y), dtype=torch.float64)[:, None]
    module = shaken(flow)
    torch.testing.assert_close(
        module(y, eta).detach(), by_autograd(module, y, eta), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("flow", FLOWS)
def test_affine_blocks_are_the_change_of_variables(flow: type[FlowShape]) -> None:
    torch.manual_seed(3)
    module = flow(5, 2, 3, None, (16, 16), 8, "silu")().double()
    y, eta = 3 * torch.randn(4, 5, dtype=torch.float64), torch.rand(4, 2, dtype=torch.float64)
    torch.testing.assert_close(
        module(y, eta).detach(), by_autograd(module, y, eta), rtol=1e-9, atol=0
    )


SHAPES = [(2, 1, 4, 8), (3, 2, 3, 5), (5, 2, 3, None), (1, 1, 2, 4)]
"""Numbers of features, contexts, blocks and bins."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("flow", FLOWS)
def test_pairs_are_their_rows(flow: type[FlowShape], shape: tuple[int, int, int, int]) -> None:
    """Parts computed once per context agree with those of every pair."""
    vectorise = flow is ZukoFlow
    architecture = flow(*shape, (16, 24) if vectorise else (16, 16), 8, "silu")
    seeds = [generator("flows", m) for m in range(3)]
    stack = Stack.create(architecture, seeds, vectorise=vectorise).to(CPU, torch.float64)
    features, contexts, *_ = shape
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.mul_(1.8)
        y = 3 * torch.randn(3, 20, 1, features, dtype=torch.float64)
        eta = 2 * torch.rand(3, 1, 7, contexts, dtype=torch.float64) - 1
        pairs = stack(y, eta)
        rows = stack(*(t.expand(-1, 20, 7, -1).flatten(1, 2) for t in (y, eta)))
    torch.testing.assert_close(pairs, rows.view(3, 20, 7), rtol=1e-9, atol=1e-9)


def test_the_first_feature_of_nflows_ignores_the_context() -> None:
    """The order of a block matters, as the method's docstring and the evidence page say."""
    from nflows.transforms.made import MADE

    module = shaken(NflowsFlow)
    block = next(part for part in module.flow.modules() if isinstance(part, MADE))
    y = torch.randn(6, 2, dtype=torch.float64)
    out = block(y, torch.randn(6, 8, dtype=torch.float64)).detach().view(6, 2, -1)
    assert float(out[:, 0].std(0).max()) == 0
    assert float(out[:, 1].std(0).max()) > 1e-4


def test_splines_of_nflows_without_masks_are_nflows_own() -> None:
    """Outputs, log-determinants, gradients and inverse agree inside and outside the box."""
    from bench.methods.nflows_splines import SplineBlock
    from nflows.transforms import MaskedPiecewiseRationalQuadraticAutoregressiveTransform

    outcomes = []
    for block in (SplineBlock, MaskedPiecewiseRationalQuadraticAutoregressiveTransform):
        torch.manual_seed(5)
        module = block(
            2, 16, 3, num_bins=6, tails="linear", tail_bound=5.0, use_residual_blocks=False
        )
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(3)
        y = (4 * torch.randn(300, 2)).requires_grad_()
        assert 30 < int((y.abs() > 5).any(1).sum()) < 270
        context = torch.randn(300, 3)
        z, log_determinant = module(y, context)
        (z.sin().sum() + log_determinant.sum()).backward()
        gradients = [y.grad, *(p.grad for p in module.parameters())]
        outcomes.append([z, log_determinant, *module.inverse(y, context), *gradients])
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_cosines_of_a_stationary_field_are_nearly_uncorrelated() -> None:
    """Cosines are a rotation, low frequencies first; log-densities include the units' Jacobian."""
    rotation = cosines(8, 8)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(64), atol=1e-5, rtol=0)
    assert torch.allclose(rotation[0], torch.full((64,), 0.125))
    task = REGISTRY.task("gp")
    x = task.components("test")["field"].simulate(
        task.nominal.expand(2000, 2), generator("flows", "fields")
    )[None]
    z = Coordinates.estimate("field", (16, 16), x)
    correlation = torch.corrcoef(z(x)[0].T) - torch.eye(256)
    assert float(correlation.square().mean()) < 2 / 2000  # sampling alone gives 1/2000
    assert float(torch.corrcoef(x[0].flatten(1).T).square().mean()) > 0.02
    expected = torch.linalg.slogdet(cosines(16, 16) / z.scale[0][:, None])[1]
    assert float(z.log_jacobian(CPU)) == pytest.approx(float(expected), rel=1e-5)
    plain = Coordinates.estimate("series", (4,), x[:, :, 0, :4])
    assert plain.log_jacobian(CPU) == 0
    assert torch.equal(plain(x[:, :, 0, :4]), x[:, :, 0, :4])


@pytest.mark.slow
def test_counts_are_averaged_over_their_cells(tmp_path: Path) -> None:
    """Probabilities of all counts sum to one, because the density integrates to one."""
    task = SmallCounts()
    config = DLEConfig.model_validate({"draws": 64, "affine": {"training": {"epochs": 6}}})
    features = features_of(task, Store(tmp_path))
    bank = SimulationBank(task, Store(tmp_path), 4000, [0], "fresh", 0)
    surrogate = DLE(config).fit(fit_context(task, bank, features, what="flows"))
    whole = torch.arange(-3.0, 9.0)
    x = torch.cartesian_prod(whole, whole)
    context = task.nominal[None]
    log_probability = surrogate.log_ratio(x, context)[0, 0, :, 0]
    assert float(log_probability.exp().sum()) == pytest.approx(1, abs=0.02)
    exact = next(iter(task.components("test").values())).log_prob(x, context)
    kept = exact > -4
    assert float((log_probability - exact)[kept].abs().median()) < 0.3
    noise = cell_noise(64, (2,))
    assert float((noise.mean(0) - 0.5).abs().max()) < 0.02
    assert torch.equal(noise, cell_noise(64, (2,)))


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


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_learns_the_density_of_raw_events(method: type[DLE], tmp_path: Path) -> None:
    """DLE learns the asymmetric task, with its Jacobian, and is restored bit by bit."""
    task = REGISTRY.task("asymmetric")
    store = Store(tmp_path)
    features = features_of(task, store)
    config = DLEConfig.model_validate(
        {
            "transforms": 2,
            "hidden": (24, 24),
            "training": {"epochs": 3, "batch_size": 256, "steps": 0},
        }
    )
    bank = SimulationBank(task, store, 20_000, [0, 1], "fresh", 0)
    surrogate = method(config).fit(fit_context(task, bank, features, what="flows"))
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
        assert (divergence.abs() < 0.1).all(), (name, divergence)
    state = surrogate.state()
    assert state is not None
    again = method(config).restore(task, features, state)
    contexts = task.space.draw_context(7, generator("contexts"))
    assert torch.equal(again.log_ratio(x[:50], contexts), surrogate.log_ratio(x[:50], contexts))


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("compiling", [False, True])
@pytest.mark.parametrize(("n", "nodes"), [(1100, 7), (20, 900)], ids=["pairs", "rows"])
def test_log_ratio_in_blocks(
    n: int,
    nodes: int,
    members: int,
    compiling: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No event or context is lost, repeated or moved; compiled batches have one shape."""
    task = REGISTRY.task("gaussians-near")
    features = features_of(task, Store(tmp_path))
    method = DLE(DLEConfig(transforms=1, hidden=(8,), embedding=4))
    flow = Stack.create(method.flow_shape(task), [generator("flows", m) for m in range(members)])
    state = {f"{name}/{k}": v for name in task.component_names for k, v in flow.state().items()}
    shapes = set()

    def not_compiled(*kind: Any) -> Callable[..., torch.Tensor]:
        def evaluate(parameters: dict[str, torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
            shapes.add(tuple(t.shape for t in inputs))
            return stacks.evaluate_with(stacks.template_of(*kind), parameters, *inputs)

        return evaluate

    x = torch.randn(n, 2)
    contexts = task.space.draw_context(nodes, generator("contexts"))
    surrogate = method.restore(task, features, state)
    alone = {
        (i, j): surrogate.log_ratio(x[i : i + 1], contexts[j : j + 1])[..., 0, 0]
        for i, j in product((0, min(511, n - 1), min(512, n - 1), n - 1), (0, 5, 6, nodes - 1))
    }
    if compiling:
        monkeypatch.setattr("bench.methods.dle._COMPILE_EVALUATION", 0)
        monkeypatch.setattr(stacks, "_compiled", not_compiled)
    with torch.no_grad():  # what needs gradients is not compiled
        whole = surrogate.log_ratio(x, contexts)
    assert whole.shape == (members, 2, n, nodes)
    for (i, j), own in alone.items():
        torch.testing.assert_close(whole[..., i, j], own, rtol=1e-5, atol=1e-5)
    assert len(shapes) == (compiling and members == 1)


def test_not_applicable(monkeypatch) -> None:
    task = REGISTRY.task("gaussians-near")
    with pytest.raises(NotApplicable, match="one width"):
        DLENflows(DLEConfig(hidden=(8, 16))).check(task)
    monkeypatch.setattr("bench.contracts.method.find_spec", lambda name: None)
    with pytest.raises(NotApplicable, match=r"nlbench\[nflows\]"):
        DLENflows(DLEConfig()).check(task)
    DLE(DLEConfig()).check(task)
