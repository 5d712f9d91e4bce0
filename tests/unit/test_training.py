"""Training loop on single numbers: schedules, batches, clipping, best epochs, divergence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from seeded import seeds, silent
from torch import Tensor, nn

from bench.errors import NonFiniteError
from bench.nn.training import Training, train


class Vector:
    """Stack with one number per member."""

    def __init__(self, start: Sequence[float]) -> None:
        self.value = torch.tensor([[s] for s in start], dtype=torch.float64, requires_grad=True)


def steps_of(settings: Training, slopes: Sequence[float], rows: int = 64) -> list[list[float]]:
    """Return trajectories of each member's number under constant gradients, one step per epoch."""
    vector = Vector([0.0] * len(slopes))
    slope = torch.tensor(slopes, dtype=torch.float64)
    seen: list[list[float]] = []

    def loss(x: Tensor) -> Tensor:
        return (vector.value[:, 0] * slope) + 0.0 * x.sum(1)

    data = [torch.zeros(len(slopes), rows, dtype=torch.float64)]

    def report(**fields: object) -> None:
        seen.append(vector.value.detach()[:, 0].tolist())

    train([vector.value], loss, data, data, seeds(range(len(slopes))), settings, report)
    return [list(t) for t in zip(*seen, strict=True)]


def test_constant_schedule() -> None:
    """Adam under a constant gradient moves by the learning rate in every step."""
    settings = Training(epochs=5, steps=0, batch_size=64, learning_rate=0.1, schedule="constant")
    (path,) = steps_of(settings, [2.0])
    assert path == pytest.approx([-0.1, -0.2, -0.3, -0.4, -0.5], rel=1e-6)


def test_smaller_batches_learn_more_slowly() -> None:
    """The learning rate scales as the square root of the batch size for small training sets."""
    settings = Training(epochs=2, steps=0, batch_size=256, learning_rate=0.1, schedule="constant")
    (path,) = steps_of(settings, [1.0])  # 64 rows: a quarter of a batch
    assert path == pytest.approx([-0.05, -0.1], rel=1e-6)
    assert settings.rate_of(10**6) == 0.1


def test_one_cycle_schedule() -> None:
    """The rate rises from 1/25 of the peak within 30 % of the steps, and falls to zero."""
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
    training = Training(**settings)
    (curve,) = train([vector.value], loss, data, validation, seeds([0]), training, silent)
    assert curve.steps == steps
    assert len(curve.train_loss) == len(curve.validation_loss) == epochs
    assert len(sizes) == steps + epochs
    batches = {n for n in sizes if n != 7}
    assert batches == {min(settings["batch_size"], max(rows // 128, 64), rows)}


def test_every_epoch_sees_every_row_once() -> None:
    """Whole batches cover every row once, each member in its own order."""
    vector = Vector([0.0, 0.0])
    seen: list[Tensor] = []

    def loss(x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            seen.append(x.clone())
        return vector.value[:, 0] + 0.0 * x.sum(1)

    data = [torch.arange(256, dtype=torch.float64).expand(2, -1).contiguous()]
    settings = Training(epochs=2, steps=0, batch_size=64)
    train([vector.value], loss, data, data, seeds([0, 1]), settings, silent)
    orders = torch.cat(seen, 1).view(2, 2, 256)  # (members, epochs, rows)
    assert (orders.sort(-1).values == torch.arange(256)).all()
    flat = orders.flatten(0, 1)
    assert all(not torch.equal(flat[i], flat[j]) for i in range(4) for j in range(i))


def test_clipping_is_per_member() -> None:
    """A member with a huge gradient does not shrink the steps of another.

    Adam is independent of the size of a constant gradient, so the gradients alternate. A clipped
    member then moves by Adam's step for clipped gradients, computed here with PyTorch's own.
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

        def report(**fields: object) -> None:
            path.append(vector.value.detach()[:, 0].tolist())

        train([vector.value], loss, data, data, seeds(range(len(scales))), settings, report)
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
    """Numbers fall by 0.1 per epoch, with validation optima at different epochs."""
    vector = Vector([0.0, 0.0, 0.0])
    optimum = torch.tensor([-0.2, -0.5, 3.0], dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return vector.value[:, 0] + 0.0 * x.sum(1)
        return (vector.value[:, 0] - optimum).abs()

    data = [torch.zeros(3, 64, dtype=torch.float64)]
    settings = Training(epochs=7, steps=0, batch_size=64, learning_rate=0.1, schedule="constant")
    curves = train([vector.value], loss, data, data, seeds(range(3)), settings, silent)
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
    train([vector.value], loss, data, validation, seeds([0]), settings, silent, refresh=refresh)
    assert seen == [1, 2, 3]


# --- failures ---------------------------------------------------------------------------


def diverging(start: int, members: Sequence[int], broken: Sequence[int], bad: float) -> list:
    """Train numbers of which some members' losses are not finite from an epoch on (from 1)."""
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
    order = seeds(members)
    curves = train([vector.value], loss, data, data, order, settings, report, label="network")
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
    """Its weights would be the initial ones, and its best epoch would not exist."""
    curves, values, _ = diverging(1, [0, 1, 2], [1], math.nan)
    assert values[0] == pytest.approx(-0.6, rel=1e-6)
    assert math.isnan(values[1]) or curves[1].best_epoch == 0
