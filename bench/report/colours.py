"""One colour, marker and line per method through the whole report.

The colour and the marker's shape show the method. The filling of markers and the dashes of lines
show the configuration: filled and solid for tuned ones, half filled for ensembles. Colours have the
largest distances in OKLab, for normal and for dichromatic vision (Machado, Oliveira & Fernandes
2009), at a contrast of at least 3 : 1 with white, or 4.5 : 1 with #111 for the dark ones.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle

from bench.experiment.selection import MethodPattern

INK = "#1b1d21"
"""Colour of text, axes and the exact likelihood."""
_PAIRS = {
    "#3c5aff": "#1d76fa",  # blue
    "#e1780f": "#ec982a",  # orange
    "#2da578": "#7bfaa3",  # green
    "#b41ec3": "#a862b8",  # purple
    "#5a6900": "#6b8703",  # olive
    "#c30069": "#ff3971",  # crimson
    "#0f6987": "#71b4c5",  # teal
    "#a578c3": "#f5c2fc",  # lilac
}
PALETTE = tuple(_PAIRS)
DARK = {INK: "#e4e6e9"} | _PAIRS
"""Colours on dark pages, by those on light pages."""
_MARKERS = ("o", "s", "^", "v", "P", "D", "X", "p")
_FIXED = ("lre", "dle", "nler", "nler-sa", "histogram", "dle-nflows", "sbi-nre", "sbi-nle")
_FILLS = ("full", "none", "left", "top", "right")  # by configuration; ensembles have "bottom"
_DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1, 1.2), (5, 1.2, 1, 1.2), (2, 1, 2, 3))
_SIZE = 4.5  # points
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

    @property
    def dark(self) -> str:
        """Colour on dark pages."""
        return DARK[self.colour]

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
    written, _, fit = label.partition(" #")  # shared labels end in the hash of a fit
    pattern = MethodPattern.parse(written)
    others = [name for name, _ in pattern.wrappers if name != "ensemble"]
    configuration = " ".join([pattern.configuration or "", *others, f"#{fit}"]).strip(" #")
    return pattern.method, configuration, len(others) < len(pattern.wrappers)


def _places(methods: set[str]) -> dict[str, int]:
    """Return a number per method: place in the palette, plus its length for each round."""
    places = {method: _FIXED.index(method) for method in methods if method in _FIXED}
    for method in sorted(methods - set(places) - {"exact"}):
        first = int(hashlib.sha256(method.encode()).hexdigest(), 16)
        turn = [(first + step) % len(PALETTE) for step in range(len(PALETTE))]
        taken = Counter(place % len(PALETTE) for place in places.values())
        free = min(turn, key=lambda place: taken[place])
        places[method] = free + len(PALETTE) * taken[free]
    return places
