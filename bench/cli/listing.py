"""Tables of `bench list`."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cli.descriptions import Description
from bench.errors import counted, printable

_WIDTH = 80  # columns of a table
_PARAMETERS = 4  # of a task that are listed one by one
_OWN = ("nlbench ", "bench.presets/")  # beginnings of the places of what the suite brings
_HEADS = {
    "tasks": ("task", "model", "parameters", "M"),
    "methods": ("method", "model", "configurations"),
    "wrappers": ("wrapper", "surrogate", "settings"),
    "metrics": ("metric", "definition"),
    "diagnostics": ("diagnostic", "definition", "level", "p-value"),
    "presets": ("preset", "purpose"),
}


def listing(descriptions: Sequence[Description], kinds: Sequence[str], long: bool) -> str:
    """Return a table for each kind, within 80 columns.

    Args:
        descriptions: all that is registered.
        kinds: the kinds to show.
        long: whether to show sources and full places too.
    """
    console = Console(width=_WIDTH, highlight=False)
    tables = []
    for kind in kinds:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        name, model, *others = _HEADS[kind]
        table.add_column(name, no_wrap=True, max_width=40)
        table.add_column(model, overflow="fold", min_width=20)
        for head in others:
            table.add_column(head, overflow="fold", justify="right" if head == "M" else "left")
        for entry in descriptions:
            if entry.kind == kind:
                table.add_row(*(Text(printable(text)) for text in _cells(entry, long)))
        with console.capture() as captured:
            console.print(table)
        lines = captured.get().splitlines()
        tables.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(tables)


def _cells(entry: Description, long: bool) -> tuple[str, ...]:
    text = entry.title
    if long and entry.citation:
        text = f"{text.removesuffix('.')}; {entry.citation}"
    if long and 0 < len(entry.reported) < len(entry.parameters):
        text += f"; reports {', '.join(entry.reported)}"
    if long and entry.factors:
        text += f"; with {', '.join(entry.factors)}"
    if entry.missing:
        text += f"; not available: {entry.missing}"
    if long:
        text += f" [{entry.place}]"
    elif not entry.place.startswith(_OWN):
        text += f" [{entry.place.rpartition('/')[2]}]"
    if entry.kind == "tasks":
        size = str(entry.observations) if entry.loads else ""
        return entry.name, text, _parameters(entry, entry.parameters), size
    if entry.kind == "methods":
        return entry.name, text, ", ".join(entry.configurations)
    if entry.kind == "wrappers":
        return entry.name, text, ", ".join(entry.settings)
    if entry.kind == "diagnostics":
        return entry.name, text, entry.level, entry.null
    return entry.name, text


def _parameters(entry: Description, names: Sequence[str]) -> str:
    """Return the parameters of a task; of many, the reported ones and the number of others."""
    if len(names) <= _PARAMETERS:
        return ", ".join(names)
    every = zip(names, entry.parameters, strict=True)
    reported = [name for name, own in every if own in entry.reported]
    others = len(names) - len(reported)
    return ", ".join(reported) + (f" and {counted(others, 'other')}" if others else "")


def markdown(descriptions: Sequence[Description], kinds: Sequence[str]) -> str:
    """Return a Markdown table for each kind, as in docs/reference/registry.md."""
    from bench.boards.render import markdown_table

    heads = {
        "tasks": ["task", "model", "parameters", "M"],
        "methods": ["method", "what it is", "configurations", "source"],
        "wrappers": ["wrapper", "what it is", "settings", "source"],
        "diagnostics": ["diagnostic", "definition", "level", "p-value", "source"],
    }
    tables = []
    for kind in kinds:
        rows = []
        for entry in descriptions:
            if entry.kind != kind or not entry.loads:
                continue
            cells = [entry.title]
            if kind == "tasks":
                cells += [_parameters(entry, entry.symbols), str(entry.observations)]
            elif kind == "methods":
                cells += [", ".join(f"`{name}`" for name in entry.configurations), entry.citation]
            elif kind == "wrappers":
                cells += [", ".join(f"`{name}`" for name in entry.settings), entry.citation]
            elif kind == "diagnostics":
                cells += [entry.level, entry.null, entry.citation]
            rows.append([f"`{entry.name}`", *cells])
        head = heads.get(kind, [kind[:-1], "what it is"])
        tables.append(markdown_table(head, rows).rstrip("\n"))
    return "\n\n".join(tables)
