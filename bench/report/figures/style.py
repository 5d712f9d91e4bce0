"""Figures of the report and their style: sizes, axes, labels without overlaps."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from bench.report.figures.colours import INK, Style
from bench.report.figures.words import FAMILY, literal, number

COLUMN, PAGE = 3.4, 7.0
"""Widths of figures in inches: one column of two, and the whole page."""
FONT, SMALL = 8.0, 7.0
FAINT = 0.35
"""Opacity of reference lines and guides."""
_THIN = 0.6
_FINE = 288
_STYLE: Any = {
    "font.family": FAMILY,
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.titleweight": "normal",
    "axes.titlelocation": "left",
    "axes.titlepad": 4.0,
    "axes.labelsize": FONT,
    "axes.labelpad": 2.5,
    "axes.linewidth": _THIN,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "lines.solid_capstyle": "butt",
    "lines.linewidth": 1.0,
    "text.usetex": False,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    ),
}
Section = Literal["answer", "papers", "calibration", "cost", "scores", "tasks"]
_P = ParamSpec("_P")
_R = TypeVar("_R")
_Draw = Callable[Concatenate[pd.DataFrame, Axes, _P], _R]


@dataclass(frozen=True)
class Figure:
    """Figure of the report, drawn on demand.

    Args:
        name: name of its files, unique within a report.
        section: section of the report.
        task: the task, empty for several tasks.
        title: content in a few words.
        caption: explanation.
        alternative: the content in words and numbers, for screen readers.
        size: width and height in inches; no text in it is smaller than 7 points at that size.
        draw: draws on an empty matplotlib figure of that size.
    """

    name: str
    section: Section
    task: str
    title: str
    caption: str
    alternative: str
    size: tuple[float, float]
    draw: Callable[[Canvas], None]


def styled(draw: _Draw[_P, _R]) -> _Draw[_P, _R]:
    """Make a draw function use the report's style, independent of the caller's settings."""

    @wraps(draw)
    def inside(frame: pd.DataFrame, axes: Axes, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with mpl.rc_context(_STYLE):
            _apply_style(axes)
            return draw(frame, axes, *args, **kwargs)

    return inside


def laid_out(
    draw: Callable[[Any], None],
    rows: int,
    columns: int,
    *,
    used: int | None = None,
    inner: bool = False,
    **options: Any,
) -> Callable[[Canvas], None]:
    """Return a function that draws panels in the report's style and computes the layout once.

    The layout is the same for all file formats, and identical for identical drawings.

    Args:
        draw: draws on axes, (rows, columns), and labels them; labels of inner axes are removed.
        rows: of panels.
        columns: of panels.
        used: number of used panels, row by row; the others are hidden.
        inner: whether to keep labels of inner vertical axes.
        options: of `Figure.subplots`.
    """

    def inside(figure: Canvas) -> None:
        with mpl.rc_context(_STYLE):
            axes = _panels(figure, rows, columns, **options)
            draw(axes)
            count = used or axes.size
            for place, ax in enumerate(axes.flat):
                ax.set_visible(ax.get_visible() and place < count)
                if place + columns < count:
                    ax.set_xlabel("")
                if place % columns and not inner:
                    ax.set_ylabel("")
            _lay_out(figure)

    return inside


def _lay_out(figure: Canvas) -> None:
    engine, dpi = figure.get_layout_engine(), figure.dpi
    assert engine is not None  # panels have one
    figure.dpi = _FINE  # font hinting hardly changes widths of texts at this resolution
    engine.execute(figure)
    figure.dpi = dpi
    figure.set_layout_engine(None)  # with an engine, matplotlib would draw every file twice
    for axes in figure.axes:  # round: last digits of the solver differ by run, and name clip paths
        bounds = axes.get_position(original=True).bounds
        axes.set_position([round(float(v), 6) for v in bounds])  # type: ignore[arg-type]


def _apply_style(axes: Axes) -> None:
    """Give axes thin lines in ink; ticks are created later and take these settings."""
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set(linewidth=_THIN, edgecolor=INK)
    axes.tick_params(color=INK, labelcolor=INK, labelsize=SMALL, width=_THIN, length=3, pad=2)


def _panels(figure: Canvas, rows: int, columns: int, **options: Any) -> Any:
    """Return empty axes on a transparent figure, (rows, columns)."""
    figure.set_layout_engine(
        "constrained", w_pad=0.04, h_pad=0.03, wspace=0.03, hspace=0.03, rect=(0.01, 0, 0.98, 1)
    )
    figure.patch.set_facecolor("none")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for ax in axes.flat:
        _apply_style(ax)
    return axes


_SUBDIVISIONS = ((1.0, (1, 1.5, 2, 3, 4, 6)), (1.6, (1, 2, 5)), (2.6, (1, 3)), (math.inf, (1,)))
"""Tick values within a decade, by the number of decades."""


def joined(pieces: Iterable[ArrayLike]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Join lines (n, 2) into one x and y, separated by NaN, to draw faster into smaller files."""
    gap = np.full((1, 2), math.nan)
    rows = [np.concatenate([np.asarray(piece, float), gap]) for piece in pieces]
    whole = np.concatenate(rows) if rows else gap
    return whole[:, 0], whole[:, 1]


