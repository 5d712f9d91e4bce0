"""Tables of the report for the page, Markdown and LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from bench.boards.columns import parenthesised
from bench.boards.render import escape, markdown_table
from bench.errors import printable


@dataclass(frozen=True)
class Cell:
    """Cell of a table.

    Args:
        text: content.
        sort: number for sorting, if not by the text.
        note: its error in full, why it is n/a, or a caveat.
        method: the method that it names.
    """

    text: str
    sort: float | None = None
    note: str = ""
    method: str = ""


@dataclass(frozen=True)
class Table:
    """Table of the report.

    Args:
        name: file-safe and unique.
        title: subject.
        columns: headings.
        rows: as many cells each.
        notes: explanations.
        words: number of leading columns that hold words, not numbers.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default=())
    words: int = 1


def count(row: "pd.Series[float]", name: str) -> Cell:
    """Return the cell of a whole number."""
    return Cell(f"{row[name]:,.0f}", sort=float(row[name]))


def number(row: "pd.Series[float]", name: str, where: object = "", *, signed: bool = False) -> Cell:
    """Return the cell of a number with an error; a dash if it is missing."""
    value, error = float(row[name]), float(row[f"{name}_error"])
    if value != value:
        return Cell("–")
    text = parenthesised(value, error).replace("-", "−")
    text = f"+{text}" if signed and value > 0 else text
    return Cell(f"{text} {where}".strip(), sort=value)


def markdown(table: Table) -> str:
    """Render a table as GitHub-flavoured Markdown."""
    texts = ([cell.text for cell in row] for row in table.rows)
    lines = [f"**{escape(table.title)}**", "", markdown_table(table.columns, texts)]
    lines += [f"- {escape(note)}" for note in table.notes]
    return "\n".join(lines).rstrip() + "\n"


def latex(table: Table) -> str:
    """Render a table as LaTeX with the rules of booktabs."""
    aligned = "l" * table.words + "r" * (len(table.columns) - table.words)
    rows = [[tex(cell.text) for cell in row] for row in table.rows]
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{tex(table.title)}}}",
        f"\\label{{tab:{table.name}}}",
        f"\\begin{{tabular}}{{{aligned}}}",
        "\\toprule",
        " & ".join(map(tex, table.columns)) + r" \\",
        "\\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "√": r"$\surd$",
    "∞": r"$\infty$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "→": r"$\rightarrow$",
    "≤": r"$\le$",
    "·": r"$\cdot$",
    "²": "$^2$",
    "₂": "$_2$",
    "₁": "$_1$",
    "μ": r"$\mu$",
    "θ": r"$\theta$",
    "λ": r"$\lambda$",
    "γ": r"$\gamma$",
    "ν": r"$\nu$",
    "σ": r"$\sigma$",
    "τ": r"$\tau$",
    "χ": r"$\chi$",
    "ℓ": r"$\ell$",
    "α": r"$\alpha$",
} | {character: f"\\{character}" for character in "&%$#_"}


def tex(text: str) -> str:
    """Escape a text for LaTeX, on one line."""
    return "".join(_TEX.get(character, character) for character in printable(text))
