"""Components: conditional statistical models p(x|η) of one observation."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Component(Protocol):
    r"""Conditional model :math:`p(x|\eta)` of ONE observation, given its context.

    Observations x have shape (\*B, \*event) and contexts (\*B, d). The two broadcast, so that
    work that depends on the context alone runs once per distinct context.
    """

    @property
    def size(self) -> int | None:
        """Number of observations of a finite source (:class:`FiniteComponent`), else None."""

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        r"""Simulate one observation per context, (\*B, d) to (\*B, \*event), on the CPU."""


@runtime_checkable
class FiniteComponent(Component, Protocol):
    """Component with `size` recorded observations, each available at any context.

    It simulates without replacement as long as observations are left. Of n contexts, each
    observation is used at n / size, up to rounding. Copies of an observation are adjacent in the
    order of the contexts. A method that holds out the first rows for validation therefore does not
    train on the same observations.
    """

    def block(self, number: int, of: int) -> "FiniteComponent":
        """Return the number-th of `of` disjoint parts; together they hold all observations."""


@runtime_checkable
class HasLogProb(Protocol):
    """Component with a known density."""

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        r"""Return :math:`\log p(x|\eta)`, shape \*B; −inf for impossible x, never NaN."""


@runtime_checkable
class HasScore(Protocol):
    """Component with a known score."""

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        r"""Return the score :math:`\nabla_\eta \log p(x|\eta)`, shape (\*B, d)."""
