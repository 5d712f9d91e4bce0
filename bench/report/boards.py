"""Leaderboards as tables: one for each section in files, one for each task on its page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from bench.boards import Leaderboard, Quantity, Row
from bench.boards.columns import Column, sections
from bench.boards.glossary import definition
from bench.boards.notes import heading
from bench.report.tables import Cell, Table
from bench.report.words import unique_slug

_PLANS = {"independent": "independent", "bootstrap": "bootstraps", "heldout": "held out"}


def name_of(board: Leaderboard) -> str:
    """Return a file-safe name of a leaderboard, unique within a report."""
    data = "" if board.training_data in ("fresh", "none") else board.training_data
    seed = f"seed{board.seed}" if board.seed else ""
    budget = str(board.budget) if board.budget else ""
    plan = unique_slug(board.plan_folder)
    return "--".join(filter(None, (unique_slug(board.task), budget, data, seed, plan)))


def tables_of(board: Leaderboard) -> list[Table]:
    """Return the tables of a leaderboard, the one with verdicts and ranks first."""
    return [
        Table(
            f"{name_of(board)}-{number}",
            f"{title}: {heading(board)}",
            [column.name for column in columns],
            [[_cell(column, row) for column in columns] for row in board.rows],
            words=1,
        )
        for number, (title, columns) in enumerate(sections(board), 1)
    ]


@dataclass(frozen=True)
class Heading:
    """Column of a task's table.

    Args:
        place: number, unique within the table.
        name: heading.
        section: title of the group of columns.
        definition: meaning in one or two sentences.
        words: whether it holds words, not numbers.
        shown: whether it is visible at first.
        ranking: "likelihood" or "interval" where comparisons of that ranking apply.
    """

    place: int
    name: str
    section: str
    definition: str
    words: bool = False
    shown: bool = False
    ranking: str = ""


@dataclass(frozen=True)
class Line:
    """Row of a task's table: one method of one leaderboard.

    Args:
        name: identifier on the page.
        label: the method.
        settings: values of the filters.
        cells: one for each column.
        better: by ranking, the names of rows of the same leaderboard that are significantly worse.
        shown: whether it is visible at first.
    """

    name: str
    label: str
    settings: Mapping[str, str]
    cells: Sequence[Cell]
    better: Mapping[str, Sequence[str]]
    shown: bool


@dataclass(frozen=True)
class Grid:
    """All leaderboards of a task in one table, with filters.

    Args:
        columns: the columns after the method.
        rows: the rows.
        filters: values of each filter, in their order; those with one value are left out.
        chosen: values of the filters at first.
    """

    columns: Sequence[Heading]
    rows: Sequence[Line]
    filters: Mapping[str, Sequence[str]]
    chosen: Mapping[str, str]


def grid(boards: Sequence[Leaderboard], families: Mapping[str, str]) -> Grid:
    """Return the leaderboards of a task as one table; it shows the first leaderboard at first.

    Args:
        boards: the leaderboards, the most important one first.
        families: family of each method.
    """
    plans = _plan_names(boards)
    columns: dict[tuple[str, str], Heading] = {}
    found: dict[tuple[str, str], dict[int, Column]] = {}
    for number, board in enumerate(boards):
        for place, (title, own) in enumerate(sections(board)):
            for column in own[1:]:
                key = (title, column.name)
                columns.setdefault(
                    key,
                    Heading(
                        len(columns),
                        column.name,
                        title,
                        definition(column.name, title, board.parameters),
                        words=column.left,
                        shown=number == 0 and place == 0,
                        ranking=_ranking(column),
                    ),
                )
                found.setdefault(key, {})[number] = column
    rows = []
    for number, board in enumerate(boards):
        for row in board.rows:
            settings = {
                "calls": f"{board.budget:,}" if board.budget else "–",
                "datasets": plans[number],
                "family": families.get(row.fit.method, ""),
                "members": str(row.members),
            }
            cells = [_cell(at[number], row) if number in at else Cell("–") for at in found.values()]
            better = {
                kind: [_row_name(number, label) for label in labels]
                for kind, labels in row.better.items()
            }
            name = _row_name(number, row.label)
            rows.append(Line(name, row.label, settings, cells, better, number == 0))
    filters = {
        name: list(dict.fromkeys(row.settings[name] for row in rows if row.settings[name]))
        for name in ("calls", "datasets", "family", "members")
    }
    first = rows[0].settings if rows else {}
    return Grid(
        list(columns.values()),
        rows,
        {name: values for name, values in filters.items() if len(values) > 1},
        {name: first[name] for name in ("calls", "datasets") if first},
    )


def _plan_names(boards: Sequence[Leaderboard]) -> list[str]:
    """Return short names of the plans, unique within a task and budget."""
    names = []
    for board in boards:
        multiple = board.plan.get("multiple", 1)
        name = _PLANS[board.plan["kind"]] + (f", {multiple} M" if multiple > 1 else "")
        data = board.training_data
        name += f", {data} training data" if data in ("shared", "bootstrap") else ""
        names.append(name + (f", seed {board.seed}" if board.seed else ""))
    same = [
        [b.plan_folder for b, n in zip(boards, names, strict=True) if n == name] for name in names
    ]
    return [
        f"{name} ({board.plan_folder[-4:]})" if len(set(folders)) > 1 else name
        for name, board, folders in zip(names, boards, same, strict=True)
    ]


def _row_name(board: int, label: str) -> str:
    return f"{board + 1}-{unique_slug(label)}"


def _ranking(column: Column) -> str:
    if column.name in ("likelihood rank", "interval rank"):
        return column.name.partition(" ")[0]
    if column.quantity == "price":
        return "interval"
    return "likelihood" if column.quantity == "divergence/joint" else ""


def _cell(column: Column, row: Row) -> Cell:
    text = column.text(row)
    if column.name == "method":
        return Cell(text, method=row.label)
    if column.rank is not None:
        rank = column.rank(row)
        return Cell(text, sort=None if rank is None else rank[0] + rank[1] / 1000)
    if not column.quantity:
        return Cell(text)
    quantity = row.quantities.get(column.quantity, Quantity())
    estimate = quantity.estimate
    if estimate is None:
        return Cell(text, note=quantity.reason or ("not computed" if text == "n/a" else ""))
    sort = estimate.value if isfinite(estimate.value) else None
    return Cell(text, sort=sort, note=_errors(quantity))


def _errors(quantity: Quantity) -> str:
    """Return an estimate with its errors, and their parts from members and datasets."""
    estimate = quantity.estimate
    if estimate is None or not isfinite(estimate.error):
        return ""
    parts = [
        f"{part:.2g} from {source}"
        for source, part in (("members", estimate.member_error), ("datasets", estimate.set_error))
        if isfinite(part)
    ]
    of = f", of it {' and '.join(parts)}" if parts else ""
    return f"{estimate.value:.5g} ± {estimate.error:.2g}{of}"
