"""Stacked networks and their training, against PyTorch's own and a known answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from seeded import CPU, seeds, silent
from torch import Tensor, nn
from torch.nn import functional

from bench.nn.networks import StackedMLP
from bench.nn.training import Training, train

SIZES = (3, 16, 8, 1)


def stack(members: Sequence[int], activation: str = "silu") -> StackedMLP:
    """Return a trainable stack in float64."""
    return StackedMLP.create(SIZES, activation, seeds(members)).to(CPU, torch.float64)


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("members", [1, 3])
def test_slopes_are_those_of_autograd(activation: str, members: int) -> None:
    """Gradients of slopes in the parameters agree with differentiating backward twice."""
    net = stack(range(members), activation)
    x = torch.randn(members, 5, 3, dtype=torch.float64, requires_grad=True)
    value, slopes = net.with_slopes(x, 2)
    assert slopes.shape == (members, 2, 5, 1)
    torch.testing.assert_close(value, net(x))
    (expected,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    torch.testing.assert_close(slopes[..., 0].mT, expected[..., -2:])
    own = torch.autograd.grad(slopes.square().sum(), net.weights)
    twice = torch.autograd.grad(expected[..., -2:].square().sum(), net.weights)
    for a, b in zip(own, twice, strict=True):
        torch.testing.assert_close(a, b)


def reference(net: StackedMLP, member: int) -> nn.Sequential:
    """Return one member in PyTorch's own layers."""
    activation = nn.ReLU if net.activation == "relu" else nn.SiLU
    layers: list[nn.Module] = []
    for i, (inner, outer) in enumerate(pairwise(SIZES)):
        linear = nn.Linear(inner, outer, dtype=net.weights[i].dtype)
        with torch.no_grad():
            linear.weight.copy_(net.weights[i][member].T)
            linear.bias.copy_(net.biases[i][member, 0])
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("members", [[0], [0, 1, 2]])
def test_stack_equals_plain_networks(activation: str, members: list[int]) -> None:
    net = stack(members, activation)
    x = torch.randn(len(members), 20, 3, dtype=torch.float64)
    before = x.clone()
    out = net(x)
    assert out.shape == (len(members), 20, 1)
    assert torch.equal(x, before)
    gradients = torch.autograd.grad(out.square().sum(), net.parameters())
    layers = len(SIZES) - 1
    for m in range(len(members)):
        plain = reference(net, m)
        torch.testing.assert_close(plain(x[m]), out[m], rtol=1e-12, atol=1e-12)
        plain(x[m]).square().sum().backward()
        linears = [layer for layer in plain if isinstance(layer, nn.Linear)]
        for i, linear in enumerate(linears):
            torch.testing.assert_close(linear.weight.grad.T, gradients[i][m])
            torch.testing.assert_close(linear.bias.grad, gradients[layers + i][m, 0])


