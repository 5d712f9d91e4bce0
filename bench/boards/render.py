"""Output formats of leaderboards: terminal tables, Markdown, CSV and JSON."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.boards.board import Leaderboard
from bench.boards.columns import sections, two_lines
from bench.boards.notes import heading, notes
from bench.boards.quantities import Quantity
from bench.boards.verdict import verdict
from bench.errors import printable
from bench.stats.clustering import Estimate
from bench.stats.decision import CoverageVerdict

BRIEF = 2
"""Number of tables of a leaderboard that are shown unless all are asked for."""

_NUMBERS = ("value", "error", "dof", "member_error", "set_error")


def plain(text: str) -> Text:
    """Return a text for a terminal's table, without markup or control characters."""
    return Text(printable(text, lines=True), no_wrap=True)


def printed(what: str | Table, style: str = "") -> str:
    """Return a text or a table as printed on the terminal.

    A table may be wider than the terminal, because truncated numbers would be misleading.
    """
    shown = Text(printable(what)) if isinstance(what, str) else what
    width = Console(force_jupyter=False).width
    needed = (
        Console(width=1000, force_jupyter=False).measure(shown).maximum
        if isinstance(shown, Table)
        else 0
    )
    console = Console(width=max(width, needed), highlight=False, force_jupyter=False)
    with console.capture() as captured:
        console.print(shown, style=style)
    return captured.get()


def escape(text: str) -> str:
    r"""Escape a text for Markdown, including tables.

    Control characters are made visible. A `<` before a blank opens no tag and is kept. Links are
    disabled.

    >>> print(escape("a|b <i> < 1 [c](d)"))
    a\|b &lt;i> < 1 [c]\(d)
    """
    shown = printable(text.replace("\n", " "), lines=True)
    shown = shown.replace("|", "\\|").replace("](", "]\\(")
    return re.sub(r"<(?! )", "&lt;", shown)


