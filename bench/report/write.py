"""Writer of reports: the page, its figures and its tables."""

import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from bench.errors import BenchError
from bench.leaderboard.render import as_csv
from bench.report import comparison, output, provenance
from bench.report.bibliography import bibtex
from bench.report.boards import name_of, tables_of
from bench.report.drawings import Drawing, draw_all
from bench.report.figures import absent, figures, looks_of
from bench.report.figures.words import listed
from bench.report.load import Loaded
from bench.report.page import render
from bench.report.papers import CONFIGURATIONS, comparisons
from bench.report.summary import answers, compared
from bench.report.tables import Table, latex, markdown

PAGE = "index.html"
BIBLIOGRAPHY = "references.bib"


Show = Callable[[str, int, int], None]
"""Callback of progress: current activity, number of finished steps, and of all; 0 if unknown."""


def _nothing(what: str, done: int, total: int) -> None:
    pass


def write(
    loaded: Loaded,
    out: Path,
    command: Sequence[str] = ("bench", "report"),
    show: Show = _nothing,
) -> list[str]:
    """Write the report of results into a folder, and return the names of its files.

    The same results give the same bytes. An earlier report in the folder is replaced as a whole;
    other files in the folder stay.

    Args:
        loaded: the results.
        out: the folder.
        command: command that reproduces it.
        show: called with the progress.

    Raises:
        StoreError: if the folder cannot be written.
        UsageError: if a link, or a file that no report wrote, is in the place of the report.
    """
    with output.opened(out, (PAGE, BIBLIOGRAPHY)) as folder:
        files = contents(loaded, out, command, show)
        show(f"writing {len(files)} files", 0, 0)
        folder.replace(files, {part.folder: part.fingerprint for part in provenance.parts(loaded)})
    return [*files, output.LIST]


def contents(
    loaded: Loaded, out: Path, command: Sequence[str], show: Show = _nothing
) -> dict[str, bytes]:
    """Make the files of a report, by name relative to the output folder."""
    links = {
        fit.folder: _link(loaded.folders.where(f"fits/{fit.folder}/fit"), fit.folder, out)
        for fit in loaded.results.fits
    }

    boards = [(b, tables_of(b, lambda row: links[row.fit.folder])) for b in loaded.boards]
    drawings: list[Drawing] = []
    to_draw = list(figures(loaded))
    show("drawing figures", 0, len(to_draw))
    for drawing in draw_all(to_draw):
        drawings.append(drawing)
        show("drawing figures", len(drawings), len(to_draw))
    found = comparisons(loaded)
    papers, fits = comparison.against_papers(found), provenance.fits(loaded, links)
    calibration = comparison.calibration(loaded.calibration)
    citations = bibtex(loaded)
    page = render(
        title=_title(loaded),
        compared=compared(loaded.boards),
        answers=answers(loaded.boards),
        boards=boards,
        drawings=drawings,
        absent=absent(loaded),
        papers=papers,
        tallies=[comparison.tally(found, name) for name in CONFIGURATIONS],
        calibration=calibration,
        uncalibrated=_uncalibrated(loaded),
        parts=provenance.parts(loaded),
        command=shlex.join(command),
        studies=list(provenance.tables_of_studies(loaded)),
        machines=provenance.machines(loaded),
        fits=fits,
        looks=looks_of(loaded),
        titles=_titles(loaded),
        bibtex=citations,
        failures=loaded.registry.failures,
    )
    files = {PAGE: page, BIBLIOGRAPHY: citations, "tables/leaderboards.csv": as_csv(loaded.boards)}
    for board, tables in boards:
        files |= _texts(f"leaderboard-{name_of(board)}", tables, as_csv([board]))
    files |= _texts("papers", [papers], comparison.frame(found))
    files |= _texts("calibration", [calibration], loaded.calibration)
    files |= _texts("fits", [fits], loaded.fits)
    pictures = {
        f"figures/{drawing.figure.name}.{form}": content
        for drawing in drawings
        for form, content in drawing.files.items()
    }
    return {name: text.encode() for name, text in files.items()} | pictures


def _texts(name: str, tables: Sequence[Table], numbers: str | pd.DataFrame) -> dict[str, str]:
    if not isinstance(numbers, str):
        numbers = numbers.to_csv(index=False, lineterminator="\n")
    return {
        f"tables/{name}.csv": numbers,
        f"tables/{name}.md": "\n".join(map(markdown, tables)),
        f"tables/{name}.tex": "\n".join(map(latex, tables)),
    }


def _link(root: Path | None, fit: str, out: Path) -> str:
    """Return the link from the page to a fit."""
    if root is None:
        return ""
    own = root / "fits" / fit
    path = os.path.relpath(own if own.is_dir() else root, out)  # a packed fit has no folder
    return quote(Path(path).as_posix()) + "/"


def _title(loaded: Loaded) -> str:
    tasks = sorted({board.task for board in loaded.boards})
    if not tasks:
        return "Likelihood surrogates"
    if len(tasks) > 3:
        return f"Likelihood surrogates on {len(tasks)} tasks"
    return f"Likelihood surrogates on {listed(tasks)}"


def _titles(loaded: Loaded) -> dict[str, str]:
    titles = {}
    for name in sorted({fit.task for fit in loaded.results.fits}):
        with suppress(BenchError):
            titles[name] = loaded.registry.task(name).title
    return titles


def _uncalibrated(loaded: Loaded) -> str:
    """Return why calibration is missing, or missing for some tasks."""
    have = set(loaded.calibration["task"])
    lack = sorted({b.task for b in loaded.boards if b.plan["kind"] == "independent"} - have)
    if not lack:
        return "" if have else "n/a: there are no independent datasets."
    return (
        f"n/a for {', '.join(lack)}: calibration needs the statistics that scores keep since "
        "version 0.2; `bench run` into another folder makes them."
    )
