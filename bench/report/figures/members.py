"""Overlap, coverage and width over members, by method, with the exact likelihood as a line.

After figures 4, 5 and 7 of Sluijter, Diefenbacher, Bhimji & Nachman (2025).
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.report import tidy
from bench.report.colours import INK
from bench.report.figures.marks import DASHED, ROW, SOLID, method_rows, narrow
from bench.report.figures.style import Figure, Looks, Panel, styled
from bench.report.load import Loaded
from bench.report.words import bare, parameters, symbols, written

_FEWEST, _MOST = 5, 10  # members for a smooth density, methods of a figure
_METRICS = ("overlap_kM", "overlap_M", "coverage", "width")
_IN_BOX = ("box_overlap", "expected_coverage", "box_width")


@styled
def draw_members(
    frame: pd.DataFrame,
    axes: Axes,
    looks: Looks,
    *,
    summary: pd.DataFrame | None = None,
    expected: float | None = None,
    order: Sequence[str] = (),
) -> None:
    """Draw a row for each method: members as a strip on their density, and the mean.

    The frame is of `Loaded.members`, one quantity of one leaderboard. `summary` has the means and
    errors over members and datasets, of `Loaded.quantities`; without it, means have no errors. The
    value expected of exact intervals is a dashed line. `order` are labels from top to bottom,
    without exact.
    """
    found = tidy.member_means(frame)
    rows = list(order) or tidy.ordered({*found["label"]} - {"exact"}, frame.head(0))
    members = found[found["label"].isin(rows)]
    count = members.groupby("label")["value"].transform("nunique")
    palette = {label: looks[label].colour for label in set(members["label"])}
    shared: Any = {"x": "value", "y": "label", "hue": "label", "palette": palette, "ax": axes}
    shared |= {"order": rows, "legend": False}
    if (many := members[count >= _FEWEST]).size:
        shape: Any = {"density_norm": "width", "width": 0.9, "saturation": 1, "gridsize": 40}
        sns.violinplot(many, inner=None, cut=0, linewidth=0, alpha=0.2, **shape, **shared)
    if (some := members[count > 1]).size:
        style: Any = {"marker": "|", "size": 7, "linewidth": 0.7, "alpha": 0.8}
        sns.stripplot(some, jitter=False, **style, **shared)
    plain = found.groupby("label", as_index=False)["value"].mean().assign(error=np.nan)
    means = (plain if summary is None else summary).dropna(subset=["value"])
    for label, row in tidy.groups(means, "label"):
        value, error = row[["value", "error"]].fillna({"error": 0}).iloc[0]
        if label == "exact":
            axes.axvspan(value - error, value + error, color=INK, alpha=0.1, lw=0, zorder=0)
            axes.axvline(value, zorder=0, **SOLID)
        elif label in rows:
            axes.errorbar(value, rows.index(label), xerr=error, zorder=4, **looks[label].points())
    if expected is not None:
        axes.axvline(expected, zorder=0, **DASHED)
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2))
    method_rows(axes, rows)


def figures(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield a figure for each leaderboard, with a panel per metric and parameter."""
    for board, rows in tidy.boards(loaded.members, "independent", "bootstrap"):
        names = symbols(loaded.registry, board.task)
        quantities = tidy.rows_of(loaded.quantities, board)
        known = _METRICS if (plain := board.saved(loaded, "plain", True)) else _IN_BOX
        rows = rows[rows["metric"].isin(known) & rows["value"].notna()]
        rows, shown, left = tidy.best(rows, quantities, _MOST)
        learned = rows[rows["label"] != "exact"]
        metrics = [metric for metric in known if metric in set(learned["metric"])]
        metrics = metrics[metrics[:2] == ["overlap_kM", "overlap_M"] :]
        keys = parameters(learned[learned["metric"].isin(metrics)]["key"], names)
        aims = {"overlap": 1.0, "coverage": board.saved(loaded, "expected", 0.6827), "width": None}
        panels: list[Panel | None] = []
        for metric, key in product(metrics, keys):
            quantity = f"{metric}/{key}"
            one, summary = (f[f["quantity"] == quantity] for f in (rows, quantities))
            kind, expected = next(item for item in aims.items() if item[0] in metric)
            options = {"summary": summary, "expected": expected}
            options["order"] = [label for label in shown if label != "exact"]
            name = written(names, key) if kind == "width" else bare(names, key)
            title = f"{kind}, {name}"
            panel = Panel(draw_members, one, title, options, summary)
            panels.append(panel if quantity in set(learned["quantity"]) else None)
        name, title = board.slug("members"), f"Overlap, coverage and width: {board.words}"
        where = "" if plain else "Within the box of the true parameters. "
        caption = (
            f"{where}A tick is one member's mean over datasets, its density is shaded; a marker is "
            "the mean over members with its standard error. The line and its band are exact ± one "
            f"standard error, dashed is nominal.{left}"
        )
        layout: Any = {"columns": len(keys), "narrow": narrow(shown), "share": "row"}
        layout |= {"height": 0.5 + 1.15 * ROW * max(len(shown), 3)}
        if panels:
            yield Figure(name, board.task, title, caption, tuple(panels), looks, **layout)