def markdown_table(head: Sequence[str], rows: Iterable[Iterable[str]], rule: str = "---") -> str:
    r"""Render a table of GitHub-flavoured Markdown with escaped texts.

    Args:
        head: headings.
        rows: as many texts each.
        rule: separator of headings and rows; `---:` aligns to the right.

    >>> print(markdown_table(["method", "a|b"], [["exact", "1"]]), end="")
    | method | a\|b |
    | --- | --- |
    | exact | 1 |
    """
    lines = [map(escape, head), [rule] * len(head), *(map(escape, row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def terminal_table(
    head: Sequence[str], rows: Iterable[tuple[Iterable[str], bool]], left: Sequence[str] = ()
) -> Table:
    """Return a table for a terminal, with headings on two lines.

    Args:
        head: headings.
        rows: as many texts each, and whether the row is dimmed.
        left: headings of columns that are aligned to the left.
    """
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in head:
        grid.add_column(plain(two_lines(name)), justify="left" if name in left else "right")
    for texts, dim in rows:
        grid.add_row(*map(plain, texts), style="dim" if dim else "")
    return grid


def table(boards: Sequence[Leaderboard], brief: bool = False) -> str:
    """Render leaderboards for a terminal.

    Args:
        boards: the leaderboards.
        brief: render only the first two tables and the verdict of leaderboards with ranks; of all
            leaderboards if none has ranks.
    """
    lines: list[str] = []

    def show(what: str | Table, style: str = "") -> None:
        lines.append(printed(what, style))

    ranking = [board for board in boards if board.ranks]
    for board in ranking if brief and ranking else boards:
        show(heading(board), "bold")
        tables = sections(board)
        for number, (title, columns) in enumerate(tables[:BRIEF] if brief else tables):
            texts = (([column.text(r) for column in columns], r.fit.oracle) for r in board.rows)
            left = [column.name for column in columns if column.left]
            show(title, "italic")
            show(terminal_table([c.name for c in columns], texts, left=left))
            for sentence in verdict(board) if number == 0 else ():
                show(sentence)
            lines.append("\n")
        for note in notes(board, brief):
            show(note, "dim")
        lines.append("\n")
    return "".join(lines)


def markdown(boards: Sequence[Leaderboard]) -> str:
    """Render leaderboards as GitHub-flavoured Markdown."""
    lines: list[str] = []
    for board in boards:
        lines += [f"### {escape(heading(board))}", ""]
        for number, (title, columns) in enumerate(sections(board)):
            texts = ([column.text(row) for column in columns] for row in board.rows)
            lines += [f"**{escape(title)}**", ""]
            lines.append(markdown_table([column.name for column in columns], texts))
            if number == 0:
                lines += [f"{escape(sentence)}\n" for sentence in verdict(board)]
        lines += [f"- {escape(note)}" for note in notes(board)]
        lines.append("")
    return "\n".join(lines)


def flat(boards: Sequence[Leaderboard]) -> list[dict[str, Any]]:
    """Return one record per number, with its error; the content of CSV and JSON."""
    records = []
    for board in boards:
        for row in board.rows:
            base = {
                "task": board.task,
                "budget": board.budget,
                "training_data": board.training_data,
                "seed": board.seed,
                "plan": board.plan_folder,
                "method": row.fit.method,
                "configuration": row.fit.configuration,
                "ensemble": row.fit.size,
                "calibration": (row.fit.identity.get("calibration") or {}).get("kind", ""),
                "label": row.label,
                "fit": row.fit.folder,
                "members": row.members,
                "rank_low": row.rank[0] if row.rank else None,
                "rank_high": row.rank[1] if row.rank else None,
                "likelihood_rank_low": row.likelihood_rank[0] if row.likelihood_rank else None,
                "likelihood_rank_high": row.likelihood_rank[1] if row.likelihood_rank else None,
                "recommended": row.recommended,
            }
            told = {name: _numbers(quantity) for name, quantity in row.quantities.items()}
            told |= {f"verdict/{name}": _decision(found) for name, found in row.verdicts.items()}
            told |= {f"cost/{name}": _number(value) for name, value in row.cost.items()}
            told |= {f"failure/{what}": _number(reason) for what, reason in row.failures.items()}
            records += [base | {"quantity": name} | values for name, values in told.items()]
        for label, reason in board.absent.items():
            # Wrapped methods are not split.
            method, _, configuration = (label, "", "") if "(" in label else label.partition(":")
            records.append(
                dict.fromkeys(records[0] if records else ())
                | {
                    "task": board.task,
                    "budget": board.budget,
                    "method": method,
                    "configuration": configuration,
                    "label": label,
                    "quantity": "absent",
                    "note": reason,
                }
            )
    return records


def finite(estimate: Estimate | None, names: Iterable[str]) -> dict[str, float | None]:
    """Return attributes of an estimate by name; None where one is missing or not finite."""
    found = {name: getattr(estimate, name, None) for name in names}
    return {name: v if v is not None and isfinite(v) else None for name, v in found.items()}


def _numbers(quantity: Quantity) -> dict[str, Any]:
    return finite(quantity.estimate, _NUMBERS) | {"note": quantity.reason or quantity.where}


def _decision(verdict: CoverageVerdict) -> dict[str, Any]:
    """Return a verdict as a note; the numbers are those of the gap."""
    return dict.fromkeys(_NUMBERS) | {"note": verdict.word}


def _number(value: Any) -> dict[str, Any]:
    """Return a number without errors, or a text as its note."""
    is_number = isinstance(value, int | float)
    told = {"value": value, "note": ""} if is_number else {"note": str(value)}
    return dict.fromkeys(_NUMBERS) | told


def csv_of(records: Sequence[Mapping[str, Any]]) -> str:
    """Render records with equal keys as comma-separated values; empty without records."""
    buffer = io.StringIO()
    if records:
        writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _shown(v) for k, v in record.items()} for record in records)
    return buffer.getvalue()


def _shown(value: Any) -> Any:
    return printable(value, lines=True) if isinstance(value, str) else value


def json_of(records: Sequence[Mapping[str, Any]]) -> str:
    """Render a list of objects as JSON; undefined numbers are null."""
    return json.dumps(records, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def as_csv(boards: Sequence[Leaderboard]) -> str:
    """Render leaderboards as CSV, one line per number."""
    return csv_of(flat(boards))


FORMATS: dict[str, Callable[[Sequence[Leaderboard]], str]] = {
    "table": table,
    "csv": as_csv,
    "md": markdown,
    "json": lambda boards: json_of(flat(boards)),
}
