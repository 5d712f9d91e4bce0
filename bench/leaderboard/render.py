"""Renders leaderboards: a terminal's tables, Markdown, CSV, JSON."""

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

from bench.errors import printable
from bench.leaderboard.build import Leaderboard
from bench.leaderboard.columns import sections, two_lines
from bench.leaderboard.notes import heading, notes
from bench.leaderboard.quantities import Quantity
from bench.leaderboard.verdict import verdict
from bench.storage.fit_spec import size


def plain(text: str) -> Text:
    """Return a text for a terminal's table: no markup, nothing that steers the terminal."""
    return Text(printable(text, lines=True), no_wrap=True)


def printed(what: str | Table, style: str = "") -> str:
    """Print a text or a table for a terminal, as wide as it is, a table as wide as it needs.

    A number cut short would lie: on a narrow terminal a table may be wider than it.
    """
    shown = Text(printable(what)) if isinstance(what, str) else what
    width = Console().width
    needed = Console(width=1000).measure(shown).maximum if isinstance(shown, Table) else 0
    console = Console(width=max(width, needed), highlight=False)
    with console.capture() as captured:
        console.print(shown, style=style)
    return captured.get()


def escape(text: str) -> str:
    """Write a text so that Markdown shows it as it is, in a table too.

    Characters that steer a terminal are shown, too. A `<` before a blank opens no tag: it is left
    as it is. Nothing becomes a link.

    >>> print(escape("a|b <i> < 1 [c](d)"))
    a\\|b &lt;i> < 1 [c]\\(d)
    """
    shown = printable(text.replace("\n", " "), lines=True)
    shown = shown.replace("|", "\\|").replace("](", "]\\(")
    return re.sub(r"<(?! )", "&lt;", shown)


def markdown_table(head: Sequence[str], rows: Iterable[Iterable[str]], rule: str = "---") -> str:
    """Renders a table of GitHub-flavoured Markdown, its texts escaped.

    Args:
        head: headings.
        rows: as many texts each.
        rule: what divides headings and rows; `---:` aligns to the right.

    >>> print(markdown_table(["method", "a|b"], [["exact", "1"]]), end="")
    | method | a\\|b |
    | --- | --- |
    | exact | 1 |
    """
    lines = [map(escape, head), [rule] * len(head), *(map(escape, row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table(boards: Sequence[Leaderboard], brief: bool = False) -> str:
    """Renders for a terminal, as wide as it is.

    Args:
        boards: the leaderboards.
        brief: only the first table and the verdict of those that rank; the rest if none does.
    """
    lines: list[str] = []

    def show(what: str | Table, style: str = "") -> None:
        lines.append(printed(what, style))

    ranking = [board for board in boards if any(row.rank for row in board.rows)]
    for board in ranking if brief and ranking else boards:
        show(heading(board), "bold")
        tables = sections(board)
        for number, (title, columns) in enumerate(tables[:1] if brief else tables):
            grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
            for column in columns:
                left = column.name in ("method", "device")
                name = plain(two_lines(column.name))
                grid.add_column(name, justify="left" if left else "right")
            for row in board.rows:
                cells = [plain(column.text(row)) for column in columns]
                grid.add_row(*cells, style="dim" if row.fit.oracle else "")
            show(title, "italic")
            show(grid)
            for sentence in verdict(board) if number == 0 else ():
                show(sentence)
            lines.append("\n")
        for note in notes(board, brief):
            show(note, "dim")
        lines.append("\n")
    return "".join(lines)


def markdown(boards: Sequence[Leaderboard]) -> str:
    """Renders GitHub-flavoured Markdown."""
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
    """One record per number, with its error; what CSV and JSON hold."""
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
                "ensemble": size(row.fit.identity),
                "calibration": (row.fit.identity.get("calibration") or {}).get("kind", ""),
                "fit": row.fit.folder,
                "members": row.members,
                "rank_low": row.rank[0] if row.rank else None,
                "rank_high": row.rank[1] if row.rank else None,
            }
            for name, quantity in row.quantities.items():
                records.append(base | {"quantity": name} | _flat(quantity))
            for name, value in row.cost.items():
                number = value if isinstance(value, int | float) else None
                note = "" if number is not None else str(value)
                records.append(base | {"quantity": f"cost/{name}"} | _flat(None, number, note))
            for what, reason in row.failures.items():
                records.append(base | {"quantity": f"failure/{what}"} | _flat(None, None, reason))
        for label, reason in board.absent.items():
            whole = label.startswith(("ensemble(", "calibrated("))  # these have no simpler form
            method, _, configuration = (label, "", "") if whole else label.partition(":")
            records.append(
                dict.fromkeys(records[0] if records else ())
                | {
                    "task": board.task,
                    "budget": board.budget,
                    "method": method,
                    "configuration": configuration,
                    "quantity": "absent",
                    "note": reason,
                }
            )
    return records


def _flat(quantity: Quantity | None, value: Any = None, note: str = "") -> dict[str, Any]:
    estimate = quantity.estimate if quantity is not None else None

    def finite(number: float | None) -> float | None:
        return number if number is not None and isfinite(number) else None

    return {
        "value": finite(estimate.value) if estimate else value,
        "error": finite(estimate.error) if estimate else None,
        "dof": finite(estimate.dof) if estimate else None,
        "member_error": finite(estimate.member_error) if estimate else None,
        "set_error": finite(estimate.set_error) if estimate else None,
        "note": (quantity.reason or quantity.where) if quantity is not None else note,
    }


def csv_of(records: Sequence[Mapping[str, Any]]) -> str:
    """Renders records of the same keys as comma-separated values; nothing where there are none."""
    buffer = io.StringIO()
    if records:
        writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _shown(v) for k, v in record.items()} for record in records)
    return buffer.getvalue()


def _shown(value: Any) -> Any:
    return printable(value, lines=True) if isinstance(value, str) else value


def as_csv(boards: Sequence[Leaderboard]) -> str:
    """Renders one line per number."""
    return csv_of(flat(boards))


def as_json(boards: Sequence[Leaderboard]) -> str:
    """Renders a list of objects, one per number; null where there is none."""
    return json.dumps(flat(boards), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Sequence[Leaderboard]], str]] = {
    "table": table,
    "csv": as_csv,
    "md": markdown,
    "json": as_json,
}
