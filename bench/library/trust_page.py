"""Page of a judgement: the tables of the terminal, with figures, in one HTML file."""

import pandas as pd

from bench.library.trust_result import HEAD, Trust, cells
from bench.report.drawings import drawn
from bench.report.figures.style import Figure
from bench.report.page import Page, render
from bench.report.tables import Cell, Table

PAGE = "trust.html"


def page(
    found: Trust, intervals: pd.DataFrame | None = None, profiles: Figure | None = None
) -> bytes:
    """Return a page with a judgement, which needs no other file.

    Args:
        found: the judgement.
        intervals: intervals of the observed data, if there are any.
        profiles: their profile likelihoods.
    """
    title = f"Trust in surrogates of {found.task.name}"
    content = {
        "title": title,
        "subject": found.subject,
        "methods": found.methods,
        "tables": {
            method.label: Table(
                f"trust-{number}",
                method.label,
                HEAD,
                [[*map(Cell, cells(own))] for own in method.parameters],
                words=2,
            )
            for number, method in enumerate(found.methods)
        },
        "remarks": [*found.remarks],
        "coverage": drawn(found.local_coverage()),
        "intervals": None if intervals is None else _table(intervals),
        "profiles": None if profiles is None else drawn(profiles),
        "looks": found.looks,
    }
    (html,) = render(
        [Page("trust", "Trust", "trust.html.j2", content)], title, inline=True
    ).values()
    return html.encode()


def _table(intervals: pd.DataFrame) -> Table:
    rows = []
    for row in intervals.to_dict("records"):
        numbers = [Cell(f"{row[name]:.4g}", float(row[name])) for name in _NUMBERS]
        words = [Cell(str(row[name])) for name in ("method", "verdict", "parameter")]
        rows.append([*words, *numbers, Cell(str(row["warning"]) or "–")])
    head = ("method", "verdict", "parameter", *(n.replace("_", " ") for n in _NUMBERS), "warning")
    return Table("intervals", "Intervals of the observed data", head, rows, words=3)


_NUMBERS = ("estimate", "low", "high", "calibrated_low", "calibrated_high")
