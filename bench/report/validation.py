"""Table of the worth of diagnostics."""

import pandas as pd

from bench.report.load import Loaded
from bench.report.tables import Cell, Table, count, number
from bench.studies import diagnostics

_SHORT = 0.01  # seconds


def validation_tables(loaded: Loaded) -> list[Table]:
    """Return the grades of diagnostics if the folder of their study was given."""
    given = {path.stem for path in loaded.study_files}
    if diagnostics.NAME not in given:
        return []
    return [_grades(loaded.studies[diagnostics.NAME])]


def _grades(frame: pd.DataFrame) -> Table:
    names = ("false_alarms", "power", "area", "between", "within")
    rows = [
        [
            Cell(row["diagnostic"]),
            Cell(row["level"]),
            count(row, "networks"),
            count(row, "tasks"),
            *(number(row, name) for name in names),
            count(row, "calls"),
            _seconds(float(row["seconds"])),
        ]
        for _, row in frame.iterrows()
    ]
    columns = ["diagnostic", "level", "networks", "tasks", "false alarms", "power", "area"]
    notes = [
        "Networks outside the tolerance have coverage that differs from that of exact intervals by "
        "more than 5 points.",
        "false alarms: share of p-values below 5 % among networks within the tolerance.",
        "power: share of networks outside that exceed 95 % of those within. area: area under the "
        "curve for the same question; 0.5 is chance.",
        "between and within: rank correlation with the divergence from the exact posterior, over "
        "methods and budgets, and over the trainings of one method.",
        "Errors are over tasks; with one task, over methods and budgets (bootstrap).",
    ]
    title = "Prediction of failures of trained networks"
    head = [*columns, "between", "within", "calls", "seconds"]
    return Table("diagnostics", title, head, rows, notes, words=2)


def _seconds(value: float) -> Cell:
    return Cell(f"{value:.2g}" if value >= _SHORT else f"< {_SHORT}", sort=value)
