"""Figures drawn to files, at page width and at column width."""

import gc
import io
import math
import multiprocessing
import os
import re
import signal
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure as Canvas
from PIL import Image

from bench.report.colours import DARK
from bench.report.figures.style import STYLE, Figure
from bench.report.words import literal

PAGE, COLUMN = 7.0, 3.4
"""Widths of drawings in inches: the whole page, and one column of two or a phone."""
_DPI, _FINE = 200, 288
_ENGINE: Any = {"w_pad": 0.04, "h_pad": 0.05, "wspace": 0.03, "hspace": 0.03}
# No dates, so that bytes are reproducible, and no addresses that could look like requests.
_METADATA: dict[str, dict[str, Any]] = {
    "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
    "pdf": dict.fromkeys(("Creator", "Producer", "CreationDate")),
    "png": {"Software": None},
}
_FEWEST = 8  # smallest number of figures per process
_inherited: list[Figure] = []
_wrap = partial(textwrap.wrap, break_long_words=False, break_on_hyphens=False)
_METADATA_TAG = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_OPENING = re.compile(r"<svg\b[^>]*>", re.DOTALL)
_DARK_RULES = "".join(
    f'[style*="{name}: {light}"] {{{name}: {dark} !important}}\n'
    for light, dark in DARK.items()
    for name in ("fill", "stroke")
)
_STYLE = f"<style>\n@media (prefers-color-scheme: dark) {{\n{_DARK_RULES}}}\n</style>"


@dataclass(frozen=True)
class Drawing:
    """Drawn figure.

    Args:
        figure: the figure.
        files: contents by file name: NAME.svg, NAME.pdf and NAME.png of page width, and
            NAME-column.svg and NAME-column.pdf of column width.
        sizes: width and height of the SVG files in points, by file name.
    """

    figure: Figure
    files: dict[str, bytes]
    sizes: dict[str, tuple[float, float]]


