"""Likelihood-ratio statistics of toys at their generating parameters."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from bench.contracts import EventsOfSet, IndependentPlan, Surrogate, Task
from bench.contracts.plan import evaluator_of
from bench.inference.box import summarise_box
from bench.inference.datasets import likelihood_of, log_ratio_of
from bench.inference.gradient import statistics
from bench.inference.lattice import BOX_DEPTH, refine
from bench.inference.likelihood import MixtureLikelihood

_AT_ONCE = 32  # datasets whose maxima are searched together


class ToyStatistics(NamedTuple):
    """Statistics of N toys, with maxima in the whole parameter space.

    Args:
        unit: generating parameters in unit coordinates, (N, P).
        group: number of the toy's set, (N,) int64; toys of a set have equal parameters.
        profile: statistics of the profiles of I reported parameters, (N, I).
        region: statistics of all parameters, (N,).
    """

    unit: Tensor
    group: Tensor
    profile: Tensor
    region: Tensor


def statistics_of_toys(
    task: Task, surrogate: Surrogate, sets: Sequence[EventsOfSet], device: torch.device
) -> ToyStatistics:
    """Evaluate the statistics of toys, for a surrogate of one member.

    They come from the evaluator of independent plans of the task.

    Raises:
        NonFiniteError: if a log-ratio is NaN or +inf.
        NotApplicable: if the evaluator needs gradients in the context, and there are none.
        PluginError: if log_ratio returns a wrong shape.
    """
    lattice = evaluator_of(task, IndependentPlan()) == "lattice"
    step = 1 if lattice else _AT_ONCE
    evaluate = _on_lattice if lattice else _by_gradient
    found = [
        evaluate(task, surrogate, sets[first : first + step], device)
        for first in range(0, len(sets), step)
    ]
    repeats = torch.tensor([len(events.counts) for events in sets])
    theta = torch.stack([events.theta for events in sets])
    return ToyStatistics(
        task.space.to_unit(theta).repeat_interleave(repeats, 0),
        torch.arange(len(sets)).repeat_interleave(repeats),
        torch.cat([profile for profile, _ in found]),
        torch.cat([region for _, region in found]),
    )


def _on_lattice(
    task: Task, surrogate: Surrogate, sets: Sequence[EventsOfSet], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Evaluate the datasets of one set; a box that is the whole space has deep statistics."""
    (events,) = sets
    likelihood = MixtureLikelihood(
        partial(log_ratio_of, task, surrogate),
        events.x.to(device),
        events.counts.to(device),
        task.space,
        task.weights,
        events.theta,
    )
    space = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, len(task.space))
    lattice = refine(likelihood, task.resolution, box=space)
    assert lattice.inside is not None
    found, _ = summarise_box(lattice.inside, task.space, task.reported_index, events.theta)
    return torch.from_numpy(found.statistic), torch.from_numpy(-2 * found.log_ratio_truth)


def _by_gradient(
    task: Task, surrogate: Surrogate, sets: Sequence[EventsOfSet], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Evaluate sets of one dataset each together."""
    likelihood = likelihood_of(task, surrogate, IndependentPlan(), sets, device)
    truth = task.space.to_unit(torch.stack([events.theta for events in sets]))
    profile, region = statistics(likelihood, task.reported_index, truth)
    most = 2 * BOX_DEPTH  # as deep as a lattice in a box
    return profile[0].clamp(0, most), region[0].clamp(0, most)
