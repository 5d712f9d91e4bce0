"""Pulls, post-fit widths and impacts of nuisance parameters, by parameter and method."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.report import tidy
from bench.report.figures.marks import DASHED, ROW, method_rows
from bench.report.figures.style import Figure, Looks, Panel, styled
from bench.report.load import Loaded

_MOST = 4  # methods beside exact
_BY = " by "  # between the names in the key of an impact


@styled
def draw_nuisances(
    frame: pd.DataFrame, axes: Axes, looks: Looks, *, order: Sequence[str], target: float = 0.0
) -> None:
    """Draw a row for each nuisance parameter, with a point and its error for each method.

    The frame has columns `label, nuisance, value, error`, one metric of `Loaded.quantities`.
    `order` are parameters from top to bottom; the target is a dashed line.
    """
    labels = list(dict.fromkeys(frame["label"]))
    offsets = np.linspace(-0.25, 0.25, len(labels)) if len(labels) > 1 else [0.0]
    for label, offset in zip(labels, offsets, strict=True):
        one = frame[frame["label"] == label].dropna(subset=["value"])
        rows = one["nuisance"].map(order.index) + offset
        axes.errorbar(one["value"], rows, xerr=one["error"], **looks[label].points())
    axes.axvline(target, zorder=0, **DASHED)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    method_rows(axes, order)


def figures(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield a figure for each leaderboard of a task with nuisance parameters that are profiled."""
    metrics = ("pull", "post_fit", "impact")
    for board, rows in tidy.boards(loaded.quantities, "independent"):
        some = rows[rows["metric"].isin(metrics) & rows["value"].notna()]
        some, shown, left = tidy.best(some, rows, _MOST)
        impacts = some[some["metric"] == "impact"]
        if impacts.empty:
            continue
        names = some["key"].str.rpartition(_BY)
        some = some.assign(nuisance=names[2], reported=names[0])
        impacts = some[some["metric"] == "impact"]
        size = impacts.assign(size=impacts["value"].abs()).groupby("nuisance")["size"].max()
        order = list(size.sort_values(ascending=False).index)
        panels = [
            _panel(some[some["metric"] == metric], title, order, shown, target)
            for metric, title, target in (
                ("pull", "pull", 0.0),
                ("post_fit", "post-fit width", 1.0),
            )
            if metric in set(some["metric"])
        ]
        panels += [
            _panel(one, f"impact on {name}", order, shown, 0.0)
            for name, one in tidy.groups(impacts, "reported")
        ]
        caption = (
            "Means over datasets and members with standard errors. A pull is the estimate minus "
            "the true value, in widths of the constraint. A post-fit width of 1 says that the data "
            "tell nothing. An impact is the shift of the estimate if the nuisance parameter moves "
            f"by its post-fit width; parameters are in the order of impacts.{left}"
        )
        layout: Any = {"columns": len(panels), "narrow": 1, "share": True}
        layout["height"] = 0.6 + 1.3 * ROW * max(len(order), 3)
        title = f"Nuisance parameters: {board.words}"
        yield Figure(
            board.slug("nuisances"), board.task, title, caption, tuple(panels), looks,
            methods=shown, **layout,
        )  # fmt: skip


def _panel(
    frame: pd.DataFrame, title: str, order: Sequence[str], shown: Sequence[str], target: float
) -> Panel:
    rows = tidy.select(frame, list(shown)).assign(at=lambda found: found["nuisance"])
    return Panel(draw_nuisances, rows, title, {"order": order, "target": target})
