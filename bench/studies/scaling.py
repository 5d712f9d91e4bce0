"""Scaling laws: seconds against events, nodes, bootstraps, members, rows, population and sites.

Sizes grow over two decades each, on one thread. An exponent is the slope of log(seconds) in
log(size), by least squares over all sizes and over the upper decade, where overheads are paid off.
Its error is from the scatter about the line. Seconds are medians of repeats that take turns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter

import torch
from scipy.stats import linregress

from bench.boards.render import csv_of, markdown_table
from bench.studies.scaling_laws import Law

NAME = "scaling"


@dataclass(frozen=True)
class Timing:
    """Seconds of a call of one size.

    Args:
        what, size: the law.
        value: the size.
        seconds, fastest, slowest: median and extremes of the repeats.
        repeats: their number.
    """

    what: str
    size: str
    value: int
    seconds: float
    fastest: float
    slowest: float
    repeats: int


@dataclass(frozen=True)
class Exponent:
    """Slope of log(seconds) in log(size).

    Args:
        what, size: the law.
        low, high: the smallest and the largest size.
        seconds: at the largest.
        exponent, error: over all sizes.
        upper, upper_error: over the upper decade.
    """

    what: str
    size: str
    low: int
    high: int
    seconds: float
    exponent: float
    error: float
    upper: float
    upper_error: float


def measure(law: Law, repeats: int) -> Iterator[Timing]:
    """Time every size of a law, by repeats that take turns."""
    calls = {size: law.make(size) for size in law.sizes}
    for call in calls.values():
        call()
    taken: dict[int, list[float]] = {size: [] for size in calls}
    for _ in range(repeats):
        for size, call in calls.items():
            begin = perf_counter()
            call()
            taken[size].append(perf_counter() - begin)
    for size, each in taken.items():
        yield Timing(law.name, law.size, size, median(each), min(each), max(each), repeats)


def exponents(rows: Sequence[Timing]) -> list[Exponent]:
    """Fit the slopes of every law."""
    out = []
    for what, size in dict.fromkeys((r.what, r.size) for r in rows):
        mine = [r for r in rows if (r.what, r.size) == (what, size)]
        high = mine[-1].value
        line, top = slope(mine), slope([r for r in mine if r.value >= high / 10])
        out.append(Exponent(what, size, mine[0].value, high, mine[-1].seconds, *line, *top))
    return out


def slope(rows: Sequence[Timing]) -> tuple[float, float]:
    """Return the slope of log(seconds) in log(size), and its error."""
    size = torch.tensor([float(r.value) for r in rows]).log().numpy()
    line = linregress(size, torch.tensor([r.seconds for r in rows]).log().numpy())
    return float(line.slope), float(line.stderr)


def markdown(found: Sequence[Exponent]) -> str:
    """Render a table of exponents."""
    head = ["what", "grows with", "from", "to", "ms at the largest", "exponent"]
    rows = [
        [
            *(e.what, e.size, f"{e.low:,}", f"{e.high:,}", f"{1e3 * e.seconds:.3g}"),
            f"{e.exponent:.2f} ± {e.error:.2f}",
            f"{e.upper:.2f} ± {e.upper_error:.2f}",
        ]
        for e in found
    ]
    return markdown_table([*head, "of the upper decade"], rows)


def csv(rows: Sequence[Timing] | Sequence[Exponent]) -> str:
    """Render comma-separated values."""
    return csv_of([asdict(row) for row in rows])
