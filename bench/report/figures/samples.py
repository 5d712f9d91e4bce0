"""Example data of tasks: features at values of the nuisance parameter, series and fields.

After figures 1 and 2 of Sluijter, Diefenbacher, Bhimji & Nachman (2025). The task's own simulator
draws a few hundred observations from a fixed seed. Nothing is trained.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.contracts import Component, HasLogProb, Log, Task
from bench.errors import BenchError
from bench.report.figures.boards import groups
from bench.report.figures.colours import INK, PALETTE, Style
from bench.report.figures.style import FAINT, PAGE, SMALL, Figure, key, laid_out, log_axis, styled
from bench.report.figures.words import literal, slug, symbols, valued, written
from bench.report.load import Loaded
from bench.seeds import generator
from bench.studies.features import contours

_SHOWN = 150  # observations of a component in a panel
_PATHS = 4  # trajectories in a panel
_SIMULATED = 8000  # for the levels of density contours
_SHARES = (0.5, 0.9)
_NODES = 90
_COLOURS = (PALETTE[6], INK, PALETTE[7], PALETTE[4])  # of components


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


def drawn(task: Task) -> pd.DataFrame:
    """Draw a few observations of each component at each context of the figure.

    Returns:
        Columns `panel, component, observation, element, value`: element is the place in the
        flattened observation.
    """
    frames = []
    many = {"vector": _SHOWN, "series": _PATHS}.get(task.observation, 1)
    for panel, context in enumerate(settings(task)):
        for name, source in task.components("test").items():
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
    # All panels have the same noise, so that only the context differs.
    rng = generator("report", "samples", task.name, name)
    return source.simulate(context.float().expand(n, -1), rng)


@styled
def draw_features(frame: pd.DataFrame, axes: Axes, *, task: Task, panel: int = 0) -> None:
    """Draw observations of two features, over contours of their exact density if it is known.

    Args:
        frame: of `drawn`.
        axes: to draw on.
        task: task of the observations.
        panel: index into `settings`.
    """
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
        *grid, heights, levels = contours(
            task, source, y, context, _SHARES, margin=0.0002, nodes=_NODES
        )
        axes.contour(
            *map(shown, grid),
            heights,
            levels=levels,
            colors=[colour],
            linewidths=[0.6, 1.1],
            linestyles="-",
        )
    for element, axis in enumerate((axes.xaxis, axes.yaxis)):
        if scale:  # quantiles of each component, so that no contour is cut
            each = frame[frame["element"] == element].groupby(["panel", "component"])["value"]
            log_axis(axis, each.quantile(np.array([0.003, 0.997])).to_numpy())


@styled
def draw_example(frame: pd.DataFrame, axes: Axes, *, task: Task, panel: int = 0) -> Any:
    """Draw a series as lines, or a field as an image of vector cells; return the image.

    Args:
        frame: of `drawn`.
        axes: to draw on.
        task: task of the observations.
        panel: index into `settings`.
    """
    one = frame[frame["panel"] == panel]
    if task.observation == "field":
        cells = one.sort_values("element")["value"].to_numpy().reshape(task.event_shape)
        axes.set(aspect="equal", xticks=[], yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        return axes.pcolormesh(
            cells, cmap="RdBu_r", vmin=-3, vmax=3, edgecolors="face", linewidth=0.15
        )
    for place, (_, path) in enumerate(groups(one, "observation")):
        back: dict[str, Any] = {"lw": 0.7, "alpha": FAINT, "zorder": 2} if place else {"zorder": 3}
        axes.plot(path["element"] + 1, path["value"], drawstyle="steps-mid", color=INK, **back)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return None


def figures(loaded: Loaded, shown: Mapping[str, Style]) -> Iterator[Figure]:
    """Yield a figure for each task that can be simulated on this machine."""
    for task in _tasks(loaded).values():
        if isinstance(task, Task):
            make = _features_figure if task.observation == "vector" else _process_figure
            yield make(loaded, task, drawn(task))


def _tasks(loaded: Loaded) -> dict[str, Task | str]:
    """Return tasks by name, or the reason why one is not drawn."""
    names = {*loaded.quantities["task"], *loaded.fits["task"]}
    return {name: _task(loaded, name) for name in sorted(names)}


def _task(loaded: Loaded, name: str) -> Task | str:
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

    def draw(axes: Any) -> None:
        for panel, (ax, title) in enumerate(zip(axes.flat, titles, strict=True)):
            draw_features(frame, ax, task=task, panel=panel)
            ax.set_title(literal(title))
            ax.set(xlabel=literal(names[0]), ylabel=literal(names[1]))
        handles = {
            literal(name): Line2D([], [], color=_COLOURS[i % len(_COLOURS)], marker=".", ms=4)
            for i, name in enumerate(task.component_names)
        }
        key(axes, {}, handles)

    exact = " Lines hold 50 % and 90 % of the exact density." if task.has_exact else ""
    means = frame.groupby(["panel", "component", "element"])["value"].mean().unstack()
    parts = [
        f"{component} at {titles[panel]}: means {x:.3g} and {y:.3g}"
        for (panel, component), x, y in means.itertuples()
    ]
    return Figure(
        name=slug("features", task.name),
        section="tasks",
        task=task.name,
        title=f"Features at the values of the nuisance parameter: {task.name}",
        caption=f"{_SHOWN} simulations of each component, the same noise in all panels.{exact}",
        alternative=f"Scatter of {names[0]} and {names[1]}. {'; '.join(parts)}.",
        size=(PAGE, 2.6),
        draw=laid_out(draw, 1, len(titles), sharex=True, sharey=True),
    )


def _process_figure(loaded: Loaded, task: Task, frame: pd.DataFrame) -> Figure:
    titles = _titles(loaded, task)
    field = task.observation == "field"

    def draw(axes: Any) -> None:
        for panel, (ax, title) in enumerate(zip(axes.flat, titles, strict=True)):
            image = draw_example(frame, ax, task=task, panel=panel)
            ax.set_title(literal(title))
            if not field:
                ax.set(xlabel="number of the observation time", ylabel="observed")
        if not field:
            return
        whole = axes[0, 0].figure
        bar = whole.colorbar(image, ax=list(axes.flat), extend="both", shrink=0.85, aspect=18)
        bar.solids.set_edgecolor("face")
        bar.outline.set_visible(False)
        bar.ax.tick_params(color=INK, labelcolor=INK, labelsize=SMALL, width=0.6, length=3)

    ends = frame.groupby("panel")["value"].agg(["min", "max"])
    parts = [
        f"at {title} values from {low:.3g} to {high:.3g}"
        for title, (low, high) in zip(titles, ends.to_numpy(), strict=True)
    ]
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
        draw=laid_out(draw, 1, len(titles), sharey=True),
    )


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Return the tasks without a figure of data, with reasons."""
    found = _tasks(loaded).items()
    return [(f"Data of {name}", reason) for name, reason in found if isinstance(reason, str)]
