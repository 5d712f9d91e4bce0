"""Figures of the report, drawn on demand from the frames of `bench.load`.

Every module has functions `draw_x(frame, axes, ...)` for notebooks, `figures(loaded, looks)` with
the figures of the results, and `absent(loaded)` with missing figures and the reasons.
"""

from collections.abc import Iterator
from dataclasses import replace

from bench.report.figures import (
    bootstrap_k,
    budgets,
    calibration,
    contours,
    cost,
    equivalence,
    members,
    samples,
    scores,
    training,
    verdicts,
)
from bench.report.figures.bootstrap_k import draw_coverage_against_k
from bench.report.figures.budgets import draw_budgets
from bench.report.figures.calibration import draw_calibration
from bench.report.figures.colours import INK, Style, looks
from bench.report.figures.contours import draw_contours
from bench.report.figures.cost import draw_cost
from bench.report.figures.equivalence import draw_equivalence
from bench.report.figures.members import draw_members
from bench.report.figures.samples import draw_example, draw_features
from bench.report.figures.scores import draw_arrows, draw_times
from bench.report.figures.style import Figure, Section
from bench.report.figures.training import draw_training
from bench.report.figures.verdicts import answers, draw_verdicts
from bench.report.load import Loaded

__all__ = [
    "INK",
    "Figure",
    "Section",
    "Style",
    "absent",
    "answers",
    "draw_arrows",
    "draw_budgets",
    "draw_calibration",
    "draw_contours",
    "draw_cost",
    "draw_coverage_against_k",
    "draw_equivalence",
    "draw_example",
    "draw_features",
    "draw_members",
    "draw_times",
    "draw_training",
    "draw_verdicts",
    "figures",
    "looks",
    "looks_of",
]

_PARTS = (
    verdicts,
    samples,
    members,
    contours,
    bootstrap_k,
    calibration,
    cost,
    budgets,
    training,
    scores,
    equivalence,
)


def looks_of(loaded: Loaded) -> dict[str, Style]:
    """Return the style of every method of these results, the same through the whole report."""
    return looks({*loaded.quantities["label"], *loaded.fits["label"]})


def figures(loaded: Loaded) -> Iterator[Figure]:
    """Yield the figures of these results in the order of a report."""
    shown = looks_of(loaded)
    taken: dict[str, int] = {}
    for part in _PARTS:
        for figure in part.figures(loaded, shown):
            taken[figure.name] = taken.get(figure.name, 0) + 1
            count = taken[figure.name]
            yield figure if count == 1 else replace(figure, name=f"{figure.name}-{count}")


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Return the titles of missing figures, each with the reason in one line."""
    return [missing for part in _PARTS for missing in part.absent(loaded)]
