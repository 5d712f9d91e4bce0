"""Example data of tasks: a few observations across the evaluation points, from a fixed seed."""

import numpy as np
import pandas as pd
import torch

from bench.contracts import Component, StoredTask, Task
from bench.errors import BenchError
from bench.report.load import Loaded
from bench.seeds import generator

SHOWN = {"vector": 150, "series": 4, "field": 1}
"""Observations of a component at a context, by kind of observation."""


def settings(task: Task) -> torch.Tensor:
    """Return the contexts in the figure, across the evaluation points, (at most 3, d).

    The first parameter rises and others fall, so that the data differ most.
    """
    values = [torch.unique(column) for column in task.space.context_of(task.points).T]
    last = len(values[0]) - 1

    def at(share: float) -> torch.Tensor:
        shares = [share] + [1 - share] * (len(values) - 1)
        both = zip(values, shares, strict=True)
        return torch.stack([column[round(part * (len(column) - 1))] for column, part in both])

    return torch.stack([at(place / max(last, 1)) for place in sorted({0, last // 2, last})])


def examples(task: Task) -> pd.DataFrame:
    """Draw a few observations of each component at each context of the figure.

    Returns:
        Columns `panel, component, observation, element, value`: element is the place in the
        flattened observation.
    """
    frames = []
    many = SHOWN[task.observation]
    for panel, context in enumerate(settings(task)):
        for name, source in task.components("test").items():
            x = simulated(task, name, source, context, min(many, source.size or many))
            values = x.reshape(len(x), -1).double().numpy()
            index = np.indices(values.shape)
            parts = {"observation": index[0].ravel(), "element": index[1].ravel()}
            found = pd.DataFrame(parts | {"value": values.ravel()})
            frames.append(found.assign(panel=panel, component=name))
    return pd.concat(frames, ignore_index=True)


def simulated(
    task: Task, name: str, source: Component, context: torch.Tensor, n: int
) -> torch.Tensor:
    """Simulate n observations of a component, with the same noise at all contexts."""
    rng = generator("report", "samples", task.name, name)
    return source.simulate(context.float().expand(n, -1), rng)


def tasks_with_examples(loaded: Loaded) -> dict[str, Task | str]:
    """Return the tasks of results by name, or the reason why one has no examples."""
    names = {*loaded.quantities["task"], *loaded.fits["task"]}
    return {name: _task(loaded, name) for name in sorted(names)}


def _task(loaded: Loaded, name: str) -> Task | str:
    try:
        task = loaded.registry.task(name)
    except BenchError as error:
        return str(error)
    if isinstance(task, StoredTask):
        return "its simulations are stored, at parameters of their own"
    if task.data is not None:
        return "its events are a download; `bench study features` draws them"
    if task.observation == "vector" and task.event_shape != (2,):
        return "it has not two features"
    return task
