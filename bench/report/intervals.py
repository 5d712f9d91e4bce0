"""Tables of the studies of intervals: corrected ones, and the uncertainty of training."""

import pandas as pd

from bench.boards.columns import parenthesised
from bench.report.load import Loaded
from bench.report.tables import Cell, Table
from bench.studies import corrections, training


def interval_tables(loaded: Loaded) -> list[Table]:
    """Return the tables of those studies of intervals whose folders were given."""
    makers = {corrections.NAME: _corrections, training.NAME: _training}
    given = {path.stem for path in loaded.study_files}
    return [make(loaded.studies[name]) for name, make in makers.items() if name in given]


def _corrections(frame: pd.DataFrame) -> Table:
    """Return the table of corrected intervals."""
    rows = [
        [
            Cell(row["task"]),
            Cell(row["parameter"]),
            _count(row, "calls"),
            Cell(row["method"], method=row["method"]),
            _count(row, "members"),
            _number(row, "gap", signed=True),
            _number(row, "worst", row["where"], signed=True),
            _number(row, "length"),
            Cell(row["verdict"] or "–"),
        ]
        for _, row in frame.iterrows()
    ]
    columns = ["task", "parameter", "calls", "method", "members", "gap", "worst place", "length"]
    notes = [
        "calls: of one member, those of toys and of all averaged networks included.",
        "gap: mean coverage minus that of exact intervals, in points.",
        "worst place: the same where it is largest, of 41 values of the parameter.",
        "length: mean length relative to exact intervals.",
    ]
    title = "Corrected intervals at equal numbers of simulator calls"
    return Table("corrections", title, [*columns, "coverage"], rows, notes, words=2)


def _training(frame: pd.DataFrame) -> Table:
    """Return the table of the uncertainty of training."""
    quantities = [
        ("spread", "true spread", False),
        ("error", "true error", False),
        ("gap", "gap", True),
        *(
            (f"{way}_{name}", f"{text}: {name}", name == "gap")
            for way, text in training.QUOTED.items()
            for name in ("spread", "gap", "length")
        ),
    ]
    rows = [
        [
            Cell(row["task"]),
            _count(row, "budget"),
            Cell(row["method"], method=row["method"]),
            Cell(row["parameter"]),
            *(_number(row, name, signed=signed) for name, _, signed in quantities),
        ]
        for _, row in frame.iterrows()
    ]
    columns = ["task", "calls", "method", "parameter", *(text for _, text, _ in quantities)]
    notes = [
        "Spreads and errors are root mean squares in half-widths of exact intervals. The true "
        "spread is over training sets, and the true error is the distance to the exact estimate.",
        "Quoted spreads are of networks initialised anew on one training set, of networks on its "
        "bootstraps, and of weighted ensembles with drawn weights.",
        "gap: coverage minus 68.27 %, in points, as delivered and of intervals widened by a quoted "
        "spread. length: of the widened ones, relative to those as delivered.",
    ]
    return Table("training", "Uncertainty of training", columns, rows, notes, words=4)


def _count(row: "pd.Series[float]", name: str) -> Cell:
    return Cell(f"{row[name]:,.0f}", sort=float(row[name]))


def _number(
    row: "pd.Series[float]", name: str, where: object = "", *, signed: bool = False
) -> Cell:
    """Return the cell of a number with an error; a dash if it is missing."""
    value, error = float(row[name]), float(row[f"{name}_error"])
    if value != value:
        return Cell("–")
    text = parenthesised(value, error).replace("-", "−")
    text = f"+{text}" if signed and value > 0 else text
    return Cell(f"{text} {where}".strip(), sort=value)
