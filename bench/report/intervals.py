"""Tables of the studies of intervals: corrected ones, and the uncertainty of training."""

import pandas as pd

from bench.report.load import Loaded
from bench.report.tables import Cell, Table, count, number
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
            Cell(row["method"], method=row["method"]),
            count(row, "calls"),
            count(row, "members"),
            number(row, "gap", signed=True),
            number(row, "worst", row["where"], signed=True),
            number(row, "length"),
            Cell(row["verdict"] or "–"),
        ]
        for _, row in frame.iterrows()
    ]
    columns = ["task", "parameter", "method", "calls", "members", "gap", "worst place", "length"]
    notes = [
        "calls: of one member, those of toys and of all averaged networks included.",
        "gap: mean coverage minus that of exact intervals, in points.",
        "worst place: the same where it is largest, of 41 values of the parameter.",
        "length: mean length relative to exact intervals.",
    ]
    title = "Corrected intervals at equal numbers of simulator calls"
    return Table("corrections", title, [*columns, "coverage"], rows, notes, words=3)


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
            Cell(row["method"], method=row["method"]),
            Cell(row["parameter"]),
            count(row, "budget"),
            *(number(row, name, signed=signed) for name, _, signed in quantities),
        ]
        for _, row in frame.iterrows()
    ]
    columns = ["task", "method", "parameter", "calls", *(text for _, text, _ in quantities)]
    notes = [
        "Spreads and errors are root mean squares in half-widths of exact intervals. The true "
        "spread is over training sets, and the true error is the distance to the exact estimate.",
        "Quoted spreads are of networks initialised anew on one training set, of networks on its "
        "bootstraps, and of weighted ensembles with drawn weights.",
        "gap: coverage minus 68.27 %, in points, as delivered and of intervals widened by a quoted "
        "spread. length: of the widened ones, relative to those as delivered.",
    ]
    return Table("training", "Uncertainty of training", columns, rows, notes, words=3)
