"""One colour, marker and line per method through the whole report.

The colour and the marker's shape show the method. The filling of markers and the dashes of lines
show the configuration: filled and solid for tuned ones, half filled for ensembles. Colours have the
largest distances in OKLab, for normal and for dichromatic vision (Machado, Oliveira & Fernandes
2009), among those with a contrast of at least 3 : 1 with both white and #111.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle

INK = "#1b1d21"
"""Colour of text, axes and the exact likelihood; a page may replace it by its text colour."""

PALETTE = (
    "#3c5aff",  # blue
    "#e1780f",  # orange
    "#2da578",  # green
    "#b41ec3",  # purple
    "#5a6900",  # olive
    "#c30069",  # crimson
    "#0f6987",  # teal
    "#a578c3",  # lilac
)
_MARKERS = ("o", "s", "^", "v", "P", "D", "X", "p")
_FIXED = {
    name: number
    for number, name in enumerate(
        ("lre", "dle", "nler", "nler-sa", "histogram", "dle-nflows", "sbi-nre", "sbi-nle")
    )
}
_FILLS = ("full", "none", "left", "top", "right")  # by configuration; ensembles have "bottom"
_DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1, 1.2), (5, 1.2, 1, 1.2), (2, 1, 2, 3))
_SIZE = 4.5  # points
_ENSEMBLE = re.compile(r"ensemble\((?P<base>.*),\d+\)(?P<rest>.*)", re.DOTALL)
_PLAIN = ("", "tuned")


@dataclass(frozen=True)
class Style:
    """Style of a method in figures.

    Args:
        colour: of markers and lines, as #rrggbb.
        marker: shape of the marker, in matplotlib's letters.
        fill: "full", "none", or the filled half.
        dashes: lengths of dashes and gaps in units of the line width; none for a solid line.
    """

    colour: str
    marker: str
    fill: str = "full"
    dashes: tuple[float, ...] = ()

    def points(self, size: float = _SIZE) -> dict[str, Any]:
        """Return keywords of `Axes.plot` and `Axes.errorbar` for markers without a line."""
        style = MarkerStyle(self.marker, "full" if self.fill == "none" else self.fill)  # type: ignore[arg-type]
        return {
            "color": self.colour,
            "marker": style,
            "markersize": size,
            "markerfacecolor": "none" if self.fill == "none" else self.colour,
            "markerfacecoloralt": "none",
            "markeredgecolor": self.colour,
            "markeredgewidth": 0.9,
            "linestyle": "none",
        }

    def line(self, width: float = 1.0) -> dict[str, Any]:
        """Return keywords of `Axes.plot` for a line without markers."""
        style = (0, self.dashes) if self.dashes else "-"
        return {"color": self.colour, "linestyle": style, "linewidth": width}

    def handle(self, line: bool = True) -> Line2D:
        """Return the legend entry of the method: its marker, with or without its line."""
        return Line2D([], [], **(self.points() | (self.line() if line else {})))


EXACT = Style(INK, "o")


def looks(labels: Iterable[str]) -> dict[str, Style]:
    """Return the styles of all labels of a report; the same labels give the same styles.

    Built-in methods have fixed places in the palette. Others take the place given by the hash of
    their name, or the next free one. If all are taken, places are shared and marker shapes differ.

    Args:
        labels: as in leaderboards: "lre:tuned", "ensemble(lre:tuned,5)", "exact".
    """
    named = {label: _parts(label) for label in sorted(set(labels))}
    places = _places({method for method, _, _ in named.values()})
    seen: dict[str, list[str]] = {}
    for method, configuration, _ in named.values():
        others = seen.setdefault(method, [])
        if configuration not in (*_PLAIN, *others):
            others.append(configuration)
    out = {}
    for label, (method, configuration, ensemble) in named.items():
        if method == "exact":
            out[label] = EXACT
            continue
        place = places[method]
        variant = 0 if configuration in _PLAIN else 1 + seen[method].index(configuration)
        turn = place // len(PALETTE)
        out[label] = Style(
            PALETTE[place % len(PALETTE)],
            _MARKERS[(place + 3 * turn) % len(_MARKERS)],
            "bottom" if ensemble else _FILLS[variant % len(_FILLS)],
            _DASHES[(variant + 2 * ensemble) % len(_DASHES)],
        )
    return out


def _parts(label: str) -> tuple[str, str, bool]:
    """Return method, configuration, and whether the label is of an ensemble."""
    found = _ENSEMBLE.fullmatch(label)
    method, _, configuration = (found["base"] + found["rest"] if found else label).partition(":")
    method, _, fit = method.partition(" #")  # shared labels end in the hash of a fit
    return method, f"{configuration} #{fit}".strip(" #"), found is not None


def _places(methods: set[str]) -> dict[str, int]:
    """Return a number per method: place in the palette, plus its length for each round."""
    places = {method: _FIXED[method] for method in methods if method in _FIXED}
    taken = list(places.values())
    for method in sorted(methods - set(places) - {"exact"}):
        first = int(hashlib.sha256(method.encode()).hexdigest(), 16) % len(PALETTE)
        turn = [(first + step) % len(PALETTE) for step in range(len(PALETTE))]
        counts = [sum(t % len(PALETTE) == place for t in taken) for place in turn]
        free = counts.index(min(counts))
        places[method] = turn[free] + len(PALETTE) * counts[free]
        taken.append(places[method])
    return places
