"""Cost against quality, learning curves, and losses while training."""

import math
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.boards.quantities import parts
from bench.report import tidy
from bench.report.colours import INK
from bench.report.figures import marks
from bench.report.figures.style import Figure, Looks, Panel, styled
from bench.report.frames import FIT_KEYS
from bench.report.load import Loaded
from bench.report.words import bare, calls, left_out, parameters, slug, symbols

_COSTS = {"seconds": "training time of one member (s)", "calls": "simulator calls of one member"}
_CURVES = {
    **{"score_ratio": "interval score /", "overlap_M": "overlap in"},
    **{"coverage": "coverage of", "width": "width / exact,"},
}
_LOSSES = {"training": {"linewidth": 0.5, "alpha": 0.3}, "validation": {"linewidth": 0.8}}
_METHODS, _MOST = 8, 12  # methods beside exact, panels of losses


@styled
def draw_cost(
    frame: pd.DataFrame, axes: Axes, looks: Looks, *, x: str = "seconds", reference: str = "exact"
) -> None:
    """Draw methods at their cost; budgets of a method are joined, the Pareto front is stepped.

    The frame is of `costs`, one task. The horizontal axis is "seconds" or "calls", the vertical one
    is the interval score relative to the reference.
    """
    found = frame[(frame[x] > 0) & (frame["value"] > 0)]
    marks.lines(found, axes, looks, x)
    marks.log_axis(axes.xaxis, found[x].to_numpy())
    _log_values(found, axes, looks, x)
    edge = found.iloc[tidy.front(found[x].tolist(), found["value"].tolist())]
    ends = [*edge[x], axes.get_xlim()[1]], [*edge["value"], *edge["value"].tail(1)]
    if len(found) > 1:
        axes.step(*ends, where="post", color=INK, alpha=0.3, lw=3.0, zorder=0)
    axes.set(xlabel=_COSTS[x], ylabel=f"interval score / {reference}")


def _log_values(found: pd.DataFrame, axes: Axes, looks: Looks, x: str) -> None:
    """Make the vertical axis logarithmic around marks.typical values and 1, and mark the others."""
    error = found["error"].fillna(0)
    ends = [*np.maximum(found["value"] - error, found["value"] / 2), *(found["value"] + error)]
    marks.log_axis(axes.yaxis, [1.0, *marks.typical(found["value"]), *marks.typical(ends)])
    axes.axhline(1, zorder=0, **marks.SOLID)
    for label, one in tidy.groups(found, "label"):
        marks.off_scale(axes, one[x], one["value"], looks[label].colour)


