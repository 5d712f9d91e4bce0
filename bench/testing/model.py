"""Parts of a task that checks share: components, test contexts and random numbers."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from scipy.stats import qmc
from torch import Tensor

from bench.contracts import Parameter, Task
from bench.seeds import generator
from bench.testing.report import Skipped

_ALL = 3  # largest number of dimensions with all combinations of bounds and middles
_CORNERS = 8  # corners beyond


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


def grid(dimensions: int) -> Tensor:
    """Return unit coordinates (n, dimensions) float64 at the bounds and in the middle.

    Up to three dimensions these are all 3^d combinations. Beyond, they are the middle, both bounds
    of every coordinate with the others in the middle, and some corners: all low, all high, and
    eight from a Sobol sequence.

    Example:
        >>> [len(grid(d)) for d in (0, 1, 2, 3, 7, 20)]
        [1, 3, 9, 27, 25, 51]
    """
    if dimensions > _ALL:
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)[:, None].expand(-1, dimensions)
        sobol = torch.from_numpy(qmc.Sobol(dimensions, seed=0).random(_CORNERS))
        return torch.cat([_axes(dimensions), ends, sobol.round()])
    nodes = list(product((0.0, 0.5, 1.0), repeat=dimensions))
    return torch.tensor(nodes, dtype=torch.float64)


def _axes(dimensions: int) -> Tensor:
    half = 0.5 * torch.eye(dimensions, dtype=torch.float64)
    return 0.5 + torch.cat([torch.zeros(1, dimensions, dtype=torch.float64), -half, half])


def corners(task: Task) -> Tensor:
    """Return contexts (n, d) float32 at the bounds and the middle of the training range.

    They are those of :func:`grid`.
    """
    return contexts(task, grid(len(task.space.context_index))).float()


def sides(task: Task) -> Tensor:
    """Return the contexts of :func:`corners`, beyond three dimensions without the corners.

    In many dimensions, corners have a negligible share of the training range.
    """
    d = len(task.space.context_index)
    return corners(task) if d <= _ALL else contexts(task, _axes(d)).float()


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
    return place(task.space.context, context)


def place(parameters: Sequence[Parameter], values: Tensor) -> str:
    """Format values of parameters, (n,), for messages."""
    pairs = zip(parameters, values.tolist(), strict=True)
    return ", ".join(f"{p.name} = {value:.4g}" for p, value in pairs)


def rng(task: Task, *what: object) -> torch.Generator:
    """Return a generator of the conformance kit."""
    return generator("conformance", task.name, *what)
