"""The page: everything a report says, as one HTML file that needs nothing else."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

import bench
from bench.errors import printable
from bench.leaderboard import Leaderboard
from bench.leaderboard.notes import heading, notes
from bench.leaderboard.verdict import verdict
from bench.report.boards import name_of
from bench.report.drawings import Drawing
from bench.report.figures.colours import Style
from bench.report.provenance import Part
from bench.report.summary import Answer
from bench.report.tables import Table

PLANS = {"independent": 0, "bootstrap": 1, "heldout": 2}


@dataclass(frozen=True)
class Content:
    """What a page shows.

    Args:
        title: its heading.
        compared: what was compared, in a sentence.
        answers: of each task.
        boards: the leaderboards with their tables.
        drawings: the figures.
        absent: what is not drawn, and why.
        papers: the table against the papers, and what it comes to.
        calibration: its table, and why it is empty if it is.
        provenance: results folders, the command of the report, tables of studies.
        looks: colour of each method.
        titles: of tasks, by name.
        bibtex: whom to cite.
        failures: plugins and metrics that do not load.
    """

    title: str
    compared: str
    answers: Sequence[Answer]
    boards: Sequence[tuple[Leaderboard, Sequence[Table]]]
    drawings: Sequence[Drawing]
    absent: Sequence[tuple[str, str]]
    papers: Table
    tallies: Sequence[str]
    calibration: Table
    uncalibrated: str
    parts: Sequence[Part]
    command: str
    studies: Sequence[tuple[str, str]]
    machines: Table
    fits: Table
    looks: Mapping[str, Style]
    titles: Mapping[str, str]
    bibtex: str
    failures: Mapping[str, str]


def render(content: Content) -> str:
    """Render the page; every text from results and plugins is escaped."""
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"heading": heading, "notes": notes, "verdict": verdict}
    script = _text("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(_text("page.html.j2")).render(
        vars(content)
        | {
            "version": bench.__version__,
            "style": Markup(_text("page.css")),
            "script": Markup(script),
            "script_hash": f"sha256-{digest}",
            "tasks": _by_task(content),
            "shown_in": {s: _drawings(content, s) for s in _SECTIONS},
            "name_of": name_of,
        }
    )


def _shown(value: Any) -> Any:
    """Show characters that a browser would hide or obey; what is HTML already stays as it is."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value, lines=True) if is_text else value


_SECTIONS = ("papers", "calibration", "cost", "scores", "tasks")


def _text(name: str) -> str:
    return files("bench.report").joinpath(name).read_text(encoding="utf-8")


def _drawings(content: Content, section: str) -> list[Drawing]:
    return [drawing for drawing in content.drawings if drawing.figure.section == section]


def _by_task(content: Content) -> list[dict[str, Any]]:
    """Tasks with their leaderboards: those that rank first, the largest budget first."""

    def order(item: tuple[Leaderboard, Sequence[Table]]) -> tuple[Any, ...]:
        board, _ = item
        ranks = any(row.rank for row in board.rows)
        return not ranks, -board.budget, PLANS[board.plan["kind"]], name_of(board)

    return [
        {
            "name": task,
            "title": content.titles.get(task, ""),
            "answers": [answer for answer in content.answers if answer.task == task],
            "boards": sorted((b for b in content.boards if b[0].task == task), key=order),
        }
        for task in sorted({board.task for board, _ in content.boards})
    ]
