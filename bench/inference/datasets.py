"""Surrogates on the datasets of a plan: their log-ratios, checked, and their log-likelihoods."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.contracts import (
    BootstrapPlan,
    EventsOfSet,
    HasPairs,
    IndependentPlan,
    Surrogate,
    Task,
)
from bench.errors import PluginError
from bench.inference.auxiliary import Auxiliary
from bench.inference.events import EventLikelihood


def log_ratio_of(task: Task, surrogate: Surrogate, x: Tensor, context: Tensor) -> Tensor:
    """Evaluate a surrogate without gradients, and check the shape of the result.

    Raises:
        PluginError: if the shape differs from the contract.
    """
    with torch.no_grad():
        out = surrogate.log_ratio(x, context)
    expected = (len(task.component_names), len(x), len(context))
    if not isinstance(out, Tensor) or out.dim() != 4 or tuple(out.shape[1:]) != expected:
        came = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise PluginError(
            f"log_ratio returned {came}; the contract is (members, components, events, contexts) "
            f"= (members, {', '.join(map(str, expected))})"
        )
    return out.detach()  # a surrogate may enable gradients


def likelihood_of(
    task: Task,
    surrogate: Surrogate | HasPairs,
    plan: IndependentPlan | BootstrapPlan,
    sets: Sequence[EventsOfSet],
    device: torch.device,
    members: int = 1,
) -> EventLikelihood:
    """Return the log-likelihoods of sets that are one dataset each, padded to the largest.

    Raises:
        PluginError: if no set has an event.
    """
    sizes = torch.tensor([len(events.x) for events in sets])
    most = int(sizes.max())
    if most == 0:
        raise PluginError(f"no dataset of {task.name} has an event; its rate must be larger")
    filler = sets[int(sizes.argmax())].x
    x = torch.stack(
        [
            torch.cat([events.x, filler[: most - size]])
            for events, size in zip(sets, sizes.tolist(), strict=True)
        ]
    )
    auxiliary = None
    if task.has_auxiliary:
        exposure = plan.multiple * (plan.observations or task.observations) / task.observations
        measured = torch.stack([events.measured for events in sets])
        auxiliary = Auxiliary(task, measured, sizes, exposure)
    powers = torch.tensor([events.power for events in sets], dtype=torch.float64)
    return EventLikelihood(
        surrogate, x.to(device), task.space, task.weights, members, sizes, auxiliary, powers
    )
