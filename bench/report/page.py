"""Pages of a report: HTML without external resources, as several files or as one."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

import bench
from bench.boards import Row
from bench.boards.columns import parenthesised, ranks_of
from bench.boards.notes import heading, notes
from bench.boards.verdict import SIGNS, verdict
from bench.errors import printable
from bench.report.boards import name_of
from bench.report.drawings import Drawing
from bench.report.words import calls


@dataclass(frozen=True)
class Page:
    """Page of a report.

    Args:
        name: name of its file without the ending, and its identifier.
        link: text of links to it.
        template: name of its template.
        content: values for the template, by name.
    """

    name: str
    link: str
    template: str
    content: Mapping[str, Any]


def render(pages: Sequence[Page], title: str, inline: bool = False) -> dict[str, str]:
    """Render the pages; every text from results and plugins is escaped.

    Args:
        pages: the pages; the first is the entrance.
        title: of the report.
        inline: whether all pages and figures go into one file.

    Returns:
        HTML by name of the file.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = _text("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

    def to(page: str) -> str:
        return f"#{page}" if inline else f"{page}.html"

    def picture(drawing: Drawing, file: str) -> str:
        if not inline:
            return f"figures/{file}"
        return f"data:image/svg+xml;base64,{base64.b64encode(drawing.files[file]).decode()}"

    environment.globals |= {
        "calls": calls,
        "heading": heading,
        "inline": inline,
        "name_of": name_of,
        "notes": notes,
        "picture": picture,
        "price": _price,
        "ranks_of": ranks_of,
        "signs": SIGNS,
        "to": to,
        "verdict": verdict,
        "version": bench.__version__,
    }
    bodies = [
        Markup(environment.get_template(page.template).render(page.content)) for page in pages
    ]
    every = list(zip(pages, bodies, strict=True))
    layout = environment.get_template("layout.html.j2")

    def whole(name: str, shown: Sequence[tuple[Page, Markup]], heading: str) -> str:
        return layout.render(
            bodies=shown,
            current=name,
            heading=heading,
            pages=pages,
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            style=Markup(_text("page.css")),
        )

    if inline:
        return {f"{pages[0].name}.html": whole("", every, title)}
    return {
        f"{page.name}.html": whole(
            page.name, [(page, body)], title if page is pages[0] else f"{page.link} · {title}"
        )
        for page, body in every
    }


def _shown(value: Any) -> Any:
    """Make control characters visible in texts; HTML markup is unchanged."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value, lines=True) if is_text else value


def _text(name: str) -> str:
    return files("bench.report").joinpath(name).read_text(encoding="utf-8")


def _price(row: Row) -> str:
    """Return the honest length of a method, else its interval score, else nothing."""
    for name, words in (("price", ""), ("score_ratio", "score ")):
        estimate = row.estimate(name)
        if estimate is not None:
            return words + parenthesised(estimate.value, estimate.error)
    return ""
