"""Figures drawn to files, and as inline pictures of a page."""

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
# No dates, so that bytes are reproducible, and no addresses that could look like requests.
_METADATA: dict[str, dict[str, Any]] = {
    "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
    "pdf": dict.fromkeys(("Creator", "Producer", "CreationDate")),
    "png": {"Software": None},
}
_SETTINGS: Any = {"svg.hashsalt": "nlbench", "svg.fonttype": "none"}
_IDENTIFIER = re.compile(r'(\bid="|href="#|url\(#)')
_FEWEST = 8  # smallest number of figures per process
_inherited: list[Figure] = []
_PROLOGUE = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_METADATA_TAG = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_OPENING = re.compile(r"<svg\b[^>]*>", re.DOTALL)


@dataclass(frozen=True)
class Drawing:
    """Drawn figure.

    Args:
        figure: the figure.
        files: contents by format.
    """

    figure: Figure
    files: dict[str, bytes]

    @property
    def inline(self) -> Markup:
        """Figure as part of a page: text in the page's colour, and an alternative text."""
        return inline(self.figure, self.files["svg"].decode())


def drawn(figure: Figure) -> Drawing:
    """Draw a figure in every format; the same figure gives the same bytes."""
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
            # The parent handles Ctrl-C and ends the children.
            quiet = (signal.SIGINT, signal.SIG_IGN)
            with fork.Pool(workers, signal.signal, quiet) as pool:
                yield from map(Drawing, figures, pool.imap(_files, range(len(figures))))
    finally:
        gc.unfreeze()
        _inherited.clear()


def _files(number: int) -> dict[str, bytes]:
    return drawn(_inherited[number]).files


def inline(figure: Figure, svg: str) -> Markup:
    """Convert a drawing for use inside a page.

    Identifiers get the figure's name as prefix, because all figures share the page's namespace. Ink
    becomes the page's text colour. The alternative text comes first, for screen readers.
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
