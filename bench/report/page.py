"""Page of a report: one HTML file without external resources."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, get_args

import jinja2
from markupsafe import Markup

import bench
from bench.errors import printable
from bench.leaderboard import Leaderboard
from bench.leaderboard.build import PLANS
from bench.leaderboard.notes import heading, notes
from bench.leaderboard.verdict import verdict
from bench.report.boards import name_of
from bench.report.drawings import Drawing
from bench.report.figures import Section
from bench.report.summary import Answer
from bench.report.tables import Table


def render(**content: Any) -> str:
    """Render the page; every text from results and plugins is escaped.

    Args:
        content: values for the template, by name: `title`, `compared` (in a sentence), `answers` of
            each task, `boards` with their tables, `drawings`, `absent` (missing figures, with
            reasons), `papers` with their `tallies`, `calibration` (`uncalibrated` says why it is
            empty), `parts`, `command`, `studies`, `machines` and `fits` of the provenance, `looks`
            of methods, `titles` of tasks, `bibtex`, and `failures` of plugins.
    """
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
    shown_in: dict[str, list[Drawing]] = {section: [] for section in get_args(Section)}
    for drawing in content["drawings"]:
        shown_in[drawing.figure.section].append(drawing)
    return environment.from_string(_text("page.html.j2")).render(
        content,
        version=bench.__version__,
        style=Markup(_text("page.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        tasks=_by_task(content["boards"], content["answers"], content["titles"]),
        shown_in=shown_in,
        name_of=name_of,
    )


def _shown(value: Any) -> Any:
    """Make control characters visible in texts; HTML markup is unchanged."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value, lines=True) if is_text else value


def _text(name: str) -> str:
    return files("bench.report").joinpath(name).read_text(encoding="utf-8")


def _by_task(
    boards: Sequence[tuple[Leaderboard, Sequence[Table]]],
    answers: Sequence[Answer],
    titles: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return tasks with their leaderboards: those with ranks and the largest budget first."""

    def order(item: tuple[Leaderboard, Sequence[Table]]) -> tuple[Any, ...]:
        board, _ = item
        return not board.ranks, -board.budget, PLANS.index(board.plan["kind"]), name_of(board)

    return [
        {
            "name": task,
            "title": titles.get(task, ""),
            "answers": [answer for answer in answers if answer.task == task],
            "boards": sorted((b for b in boards if b[0].task == task), key=order),
        }
        for task in sorted({board.task for board, _ in boards})
    ]
