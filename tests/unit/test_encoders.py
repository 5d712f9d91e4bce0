"""Networks of large observations: an encoder, a head, one encoding for all contexts."""

from __future__ import annotations

import pytest
import torch

from bench.numerics.encoders import WIDTH, FieldEncoder, SeriesEncoder, encoder_of
from bench.numerics.ratio import RatioNetwork, flat

KINDS = [("vector", (3,)), ("series", (10,)), ("series", (41,)), ("field", (12, 16))]


def seeds(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_pairs_are_what_each_pair_is_by_itself(kind: str, shape: tuple[int, ...]) -> None:
    net = RatioNetwork.create(kind, shape, 2, (16, 16), "silu", seeds(2))
    y = flat(torch.randn(2, 7, *shape), shape)
    eta = 2 * torch.rand(5, 2) - 1
    pairs = net.pairs(net.encode(y), eta)
    assert pairs.shape == (2, 7, 5)
    for j in range(5):
        inputs = torch.cat([y, eta[j].expand(2, 7, 2)], -1)
        torch.testing.assert_close(net(inputs), pairs[..., j])
        torch.testing.assert_close(net.decide(net.encode(y), eta[j].expand(2, 7, 2)), net(inputs))


@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_members_are_their_own_and_are_restored(kind: str, shape: tuple[int, ...]) -> None:
    both = RatioNetwork.create(kind, shape, 1, (8,), "relu", seeds(2))
    alone = RatioNetwork.create(kind, shape, 1, (8,), "relu", seeds(2)[1:])
    inputs = torch.randn(2, 4, torch.Size(shape).numel() + 1)
    torch.testing.assert_close(both(inputs)[1], alone(inputs[1:])[0])
    restored = RatioNetwork.from_state(kind, shape, 1, "relu", both.state())
    assert torch.equal(restored(inputs), both(inputs))
    assert restored.count == both.count == sum(p[0].numel() for p in both.parameters())
    assert all(p.requires_grad for p in both.to(torch.device("cpu")).parameters())


def test_a_field_s_encoder_does_not_mind_where_things_are() -> None:
    """Far from the edges a shift by the encoder's stride changes nothing."""
    net = FieldEncoder(40, 40)()
    x = torch.zeros(1, 40, 40)
    x[0, 14:18, 14:18] = torch.randn(4, 4)
    moved = x.roll((4, 8), (1, 2))
    torch.testing.assert_close(net(x.flatten(1)), net(moved.flatten(1)))
    assert net(x.flatten(1)).shape == (1, WIDTH)


def test_kinds_and_shapes_that_fit_no_encoder() -> None:
    assert encoder_of("vector", (2, 2)) is None
    assert encoder_of("series", (9,)) == SeriesEncoder(9)
    for kind, shape in (("series", (3, 3)), ("field", (9,)), ("field", (4, 9)), ("graph", (3,))):
        with pytest.raises(ValueError, match=f"an observation of kind '{kind}' and shape"):
            encoder_of(kind, shape)
