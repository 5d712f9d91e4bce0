"""Tables of the report: what a page shows, and the same as Markdown and LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.errors import printable
from bench.leaderboard.render import escape, markdown_table


@dataclass(frozen=True)
class Bar:
    """A number with its standard error on its column's scale, per cent of the width.

    Args:
        value, low, high: the number, and one standard error below and above.
        reference: where the column's ideal is; None without one.
        beyond: "<" or ">" where the number is off the scale.
    """

    value: float
    low: float
    high: float
    reference: float | None
    beyond: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: what it says.
        sort: by what it sorts, if not by the text.
        note: why it is n/a, or what to mind.
        link: what it leads to.
        bar: its number as a picture.
        method: the method it names.
    """

    text: str
    sort: float | None = None
    note: str = ""
    link: str = ""
    bar: Bar | None = None
    method: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        name: file-safe and unique.
        title: what it is of.
        columns: headings.
        rows: as many cells each.
        notes: what a reader must know.
        words: how many of the first columns hold words, not numbers.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default=())
    words: int = 1


def markdown(table: Table) -> str:
    """Renders GitHub-flavoured Markdown."""
    texts = ([cell.text for cell in row] for row in table.rows)
    lines = [f"**{escape(table.title)}**", "", markdown_table(table.columns, texts)]
    lines += [f"- {escape(note)}" for note in table.notes]
    return "\n".join(lines).rstrip() + "\n"


def latex(table: Table) -> str:
    """Renders a LaTeX table with the rules of booktabs."""
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
    """Write a text so that LaTeX shows it as it is, on one line."""
    return "".join(_TEX.get(character, character) for character in printable(text))
