"""Parts of a task that checks share: its components, contexts to look at, random numbers."""

from typing import Any

import torch
from torch import Tensor

from bench.contracts import Task
from bench.seeds import generator
from bench.testing.report import Skipped


def parts(task: Task, *protocols: type) -> list[tuple[str, Any]]:
    """Components with their names; those alone that follow all protocols."""
    found = task.components("test").items()
    return [(name, c) for name, c in found if all(isinstance(c, p) for p in protocols)]


def parts_with(task: Task, what: str, *protocols: type) -> list[tuple[str, Any]]:
    """Components that follow all protocols, with their names.

    Raises:
        Skipped: if there is none; that no component has this.
    """
    if not (found := parts(task, *protocols)):
        raise Skipped(f"no component has {what}")
    return found


def corners(task: Task) -> Tensor:
    """Contexts (3^d, d) float32: the bounds of the training range, and between them."""
    d = len(task.space.context_index)
    sides = [torch.linspace(0, 1, 3, dtype=torch.float64)] * d
    return contexts(task, torch.cartesian_prod(*sides).view(-1, d)).float()


def inside(task: Task, n: int) -> Tensor:
    """Contexts (n, d) float64 drawn from the training range, not too close to its bounds."""
    d = len(task.space.context_index)
    drawn = torch.rand(n, d, generator=rng(task, "inside"), dtype=torch.float64)
    return contexts(task, 0.1 + 0.8 * drawn)


def contexts(task: Task, unit: Tensor) -> Tensor:
    """Contexts (n, d) float64 of unit coordinates of the context's parameters (n, d)."""
    everything = torch.full((len(unit), len(task.space)), 0.5, dtype=torch.float64)
    everything[:, list(task.space.context_index)] = unit
    return task.space.context_of(task.space.from_unit(everything))


def at(task: Task, context: Tensor) -> str:
    """A context (d,) for people."""
    pairs = zip(task.space.context, context.tolist(), strict=True)
    return ", ".join(f"{p.name} = {value:.4g}" for p, value in pairs)


def rng(task: Task, *what: object) -> torch.Generator:
    """A generator of the kit's own."""
    return generator("conformance", task.name, *what)
