"""Networks for large observations: an encoder, a head, one encoding for all contexts."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.errors import NotApplicable
from bench.nn.encoders import (
    Encoder,
    FieldEncoder,
    SeriesEncoder,
    VariogramEncoder,
    VectorEncoder,
    encoder_of,
)
from bench.nn.encoders import _Variogram as Variogram
from bench.nn.ratio import RatioNetwork, flat
from bench.registry.registry import Registry

REGISTRY = Registry()

ENCODERS = [
    None,
    VectorEncoder((3,), 4),
    SeriesEncoder((10,)),
    SeriesEncoder((41,)),
    FieldEncoder((12, 16), 8),
    VariogramEncoder((10,), narrow=SeriesEncoder((10,), 2)),
    VariogramEncoder((9, 12), 8, narrow=FieldEncoder((9, 12), 2)),
]


def shape_of(encoder: Encoder | None) -> tuple[int, ...]:
    return (3,) if encoder is None else encoder.event_shape


def seeds(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_pairs_are_what_each_pair_is_by_itself(encoder: Encoder | None) -> None:
    shape = shape_of(encoder)
    net = RatioNetwork.create(encoder, 3, 2, (16, 16), "silu", seeds(2))
    y = flat(torch.randn(2, 7, *shape), shape)
    eta = 2 * torch.rand(5, 2) - 1
    pairwise = net.pairwise(net.encode(y), eta)
    assert pairwise.shape == (2, 7, 5)
    for j in range(5):
        inputs = torch.cat([y, eta[j].expand(2, 7, 2)], -1)
        torch.testing.assert_close(net(inputs), pairwise[..., j])
        torch.testing.assert_close(net.decide(net.encode(y), eta[j].expand(2, 7, 2)), net(inputs))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_members_are_their_own_and_are_restored(encoder: Encoder | None) -> None:
    both = RatioNetwork.create(encoder, 3, 1, (8,), "relu", seeds(2))
    alone = RatioNetwork.create(encoder, 3, 1, (8,), "relu", seeds(2)[1:])
    inputs = torch.randn(2, 4, torch.Size(shape_of(encoder)).numel() + 1)
    torch.testing.assert_close(both(inputs)[1], alone(inputs[1:])[0])
    restored = RatioNetwork.from_state(encoder, 1, "relu", both.state())
    assert torch.equal(restored(inputs), both(inputs))
    assert restored.count == both.count == sum(p[0].numel() for p in both.parameters())
    assert all(p.requires_grad for p in both.to(torch.device("cpu")).parameters())


def test_a_field_s_encoder_does_not_mind_where_things_are() -> None:
    """Far from the edges a shift by the encoder's stride changes nothing."""
    net = FieldEncoder((40, 40))()
    x = torch.zeros(1, 40, 40)
    x[0, 14:18, 14:18] = torch.randn(4, 4)
    moved = x.roll((4, 8), (1, 2))
    torch.testing.assert_close(net(x.flatten(1)), net(moved.flatten(1)))
    assert net(x.flatten(1)).shape == (1, 32)


def test_the_variogram_of_a_series_and_of_a_field() -> None:
    """Against sums over positions; a constant observation has finite numbers."""
    series, field = torch.randn(3, 13).double(), torch.randn(3, 9, 11).double()

    def log_mean(squares: list[float]) -> float:
        return float(np.log(np.mean(squares) + 1e-3))

    found = Variogram((13,))(series)
    quarters = [range(4), range(4, 7), range(7, 10), range(10, 13)]
    assert found.shape == (3, 4 * 5)
    for row, y in zip(found.tolist(), series.tolist(), strict=True):
        assert row[:4] == pytest.approx([log_mean([y[i] ** 2 for i in q]) for q in quarters])
        # Twelve differences at distance 1, in quarters of three.
        steps = [[(y[i + 1] - y[i]) ** 2 for i in range(j, j + 3)] for j in (0, 3, 6, 9)]
        assert row[4:8] == pytest.approx([log_mean(part) for part in steps])
        # Five at distance 8: two, and one in each of the others.
        far = [(y[i + 8] - y[i]) ** 2 for i in range(5)]
        assert row[16:] == pytest.approx([log_mean(p) for p in (far[:2], *([v] for v in far[2:]))])
    found = Variogram((9, 11))(field.flatten(1))
    assert found.shape == (3, 4 * 4)
    for row, y in zip(found.tolist(), field.tolist(), strict=True):
        corner = [y[i][j] ** 2 for i in range(5) for j in range(6)]
        assert row[0] == pytest.approx(log_mean(corner))
        for lag, values in ((1, row[4:8]), (2, row[8:12]), (4, row[12:])):
            pairs = {(lag, 0): [], (0, lag): [], (lag, lag): [], (lag, -lag): []}
            for (down, right), squares in pairs.items():
                for i, j in product(range(9), range(11)):
                    if i + down < 9 and 0 <= j + right < 11:
                        squares.append((y[i + down][j + right] - y[i][j]) ** 2)
            assert values == pytest.approx([log_mean(squares) for squares in pairs.values()])
    assert Variogram((13,))(torch.zeros(1, 13)).isfinite().all()


def test_a_narrow_network_beside_the_variogram() -> None:
    encoder = VariogramEncoder.of(REGISTRY.task("gp"), 8)
    assert encoder == VariogramEncoder((16, 16), 8, narrow=FieldEncoder((16, 16), 2))
    assert encoder.outputs == 16
    assert VariogramEncoder.of(REGISTRY.task("sis")).narrow == SeriesEncoder((40,), 4)


def test_kinds_and_shapes_that_fit_no_encoder() -> None:
    def task(kind: str, shape: tuple[int, ...]) -> Any:
        return SimpleNamespace(name="odd", observation=kind, event_shape=shape)

    assert encoder_of(task("vector", (2, 2))) == VectorEncoder((2, 2))
    assert encoder_of(task("series", (9,)), 4) == SeriesEncoder((9,), 4)
    for kind, shape in (("series", (3, 3)), ("field", (9,)), ("field", (4, 9)), ("graph", (3,))):
        with pytest.raises(NotApplicable, match=f"odd: an observation of kind '{kind}' and shape"):
            encoder_of(task(kind, shape))
