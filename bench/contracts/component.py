"""A component: a conditional statistical model p(x|η) of one observation."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Component(Protocol):
    r"""A conditional model :math:`p(x|\eta)` of ONE observation, given its context.

    Observations x have shape (\*B, \*event), contexts (\*B, d), and the two broadcast, so that
    work which depends on the context alone runs once per distinct context.
    """

    @property
    def size(self) -> int | None:
        """Observations that a finite source (:class:`FiniteComponent`) holds; else None."""

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        r"""Simulates one observation per context, (\*B, d) to (\*B, \*event), on the CPU."""


@runtime_checkable
class FiniteComponent(Component, Protocol):
    """A component that holds `size` observations, recorded once, and can show each at any context.

    It simulates without replacement as far as they go: of n contexts, each observation meets
    n / size of them, up to rounding, and these stand together in the order of the contexts, so that
    a method which holds out the first rows for validation does not train on them too.
    """

    def block(self, number: int, of: int) -> "FiniteComponent":
        """The number-th of so many disjoint parts; together they hold all observations."""


@runtime_checkable
class HasLogProb(Protocol):
    """A component whose density is known."""

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        r"""Returns :math:`\log p(x|\eta)`, shape \*B; −inf for impossible x, never NaN."""


@runtime_checkable
class HasScore(Protocol):
    """A component whose score is known."""

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        r"""Returns the score :math:`\nabla_\eta \log p(x|\eta)`, shape (\*B, d)."""