def cost_figures(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield a figure for each task, with a panel for time and one for calls."""
    independent = tidy.independent(loaded.quantities)
    for (task, *_), suffix, quantities in tidy.series(independent, tidy.SERIES):
        rows = tidy.costs(quantities).sort_values("budget")
        rows, shown, left = tidy.best(rows.assign(at=rows["budget"].map(calls)), rows, _METHODS)
        options = {"reference": tidy.reference(loaded, task)}
        used = [{"x": x} | options for x in _COSTS if rows[x].max() > 1.1 * rows[x].min()]
        panels = [Panel(draw_cost, rows, options=one) for one in used]
        name, title = slug("cost", task, *suffix), f"Cost against quality: {task}"
        caption = (
            "Interval scores, with standard errors, against the cost of one member; budgets of a "
            f"method are joined. The broad step is the Pareto front. Triangles are off scale.{left}"
        )
        layout: Any = {"columns": 2, "height": 2.4, "share": True, "methods": shown}
        if panels:
            yield Figure(name, task, title, caption, tuple(panels), looks, **layout)


@styled
def draw_budgets(
    frame: pd.DataFrame, axes: Axes, looks: Looks, *, ratio: bool = False, nominal: float = 0
) -> None:
    """Draw learning curves: a quantity of each method against the budget.

    The frame is of `Loaded.quantities`, one task and quantity. Values are ratios on a logarithmic
    axis where `ratio` says so; those far off are triangles. The nominal value is a dashed line.
    """
    found = frame[frame["value"].notna() & (frame["budget"] > 0)]
    learned, exact = found[found["label"] != "exact"], found[found["label"] == "exact"]
    methods, budgets = list(dict.fromkeys(learned["label"])), sorted(set(found["budget"]))
    # Offsets separate error bars at one budget and keep budgets apart.
    closest = min((b / a for a, b in pairwise(budgets)), default=math.inf)
    step = min(1.06, closest ** (0.6 / max(len(methods), 1)))
    place = learned["label"].map(methods.index) - (len(methods) - 1) / 2
    learned = learned.assign(calls=learned["budget"] * step ** place.astype(float))
    marks.lines(learned, axes, looks, "calls")
    for value in exact["value"].head(1):
        axes.axhline(value, zorder=0, **marks.SOLID)
    if nominal:
        axes.axhline(nominal, zorder=0, **marks.DASHED)
    marks.budget_axis(axes, budgets, [*budgets, *learned["calls"]])
    axes.margins(y=0.08)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylabel("")
    if ratio:
        _log_values(learned, axes, looks, "calls")


def learning_curves(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield a figure for each task with at least two budgets, with a panel per quantity."""
    independent = tidy.independent(loaded.quantities)
    for (task, *_), suffix, quantities in tidy.series(independent, tidy.SERIES):
        names = symbols(loaded.registry, task)
        rows = quantities.sort_values("budget").assign(at=quantities["budget"].map(calls))
        rows, shown, left = tidy.best(rows, rows, _METHODS)
        learned = rows[rows["value"].notna() & (rows["label"] != "exact")]
        several = learned.groupby("quantity")["budget"].nunique() > 1
        keys = parameters({parts(str(q))[1] for q in several.index}, ["", *names])
        panels = []
        for (metric, words), key in product(_CURVES.items(), keys):
            quantity = "/".join(filter(None, (metric, key, "ratio" * (metric == "width"))))
            of = bare(names, key) if key else tidy.reference(loaded, task)
            options: Any = {"ratio": metric in ("score_ratio", "width")}
            options |= {"nominal": 0.6827} if metric == "coverage" else {}
            one = rows[rows["quantity"] == quantity]
            if several.get(quantity, False):
                panels.append(Panel(draw_budgets, one, f"{words} {of}", options))
        name, title = slug("budgets", task, *suffix), f"Learning curves: {task}"
        caption = (
            "Numbers of leaderboards against simulator calls, with standard errors. Full line: "
            f"exact; dashed: nominal coverage. Triangles are off the scale.{left}"
        )
        layout: Any = {"columns": min(4, len(panels)), "narrow": 2, "height": 1.8}
        layout |= {"legend": {"exact": Line2D([], [], **marks.SOLID)}}
        layout |= {"methods": [label for label in shown if label != "exact"]}
        if panels:
            yield Figure(name, task, title, caption, tuple(panels), looks, **layout)


@styled
def draw_training(frame: pd.DataFrame, axes: Axes, looks: Looks) -> None:
    """Draw validation losses as marks.lines, training losses faintly, and each member's best epoch.

    The frame is of `Loaded.curves`, one component of one task and budget.
    """
    palette: Any = {label: looks[label].colour for label in set(frame["label"])}
    shared: Any = {"x": "epoch", "hue": "label", "palette": palette, "units": "member"}
    shared |= {"estimator": None, "legend": False, "ax": axes}
    for loss, style in _LOSSES.items():
        sns.lineplot(frame.dropna(subset=[loss]), y=loss, **shared, **style)
    known = frame.dropna(subset=["validation"]).sort_values("epoch")
    members = known.groupby(["label", "member"])["validation"]
    best = known.loc[members.idxmin()]
    for row in tidy.each(best):
        axes.plot(row.epoch, row.validation, "o", ms=2.5, color=palette[row.label], zorder=3)
    ends = pd.concat([best["validation"], members.last(), members.quantile(0.85)])
    if len(ends):  # from the lowest loss to that after the first descent
        low, high = ends.min(), ends.max()
        margin = 0.06 * max(high - low, 1e-3 * abs(high), 1e-9)
        axes.set_ylim(low - margin, high + 2 * margin)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set(xlabel="epoch", ylabel="loss")


def losses(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield a figure for each task and budget, with a panel per method and component."""
    curves = loaded.curves.dropna(subset=["training", "validation"], how="all")
    for (task, budget, *_), suffix, rows in tidy.series(curves, FIT_KEYS):
        rows, *_ = tidy.best(rows, loaded.quantities[loaded.quantities["task"] == task], len(rows))
        panels = []
        for key, one in rows.groupby(["label", "component"], sort=False):
            best = one.groupby("member")["validation"].min()
            told = {"label": "best loss", "value": best.mean(), "error": best.std()}
            title = "\n".join(map(str, key))
            panels.append(Panel(draw_training, one, title, {}, pd.DataFrame([told])))
        left = left_out([panel.title.replace("\n", ", ") for panel in panels[_MOST:]])
        name = slug("training", task, *suffix)
        title = f"Losses while training: {task}, {calls(budget)}"
        caption = (
            "Validation loss (lines) and training loss (faint) of each member; dots are the best "
            f"epochs, which are kept. Losses of different methods are of different kinds.{left}"
        )
        layout: Any = {"columns": min(3, len(panels)), "narrow": 2, "height": 1.6}
        yield Figure(name, task, title, caption, tuple(panels[:_MOST]), looks, **layout)
