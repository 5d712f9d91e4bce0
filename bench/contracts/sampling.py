"""Samples of surrogates: observations that follow their own density."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from bench.errors import NotApplicable

BLOCK = 1024
"""Contexts that `sample` passes to a surrogate at a time."""


@runtime_checkable
class HasSamples(Protocol):
    """Surrogate that draws observations from its own density; optional."""

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        r"""Draw one observation of every component in each context.

        Random numbers are drawn on the CPU and then moved, so that they do not depend on the
        device. Members draw independently.

        Args:
            context: raw contexts, (n, d), on the surrogate's device.
            generator: CPU generator.

        Returns:
            (members, components, n, \*event) float32, on the context's device; (members, n,
            \*event) of one component's surrogate.

        Raises:
            NotApplicable: if the surrogate cannot sample.
        """


@torch.no_grad()
def sample(surrogate: object, context: Tensor, generator: torch.Generator) -> Tensor:
    r"""Draw one observation of every component in each context from a surrogate's density.

    Contexts are split in blocks of a fixed size, which bounds the memory. More contexts therefore
    leave the samples of earlier blocks as they are.

    Args:
        surrogate: of all components.
        context: raw contexts, (n, d), on the surrogate's device.
        generator: CPU generator; equal generators give equal samples.

    Returns:
        (members, components, n, \*event) float32, on the context's device.

    Raises:
        NotApplicable: if the surrogate cannot sample.
    """
    able = sampler(surrogate)
    return torch.cat([able.sample(some, generator) for some in torch.split(context, BLOCK)], 2)


def sampler(surrogate: object) -> HasSamples:
    """Return a surrogate that has a method `sample`.

    Raises:
        NotApplicable: if it has none.
    """
    if isinstance(surrogate, HasSamples):
        return surrogate
    raise NotApplicable(f"{type(surrogate).__name__} draws no samples: it has no method `sample`")
