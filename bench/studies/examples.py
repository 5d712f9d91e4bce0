"""Simulated observations of tasks, drawn at their evaluation points."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bench.contracts import Log, Task
from bench.errors import UsageError, printable
from bench.registry.registry import Registry
from bench.seeds import generator
from bench.stages.datasets import events
from bench.studies.drawing import drawn, logarithmic

NAME = "examples"
_MOST = 3  # evaluation points
_VALUES = 4  # parameters of a title; of more, only the reported ones
_PANEL = (3.0, 2.7)  # inches
_SHARE = 0.995  # of a field's values inside the colour scale


def choose(registry: Registry, patterns: Sequence[str] = ()) -> tuple[list[Task], dict[str, str]]:
    """Return the tasks whose names match and that can run, and why others are skipped.

    Args:
        registry: where the tasks are from.
        patterns: patterns of names, in the order of the rows; all tasks where empty.

    Raises:
        UsageError: if a pattern matches nothing, or no task is left.
    """
    names = (n for pattern in patterns or ("*",) for n in registry.select("tasks", [pattern]))
    tasks, skipped = registry.runnable(dict.fromkeys(names))
    if not tasks:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise UsageError(f"no task to draw: {reasons}")
    return tasks, skipped


def shown_points(task: Task) -> list[Tensor]:
    """Return the first, the middle and the last evaluation point, (P,) each; fewer of fewer."""
    last = len(task.points) - 1
    return [task.points[i].double() for i in sorted({0, last // 2, last})][:_MOST]


def observed(task: Task, theta: Tensor, seed: int) -> Tensor:
    r"""Simulate the observations of one panel.

    Args:
        task: the task.
        theta: generating parameters, (P,).
        seed: seed of the random numbers, which are the same at every point.

    Returns:
        A dataset of M vectors, (M, \*event), or one series or field, (1, \*event); float32.
    """
    n = task.observations if task.observation == "vector" else 1
    rng = generator(NAME, task.name, seed)
    return events(task, theta, n, rng, stratified=False)


def figure(tasks: Sequence[Task], seed: int) -> dict[str, bytes]:
    """Draw a row for each task and a column for each evaluation point.

    Args:
        tasks: the tasks.
        seed: seed of the observations.

    Returns:
        The files' contents by format; nothing without matplotlib.
    """

    def draw(figure: Any) -> None:
        panels = figure.subplots(len(tasks), _MOST, squeeze=False)
        for row, task in zip(panels, tasks, strict=True):
            points = shown_points(task)
            for axes in row[len(points) :]:
                axes.remove()
            _row(figure, row[: len(points)], task, points, seed)

    return drawn(draw, (_PANEL[0] * _MOST, _PANEL[1] * len(tasks)))


def _row(figure: Any, row: Sequence[Any], task: Task, points: Sequence[Tensor], seed: int) -> None:
    found = [observed(task, theta, seed).double().numpy() for theta in points]
    kind = task.observation
    if kind == "field":
        high = float(np.quantile(np.abs(found), _SHARE))
        look = {"cmap": "RdBu_r", "origin": "lower", "vmin": -high, "vmax": high}
        images = [axes.imshow(x[0], **look) for axes, x in zip(row, found, strict=True)]
        figure.colorbar(images[-1], ax=list(row), extend="both", shrink=0.9)
    for axes, theta, x in zip(row, points, found, strict=True):
        if kind == "series":
            axes.step(range(1, x[0].size + 1), x[0].flatten(), where="mid", color="C0")
            axes.set_xlabel("element")
        elif kind == "field":
            axes.set(xticks=[], yticks=[])
        else:
            _vectors(axes, task, x)
        every = list(zip(task.space.parameters, theta.tolist(), strict=True))
        values = every if len(every) <= _VALUES else [every[i] for i in task.reported_index]
        title = ", ".join(f"{p.symbol or p.name} = {v:.3g}" for p, v in values)
        axes.set_title(printable(title), fontsize="medium")
    if kind != "field":
        _same_limits(row)
    label = row[0].get_ylabel()
    for axes in row:
        axes.set_ylabel("")
    row[0].set_ylabel(printable(f"{task.name}\n{label}".strip(), lines=True))


def _vectors(axes: Any, task: Task, x: NDArray[np.float64]) -> None:
    """Draw the first two coordinates of a dataset, a histogram where there is one."""
    flat = x.reshape(len(x), -1)
    names = [printable(n) for n in task.feature_names] or ["first coordinate", "second coordinate"]
    axes.set_xlabel(names[0])
    if flat.shape[1] == 1:
        axes.hist(flat[:, 0], bins=40, color="C0")
        axes.set_ylabel("observations")
        return
    axes.scatter(*flat[:, :2].T, s=3, color="C0", alpha=0.5, linewidths=0)
    axes.set_ylabel(names[1])
    if isinstance(task.transform, Log):
        logarithmic(axes)


def _same_limits(row: Sequence[Any]) -> None:
    for name in ("xlim", "ylim"):
        limits = [getattr(axes, f"get_{name}")() for axes in row]
        for axes in row:
            axes.set(**{name: (min(a for a, _ in limits), max(b for _, b in limits))})
