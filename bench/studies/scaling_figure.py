"""Figure of scaling laws: a panel for each size, a line for each quantity."""

import math
from collections.abc import Sequence
from typing import Any

from bench.studies.drawing import drawn
from bench.studies.scaling import Exponent, Timing

_SIZE = (12.0, 7.0)  # inches


def figure(rows: Sequence[Timing], found: Sequence[Exponent]) -> dict[str, bytes]:
    """Draw seconds against sizes; nothing without matplotlib.

    Args:
        rows: the timings.
        found: their exponents.

    Returns:
        The files' contents by format.
    """
    kinds = list(dict.fromkeys(e.size for e in found))

    def draw(figure: Any) -> None:
        panels = figure.subplots(2, -(-len(kinds) // 2), squeeze=False).flatten()
        for spare in panels[len(kinds) :]:
            spare.remove()
        for axes, kind in zip(panels, kinds, strict=False):
            for exponent in (e for e in found if e.size == kind):
                _line(
                    axes, [r for r in rows if (r.what, r.size) == (exponent.what, kind)], exponent
                )
            axes.set(xscale="log", yscale="log", xlabel=kind, ylabel="seconds")
            low, high = axes.get_ylim()
            axes.set_ylim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)))
            axes.yaxis.set_minor_formatter("")
            place = {"loc": "lower left", "bbox_to_anchor": (-0.25, 1.0)}
            axes.legend(fontsize="small", frameon=False, **place)

    return drawn(draw, _SIZE)


def _line(axes: Any, rows: Sequence[Timing], exponent: Exponent) -> None:
    middle = [r.seconds for r in rows]
    spread = [[r.seconds - r.fastest for r in rows], [r.slowest - r.seconds for r in rows]]
    label = f"{exponent.what}: {exponent.upper:.2f} ± {exponent.upper_error:.2f}"
    axes.errorbar([r.value for r in rows], middle, spread, fmt="o-", ms=3, lw=1, label=label)
