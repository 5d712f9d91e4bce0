"""Renders the study of the bootstrap multiple: a terminal's tables, Markdown, CSV, JSON."""

import json
from collections.abc import Callable, Sequence
from itertools import groupby
from math import inf, isfinite
from typing import Any

from rich.table import Table

from bench.contracts import BootstrapPlan
from bench.errors import counted
from bench.leaderboard.columns import parenthesised
from bench.leaderboard.render import csv_of, escape, markdown_table, plain, printed
from bench.studies.comparison import Row, verdict

Column = tuple[str, Callable[[Row], str]]


def _columns(rows: Sequence[Row]) -> list[Column]:
    def measured(name: str) -> Callable[[Row], str]:
        return lambda r: parenthesised(
            r.coverage[name].measured.value, r.coverage[name].measured.error
        )

    def expected(name: str) -> Callable[[Row], str]:
        return lambda r: f"{r.coverage[name].expected:.3f}"

    def formula(name: str) -> Callable[[Row], str]:
        return lambda r: f"{r.coverage[name].formula:.3f}"

    names = [name for name in rows[0].coverage if name]
    fixed = any(row.sample.stratified for row in rows)
    columns: list[Column] = [("k", _multiple), ("formula", formula(names[0]))]
    for name in names:
        columns.append((f"coverage {name}", measured(name)))
        columns += [(f"expected {name}", expected(name))] if fixed else []
    columns += [("formula 95 %", formula("")), ("region 95 %", measured(""))]
    columns += [("expected region", expected(""))] if fixed else []
    return [*columns, ("region cut", lambda r: f"{r.cut:.3f}")]


def _multiple(row: Row) -> str:
    return "indep." if row.sample.multiple == inf else f"{row.sample.multiple:g}"


def _groups(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Tables with their headings, one for each task and M."""
    groups = groupby(rows, key=lambda r: (r.sample.task, r.sample.observations))
    return [(_heading(key, several), several) for key, group in groups if (several := list(group))]


def _heading(key: tuple[str, int], rows: Sequence[Row]) -> str:
    parts = [key[0], f"M = {key[1]:,}"]
    for row in (rows[0], rows[-1]):
        plan = row.sample.plan
        if isinstance(plan, BootstrapPlan):
            parts.append(
                f"at each point {plan.sets} sets of k M events, "
                f"{'fixed' if plan.stratified else 'multinomial'} numbers of each component, "
                f"each resampled {plan.bootstraps} times"
            )
        else:
            parts.append(f"independent: {counted(plan.per_point, 'dataset')} at each point")
    return " · ".join(dict.fromkeys(parts))


def notes(rows: Sequence[Row]) -> list[str]:
    """What a reader must know to read the numbers."""
    out = [
        "Exact likelihoods. 0.652(14) means 0.652 ± 0.014 (one standard error; the set of events "
        "is the unit).",
        "formula, for large M: 2 Φ(1/√(1 + 1/k)) − 1; for 95 % regions F_χ²₂(5.991/(1 + 1/k)).",
    ]
    if any(row.sample.stratified for row in rows):
        out.append(
            "expected: the same where numbers of events of each component do not scatter from set "
            "to set."
        )
    out.append("region cut: share of 95 % regions that a bound of the parameter space cuts.")
    if coarse := [row.sample.label for row in rows if row.unresolved > 0]:
        out.append(f"Some datasets were evaluated more coarsely than asked: {'; '.join(coarse)}.")
    return out


def table(rows: Sequence[Row]) -> str:
    """Renders for a terminal, as wide as it is."""
    lines = []
    for heading, group in _groups(rows):
        grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        columns = _columns(group)
        for name, _ in columns:
            grid.add_column(plain(name.replace(" ", "\n", 1)), justify="right")
        for row in group:
            cells = [plain(text(row)) for _, text in columns]
            grid.add_row(*cells, style="dim" if row.sample.multiple == inf else "")
        lines += [printed(heading, "bold"), printed(grid), "\n"]
    lines += [printed(note, "dim") for note in notes(rows)]
    lines += [printed(sentence) for sentence in verdict(rows)]
    return "".join(lines)


def markdown(rows: Sequence[Row]) -> str:
    """Renders GitHub-flavoured Markdown."""
    lines = ["# Coverage against the bootstrap multiple", ""]
    for heading, group in _groups(rows):
        columns = _columns(group)
        texts = ([text(row) for _, text in columns] for row in group)
        lines += [f"**{escape(heading)}**", ""]
        lines.append(markdown_table([name for name, _ in columns], texts, "---:"))
    lines += [f"- {escape(note)}" for note in notes(rows)] + [""]
    lines += [f"{escape(sentence)}\n" for sentence in verdict(rows)]
    return "\n".join(lines)


def flat(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One record per coverage; what CSV and JSON hold, null where there is none."""
    records = []
    for row in rows:
        plan = row.sample.plan
        bootstrap = isinstance(plan, BootstrapPlan)
        base = {
            "task": row.sample.task,
            "plan": plan.kind,
            "observations": row.sample.observations,
            "multiple": plan.multiple if isinstance(plan, BootstrapPlan) else None,
            "stratified": row.sample.stratified,
            "sets_per_point": plan.sets if isinstance(plan, BootstrapPlan) else plan.per_point,
            "bootstraps": plan.bootstraps if isinstance(plan, BootstrapPlan) else None,
            "seed": row.sample.seed,
        }
        for name, compared in row.coverage.items():
            measured = compared.measured
            finite = {
                key: value if isfinite(value) else None
                for key, value in (
                    ("value", measured.value),
                    ("error", measured.error),
                    ("dof", measured.dof),
                )
            }
            records.append(
                base
                | {"quantity": f"coverage/{name}" if name else "region_coverage"}
                | finite
                | {
                    "expected": compared.expected,
                    "formula": compared.formula if bootstrap else None,
                    "region_cut": row.cut,
                    "unresolved": row.unresolved,
                }
            )
    return records


def as_csv(rows: Sequence[Row]) -> str:
    """Renders one line per coverage."""
    return csv_of(flat(rows))


def as_json(rows: Sequence[Row]) -> str:
    """Renders a list of objects, one per coverage."""
    return json.dumps(flat(rows), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Sequence[Row]], str]] = {
    "csv": as_csv,
    "md": markdown,
    "json": as_json,
}
