"""Verdicts on coverage and the price of honest intervals: of all tasks, and of one leaderboard."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from bench.boards.columns import parenthesised
from bench.boards.verdict import SIGNS
from bench.report import tidy
from bench.report.colours import INK
from bench.report.figures.marks import ROW, SOLID, log_axis, method_rows, narrow, off_scale, typical
from bench.report.figures.style import Figure, Looks, Panel, styled
from bench.report.load import Loaded
from bench.report.words import bare, calls, left_out, literal, slug, symbols

_FILL = {"fails": ("#c30069", 0.25), "undetermined": (INK, 0.06), "holds": ("#2da578", 0.3)}
_TASKS, _MOST = 3, 16  # tasks of a panel, methods of a figure
_ENDS = ("", " low", " high")


@styled
def draw_verdicts(
    frame: pd.DataFrame, axes: Axes, looks: Looks, *, order: Sequence[str] = ()
) -> None:
    """Draw a matrix of methods and tasks, with the verdict and the price in each cell.

    The frame is of `answers`, one run; `order` are methods from top to bottom.
    """
    tasks, methods = (list(dict.fromkeys(frame[name])) for name in ("task", "label"))
    methods = list(order) or methods
    width = axes.get_window_extent().width / axes.figure.dpi * 72  # before the layout
    spelled = 0.75 * width > 80 * len(tasks)  # points that words need
    for row in tidy.each(frame):
        x, y = tasks.index(row.task), methods.index(row.label)
        colour, alpha = _FILL[row.verdict]
        box = (x - 0.48, y - 0.45)
        axes.add_patch(Rectangle(box, 0.96, 0.9, facecolor=colour, alpha=alpha, linewidth=0))
        word = f"{SIGNS[row.verdict]} {row.verdict if spelled else ''}".rstrip()
        price = parenthesised(row.value, row.error) if math.isfinite(row.value) else ""
        axes.text(x, y, f"{word}\n{price}".strip(), ha="center", va="center", linespacing=1.3)
    method_rows(axes, methods)
    names = [literal(task, 14) for task in tasks]
    parted = [name if spelled or len(name) < 11 else name.replace("-", "-\n") for name in names]
    axes.set_xticks(range(len(tasks)), parted)
    axes.set(xlim=(-0.5, len(tasks) - 0.5), ylim=(len(methods) - 0.5, -0.5))
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


@styled
def draw_gaps(
    frame: pd.DataFrame, axes: Axes, looks: Looks, *, parameter: str = "", tolerance: float = 0.05
) -> None:
    """Draw the coverage gap of each method with the interval of its verdict, or honest lengths.

    The frame is of `Loaded.leaderboard`, one leaderboard; rows keep its order. Without a parameter,
    lengths relative to exact are drawn. Gaps within the tolerance are shaded.
    """
    if parameter:
        band = 100 * tolerance
        value, low, high = (100 * frame[f"gap {parameter}{end}"] for end in _ENDS)
        reach = np.nanmax([*value.abs(), *low.abs(), *high.abs(), 1.5 * band])
        reach = 1.05 * min(reach, 14 * band)
        axes.axvspan(-band, band, color="#2da578", alpha=0.15, lw=0, zorder=0)
        axes.set_xlim(-reach, reach)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    else:
        value, error = frame["honest length"], frame["honest length error"].fillna(0)
        low, high = (value - error).clip(lower=0.5 * value), value + error
        log_axis(axes.xaxis, [0.98, 1.02, *typical([*low, *high], 4)])
    axes.axvline(0 if parameter else 1, zorder=0, **SOLID)
    method_rows(axes, frame["label"].tolist())
    bars = zip(frame["label"], value, value - low, high - value, strict=True)
    for y, (label, at, *ends) in enumerate(bars):
        errors = np.nan_to_num(np.clip(ends, 0, None))[:, None]
        axes.errorbar(at, y, xerr=errors, elinewidth=1.0, **looks[label].points())
        off_scale(axes, at, y, looks[label].colour)


def matrices(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield a matrix of methods and tasks for each budget of the results."""
    for (budget, *_), rows in tidy.groups(tidy.answers(loaded.leaderboard()), tidy.RUN):
        methods, tasks = (list(dict.fromkeys(rows[name])) for name in ("label", "task"))
        words = rows["label"] + " on " + rows["task"] + " " + rows["verdict"]
        told = rows.assign(label=words, value=rows["value"].fillna(math.inf))
        panels = []
        for part in np.array_split(tasks, math.ceil(len(tasks) / _TASKS)):
            one, numbers = (frame[frame["task"].isin(part)] for frame in (rows, told))
            panels.append(Panel(draw_verdicts, one, "", {"order": methods}, numbers))
        name, title = slug("verdicts", budget), f"Coverage and price of intervals, {calls(budget)}"
        caption = (
            "✓: the coverage of all parameters holds within the tolerance, ✗: it fails, ?: it is "
            "undetermined. Below: the length of honest intervals relative to exact ones."
        )
        layout: Any = {"columns": min(2, len(panels)), "share": "row", "section": "answer"}
        layout |= {"height": 0.45 + 0.4 * len(methods)}
        yield Figure(name, "", title, caption, tuple(panels), looks, **layout)


def gaps(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield a forest plot for each leaderboard, with a panel per parameter and one of lengths."""
    for board, rows in tidy.boards(loaded.leaderboard()):
        rows = rows[rows["method"] != "exact"]
        shown, left = rows.head(_MOST), left_out(rows["label"][_MOST:].tolist())
        names = symbols(loaded.registry, board.task)
        tolerance = board.saved(loaded, "tolerance", 0.05)
        panels = []
        for column in shown.filter(regex="^gap .* low$").dropna(axis=1, how="all"):
            parameter = str(column)[4:-4]
            value, low, high = (100 * shown[f"gap {parameter}{end}"] for end in _ENDS)
            options = {"parameter": parameter, "tolerance": tolerance}
            told = shown.assign(value=value, error=(high - low) / 2)
            title = f"gap of {bare(names, parameter)} (points)"
            panels.append(Panel(draw_gaps, shown, title, options, told))
        if panels and shown["honest length"].notna().any():
            told = shown.assign(value=shown["honest length"], error=shown["honest length error"])
            panels.append(Panel(draw_gaps, shown, "honest length / exact", {}, told))
        name, title = board.slug("gaps"), f"Coverage gaps and honest lengths: {board.words}"
        caption = (
            "Coverage minus that of exact intervals, with simultaneous 95 % intervals: inside the "
            "band it holds, outside it fails. Bars of lengths are standard errors. Triangles are "
            f"off the scale.{left}"
        )
        layout: Any = {"columns": len(panels), "narrow": narrow(shown["label"]), "share": "row"}
        layout |= {"height": 0.5 + ROW * max(len(shown), 2)}
        if panels:
            yield Figure(name, board.task, title, caption, tuple(panels), looks, **layout)
