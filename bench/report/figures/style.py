"""The style of figures: sizes, thin axes, numbers and names as text, labels that do not collide."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from bench.report.figures.colours import INK, Style

COLUMN, PAGE = 3.4, 7.0
"""Widths of figures in inches: one column of two, and the whole page."""
FONT, SMALL = 8.0, 7.0
FAINT = 0.35
"""Opacity of what stands behind: reference lines, guides."""
_THIN = 0.6
_FINE = 288
_LONGEST = 40  # characters of a label
_FAMILY = "DejaVu Sans"  # comes with matplotlib: the same everywhere
_STYLE: Any = {
    "font.family": _FAMILY,
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
_P = ParamSpec("_P")
_R = TypeVar("_R")


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Draws in the report's style, whatever the caller's settings are."""

    @wraps(draw)
    def inside(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return inside


def laid_out(draw: Callable[[Figure], None]) -> Callable[[Figure], None]:
    """Draws a figure in the report's style and lays it out once, whatever it is saved as.

    The same drawing has the same layout to the last bit.
    """

    @styled
    @wraps(draw)
    def inside(figure: Figure) -> None:
        draw(figure)
        engine = figure.get_layout_engine()
        if engine is not None:
            dpi = figure.dpi
            figure.dpi = _FINE  # where hinting hardly changes widths of texts
            engine.execute(figure)
            figure.dpi = dpi
            figure.set_layout_engine(None)  # any other engine has every file drawn twice
        for axes in figure.axes:  # last digits of the solver differ by run, and name clip paths
            left, bottom, width, height = (
                round(float(v), 6) for v in axes.get_position(original=True).bounds
            )
            axes.set_position((left, bottom, width, height))

    return inside


def apply_style(axes: Axes) -> None:
    """Gives axes thin lines in ink; ticks are made later, so they are told here."""
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set(linewidth=_THIN, edgecolor=INK)
    axes.tick_params(color=INK, labelcolor=INK, labelsize=SMALL, width=_THIN, length=3, pad=2)


def panels(figure: Figure, rows: int, columns: int, **options: Any) -> Any:
    """Empty axes on a transparent figure, (rows, columns)."""
    figure.set_layout_engine(
        "constrained", w_pad=0.04, h_pad=0.03, wspace=0.03, hspace=0.03, rect=(0.01, 0, 0.98, 1)
    )
    figure.patch.set_facecolor("none")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for ax in axes.flat:
        apply_style(ax)
    return axes


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=_FAMILY))).get_charmap())


def literal(text: object, longest: int = _LONGEST) -> str:
    """Any text as matplotlib shows it as it is: nothing in it is mathematics.

    Long texts lose their middle, and characters that the font lacks become boxes.

    Example:
        >>> literal("a$b$"), literal("x" * 50, 7)
        ('a\\\\$b\\\\$', 'xxx…xxx')
    """
    line = " ".join(str(text).split())
    if len(line) > longest:
        half = (longest - 1) // 2
        line = f"{line[: longest - 1 - half]}…{line[-half:]}"
    shown = "".join(c if ord(c) in _glyphs() and c.isprintable() else "□" for c in line)
    return shown.replace("$", r"\$")


_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def number(value: float, digits: int = 3) -> str:
    """A number in few characters, without mathematics: 0.05, 2,000, 2·10⁴, 10⁶.

    Example:
        >>> [number(v) for v in (0.05, 2000, 20_000, 1e6, -3, 0)]
        ['0.05', '2,000', '2·10⁴', '10⁶', '−3', '0']
    """
    if not math.isfinite(value):
        return "n/a"
    if 1e3 <= abs(value) < 1e4:
        return f"{value:,.0f}".replace("-", "−")
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.{digits}g}".replace("-", "−")
    power = math.floor(math.log10(abs(value)) + 1e-9)
    factor = f"{value / 10**power:.{digits}g}".replace("-", "−")
    raised = f"10{str(power).translate(_RAISED)}"
    return {"1": raised, "−1": f"−{raised}"}.get(factor, f"{factor}·{raised}")


