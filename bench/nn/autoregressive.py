r"""Masked autoregressive flows of zuko's on all pairs of observations and contexts.

In a block's masked network the parameters of the feature that comes first, and the hidden units
that lead to them, see the context alone. On the product of n observations and J contexts these are
computed J times, not n · J times, and what is left of the network is smaller: of two features, with
64 hidden units a layer, a fifth of the multiplications.

Blocks: Papamakarios et al. (2017), arXiv:1705.07057; masks: Germain et al. (2015),
arXiv:1502.03509; transformations are zuko's own.
"""

from dataclasses import dataclass

import torch
import zuko
from torch import Tensor
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.nn import MaskedLinear
from zuko.utils import unpack


@dataclass(frozen=True)
class Units:
    """Which units of a layer, or features of a block, see an observation, and which do not."""

    pair: list[int]
    context: list[int]

    @classmethod
    def of(cls, sees: Tensor) -> "Units":
        """Reads a mask (units,)."""
        return cls(sees.nonzero().flatten().tolist(), (~sees).nonzero().flatten().tolist())


class PairedBlock:
    """One block, evaluated on pairs.

    Args:
        block: the block; its parameters may be replaced at every call (`functional_call`).
    """

    def __init__(self, block: MaskedAutoregressiveTransform) -> None:
        self._block = block
        features = len(block.order)
        sees = torch.arange(block.hyper.in_features) < features
        self._layers = [Units.of(sees)]
        for layer in block.hyper:
            if isinstance(layer, MaskedLinear):
                sees = (layer.mask & sees).any(1)
                self._layers.append(Units.of(sees))
        self._features = Units.of(sees.view(features, -1)[:, 0])
        order = [*self._features.pair, *self._features.context]
        self._back = [order.index(i) for i in range(features)]

    def __call__(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Transforms x (n, J, F) in contexts (J, C): (n, J, F), and log |det| (n, J)."""
        of_pairs, of_contexts, layers = x, context, iter(self._layers)
        seen = next(layers)
        for layer in self._block.hyper:
            if isinstance(layer, MaskedLinear):
                weight, before, seen = layer.mask * layer.weight, seen, next(layers)
                rows, still = weight[seen.pair], weight[seen.context]
                constant = of_contexts @ rows[:, before.context].T + layer.bias[seen.pair]
                of_pairs = of_pairs @ rows[:, before.pair].T + constant
                of_contexts = of_contexts @ still[:, before.context].T + layer.bias[seen.context]
            else:
                of_pairs, of_contexts = layer(of_pairs), layer(of_contexts)
        parts, total = [], x.new_zeros(())
        for parameters, of in (
            (of_pairs, self._features.pair),
            (of_contexts, self._features.context),
        ):
            each = torch.unflatten(parameters, -1, (-1, self._block.total))
            transform = self._block.univariate(*unpack(each, self._block.shapes))
            z, log_slope = transform.call_and_ladj(x[..., of])
            parts.append(z)
            total = total + log_slope.sum(-1)
        return torch.cat(parts, -1)[..., self._back], total


def paired(flow: zuko.lazy.Flow) -> list[PairedBlock] | None:
    """The blocks of a flow, or None where one of them is not autoregressive."""
    blocks = list(flow.transform.transforms)
    if not all(isinstance(block, MaskedAutoregressiveTransform) for block in blocks):
        return None
    return [PairedBlock(block) for block in blocks]