def test_initialisation_is_that_of_pytorch() -> None:
    """Weights and biases are uniform in ±1/√inputs, each member from its own generator."""
    net = StackedMLP.create((50, 80, 1), "relu", seeds(range(4)))
    for weight, bias, inner in zip(net.weights, net.biases, (50, 80), strict=True):
        bound = 1 / math.sqrt(inner)
        both = torch.cat([weight.flatten(), bias.flatten()])
        assert float(both.abs().max()) <= bound
        error = bound / math.sqrt(3 * both.numel())
        assert abs(float(both.mean())) < 4 * error
        assert float(both.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
    plain = nn.Linear(50, 80)
    assert float(plain.weight.detach().std()) == pytest.approx(
        float(net.weights[0].std()), rel=0.05
    )
    alone = StackedMLP.create((50, 80, 1), "relu", seeds([2]))
    for a, b in zip(alone.parameters(), net.parameters(), strict=True):
        assert torch.equal(a[0], b[2])
        assert not torch.equal(b[1], b[2])


def test_state_round_trip_and_count() -> None:
    net = stack([0, 1])
    again = StackedMLP(net.state(), net.activation)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    assert torch.equal(net(x), again(x))
    assert net.count == sum(p.numel() for p in reference(net, 0).parameters())


# --- training ----------------------------------------------------------------------------------


def mean_square(net: StackedMLP):
    def loss(x: Tensor, y: Tensor) -> Tensor:
        return (net(x).squeeze(-1) - y).square().mean(1)

    return loss


def regression(members: Sequence[int], n: int = 640) -> tuple[list[Tensor], list[Tensor]]:
    """Return training and validation data of each member, from its own generator."""
    parts = []
    for rng in seeds(members, "data"):
        x = torch.randn(n, 3, generator=rng, dtype=torch.float64)
        y = x[:, 0] * x[:, 1].sin() + 0.1 * torch.randn(n, generator=rng, dtype=torch.float64)
        parts.append((x, y))
    x, y = (torch.stack(p) for p in zip(*parts, strict=True))
    held = n // 5
    return [x[:, held:], y[:, held:]], [x[:, :held], y[:, :held]]


SHORT = Training(epochs=3, steps=0, batch_size=64, learning_rate=1e-2)


@pytest.mark.parametrize("schedule", ["constant", "one-cycle"])
@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_a_member_alone_equals_the_member_in_a_stack(schedule: str, clip: float) -> None:
    """In float64 on a short run, members do not influence each other."""
    settings = SHORT.model_copy(update={"schedule": schedule, "clip": clip})

    def trained(members: list[int]) -> tuple[StackedMLP, list]:
        net = stack(members)
        data, validation = regression(members)
        curves = train(
            net.parameters(),
            mean_square(net),
            data,
            validation,
            seeds(members, "shuffle"),
            settings,
            silent,
        )
        return net, curves

    net, curves = trained([4, 5, 6])
    for i, member in enumerate([4, 5, 6]):
        alone, own = trained([member])
        for a, b in zip(alone.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(a[0], b[i], rtol=1e-9, atol=1e-10)
        assert own[0].validation_loss == pytest.approx(curves[i].validation_loss, rel=1e-9)
        assert own[0].train_loss == pytest.approx(curves[i].train_loss, rel=1e-6)
        assert own[0].best_epoch == curves[i].best_epoch


@pytest.mark.parametrize("schedule", ["constant", "one-cycle"])
def test_training_equals_a_plain_loop(schedule: str) -> None:
    """The loop uses Adam, PyTorch's own layers and schedule, and the same batches."""
    settings = SHORT.model_copy(update={"schedule": schedule})
    net = stack([0])
    plain = reference(net, 0)
    data, validation = regression([0])
    rows, batch = 512, 64
    optimiser = torch.optim.Adam(plain.parameters(), lr=1e-2)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 1e-2, total_steps=3 * rows // batch, cycle_momentum=False
    ) if schedule == "one-cycle" else None  # fmt: skip
    (rng,) = seeds([0], "shuffle")
    best, kept = math.inf, {}
    for _ in range(3):
        order = torch.randperm(rows, generator=rng)
        for step in range(rows // batch):
            index = order[step * batch : (step + 1) * batch]
            loss = (plain(data[0][0, index]).squeeze(-1) - data[1][0, index]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if cycle is not None:
                cycle.step()
        with torch.no_grad():
            held_out = float(
                (plain(validation[0][0]).squeeze(-1) - validation[1][0]).square().mean()
            )
        if held_out < best:
            best, kept = held_out, {k: v.clone() for k, v in plain.state_dict().items()}
    order = seeds([0], "shuffle")
    curves = train(net.parameters(), mean_square(net), data, validation, order, settings, silent)
    assert min(curves[0].validation_loss) == pytest.approx(best, rel=1e-9)
    assert curves[0].steps == 3 * rows // batch
    plain.load_state_dict(kept)
    x = torch.randn(1, 30, 3, dtype=torch.float64)
    torch.testing.assert_close(net(x)[0], plain(x[0]), rtol=1e-8, atol=1e-9)


def test_logistic_regression_finds_the_known_log_odds() -> None:
    """For two Gaussians of unit variance at ±½ the log-odds are x plus log of the class ratio."""
    members, n = 3, 40_000
    rows = []
    for rng in seeds(range(members), "data"):
        label = (torch.rand(n, generator=rng) < 0.25).double()
        x = torch.randn(n, 1, generator=rng).double() + (label - 0.5)[:, None]
        rows.append((x, label))
    x, label = (torch.stack(p) for p in zip(*rows, strict=True))
    net = StackedMLP.create((1, 1), "silu", seeds(range(members))).to(CPU, torch.float64)

    def loss(x: Tensor, label: Tensor) -> Tensor:
        logit = net(x).squeeze(-1)
        return functional.binary_cross_entropy_with_logits(logit, label, reduction="none").mean(1)

    held = n // 10
    settings = Training(epochs=4, steps=0, batch_size=512, learning_rate=3e-2)
    train(
        net.parameters(),
        loss,
        [x[:, held:], label[:, held:]],
        [x[:, :held], label[:, :held]],
        seeds(range(members), "shuffle"),
        settings,
        silent,
    )
    # Errors of logistic regression on 36 000 rows are 0.014; a choice of the best epoch adds some.
    assert net.weights[0].flatten().tolist() == pytest.approx([1.0] * members, abs=0.08)
    assert net.biases[0].flatten().tolist() == pytest.approx([math.log(1 / 3)] * members, abs=0.08)
