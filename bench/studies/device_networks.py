"""Networks of the suite's methods, as the study of a device times them."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from bench.nn.encoders import FieldEncoder, SeriesEncoder
from bench.nn.flows import ZukoFlow
from bench.nn.networks import StackedMLP
from bench.nn.ratio import RatioNetwork
from bench.nn.ratio_method import PairLoss
from bench.nn.score_matching import ScoreTerms
from bench.nn.stacks import Stack
from bench.seeds import generator


class Subject(NamedTuple):
    """Network, with its timed functions and the shapes of its inputs.

    Args:
        net: the stack of networks.
        loss: the losses of a batch, one per network.
        value: the evaluation of a batch.
        shapes: shapes of one row of each of a batch's tensors.
    """

    net: Any
    loss: Callable[..., Tensor]
    value: Callable[..., Tensor]
    shapes: list[list[int]]


def _seeds(members: int) -> list[torch.Generator]:
    return [generator("device", m) for m in range(members)]


def _classifier(members: int) -> Subject:
    """Make classifiers as of `lre`: three hidden layers of 120, two features and a context."""
    net = StackedMLP.create((3, 120, 120, 120, 1), "silu", _seeds(members))

    def loss(x: Tensor, label: Tensor) -> Tensor:
        logit = net(x).squeeze(-1)
        target = (label[..., 0] > 0).float()
        return binary_cross_entropy_with_logits(logit, target, reduction="none").mean(1)

    return Subject(net, loss, lambda x, _: net(x), [[3], [1]])


def _flow(members: int) -> Subject:
    """Make spline flows as of `dle`."""
    net = Stack.create(ZukoFlow(2, 1, 4, 8, (64, 64), 32, "relu"), _seeds(members))
    return Subject(net, lambda y, eta: -net(y, eta).mean(1), net, [[2], [1]])


def _encoded(make: Callable[[], Any], scores: ScoreTerms | None, members: int) -> Subject:
    """Make ratio networks as of `nler`, and with scores of `nler-sa`."""
    encoder = make()
    net = RatioNetwork.create(encoder, 0, 2, (84, 84), "silu", _seeds(members))
    size = [math.prod(encoder.event_shape)]
    targets = [] if scores is None else [[2], [2]]

    def value(y: Tensor, eta: Tensor, *_: Tensor) -> Tensor:
        return net.head(torch.cat([net.encoding(y), eta], -1))

    return Subject(net, PairLoss(net, scores), value, [size, [2], *targets, [2]])


_SERIES = partial(SeriesEncoder, (40,), 14)
_FIELD = partial(FieldEncoder, (16, 16), 14)
NETWORKS: dict[str, Callable[[int], Subject]] = {
    "classifier": _classifier,
    "spline-flow": _flow,
    "series": partial(_encoded, _SERIES, None),
    "series-scores": partial(_encoded, _SERIES, ScoreTerms()),
    "field": partial(_encoded, _FIELD, None),
    "field-scores": partial(_encoded, _FIELD, ScoreTerms()),
}
"""By name, what makes a stack of so many networks."""
