"""Figures of the report, drawn on demand from the frames of `bench.load`.

Functions `draw_x(frame, axes, looks=None, **options)` draw a tidy frame on axes, for notebooks;
`looks` are the styles of methods. Errors are those of the frame. `figures(loaded)` yields all
figures of the results, and `absent(loaded)` the missing ones with reasons.
"""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from bench.report.colours import Style, looks
from bench.report.examples import examples, tasks_with_examples
from bench.report.figures import (
    contours,
    cost,
    coverage,
    members,
    nuisances,
    samples,
    scores,
    validation,
    verdicts,
)
from bench.report.figures.contours import draw_contours
from bench.report.figures.cost import draw_budgets, draw_cost, draw_training
from bench.report.figures.coverage import draw_calibration, draw_coverage_against_k
from bench.report.figures.members import draw_members
from bench.report.figures.nuisances import draw_nuisances
from bench.report.figures.samples import draw_example, draw_features
from bench.report.figures.scores import draw_arrows, draw_equivalence
from bench.report.figures.style import Figure
from bench.report.figures.validation import draw_power, draw_weights
from bench.report.figures.verdicts import draw_gaps, draw_verdicts
from bench.report.load import Loaded
from bench.report.tidy import answers, costs

__all__ = [
    "absent",
    "answers",
    "costs",
    "draw_arrows",
    "draw_budgets",
    "draw_calibration",
    "draw_contours",
    "draw_cost",
    "draw_coverage_against_k",
    "draw_equivalence",
    "draw_example",
    "draw_features",
    "draw_gaps",
    "draw_members",
    "draw_nuisances",
    "draw_power",
    "draw_training",
    "draw_verdicts",
    "draw_weights",
    "examples",
    "figures",
    "looks_of",
]

_PARTS = (
    ("Coverage and price of intervals", verdicts.matrices, "no method has a verdict on coverage"),
    ("Coverage gaps and honest lengths", verdicts.gaps, "no gap of coverage has an error"),
    ("Example data", samples.figures, "no task can be simulated here"),
    ("Overlap, coverage and width of members", members.figures, "no member has scores"),
    ("Pulls and impacts of nuisance parameters", nuisances.figures, ""),  # few tasks have any
    (
        "Contours of the likelihood",
        contours.figures,
        "no saved predictions, nor windows in the pack",
    ),
    ("Coverage against the bootstrap multiple", coverage.bootstraps, "no table bootstrap-k.csv"),
    ("Calibration", coverage.calibrations, "no scores with statistics of independent datasets"),
    ("Cost against quality", cost.cost_figures, "no interval scores relative to a reference"),
    ("Learning curves", cost.learning_curves, "no task has results at two budgets"),
    ("Losses while training", cost.losses, "no fit has recorded losses"),
    ("Gain from exact scores", scores.arrows, "no method has a score-augmented form"),
    ("Data equivalence of scores", scores.equivalences, "no method is compared at two budgets"),
    ("Weights and their closure", validation.weights, ""),  # of held-out plans
    ("Power of diagnostics", validation.powers, ""),  # of a study
)
"""Titles, functions that yield figures, and reasons why there are none; "" if none are missed."""


def looks_of(loaded: Loaded) -> dict[str, Style]:
    """Return the style of every method of these results, the same through the whole report."""
    others = loaded.studies.get("equivalence", pd.DataFrame()).get("other", ())
    return looks({*loaded.quantities["label"], *loaded.fits["label"], *others})


def figures(loaded: Loaded) -> Iterator[Figure]:
    """Yield the figures of these results in the order of a report."""
    shown = looks_of(loaded)
    taken: dict[str, int] = {}
    for _, part, _ in _PARTS:
        for figure in part(loaded, shown):
            count = taken[figure.name] = taken.get(figure.name, 0) + 1
            yield figure if count == 1 else replace(figure, name=f"{figure.name}-{count}")


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Return the titles of missing figures, each with the reason in one line."""
    shown = looks_of(loaded)
    every = {board.task for board in loaded.boards}
    missing = []
    for title, part, why in _PARTS:
        drawn = {figure.task for figure in part(loaded, shown)}
        left = every - drawn if any(drawn) and part is not samples.figures else set()
        if why and (left or not drawn):
            missing.append((", ".join([title, *sorted(left)]), why))
    tasks = tasks_with_examples(loaded).items()
    return missing + [(f"Data of {name}", why) for name, why in tasks if isinstance(why, str)]
