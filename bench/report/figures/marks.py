"""Marks that figures share: lines and points with errors, rows of methods, logarithmic axes."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike

from bench.report.colours import INK
from bench.report.figures.style import Looks
from bench.report.words import literal, number

SOLID: Any = {"color": INK, "lw": 0.8, "alpha": 0.7}  # line of the exact likelihood
DASHED: Any = {"color": INK, "lw": 0.8, "alpha": 0.5, "dashes": (4, 2)}  # of a nominal value
ROW = 0.2  # height of a row of methods in inches
# Tick values within a decade, by the number of decades.
_SUBDIVISIONS = ((0.9, (1, 1.5, 2, 3, 5)), (1.6, (1, 2, 5)), (2.2, (1, 3)), (math.inf, (1,)))


def lines(frame: pd.DataFrame, axes: Axes, looks: Looks, x: str, every: int = 1) -> None:
    """Draw a line per method through its values, with the frame's errors at every n-th of them."""
    found = frame.dropna(subset=[x, "value"])
    labels = list(dict.fromkeys(found["label"]))
    if not labels:
        return
    palette = {label: looks[label].colour for label in labels}
    dashes = {label: looks[label].dashes or "" for label in labels}
    shown: Any = {"hue": "label", "style": "label", "palette": palette, "dashes": dashes}
    shown |= {"errorbar": None, "estimator": None, "linewidth": 1.0, "legend": False}
    sns.lineplot(found, x=x, y="value", ax=axes, **shown)
    for number_, label in enumerate(labels):
        some = found[found["label"] == label].sort_values(x).iloc[number_ % every :: every]
        points = looks[label].points()
        axes.errorbar(some[x], some["value"], some["error"], elinewidth=0.8, **points)


def method_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Make the vertical axis a list of methods, the first on top."""
    axes.set(ylim=(len(labels) - 0.4, -0.6), xlabel="", ylabel="")
    axes.set_yticks(range(len(labels)), [literal(label) for label in labels])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def narrow(labels: Iterable[str]) -> int:
    """Return the number of panels with these labels that fit beside each other in a column."""
    return 2 if max(map(len, labels), default=0) <= 16 else 1


def log_axis(axis: Axis, values: ArrayLike) -> None:
    """Make an axis logarithmic around positive values, with tick labels where they fit."""
    found = np.asarray(values, float)
    found = found[np.isfinite(found) & (found > 0)]
    on: Any = axis.axes  # its setters reach panels that share the axis
    name = "y" if axis is on.yaxis else "x"
    low, high = (found.min(), found.max()) if found.size else (0.1, 10.0)
    margin = (high / low) ** 0.08 if high > 1.01 * low else 1.3
    low, high = low / margin, high * margin
    # Set limits first: a logarithmic axis cannot find those of a single value, and warns.
    getattr(on, f"set_{name}lim")(low, high)
    getattr(on, f"set_{name}scale")("log")
    decades = math.log10(high / low)
    subs = next(subs for most, subs in _SUBDIVISIONS if decades < most)
    few = decades < 0.3
    axis.set_major_locator(MaxNLocator(3) if few else LogLocator(subs=subs, numticks=8))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: number(v)))
    axis.set_minor_formatter(NullFormatter())


def budget_axis(axes: Axes, budgets: Iterable[float], around: ArrayLike) -> None:
    """Make the horizontal axis logarithmic, with ticks at budgets unless there are many."""
    log_axis(axes.xaxis, around)
    ticks = sorted(set(budgets))
    if len(ticks) < 4:
        axes.set_xticks(ticks, [number(tick) for tick in ticks])
    axes.set_xlabel("simulator calls")


def typical(values: ArrayLike, factor: float = 8.0) -> Any:
    """Return the positive values within a factor of their median, so that no outlier counts."""
    found = np.asarray(values, float)
    found = found[np.isfinite(found) & (found > 0)]
    apart = np.abs(np.log(found / np.median(found))) if found.size else found
    return found[apart <= math.log(factor)]


def off_scale(axes: Axes, x: ArrayLike, y: ArrayLike, colour: str) -> None:
    """Draw a triangle at the edge for each point beyond the limits."""
    data = np.column_stack([np.ravel(np.asarray(values, float)) for values in (x, y)])
    onto = axes.transData + axes.transAxes.inverted()
    for place in onto.transform(data[np.isfinite(data).all(1)]):
        outside = (place < 0) | (place > 1)
        if outside.any():
            axis = int(outside[1])
            mark = ("<>", "v^")[axis][int(place[axis] > 1)]
            style: Any = {"color": colour, "marker": mark, "ms": 5, "mew": 0, "clip_on": False}
            axes.plot(*place.clip(0.015, 0.985)[:, None], transform=axes.transAxes, **style)
