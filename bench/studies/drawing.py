"""Figures of studies. matplotlib is imported on use: it is slow to import."""

import io
from collections.abc import Callable
from typing import Any

FORMATS = ("svg", "png")


def drawn(draw: Callable[[Any], None], size: tuple[float, float]) -> dict[str, bytes]:
    """Draw on an empty figure of a size in inches; return the contents of files by format."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    contents = {}
    with matplotlib.rc_context({"svg.hashsalt": "nlbench", "svg.fonttype": "none"}):
        for form in FORMATS:
            buffer = io.BytesIO()
            metadata = {"Date": None} if form == "svg" else None
            figure.savefig(buffer, format=form, dpi=150, metadata=metadata)
            contents[form] = buffer.getvalue()
    return contents


def logarithmic(axes: Any) -> None:
    """Make both axes logarithmic, with numbers at 1, 2 and 5."""
    from matplotlib import ticker

    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.set_minor_formatter(ticker.NullFormatter())
