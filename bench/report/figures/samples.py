"""What the data of a task look like: features at the nuisance values, examples of processes.

After figures 1 and 2 of Sluijter, Diefenbacher, Bhimji & Nachman (2025). Data are drawn anew from
the task's own simulator, a few hundred observations from a fixed seed; nothing is trained.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.contracts import Component, HasLogProb, Log, Task
from bench.errors import BenchError
from bench.report.figures.boards import groups, slug, symbols, valued, written
from bench.report.figures.colours import INK, PALETTE, Style
from bench.report.figures.figure import Figure
from bench.report.figures.style import (
    FAINT,
    PAGE,
    SMALL,
    apply_style,
    key,
    laid_out,
    literal,
    logarithmic,
    panels,
    styled,
)
from bench.report.load import Loaded
from bench.seeds import generator
from bench.studies.features import density

_SHOWN = 150  # observations of a component in a panel
_PATHS = 4  # trajectories in a panel
_SIMULATED = 8000  # for the levels of density contours
_SHARES = (0.5, 0.9)
_NODES = 90
_COLOURS = (PALETTE[6], INK, PALETTE[7], PALETTE[4])  # of components


def settings(task: Task) -> torch.Tensor:
    """The contexts that are shown, across the evaluation points, (3 at most, d).

    The first parameter rises and others fall, so that the data differ most.
    """
    columns = task.space.context_of(task.points).T
    values = [torch.unique(column) for column in columns]
    places = sorted({0, (len(values[0]) - 1) // 2, len(values[0]) - 1})
    share = [place / max(places[-1], 1) for place in places]

    def at(column: torch.Tensor, part: float) -> torch.Tensor:
        return column[round(part * (len(column) - 1))]

    return torch.stack(
        [
            torch.stack([at(v, part if i == 0 else 1 - part) for i, v in enumerate(values)])
            for part in share
        ]
    )


def drawn(task: Task) -> pd.DataFrame:
    """A few observations of each component at each context that is shown.

    Returns:
        Columns `panel, component, observation, element, value`: element is the place in the
        flattened observation.
    """
    frames = []
    for panel, context in enumerate(settings(task)):
        for name, source in task.components("test").items():
            many = {"vector": _SHOWN, "series": _PATHS}.get(task.observation, 1)
            x = _simulated(task, name, source, context, min(many, source.size or many))
            values = x.reshape(len(x), -1).double().numpy()
            index = np.indices(values.shape)
            parts = {"observation": index[0].ravel(), "element": index[1].ravel()}
            found = pd.DataFrame(parts | {"value": values.ravel()})
            frames.append(found.assign(panel=panel, component=name))
    return pd.concat(frames, ignore_index=True)


def _simulated(
    task: Task, name: str, source: Component, context: torch.Tensor, n: int
) -> torch.Tensor:
    # The same noise in every panel, so that the context alone changes.
    rng = generator("report", "samples", task.name, name)
    return source.simulate(context.float().expand(n, -1), rng)


@styled
def draw_features(frame: pd.DataFrame, axes: Axes, *, task: Task, panel: int = 0) -> None:
    """Draws observations of two features, over contours of their exact density if it is known.

    Args:
        frame: of `drawn`.
        axes: to draw on.
        task: what they are drawn from.
        panel: which of `settings`.
    """
    apply_style(axes)
    scale = isinstance(task.transform, Log)
    shown = np.exp if scale else np.asarray
    context = settings(task)[panel]
    one = frame[frame["panel"] == panel]
    for place, (name, source) in enumerate(task.components("test").items()):
        colour = _COLOURS[place % len(_COLOURS)]
        x = one[one["component"] == name].pivot(
            index="observation", columns="element", values="value"
        )
        axes.plot(x[0], x[1], ".", ms=2, mew=0, color=colour, alpha=0.6)
        if not isinstance(source, HasLogProb):
            continue
        many = _simulated(task, name, source, context, _SIMULATED)
        y = task.transform(many.double()).numpy()
        heights = density(task, source, y, context)
        levels = np.quantile(heights, [1 - share for share in _SHARES])
        low, high = np.quantile(y, [0.0002, 0.9998], axis=0)
        nodes = [np.linspace(a, b, _NODES) for a, b in zip(low, high, strict=True)]
        grid = np.stack(np.meshgrid(*nodes), -1)
        over = density(task, source, grid.reshape(-1, 2), context).reshape(_NODES, _NODES)
        axes.contour(
            shown(grid[..., 0]),
            shown(grid[..., 1]),
            over,
            levels=np.sort(levels),
            colors=[colour],
            linewidths=[0.6, 1.1],
            linestyles="-",
        )
    for element, axis in enumerate((axes.xaxis, axes.yaxis)):
        each = frame[frame["element"] == element].groupby(["panel", "component"])["value"]
        values = each.quantile(
            np.array([0.003, 0.997])
        )  # of each, lest the contours of one are cut
        if scale:
            logarithmic(axis, values.to_numpy())


@styled
def draw_example(frame: pd.DataFrame, axes: Axes, *, task: Task, panel: int = 0) -> Any:
    """Draws a series as lines, or a field as an image of vector cells; returns the image.

    Args:
        frame: of `drawn`.
        axes: to draw on.
        task: what they are drawn from.
        panel: which of `settings`.
    """
    apply_style(axes)
    one = frame[frame["panel"] == panel]
    if task.observation == "field":
        cells = one.sort_values("element")["value"].to_numpy().reshape(task.event_shape)
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[["left", "bottom"]].set_visible(False)
        return axes.pcolormesh(
            cells, cmap="RdBu_r", vmin=-3, vmax=3, edgecolors="face", linewidth=0.15
        )
    for number_, path in groups(one, "observation"):
        first = number_ == one["observation"].min()
        axes.plot(
            path["element"] + 1,
            path["value"],
            drawstyle="steps-mid",
            color=INK,
            lw=1.0 if first else 0.7,
            alpha=1.0 if first else FAINT,
            zorder=3 if first else 2,
        )
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return None


def figures(loaded: Loaded, shown: Mapping[str, Style]) -> Iterator[Figure]:
    """A figure for each task that can be simulated here."""
    for name in _tasks(loaded):
        task = _task(loaded, name)
        if isinstance(task, Task):
            make = _features_figure if task.observation == "vector" else _process_figure
            yield make(loaded, task, drawn(task))


def _tasks(loaded: Loaded) -> list[str]:
    return sorted(set(loaded.quantities["task"]) | set(loaded.fits["task"]))


def _task(loaded: Loaded, name: str) -> Task | str:
    """The task, or why it is not drawn."""
    try:
        task = loaded.registry.task(name)
    except BenchError as error:
        return str(error)
    if task.data is not None:
        return "its events are a download; `bench study features` draws them"
    if task.observation == "vector" and task.event_shape != (2,):
        return "it has not two features"
    return task


def _titles(loaded: Loaded, task: Task) -> list[str]:
    names = symbols(loaded.registry, task.name)
    return [
        ", ".join(
            valued(written(names, p.name), float(value))
            for p, value in zip(task.space.context, context, strict=True)
        )
        for context in settings(task)
    ]


def _features_figure(loaded: Loaded, task: Task, frame: pd.DataFrame) -> Figure:
    titles = _titles(loaded, task)
    names = task.feature_names or ("first feature", "second feature")

    def draw(canvas: Canvas) -> None:
        line = panels(canvas, 1, len(titles), sharex=True, sharey=True)[0]
        for panel, (ax, title) in enumerate(zip(line, titles, strict=True)):
            draw_features(frame, ax, task=task, panel=panel)
            ax.set_title(literal(title))
            ax.set_xlabel(literal(names[0]))
        line[0].set_ylabel(literal(names[1]))
        handles = {
            literal(name): Line2D([], [], color=_COLOURS[i % len(_COLOURS)], marker=".", ms=4)
            for i, name in enumerate(task.component_names)
        }
        key(canvas, {}, handles)

    exact = " Lines hold 50 % and 90 % of the exact density." if task.has_exact else ""
    parts = []
    for (panel, component), one in groups(frame, ["panel", "component"]):
        mean = one.groupby("element")["value"].mean()
        parts.append(
            f"{component} at {titles[int(str(panel))]}: means {mean[0]:.3g} and {mean[1]:.3g}"
        )
    return Figure(
        name=slug("features", task.name),
        section="tasks",
        task=task.name,
        title=f"Features at the values of the nuisance parameter: {task.name}",
        caption=f"{_SHOWN} simulations of each component, the same noise in all panels.{exact}",
        alternative=f"Scatter of {names[0]} and {names[1]}. {'; '.join(parts)}.",
        size=(PAGE, 2.6),
        draw=laid_out(draw),
    )


def _process_figure(loaded: Loaded, task: Task, frame: pd.DataFrame) -> Figure:
    titles = _titles(loaded, task)
    field = task.observation == "field"

    def draw(canvas: Canvas) -> None:
        line = panels(canvas, 1, len(titles), sharey=True)[0]
        image = None
        for panel, (ax, title) in enumerate(zip(line, titles, strict=True)):
            image = draw_example(frame, ax, task=task, panel=panel)
            ax.set_title(literal(title))
            if not field:
                ax.set_xlabel("number of the observation time")
        if image is None:
            line[0].set_ylabel("observed")
            return
        bar = canvas.colorbar(image, ax=list(line), extend="both", shrink=0.85, aspect=18)
        assert bar.solids is not None
        bar.solids.set_edgecolor("face")
        bar.outline.set_visible(False)
        bar.ax.tick_params(color=INK, labelcolor=INK, labelsize=SMALL, width=0.6, length=3)

    parts = []
    for panel, one in groups(frame, "panel"):
        low, high = one["value"].min(), one["value"].max()
        parts.append(f"at {titles[int(str(panel))]} values from {low:.3g} to {high:.3g}")
    what = "One field" if field else f"{_PATHS} series"
    return Figure(
        name=slug("data", task.name),
        section="tasks",
        task=task.name,
        title=f"Example data: {task.name}",
        caption=(
            f"{what} at each of three evaluation points, drawn anew from the simulator with the "
            "same random numbers, so that the parameters alone change."
        ),
        alternative=f"{what} per panel: {'; '.join(parts)}.",
        size=(PAGE, 2.25 if field else 1.9),
        draw=laid_out(draw),
    )


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Tasks whose data are not drawn, and why."""
    found = [(name, _task(loaded, name)) for name in _tasks(loaded)]
    return [(f"Data of {name}", reason) for name, reason in found if isinstance(reason, str)]
