"""Writer of reports: the page, its figures and its tables."""

import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from bench.boards.render import as_csv
from bench.errors import BenchError, counted
from bench.report import comparison, output, provenance
from bench.report.bibliography import bibtex
from bench.report.boards import grid, name_of, tables_of
from bench.report.drawings import Drawing, draw_all
from bench.report.figures import absent, figures, looks_of
from bench.report.intervals import interval_tables
from bench.report.load import Loaded
from bench.report.page import Page, render
from bench.report.papers import CONFIGURATIONS, comparisons
from bench.report.summary import answers, compared, conclusion, methods, tolerances
from bench.report.tables import Table, latex, markdown
from bench.report.validation import validation_tables
from bench.report.words import listed, unique_slug

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
    inline: bool = False,
) -> list[str]:
    """Write the report of results into a folder, and return the names of its files.

    The same results give the same bytes. An earlier report in the folder is replaced as a whole;
    other files in the folder stay.

    Args:
        loaded: the results.
        out: the folder.
        command: command that reproduces it.
        show: called with the progress.
        inline: whether to write one file that contains everything.

    Raises:
        StoreError: if the folder cannot be written.
        UsageError: if a link, or a file that no report wrote, is in the place of the report.
    """
    with output.opened(out, (PAGE,) if inline else (PAGE, BIBLIOGRAPHY)) as folder:
        files = contents(loaded, command, show, inline)
        show(f"writing {counted(len(files), 'file')}", 0, 0)
        folder.replace(files, {part.folder: part.fingerprint for part in provenance.parts(loaded)})
    return [*files, output.LIST]


def contents(
    loaded: Loaded, command: Sequence[str], show: Show = _nothing, inline: bool = False
) -> dict[str, bytes]:
    """Make the files of a report, by name relative to the output folder."""
    drawings: list[Drawing] = []
    to_draw = list(figures(loaded))
    show("drawing figures", 0, len(to_draw))
    for drawing in draw_all(to_draw):
        drawings.append(drawing)
        show("drawing figures", len(drawings), len(to_draw))
    found = answers(loaded.boards)
    compared_with = comparisons(loaded)
    calibration = {
        answer.task: comparison.calibration(
            loaded.calibration[loaded.calibration["task"] == answer.task]
        )
        for answer in found
    }
    papers, fits = comparison.against_papers(compared_with), provenance.fits(loaded)
    citations = bibtex(loaded)
    names = {answer.task: f"task-{unique_slug(answer.task)}" for answer in found}
    common = {"looks": looks_of(loaded), "parts": provenance.parts(loaded)}
    titles = _titles(loaded)
    pages = [
        Page(
            "index",
            "Answer",
            "answer.html.j2",
            common
            | {
                "answers": found,
                "compared": compared(loaded.boards),
                "conclusion": conclusion(found),
                "tolerances": tolerances(found),
                "families": _families(loaded),
                "drawings": [d for d in drawings if d.figure.section == "answer"],
                "methods": methods(found),
                "page_of": names,
                "title": _title(loaded),
            },
        )
    ]
    pages += [
        Page(
            names[answer.task],
            answer.task,
            "task.html.j2",
            common
            | {
                "answer": answer,
                "calibration": calibration[answer.task],
                "drawings": [d for d in drawings if d.figure.task == answer.task],
                "grid": grid(answer.boards, loaded.families),
                "page": names[answer.task],
                "task": answer.task,
                "title": titles.get(answer.task, ""),
            },
        )
        for answer in found
    ]
    intervals = interval_tables(loaded)
    if intervals:
        pages.append(
            Page("intervals", "Intervals", "intervals.html.j2", common | {"tables": intervals})
        )
    tables = validation_tables(loaded)
    matrix = [d for d in drawings if d.figure.section == "validation"]
    if tables or matrix:
        content = common | {"tables": tables, "drawings": matrix}
        pages.append(Page("validation", "Validation", "validation.html.j2", content))
    pages.append(
        Page(
            "papers",
            "Against the papers",
            "papers.html.j2",
            common
            | {
                "drawings": [d for d in drawings if d.figure.section == "papers"],
                "papers": papers,
                "tallies": [comparison.tally(compared_with, name) for name in CONFIGURATIONS],
            },
        )
    )
    pages.append(
        Page(
            "sources",
            "Sources",
            "sources.html.j2",
            common
            | {
                "absent": absent(loaded),
                "bibtex": citations,
                "command": shlex.join(command),
                "failures": loaded.registry.failures,
                "fits": fits,
                "machines": provenance.machines(loaded),
                "studies": list(provenance.tables_of_studies(loaded)),
            },
        )
    )
    files = render(pages, _title(loaded), inline)
    if inline:
        return {name: text.encode() for name, text in files.items()}
    files |= {BIBLIOGRAPHY: citations, "tables/leaderboards.csv": as_csv(loaded.boards)}
    for answer in found:
        files[f"tables/{names[answer.task]}.csv"] = as_csv(answer.boards)
        for board in answer.boards:
            files |= _texts(f"leaderboard-{name_of(board)}", tables_of(board), as_csv([board]))
    files |= _texts("papers", [papers], comparison.frame(compared_with))
    files |= _texts("calibration", [*calibration.values()], loaded.calibration)
    files |= _texts("fits", [fits], loaded.fits)
    for table in (*intervals, *tables):
        files[f"tables/{table.name}.md"] = markdown(table)
        files[f"tables/{table.name}.tex"] = latex(table)
    pictures = {f"figures/{name}": content for d in drawings for name, content in d.files.items()}
    return {name: text.encode() for name, text in files.items()} | pictures


def _texts(name: str, tables: Sequence[Table], numbers: str | pd.DataFrame) -> dict[str, str]:
    if not isinstance(numbers, str):
        numbers = numbers.to_csv(index=False, lineterminator="\n")
    return {
        f"tables/{name}.csv": numbers,
        f"tables/{name}.md": "\n".join(map(markdown, tables)),
        f"tables/{name}.tex": "\n".join(map(latex, tables)),
    }


def _title(loaded: Loaded) -> str:
    tasks = sorted({board.task for board in loaded.boards})
    if not tasks:
        return "Likelihood surrogates"
    if len(tasks) > 3:
        return f"Likelihood surrogates on {len(tasks)} tasks"
    return f"Likelihood surrogates on {listed(tasks)}"


def _families(loaded: Loaded) -> dict[str, str]:
    """Return the family of each method, by label."""
    rows = (row for board in loaded.boards for row in board.rows)
    return {row.label: loaded.families.get(row.fit.method, "") for row in rows}


def _titles(loaded: Loaded) -> dict[str, str]:
    titles = {}
    for name in sorted({fit.task for fit in loaded.results.fits}):
        with suppress(BenchError):
            titles[name] = loaded.registry.task(name).title
    return titles