def lay_out(figure: Figure, width: float) -> Canvas:
    """Draw a figure at a width in inches, and compute its layout once.

    The layout is the same for all file formats, and identical for identical drawings.
    """
    wide = width > COLUMN
    panels = [panel for panel in figure.panels if wide or panel]
    columns = min(figure.columns if wide else figure.narrow, len(panels))
    rows = math.ceil(len(panels) / columns)
    legend = {label: figure.looks[label].handle() for label in figure.methods} | {**figure.legend}
    longest = max(map(len, legend), default=1) + 6
    spread = max(1, min(len(legend), int(width * 72 / (5 * longest))))
    legend_height = 0.17 * math.ceil(len(legend) / spread)
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(width, rows * figure.height + legend_height))
        canvas.set_layout_engine("constrained", rect=(0.01, 0, 0.98, 1), **_ENGINE)
        grid = canvas.subplots(rows, columns, squeeze=False, sharey=figure.share)
        places = grid.flatten("F" if figure.downwards and wide else "C")
        for axes in places[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(places, panels, strict=False):
            axes.set_visible(panel is not None)
            if panel:
                panel.draw(panel.frame, axes, figure.looks, **panel.options)
                top = axes.child_axes[0] if axes.child_axes else axes
                room = max(int((width * 72 / columns - 30) / 4.8), 12)  # characters
                pieces = [p for line in panel.title.split("\n") for p in _wrap(line, room)]
                top.set_title("\n".join(literal(piece, room) for piece in pieces))
        _drop_repeated_labels(grid)
        if legend:
            names = [literal(name, 50) for name in legend]
            canvas.legend([*legend.values()], names, loc="outside upper left", ncols=spread)
        _fix_layout(canvas)
    return canvas


def _drop_repeated_labels(grid: np.ndarray[Any, Any]) -> None:
    """Remove labels of axes that the next panel below, or to the left, has too."""
    for upper, lower in zip(grid[:-1].flat, grid[1:].flat, strict=True):
        if lower.get_visible() and upper.get_xlabel() == lower.get_xlabel():
            upper.set_xlabel("")
    for left, right in zip(grid[:, -2::-1].flat, grid[:, :0:-1].flat, strict=True):
        if left.get_ylabel() == right.get_ylabel():
            right.set_ylabel("")


def _fix_layout(canvas: Canvas) -> None:
    engine, dpi = canvas.get_layout_engine(), canvas.dpi
    assert engine is not None
    canvas.dpi = _FINE  # font hinting hardly changes widths of texts at this resolution
    for _ in range(
        2 if any(axes.child_axes for axes in canvas.axes) else 1
    ):  # insets change margins
        engine.execute(canvas)
    canvas.dpi = dpi
    canvas.set_layout_engine(None)  # with an engine, matplotlib would draw every file twice
    for axes in canvas.axes:  # round: last digits of the solver differ by run, and name clip paths
        x, y, width, height = (round(v, 6) for v in axes.get_position(original=True).bounds)
        axes.set_position((x, y, width, height))


def drawn(figure: Figure) -> Drawing:
    """Draw a figure at both widths; the same figure gives the same bytes."""
    files: dict[str, bytes] = {}
    sizes: dict[str, tuple[float, float]] = {}
    for name, width, forms in (
        (figure.name, PAGE, ("svg", "pdf", "png")),
        (f"{figure.name}-column", COLUMN, ("svg", "pdf")),
    ):
        with mpl.rc_context(STYLE):
            canvas = lay_out(figure, width)
            files |= {f"{name}.{form}": _saved(canvas, form) for form in forms}
        across, down = (round(72 * float(inches), 2) for inches in canvas.get_size_inches())
        sizes[f"{name}.svg"] = (across, down)
    return Drawing(figure, files, sizes)


def _saved(canvas: Canvas, form: str) -> bytes:
    buffer = io.BytesIO()
    colour = "white" if form == "png" else "none"  # a viewer may be dark
    canvas.savefig(buffer, format=form, dpi=_DPI, metadata=_METADATA[form], facecolor=colour)
    if form == "svg":
        return _with_dark_colours(buffer.getvalue().decode()).encode()
    return _lighter(buffer) if form == "png" else buffer.getvalue()


def _with_dark_colours(svg: str) -> str:
    """Add rules for dark pages; without them, as in papers and editors, colours are plain."""
    svg = _METADATA_TAG.sub("", svg)
    return _OPENING.sub(lambda opening: f"{opening[0]}\n{_STYLE}", svg, count=1)


def _lighter(png: io.BytesIO) -> bytes:
    """Reduce a picture to 256 colours, enough for line drawings, in a third of the bytes."""
    buffer = io.BytesIO()
    picture = Image.open(png).convert("RGB")
    few = picture.quantize(256, dither=Image.Dither.NONE)
    few.save(buffer, "png", optimize=True, dpi=(_DPI, _DPI))
    return buffer.getvalue()


def draw_all(figures: Sequence[Figure]) -> Iterator[Drawing]:
    """Draw figures on every core, or in this process if there is one core or few figures.

    Yields:
        The figures in their order, as soon as they are drawn.
    """
    workers = min(len(os.sched_getaffinity(0)), len(figures) // _FEWEST)
    if workers < 2:
        yield from map(drawn, figures)
        return
    # A figure's draw function holds frames and cannot be pickled, so child processes inherit it.
    _inherited.extend(figures)
    gc.freeze()  # frames do not change: this keeps collections in children from touching them
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about forks beside idle threads
            fork = multiprocessing.get_context("fork")
            with fork.Pool(workers, _begin_child) as pool:
                made = pool.imap(_parts, range(len(figures)))
                yield from (Drawing(f, *parts) for f, parts in zip(figures, made, strict=True))
    finally:
        gc.unfreeze()
        _inherited.clear()


def _begin_child() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and ends its children
    torch.set_num_threads(1)  # more would wait for threads of OpenMP that stayed with the parent


def _parts(number: int) -> tuple[dict[str, bytes], dict[str, tuple[float, float]]]:
    drawing = drawn(_inherited[number])
    return drawing.files, drawing.sizes
