"""Stacked networks and the training loop, against references and known answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from bench.methods.lre import Classifier
from torch import Tensor, nn
from torch.nn import functional

from bench.contracts import Features, FitLog, HasLogProb, Parameter, ParameterSpace, Run, Transform
from bench.errors import NonFiniteError
from bench.numerics.networks import StackedMLP
from bench.numerics.normaliser import Normaliser
from bench.numerics.ratio import RatioNetwork
from bench.numerics.seeds import generator
from bench.numerics.training import Training, train
from bench.stages.bank import SimulationBank, features_of
from bench.stages.registry import Registry
from bench.stages.store import Store
from bench.testing import asymmetric

REGISTRY = Registry([asymmetric.__file__])
CPU = torch.device("cpu")
SIZES = (3, 16, 8, 1)


def run() -> Run:
    return Run(CPU, lambda member, what: generator("test", member, what), lambda **_: None)


def seeds(members: Sequence[int], what: str = "weights") -> list[torch.Generator]:
    return [generator("test training", what, m) for m in members]


def stack(members: Sequence[int], activation: str = "silu") -> StackedMLP:
    """A stack in float64, trainable."""
    net = StackedMLP(SIZES, activation, seeds(members))
    net.weights = [w.double() for w in net.weights]
    net.biases = [b.double() for b in net.biases]
    return net.to(CPU)


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("members", [1, 3])
def test_slopes_are_those_of_autograd(activation: str, members: int) -> None:
    """And their gradients in the parameters are those of differentiating backward twice."""
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
    """One member as PyTorch's own layers."""
    activation = nn.ReLU if net.activation == "relu" else nn.SiLU
    layers: list[nn.Module] = []
    for i, (inner, outer) in enumerate(pairwise(net.sizes)):
        linear = nn.Linear(inner, outer, dtype=net.weights[i].dtype)
        with torch.no_grad():
            linear.weight.copy_(net.weights[i][member].T)
            linear.bias.copy_(net.biases[i][member, 0])
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


# --- networks ----------------------------------------------------------------------------------


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
    """Uniform in ±1/√inputs, weights and biases alike, a member from its own generator."""
    net = StackedMLP((50, 80, 1), "relu", seeds(range(4)))
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
    alone = StackedMLP((50, 80, 1), "relu", seeds([2]))
    for a, b in zip(alone.parameters(), net.parameters(), strict=True):
        assert torch.equal(a[0], b[2])
        assert not torch.equal(b[1], b[2])


def test_state_round_trip_and_count() -> None:
    net = stack([0, 1])
    again = StackedMLP.from_state(net.state(), net.activation)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    assert torch.equal(net(x), again(x))
    assert again.sizes == SIZES
    assert net.count == sum(p.numel() for p in reference(net, 0).parameters())


# --- training ----------------------------------------------------------------------------------


def mean_square(net: StackedMLP):
    def loss(x: Tensor, y: Tensor) -> Tensor:
        return (net(x).squeeze(-1) - y).square().mean(1)

    return loss