def with_error(value: float, error: float) -> str:
    """A number and its standard error in words that are read aloud: 0.652 ± 0.014.

    Example:
        >>> with_error(0.65213, 0.0138), with_error(12345, 678), with_error(0.5, float("nan"))
        ('0.652 ± 0.014', '12300 ± 700', '0.5, error unknown')
    """
    if not math.isfinite(value):
        return "n/a"
    if not math.isfinite(error):
        return f"{value:.3g}, error unknown"
    if error <= 0:
        return f"{value:.4g}"
    digits = 1 - math.floor(math.log10(error))
    if digits <= 0:
        digits -= 1
        return f"{round(value, digits):.0f} ± {round(error, digits):.0f}".replace("-", "−")
    return f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", "−")


_SUBDIVISIONS = ((1.0, (1, 1.5, 2, 3, 4, 6)), (1.6, (1, 2, 5)), (2.6, (1, 3)), (math.inf, (1,)))
"""Numbers within a decade, by how many decades there are."""


def joined(pieces: Iterable[ArrayLike]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Lines (n, 2) as one, broken by NaN: x and y. One artist draws faster, in smaller files."""
    gap = np.full((1, 2), math.nan)
    rows = [np.concatenate([np.asarray(piece, float), gap]) for piece in pieces]
    whole = np.concatenate(rows) if rows else gap
    return whole[:, 0], whole[:, 1]


def logarithmic(axis: Axis, values: ArrayLike) -> None:
    """A logarithmic axis around positive values, with numbers where they fit."""
    found = np.asarray(values, float)
    found = found[np.isfinite(found) & (found > 0)]
    on: Any = axis.axes  # whose setters reach panels that share the axis
    vertical = axis is on.yaxis
    low, high = (found.min(), found.max()) if found.size else (0.1, 10.0)
    margin = (high / low) ** 0.08 if high > 1.01 * low else 1.3
    low, high = low / margin, high * margin
    # Limits first: on a logarithmic axis those of a single value cannot be found, with a warning.
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
    """The ends of error bars on a logarithmic axis; those beyond half a value are cut."""
    out: list[float] = []
    for v, e in zip(value, error, strict=True):
        known = e if math.isfinite(e) else 0.0
        out += [v + known, max(v - known, 0.5 * v)]
    return out


def repel(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves positions as little as possible (least squares) until they are a gap apart.

    Args:
        wanted: positions, in any order.
        gap: least distance between two of them; smaller where they would not fit.
        low, high: where they have to stay.

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
    """Names curves at the right end of axes, each with its marker.

    Args:
        axes: with limits set.
        ends: by label, the height (data) at which the curve ends.
        looks: of each label.
    """
    shown = {label: y for label, y in ends.items() if math.isfinite(y)}
    onto = axes.transData + axes.transAxes.inverted()
    heights = [float(onto.transform((axes.get_xlim()[1], y))[1]) for y in shown.values()]
    height = axes.get_window_extent().height / axes.figure.dpi * 72
    for label, y in zip(shown, repel(heights, 9 / height, 0, 1), strict=True):
        axes.plot([1.03], [y], transform=axes.transAxes, clip_on=False, **looks[label].points(3.5))
        axes.text(1.06, y, literal(label), transform=axes.transAxes, va="center", fontsize=SMALL)


def key(
    figure: Figure,
    looks: Mapping[str, Style],
    extra: Mapping[str, Any] | None = None,
    lines: bool = True,
) -> None:
    """A key above the panels: names in ink beside their markers, and their lines if asked."""
    entries = [(literal(label), look.handle(lines)) for label, look in looks.items()]
    entries += list((extra or {}).items())
    if not entries:
        return
    room = figure.get_figwidth() * 72 / (0.58 * SMALL)  # characters in a line
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
