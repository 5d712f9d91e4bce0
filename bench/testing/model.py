"""Parts of a task that checks share: components, test contexts and random numbers."""

from typing import Any

import torch
from torch import Tensor

from bench.contracts import Task
from bench.seeds import generator
from bench.testing.report import Skipped


def parts(task: Task, *protocols: type) -> list[tuple[str, Any]]:
    """Return components with their names; only those that follow all protocols."""
    found = task.components("test").items()
    return [(name, c) for name, c in found if all(isinstance(c, p) for p in protocols)]


def parts_with(task: Task, what: str, *protocols: type) -> list[tuple[str, Any]]:
    """Return components that follow all protocols, with their names.

    Args:
        task: the task.
        what: name of the missing feature in the message.
        protocols: the protocols.

    Raises:
        Skipped: if no component follows them.
    """
    if not (found := parts(task, *protocols)):
        raise Skipped(f"no component has {what}")
    return found


def corners(task: Task) -> Tensor:
    """Return contexts (3^d, d) float32 at the bounds and the middle of the training range."""
    d = len(task.space.context_index)
    sides = [torch.linspace(0, 1, 3, dtype=torch.float64)] * d
    return contexts(task, torch.cartesian_prod(*sides).view(-1, d)).float()


def inside(task: Task, n: int) -> Tensor:
    """Draw contexts (n, d) float64 from the inner 80 % of the training range."""
    d = len(task.space.context_index)
    drawn = torch.rand(n, d, generator=rng(task, "inside"), dtype=torch.float64)
    return contexts(task, 0.1 + 0.8 * drawn)


def contexts(task: Task, unit: Tensor) -> Tensor:
    """Map unit coordinates (n, d) of the context's parameters to contexts (n, d) float64."""
    everything = torch.full((len(unit), len(task.space)), 0.5, dtype=torch.float64)
    everything[:, list(task.space.context_index)] = unit
    return task.space.context_of(task.space.from_unit(everything))


def at(task: Task, context: Tensor) -> str:
    """Format a context (d,) for messages."""
    pairs = zip(task.space.context, context.tolist(), strict=True)
    return ", ".join(f"{p.name} = {value:.4g}" for p, value in pairs)


def rng(task: Task, *what: object) -> torch.Generator:
    """Return a generator of the conformance kit."""
    return generator("conformance", task.name, *what)