def regression(members: Sequence[int], n: int = 640) -> tuple[list[Tensor], list[Tensor]]:
    """Training and validation data of each member, from its own generator."""
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
    """In float64 on a short run: nothing couples the members."""
    settings = SHORT.model_copy(update={"schedule": schedule, "clip": clip})

    def trained(members: list[int]) -> tuple[StackedMLP, list]:
        net = stack(members)
        data, validation = regression(members)
        curves = train(
            net, mean_square(net), data, validation, seeds(members, "shuffle"), settings, run()
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
    """Adam with PyTorch's own layers, optimiser and schedule, the same batches."""
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
    curves = train(net, mean_square(net), data, validation, seeds([0], "shuffle"), settings, run())
    assert min(curves[0].validation_loss) == pytest.approx(best, rel=1e-9)
    assert curves[0].steps == 3 * rows // batch
    plain.load_state_dict(kept)
    x = torch.randn(1, 30, 3, dtype=torch.float64)
    torch.testing.assert_close(net(x)[0], plain(x[0]), rtol=1e-8, atol=1e-9)


class Vector:
    """One number per member: the simplest stack."""

    def __init__(self, start: Sequence[float]) -> None:
        self.value = torch.tensor([[s] for s in start], dtype=torch.float64, requires_grad=True)

    def parameters(self) -> list[Tensor]:
        return [self.value]


def steps_of(settings: Training, slopes: Sequence[float], rows: int = 64) -> list[list[float]]:
    """Trajectories of each member's number under constant gradients, by epoch of one step."""
    vector = Vector([0.0] * len(slopes))
    slope = torch.tensor(slopes, dtype=torch.float64)
    seen: list[list[float]] = []

    def loss(x: Tensor) -> Tensor:
        return (vector.value[:, 0] * slope) + 0.0 * x.sum(1)

    data = [torch.zeros(len(slopes), rows, dtype=torch.float64)]

    def report(**fields: object) -> None:
        seen.append(vector.value.detach()[:, 0].tolist())

    place = Run(CPU, lambda m, what: generator(m, what), report)
    train(vector, loss, data, data, seeds(range(len(slopes))), settings, place)
    return [list(t) for t in zip(*seen, strict=True)]


def test_constant_schedule() -> None:
    """Adam under a constant gradient moves by the learning rate in every step."""
    settings = Training(epochs=5, steps=0, batch_size=64, learning_rate=0.1, schedule="constant")
    (path,) = steps_of(settings, [2.0])
    assert path == pytest.approx([-0.1, -0.2, -0.3, -0.4, -0.5], rel=1e-6)


def test_smaller_batches_learn_more_slowly() -> None:
    """As the square root of their size, where a small training set caps them."""
    settings = Training(epochs=2, steps=0, batch_size=256, learning_rate=0.1, schedule="constant")
    (path,) = steps_of(settings, [1.0])  # 64 rows: a quarter of a batch
    assert path == pytest.approx([-0.05, -0.1], rel=1e-6)
    assert settings.rate_of(10**6) == 0.1


def test_one_cycle_schedule() -> None:
    """Up from 1/25 of the peak within 30 % of the steps, and down to nothing."""
    settings = Training(epochs=100, steps=0, batch_size=64, learning_rate=0.1)
    (path,) = steps_of(settings, [1.0])
    rate = -torch.tensor([0.0, *path]).diff()
    assert float(rate[0]) == pytest.approx(0.1 / 25, rel=1e-3)
    assert float(rate.max()) == pytest.approx(0.1, rel=1e-3)
    assert int(rate.argmax()) == pytest.approx(29, abs=1)
    assert float(rate[-1]) < 1e-5
    assert (rate[:29].diff() > 0).all()
    assert (rate[30:].diff() < 0).all()


@pytest.mark.parametrize(
    ("rows", "settings", "steps", "epochs"),
    [
        (1000, {"epochs": 2, "steps": 0, "batch_size": 100}, 30, 2),  # 64 rows a batch
        (1000, {"epochs": 2, "steps": 40, "batch_size": 100}, 45, 3),
        (50, {"epochs": 2, "steps": 0, "batch_size": 100}, 2, 2),  # fewer rows than a batch
        (25_600, {"epochs": 1, "steps": 0, "batch_size": 150}, 170, 1),
        (25_600, {"epochs": 1, "steps": 0, "batch_size": 4096}, 128, 1),  # 1/128 of the rows
    ],
)
def test_steps_and_batches(rows: int, settings: dict[str, int], steps: int, epochs: int) -> None:
    vector = Vector([0.0])
    sizes: list[int] = []

    def loss(x: Tensor) -> Tensor:
        sizes.append(x.shape[1])
        return vector.value[:, 0] + 0.0 * x.sum(1)

    data = [torch.zeros(1, rows, dtype=torch.float64)]
    validation = [torch.zeros(1, 7, dtype=torch.float64)]
    (curve,) = train(vector, loss, data, validation, seeds([0]), Training(**settings), run())
    assert curve.steps == steps
    assert len(curve.train_loss) == len(curve.validation_loss) == epochs
    assert len(sizes) == steps + epochs
    batches = {n for n in sizes if n != 7}
    assert batches == {min(settings["batch_size"], max(rows // 128, 64), rows)}


def test_every_epoch_sees_every_row_once() -> None:
    """As far as whole batches reach, each member in an order of its own."""
    vector = Vector([0.0, 0.0])
    seen: list[Tensor] = []

    def loss(x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            seen.append(x.clone())
        return vector.value[:, 0] + 0.0 * x.sum(1)

    data = [torch.arange(256, dtype=torch.float64).expand(2, -1).contiguous()]
    settings = Training(epochs=2, steps=0, batch_size=64)
    train(vector, loss, data, data, seeds([0, 1]), settings, run())
    orders = torch.cat(seen, 1).view(2, 2, 256)  # (members, epochs, rows)
    assert (orders.sort(-1).values == torch.arange(256)).all()
    flat = orders.flatten(0, 1)
    assert all(not torch.equal(flat[i], flat[j]) for i in range(4) for j in range(i))


def test_clipping_is_per_member() -> None:
    """A member with a huge gradient does not shrink the steps of another.

    Adam forgets the size of a constant gradient, so the gradients alternate: a clipped member
    then moves by Adam's answer to clipped gradients, computed here with PyTorch's own.
    """

    def moved(scales: list[float], clip: float) -> list[float]:
        vector = Vector([0.0] * len(scales))
        scale = torch.tensor(scales, dtype=torch.float64)
        step = iter(range(10_000))

        def loss(x: Tensor) -> Tensor:
            factor = 1.0 if not torch.is_grad_enabled() or next(step) % 3 else -20.0
            return vector.value[:, 0] * scale * factor + 0.0 * x.sum(1)

        data = [torch.zeros(len(scales), 64, dtype=torch.float64)]
        settings = Training(
            epochs=6, steps=0, batch_size=64, learning_rate=0.1, schedule="constant", clip=clip
        )
        path: list[list[float]] = []
        place = Run(
            CPU,
            lambda m, what: generator(m, what),
            lambda **_: path.append(vector.value.detach()[:, 0].tolist()),
        )
        train(vector, loss, data, data, seeds(range(len(scales))), settings, place)
        return path[-1]

    def expected(scale: float, clip: float) -> float:
        value = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.Adam([value], lr=0.1)
        for step in range(6):
            gradient = scale * (1.0 if step % 3 else -20.0)
            value.grad = torch.tensor([gradient], dtype=torch.float64)
            nn.utils.clip_grad_norm_([value], clip)
            optimiser.step()
        return float(value.detach())

    together = moved([1.0, 1e6, 1e-3], 2.0)
    for got, scale in zip(together, [1.0, 1e6, 1e-3], strict=True):
        assert got == pytest.approx(expected(scale, 2.0), rel=1e-5)
        assert got == pytest.approx(moved([scale], 2.0)[0], rel=1e-9)


def test_each_member_is_left_at_its_best_epoch() -> None:
    """Numbers that fall by 0.1 an epoch, with validation optima at different epochs."""
    vector = Vector([0.0, 0.0, 0.0])
    optimum = torch.tensor([-0.2, -0.5, 3.0], dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return vector.value[:, 0] + 0.0 * x.sum(1)
        return (vector.value[:, 0] - optimum).abs()

    data = [torch.zeros(3, 64, dtype=torch.float64)]
    settings = Training(epochs=7, steps=0, batch_size=64, learning_rate=0.1, schedule="constant")
    curves = train(vector, loss, data, data, seeds(range(3)), settings, run())
    assert [c.best_epoch for c in curves] == [2, 5, 1]
    assert vector.value.detach()[:, 0].tolist() == pytest.approx([-0.2, -0.5, -0.1], rel=1e-5)
    assert all(c.seconds_to_best <= c.seconds for c in curves)
    assert curves[1].seconds_to_best > curves[0].seconds_to_best


def test_refresh_is_called_before_every_epoch() -> None:
    vector = Vector([0.0])
    data = [torch.zeros(1, 64, dtype=torch.float64)]
    seen: list[float] = []

    def refresh(tensors: Sequence[Tensor]) -> None:
        tensors[0].add_(1)

    def loss(x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            seen.append(float(x.mean()))
        return vector.value[:, 0] + 0.0 * x.sum(1)

    validation = [torch.zeros(1, 8, dtype=torch.float64)]
    settings = Training(epochs=3, steps=0, batch_size=64)
    train(vector, loss, data, validation, seeds([0]), settings, run(), refresh=refresh)
    assert seen == [1, 2, 3]


# --- what goes wrong ---------------------------------------------------------------------------


def diverging(start: int, members: Sequence[int], broken: Sequence[int], bad: float) -> list:
    """Trains numbers of which some members' losses are not finite from an epoch on (from 1)."""
    vector = Vector([0.0] * len(members))
    epoch = 1
    factor = torch.tensor([bad if m in broken else 1.0 for m in members], dtype=torch.float64)

    def report(**fields: object) -> None:
        nonlocal epoch
        epoch += 1

    def loss(x: Tensor) -> Tensor:
        fine = vector.value[:, 0] + 1 + 0.0 * x.sum(1)
        return fine * factor if epoch >= start else fine

    data = [torch.zeros(len(members), 64, dtype=torch.float64)]
    settings = Training(epochs=6, steps=0, batch_size=64, learning_rate=0.1, schedule="constant")
    place = Run(CPU, lambda m, what: generator(m, what), report)
    curves = train(vector, loss, data, data, seeds(members), settings, place, label="network")
    return [curves, vector.value.detach()[:, 0].tolist(), epoch - 1]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("start", [1, 3])
def test_a_loss_that_is_not_finite_is_an_error_at_once(bad: float, start: int) -> None:
    with pytest.raises(NonFiniteError, match=rf"training loss of network .* epoch {start} of 6"):
        diverging(start, [0, 1], [0, 1], bad)


def test_one_member_that_diverges_leaves_the_others_alone() -> None:
    curves, values, _ = diverging(3, [0, 1, 2], [1], math.nan)
    assert values == pytest.approx([-0.6, -0.2, -0.6], rel=1e-6)  # the last good epoch
    assert [c.best_epoch for c in curves] == [6, 2, 6]


def test_a_member_that_never_trains_is_not_passed_off_as_trained() -> None:
    """Its weights would be the initial ones, and its best epoch one that does not exist."""
    curves, values, _ = diverging(1, [0, 1, 2], [1], math.nan)
    assert values[0] == pytest.approx(-0.6, rel=1e-6)
    assert math.isnan(values[1]) or curves[1].best_epoch == 0


# --- known answers -----------------------------------------------------------------------------


def test_logistic_regression_finds_the_known_log_odds() -> None:
    """Two Gaussians of unit variance at ±½: the log-odds are x plus log of the class ratio."""
    members, n = 3, 40_000
    rows = []
    for rng in seeds(range(members), "data"):
        label = (torch.rand(n, generator=rng) < 0.25).double()
        x = torch.randn(n, 1, generator=rng).double() + (label - 0.5)[:, None]
        rows.append((x, label))
    x, label = (torch.stack(p) for p in zip(*rows, strict=True))
    net = StackedMLP((1, 1), "silu", seeds(range(members)))
    net.weights = [w.double() for w in net.weights]
    net.biases = [b.double() for b in net.biases]
    net.to(CPU)

    def loss(x: Tensor, label: Tensor) -> Tensor:
        logit = net(x).squeeze(-1)
        return functional.binary_cross_entropy_with_logits(logit, label, reduction="none").mean(1)

    held = n // 10
    settings = Training(epochs=4, steps=0, batch_size=512, learning_rate=3e-2)
    train(
        net,
        loss,
        [x[:, held:], label[:, held:]],
        [x[:, :held], label[:, :held]],
        seeds(range(members), "shuffle"),
        settings,
        run(),
    )
    # Errors of logistic regression on 36 000 rows are 0.014; the best of a few epochs adds some.
    assert net.weights[0].flatten().tolist() == pytest.approx([1.0] * members, abs=0.08)
    assert net.biases[0].flatten().tolist() == pytest.approx([math.log(1 / 3)] * members, abs=0.08)


@pytest.mark.parametrize(
    ("share", "normalise"), [(0.2, False), (0.75, False), (0.0, False), (0.2, True), (0.0, True)]
)
def test_ratios_are_corrected_for_the_class_sizes(
    share: float, normalise: bool, tmp_path: Path
) -> None:
    """With N_ref ≠ N_k, log r̂ must not carry log(N_k / N_ref) = log 2, −log 6 or −log 2.

    With a share of 0 the reference is the evidence: the components' own simulations, contexts
    drawn anew.

    On the asymmetric task, whose components would each be off by their own amount: the mean of
    log r̂ − log r over the component, and log E_ref[r̂], are 0 for the exact ratio.
    """
    task = REGISTRY.task("asymmetric")
    method = REGISTRY.method("lre")
    config = method.Config(
        hidden=(32, 32),
        reference="fixed" if share else None,
        reference_share=share,
        normalise=normalise,
        training={"epochs": 2, "steps": 700, "batch_size": 512, "learning_rate": 5e-3},
    )
    store = Store(tmp_path)
    bank = SimulationBank(task, store, 60_000, [0])
    surrogate = method(config).fit(task, bank, features_of(task, store), [0], run())
    assert bank.spent == 60_000

    rng = torch.Generator().manual_seed(9)
    parts = list(task.components("test").values())
    n = 1500
    contexts = torch.tensor([[0.8], [1.0], [1.25]])
    nodes = task.nominal[None] if share else task.space.draw_context(500, rng)
    nominal = nodes[torch.randint(len(nodes), (n,), generator=rng)]
    label = torch.randint(2, (n, 1), generator=rng)
    reference_x = torch.where(
        label == 0, parts[0].simulate(nominal, rng), parts[1].simulate(nominal, rng)
    )

    def log_reference(x: Tensor) -> Tensor:
        both = torch.cat([p.log_prob(x[:, None], nodes[None]) for p in parts], 1)
        return both.logsumexp(1) - math.log(2 * len(nodes))

    for k, part in enumerate(parts):
        assert isinstance(part, HasLogProb)
        gaps, means = [], []
        for j, context in enumerate(contexts):
            x = part.simulate(context.expand(n, -1), rng)
            learned = surrogate.log_ratio(x, contexts)[0, k, :, j].double()
            gaps.append((learned - part.log_prob(x, context) + log_reference(x)).mean())
            over_reference = surrogate.log_ratio(reference_x, contexts)[0, k, :, j].double()
            means.append(over_reference.exp().mean().log())
        # A missing or inverted correction would show as 0.7 or more.
        assert float(torch.stack(gaps).mean()) == pytest.approx(0, abs=0.15)
        assert float(torch.stack(means).mean()) == pytest.approx(0, abs=0.15)
        if normalise:  # up to the noise of the mean over 1500 events, at every context
            assert torch.stack(means).tolist() == pytest.approx([0] * 3, abs=0.1)


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_every_member_is_normalised_over_its_own_reference(share: float, tmp_path: Path) -> None:
    """Mean 1 to rounding, not another's; also when restored."""
    task = REGISTRY.task("asymmetric")
    found = REGISTRY.method("lre")
    method = found(
        found.Config(
            hidden=(8,), reference_share=share, training={"epochs": 1, "steps": 0, "batch_size": 64}
        )
    )
    members = [0, 1]
    store = Store(tmp_path)
    features = features_of(task, store)
    bank = SimulationBank(task, store, 4000, members)
    surrogate = method.fit(task, bank, features, members, run())
    restored = method.restore(task, features, surrogate.state())
    between = torch.tensor([[0.83], [1.02], [1.31]])  # contexts that are no nodes
    reference = method._reference(task, bank)
    for member in members:
        log_ratio = surrogate.log_ratio(reference[member], between)
        assert torch.equal(restored.log_ratio(reference[member], between), log_ratio)
        means = log_ratio.double().exp().mean(2)  # (members, components, contexts)
        assert means[member].flatten().tolist() == pytest.approx([1.0] * 6, abs=1e-4)
        assert float((means[1 - member] - 1).abs().max()) > 1e-3  # not the other's reference


def test_a_classifier_in_two_contexts() -> None:
    """Normalised or by a constant, which needs no number of contexts."""
    space = ParameterSpace(
        [Parameter(name, -1, 1, "interest", (-0.5, 0.5)) for name in "ab"], ["a", "b"]
    )
    features = Features(space, Transform(), torch.zeros(2), torch.ones(2))
    net = RatioNetwork.create(None, 2, 2, (8,), "silu", seeds(range(2)))
    x, context = torch.randn(5, 2), 2 * torch.rand(3, 2) - 1
    for coefficients in (torch.zeros(2, 81), torch.zeros(2, 1)):
        normaliser = Normaliser(coefficients.double(), 2)
        classifier = Classifier(net, features, normaliser, FitLog(), (2,))
        assert classifier.log_ratio(x, context).shape == (2, 5, 3)