def log_axis(axis: Axis, values: ArrayLike) -> None:
    """Make an axis logarithmic around positive values, with tick labels where they fit."""
    found = np.asarray(values, float)
    found = found[np.isfinite(found) & (found > 0)]
    on: Any = axis.axes  # its setters reach panels that share the axis
    vertical = axis is on.yaxis
    low, high = (found.min(), found.max()) if found.size else (0.1, 10.0)
    margin = (high / low) ** 0.08 if high > 1.01 * low else 1.3
    low, high = low / margin, high * margin
    # Set limits first: a logarithmic axis cannot find those of a single value, and warns.
    (on.set_ylim if vertical else on.set_xlim)(low, high)
    (on.set_yscale if vertical else on.set_xscale)("log")
    decades = math.log10(high / low)
    if decades < 0.3:
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    else:
        subs = next(subs for most, subs in _SUBDIVISIONS if decades < most)
        axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: number(v)))
    axis.set_minor_formatter(NullFormatter())


def reach(value: Iterable[float], error: Iterable[float]) -> list[float]:
    """Return the ends of error bars on a logarithmic axis, cut at half the value."""
    known = [(v, e if math.isfinite(e) else 0.0) for v, e in zip(value, error, strict=True)]
    return [end for v, e in known for end in (v + e, max(v - e, 0.5 * v))]


def repel(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions as little as possible (least squares) until they are a gap apart.

    Args:
        wanted: positions, in any order.
        gap: smallest distance between two of them; reduced where they would not fit.
        low: lower end of the allowed range.
        high: upper end.

    Example:
        >>> repel([0.5, 0.5, 0.0], 0.2, 0.0, 1.0)
        [0.4, 0.6, 0.0]
    """
    if not wanted:
        return []
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    target = np.clip(np.asarray(wanted, float)[order] - steps, low, high - steps[-1])
    placed = isotonic_regression(target).x + steps
    out = np.empty(len(wanted))
    out[order] = placed
    return [round(float(v), 9) for v in out]


def label_ends(axes: Axes, ends: Mapping[str, float], looks: Mapping[str, Style]) -> None:
    """Label curves at the right end of axes, each with its marker.

    Args:
        axes: with limits set.
        ends: by label, the height (data) at which the curve ends.
        looks: styles of the labels.
    """
    shown = {label: y for label, y in ends.items() if math.isfinite(y)}
    onto = axes.transData + axes.transAxes.inverted()
    heights = [float(onto.transform((axes.get_xlim()[1], y))[1]) for y in shown.values()]
    height = axes.get_window_extent().height / axes.figure.dpi * 72
    for label, y in zip(shown, repel(heights, 9 / height, 0, 1), strict=True):
        axes.plot([1.03], [y], transform=axes.transAxes, clip_on=False, **looks[label].points(3.5))
        axes.text(1.06, y, literal(label), transform=axes.transAxes, va="center", fontsize=SMALL)


def key(
    axes: Any,
    looks: Mapping[str, Style],
    extra: Mapping[str, Any] | None = None,
    lines: bool = True,
) -> None:
    """Draw a legend above the panels: names with their markers, and lines if asked."""
    figure = axes.flat[0].figure
    entries = [(literal(label), look.handle(lines)) for label, look in looks.items()]
    entries += list((extra or {}).items())
    if not entries:
        return
    room = figure.get_figwidth() * 72 / (0.58 * SMALL)  # characters per line
    columns = max(1, min(len(entries), int(room / (max(len(name) for name, _ in entries) + 6))))
    figure.legend(
        [handle for _, handle in entries],
        [name for name, _ in entries],
        loc="outside upper left",
        ncols=columns,
        handlelength=2.2,
        columnspacing=1.4,
        borderpad=0.1,
        labelspacing=0.3,
    )
