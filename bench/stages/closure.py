r"""Closure of a surrogate on single observations: does it give back the simulations?

Observation i is simulated at its own context. Contexts form groups of n. For an observation of a
group, the probability that it was simulated at context j is, if the surrogate is exact,

.. math:: s_j(x) = \hat r(x|\eta_j) / \sum_{k=1}^n \hat r(x|\eta_k).

In bins of s, as many observations must have been simulated at their context as the sum of s says.
Factors of r̂ that do not depend on the context cancel. The mean of r̂ itself over the reference
shows whether it is normalised; it is 1 for an exact ratio (K. Cranmer, J. Pavez, G. Louppe 2015,
arXiv:1506.02169).
"""

from dataclasses import dataclass
from math import isfinite, log, nan, pi, sqrt

import numpy as np
import torch
from torch import Tensor

from bench.contracts import Simulations, Surrogate, Task
from bench.contracts.plan import observations_of
from bench.inference.datasets import log_ratio_of
from bench.seeds import generator
from bench.stages.simulate import SimulationBank
from bench.storage.simulations import SimulationStore

_GROUP = 16  # contexts of a group
_BINS = 10
_BLOCK = 4096  # observations that are evaluated together


@dataclass(frozen=True)
class EventClosure:
    """Closure on observations of the training range; None where it is not defined.

    Args:
        events: number of observations.
        calls: simulator calls that they take; 0 where they are stored.
        deviation: root mean square of the relative difference of simulated and expected numbers
            in ten bins, without the part that fluctuations explain.
        deviation_noise: the part that fluctuations explain.
        normalisation: mean over components and contexts of abs(log E[r̂]), the logarithm of the
            mean ratio over the reference. Without a reference, densities are normalised.
        normalisation_noise: its expectation for exact ratios, from fluctuations.
        failure: reason why it failed.
    """

    events: int
    calls: int = 0
    deviation: float | None = None
    deviation_noise: float | None = None
    normalisation: float | None = None
    normalisation_noise: float | None = None
    failure: str = ""


def event_closure(
    task: Task,
    surrogate: Surrogate,
    events: int,
    seed: int,
    simulations: SimulationStore,
    device: torch.device,
) -> EventClosure:
    """Compare a surrogate of one member with simulations of single observations.

    Args:
        task: the task.
        surrogate: the surrogate.
        events: number of simulations; as many more for a fixed reference.
        seed: seed of the simulations.
        simulations: store of simulations.
        device: device of the surrogate.
    """
    size = observations_of(task, "heldout")
    events = events if size is None else min(events, size)
    if not task.space.context or events < _GROUP * _BINS:
        return EventClosure(events)
    kind, normalisation = surrogate.reference, (nan, nan)
    budget = 2 * events if kind == "fixed" else events
    bank = SimulationBank(task, simulations, budget, [0], "shared", seed)
    drawn = bank.reference(events, "evidence", split="heldout")
    deviation = _deviation(task, surrogate, drawn, device)
    if kind is not None:
        if kind == "fixed":
            drawn = bank.reference(events, kind, split="heldout")
        normalisation = _normalisation(task, surrogate, drawn.x[0], device)
    calls = budget if size is None else 0
    deviates, deviation_noise, mean, mean_noise = (
        value if isfinite(value) else None for value in (*deviation, *normalisation)
    )
    return EventClosure(events, calls, deviates, deviation_noise, mean, mean_noise)


def _deviation(
    task: Task, surrogate: Surrogate, drawn: Simulations, device: torch.device
) -> tuple[float, float]:
    """Return the deviation in bins of s, and the part that fluctuations explain."""
    n = drawn.x.shape[1]
    # Stored observations of one dataset follow each other, with one context.
    order = torch.randperm(n, generator=generator("closure groups", task.name))
    shares = []
    for rows in torch.split(order[: n // _GROUP * _GROUP], _GROUP):
        x, context = drawn.x[0, rows].to(device), drawn.context[0, rows].to(device)
        (found,) = log_ratio_of(task, surrogate, x, context).double().cpu()  # (K, n, n)
        # The reference draws components with equal probabilities.
        shares.append(torch.logsumexp(found, 0).softmax(-1))
    share = torch.stack(shares)  # (groups, observation, context)
    own = share.diagonal(dim1=1, dim2=2).flatten().numpy()
    every = np.sort(share.flatten().numpy())
    # Bins in which the same number of observations is expected.
    expected = np.cumsum(every)
    ends = every[np.searchsorted(expected, expected[-1] * np.arange(1, _BINS) / _BINS)]
    number = np.bincount(np.digitize(own, ends), minlength=_BINS)
    wanted = np.bincount(np.digitize(every, ends), weights=every, minlength=_BINS)
    used = wanted > 0
    squared = float(np.mean((number[used] / wanted[used] - 1) ** 2))
    noise = float(np.mean(1 / wanted[used]))
    return sqrt(max(squared - noise, 0.0)), sqrt(noise)


def _normalisation(
    task: Task, surrogate: Surrogate, x: Tensor, device: torch.device
) -> tuple[float, float]:
    """Return the mean of abs(log E[r̂]) over contexts, and its part from fluctuations."""
    context = task.space.draw_context(_GROUP, generator("closure", task.name)).to(device)
    parts = []
    for block in torch.split(x, _BLOCK):
        (found,) = log_ratio_of(task, surrogate, block.to(device), context).double().cpu()
        parts.append(
            torch.stack([torch.logsumexp(found, 1), torch.logsumexp(2 * found, 1)])  # (2, K, C)
        )
    first, second = torch.logsumexp(torch.stack(parts), 0)
    mean = first - log(len(x))
    variance = (second - log(len(x)) - 2 * mean).exp() - 1  # of r̂ in units of its squared mean
    noise = sqrt(2 / pi) * (variance.clamp_min(0) / len(x)).sqrt()
    return float(mean.abs().mean()), float(noise.mean())
