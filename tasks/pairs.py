"""Evaluation of functions on pairs of observations and contexts that broadcast."""

from collections.abc import Callable
from itertools import chain

import numpy as np
import torch
from torch import Tensor

OfPairs = Callable[[Tensor, Tensor], Tensor]

_ELEMENTS = 1 << 21  # elements of the largest tensors, float64: 16 MiB


def over_pairs(
    function: OfPairs,
    x: Tensor,
    context: Tensor,
    event_dims: int,
    *,
    per_context: int,
    per_pair: int,
) -> Tensor:
    r"""Apply a function to all pairs of observations and contexts, a few contexts at a time.

    Args:
        function: maps observations (C or 1, N, \*event) and contexts (C, d) to (C, N, …); every
            context has its own N observations, or all have the same N.
        x: observations, (\*B, \*event).
        context: contexts, (\*B, d); the two broadcast.
        event_dims: number of dimensions of an observation.
        per_context: elements that the function's largest tensor holds per context.
        per_pair: elements that it holds per pair.

    Returns:
        (\*B, …)
    """
    event = x.shape[x.dim() - event_dims :]
    batch_x, batch_c = x.shape[: x.dim() - event_dims], context.shape[:-1]
    shape = np.broadcast_shapes(batch_x, batch_c)
    dims = len(shape)
    padded_x, padded_c = ((1,) * (dims - len(b)) + tuple(b) for b in (batch_x, batch_c))
    if all(a == 1 or b == 1 for a, b in zip(padded_x, padded_c, strict=True)):
        observations = x.reshape(1, -1, *event)
        contexts = context.reshape(-1, context.shape[-1])
        chunk = max(1, _ELEMENTS // (per_context + per_pair * observations.shape[1]))
        parts = [function(observations, part) for part in torch.split(contexts, chunk)]
        out = torch.cat(parts).transpose(0, 1)  # (N, C, …)
        rest = out.shape[2:]
        out = out.reshape((*padded_x, *padded_c, *rest))
        order = chain.from_iterable((i, dims + i) for i in range(dims))
        return out.permute((*order, *range(2 * dims, out.dim()))).reshape((*shape, *rest))
    observations = x.expand(*shape, *event).reshape(-1, 1, *event)
    contexts = context.expand(*shape, context.shape[-1]).reshape(-1, context.shape[-1])
    chunk = max(1, _ELEMENTS // (per_context + per_pair))
    both = zip(torch.split(observations, chunk), torch.split(contexts, chunk), strict=True)
    parts = [function(some, part) for some, part in both]
    out = torch.cat(parts)[:, 0]
    return out.reshape((*shape, *out.shape[1:]))
