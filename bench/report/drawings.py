"""Figures as files, and as pictures inside a page."""

import gc
import io
import multiprocessing
import os
import re
import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure as Canvas
from PIL import Image

from bench.errors import printable
from bench.report.figures import INK, Figure

FORMATS = ("svg", "pdf", "png")
_DPI = 200
# Nothing that changes with the day, and no address that a reader might take for a request.
_METADATA: dict[str, dict[str, Any]] = {
    "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
    "pdf": dict.fromkeys(("Creator", "Producer", "CreationDate")),
    "png": {"Software": None},
}
_SETTINGS: Any = {"svg.hashsalt": "nlbench", "svg.fonttype": "none"}
_IDENTIFIER = re.compile(r'(\bid="|href="#|url\(#)')
_FEWEST = 8  # figures that are worth a process
_inherited: list[Figure] = []
_PROLOGUE = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_METADATA_TAG = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_OPENING = re.compile(r"<svg\b[^>]*>", re.DOTALL)


@dataclass(frozen=True)
class Drawing:
    """A figure that has been drawn.

    Args:
        figure: what it is.
        files: its contents by format.
    """

    figure: Figure
    files: dict[str, bytes]

    @property
    def inline(self) -> Markup:
        """The figure as part of a page: in the page's own text colour, with its words."""
        return inline(self.figure, self.files["svg"].decode())


def drawn(figure: Figure) -> Drawing:
    """Draws a figure in every format; the same figure gives the same bytes."""
    canvas = Canvas(figsize=figure.size)
    files = {}
    with mpl.rc_context(_SETTINGS):
        figure.draw(canvas)
        for form in FORMATS:
            buffer = io.BytesIO()
            colour = "white" if form == "png" else "none"  # a viewer may be dark
            canvas.savefig(
                buffer, format=form, dpi=_DPI, metadata=_METADATA[form], facecolor=colour
            )
            files[form] = _lighter(buffer) if form == "png" else buffer.getvalue()
    return Drawing(figure, files)


def _lighter(png: io.BytesIO) -> bytes:
    """The same picture in 256 colours, of which line drawings have few, in a third of the bytes."""
    buffer = io.BytesIO()
    picture = Image.open(png).convert("RGB")
    few = picture.quantize(256, dither=Image.Dither.NONE)
    few.save(buffer, "png", optimize=True, dpi=(_DPI, _DPI))
    return buffer.getvalue()


def draw_all(figures: Sequence[Figure]) -> Iterator[Drawing]:
    """Draw figures, on every core; in this process where there is one, or little to do.

    Yields:
        The figures in their order, as soon as they are drawn.
    """
    workers = min(len(os.sched_getaffinity(0)), len(figures) // _FEWEST)
    if workers < 2:
        yield from map(drawn, figures)
        return
    # What draws a figure holds frames, and cannot be sent to another process: children inherit it.
    _inherited.extend(figures)
    gc.freeze()  # frames stay as they are: collections would look at all of them, in every child
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside idle threads
            fork = multiprocessing.get_context("fork")
            # Ctrl-C is for the parent, which ends them.
            quiet = (signal.SIGINT, signal.SIG_IGN)
            with fork.Pool(workers, signal.signal, quiet) as pool:
                yield from map(Drawing, figures, pool.imap(_files, range(len(figures))))
    finally:
        gc.unfreeze()
        _inherited.clear()


def _files(number: int) -> dict[str, bytes]:
    return drawn(_inherited[number]).files


def inline(figure: Figure, svg: str) -> Markup:
    """Makes a drawing part of a page.

    Identifiers get the figure's name before them, for all figures share the page's; ink becomes the
    page's text colour; the alternative text stands first, for those who do not see it.
    """
    body = _METADATA_TAG.sub("", _PROLOGUE.sub("", svg, count=1))
    body = _IDENTIFIER.sub(rf"\g<1>{figure.name}--", body)
    body = re.sub(re.escape(INK), "currentColor", body, flags=re.IGNORECASE)
    rest = _OPENING.sub("", body, count=1)
    width, height = (72 * length for length in figure.size)
    names = escape(f"{figure.name}--title"), escape(f"{figure.name}--words")
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width:g} {height:g}" width="{width:g}pt" height="{height:g}pt" '
        f'role="img" aria-labelledby="{names[0]} {names[1]}">'
        f'<title id="{names[0]}">{escape(printable(figure.title))}</title>'
        f'<desc id="{names[1]}">{escape(printable(figure.alternative))}</desc>{rest}'
    )
