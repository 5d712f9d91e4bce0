"""Sets of events, and the datasets made of them."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class EventsOfSet:
    r"""Set of events and the datasets made of it.

    Args:
        number: number of the set in the plan.
        block: block of observations from which it is drawn; the unit of resampling.
        point: index of the evaluation point, −1 where θ was drawn uniformly.
        theta: generating parameters, (P,) float64.
        x: events, (n, \*event).
        counts: how often each of B datasets holds each event, (B, n) float32.
        measured: auxiliary measurements of the task's C constraints, (C,) float64.
        power: power to which the likelihood is raised. Intervals at the usual threshold are then
            those of the likelihood itself at a threshold of 1 / power.
    """

    number: int
    block: int
    point: int
    theta: Tensor
    x: Tensor
    counts: Tensor
    measured: Tensor
    power: float = 1.0
