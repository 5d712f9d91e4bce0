"""Example data of tasks: features with marginals at values of the parameters, series and fields.

After figures 1 and 2 of Sluijter, Diefenbacher, Bhimji & Nachman (2025).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.contracts import HasLogProb, Log, Task
from bench.report.colours import INK, PALETTE
from bench.report.examples import SHOWN, examples, settings, simulated, tasks_with_examples
from bench.report.figures.marks import log_axis
from bench.report.figures.style import Figure, Looks, Panel, styled
from bench.report.load import Loaded
from bench.report.words import literal, slug, symbols, valued, written
from bench.studies.features import contours

_SIMULATED = 8000  # for marginals and the levels of contours
_VALUES = 3  # context parameters of a title
_MARGINAL = 0.2  # height of a marginal, relative to the axes
_COLOURS = (PALETTE[6], INK, PALETTE[7], PALETTE[4])  # of components
_CAPTIONS = {
    "vector": "simulations of each component, with the density of each feature at the edges; "
    "lines hold 50 % and 90 % of the exact density. All panels have the same noise.",
    "series": "series in each panel, with the same noise.",
    "field": "field in each panel, with the same noise.",
}


@styled
def draw_features(
    frame: pd.DataFrame, axes: Axes, looks: Looks, *, task: Task, panel: int = 0
) -> None:
    """Draw two features with marginals above and beside, over contours of the exact density.

    The frame is of `examples`; the panel is a place in `settings`.
    """
    scale = isinstance(task.transform, Log)
    above = axes.inset_axes((0, 1.01, 1, _MARGINAL), sharex=axes)
    aside = axes.inset_axes((1.01, 0, _MARGINAL, 1), sharey=axes)
    context = settings(task)[panel]
    one = frame[frame["panel"] == panel]
    for place, (name, source) in enumerate(task.components("test").items()):
        colour = _COLOURS[place % len(_COLOURS)]
        own = one[one["component"] == name].set_index(["observation", "element"])
        x = own["value"].unstack()
        axes.plot(x[0], x[1], ".", ms=2, mew=0, color=colour, alpha=0.6)
        many = simulated(task, name, source, context, min(_SIMULATED, source.size or _SIMULATED))
        shape: Any = {"fill": True, "alpha": 0.25, "linewidth": 0.8, "cut": 0, "gridsize": 80}
        for axis, inset, values in zip("xy", (above, aside), many.double().numpy().T, strict=True):
            sns.kdeplot(ax=inset, log_scale=scale, color=colour, **shape, **{axis: values})
        if isinstance(source, HasLogProb):
            y = task.transform(many.double()).numpy()
            *grid, heights, levels = contours(
                task, source, y, context, (0.5, 0.9), margin=0.0002, nodes=90
            )
            nodes = map(np.exp if scale else np.asarray, grid)
            axes.contour(
                *nodes, heights, levels, colors=[colour], linewidths=[0.6, 1.1], linestyles="-"
            )
    by_element = frame.groupby("element")["value"]
    labels = task.feature_names or ("first feature", "second feature")
    for name, label, (_, values) in zip("xy", labels, by_element, strict=True):
        ends = values.agg(["min", "max"])
        axes.set(**{f"{name}label": literal(label)})
        if scale:
            log_axis(getattr(axes, f"{name}axis"), ends)
        else:
            axes.set(**{f"{name}lim": ends + 0.05 * np.ptp(ends) * np.array([-1, 1])})
    for inset in (above, aside):
        inset.set_axis_off()


@styled
def draw_example(
    frame: pd.DataFrame, axes: Axes, looks: Looks, *, task: Task, panel: int = 0
) -> None:
    """Draw a series as lines, or a field as an image of vector cells.

    The frame is of `examples`; the panel is a place in `settings`.
    """
    one = frame[frame["panel"] == panel].sort_values(["observation", "element"])
    if task.observation == "field":
        cells = one["value"].to_numpy().reshape(task.event_shape)
        style: Any = {"cmap": "RdBu_r", "vmin": -3, "vmax": 3, "edgecolors": "face"}
        image = axes.pcolormesh(cells, linewidth=0.15, **style)
        axes.set(aspect="equal", xticks=[], yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        bar: Any = axes.figure.colorbar(image, ax=axes, extend="both", ticks=[-3, 0, 3], aspect=14)
        bar.outline.set_visible(False)
        return
    paths = one.assign(element=one["element"] + 1)
    by: Any = {"x": "element", "y": "value", "units": "observation", "estimator": None}
    style = {"linewidth": 0.8, "alpha": 0.5, "drawstyle": "steps-mid"}
    sns.lineplot(paths, ax=axes, color=INK, **by, **style)
    axes.set(xlabel="observation time", ylabel="observed")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def figures(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield a figure for each task that can be simulated on this machine."""
    for task in tasks_with_examples(loaded).values():
        if isinstance(task, str):
            continue
        names = symbols(loaded.registry, task.name)
        parameters = [written(names, p.name) for p in task.space.context]
        frame, features = examples(task), task.observation == "vector"
        by = ["panel", "component", *(["element"] if features else [])]
        means = frame.groupby(by)["value"].agg(value="mean", error="std").reset_index()
        means["label"] = "mean and deviation of " + means["component"]
        panels = []
        for i, context in enumerate(settings(task)):
            options, told = {"task": task, "panel": i}, means[means["panel"] == i]
            values = list(map(valued, parameters, map(float, context)))
            title = "\n".join(values[:_VALUES] + ["…"] * (len(values) > _VALUES))
            draw = draw_features if features else draw_example
            panels.append(Panel(draw, frame, title, options, told))
        name = slug("features" if features else "data", task.name)
        title = f"{'Features' if features else 'Example data'}: {task.name}"
        caption = f"{SHOWN[task.observation]} {_CAPTIONS[task.observation]}"
        legend = {
            name: Line2D([], [], color=_COLOURS[i % len(_COLOURS)], marker=".", ms=4)
            for i, name in enumerate(task.component_names if features else ())
        }
        layout: Any = {"columns": len(panels), "legend": legend, "share": not features}
        layout |= {"height": 2.4 if features else 1.9}
        yield Figure(name, task.name, title, caption, tuple(panels), looks, **layout)
