"""Networks for large observations: an encoder, a head, one encoding for all contexts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.errors import NotApplicable
from bench.nn.encoders import Encoder, FieldEncoder, SeriesEncoder, VectorEncoder, encoder_of
from bench.nn.ratio import RatioNetwork, flat

ENCODERS = [
    None,
    VectorEncoder((3,), 4),
    SeriesEncoder((10,)),
    SeriesEncoder((41,)),
    FieldEncoder((12, 16), 8),
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


def test_kinds_and_shapes_that_fit_no_encoder() -> None:
    def task(kind: str, shape: tuple[int, ...]) -> Any:
        return SimpleNamespace(name="odd", observation=kind, event_shape=shape)

    assert encoder_of(task("vector", (2, 2))) == VectorEncoder((2, 2))
    assert encoder_of(task("series", (9,)), 4) == SeriesEncoder((9,), 4)
    for kind, shape in (("series", (3, 3)), ("field", (9,)), ("field", (4, 9)), ("graph", (3,))):
        with pytest.raises(NotApplicable, match=f"odd: an observation of kind '{kind}' and shape"):
            encoder_of(task(kind, shape))
