"""Tables and figure of the study of the bootstrap multiple.

The figure is after figure 3 of Sluijter, Diefenbacher, Bhimji & Nachman (2025): coverage against k,
the formula, and the band of independent datasets. It is drawn where matplotlib is installed.
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import numpy as np

from bench.boards.columns import parenthesised
from bench.boards.render import (
    csv_of,
    escape,
    finite,
    json_of,
    markdown_table,
    printed,
    terminal_table,
)
from bench.contracts import BootstrapPlan
from bench.errors import counted
from bench.studies.comparison import CoverageCheck, SampleCoverage, by_size, verdict
from bench.studies.drawing import drawn
from bench.studies.expected import interval_coverage, region_coverage

_PANEL = (3.4, 2.8)  # inches
Column = tuple[str, Callable[[SampleCoverage], str]]


def _columns(rows: Sequence[SampleCoverage]) -> list[Column]:
    def column(title: str, name: str, text: Callable[[CoverageCheck], str]) -> Column:
        return title, lambda row: text(row.coverage[name])

    def compared(title: str, word: str, name: str) -> list[Column]:
        own = column(title, name, lambda c: parenthesised(c.measured.value, c.measured.error))
        expected = column(f"expected {word}", name, lambda c: f"{c.expected:.3f}")
        return [own, expected] if fixed else [own]

    names = [name for name in rows[0].coverage if name]
    fixed = any(row.sample.stratified for row in rows)
    return [
        ("k", lambda r: "indep." if r.sample.multiple == inf else f"{r.sample.multiple:g}"),
        column("formula", names[0], lambda c: f"{c.formula:.3f}"),
        *(c for name in names for c in compared(f"coverage {name}", name, name)),
        column("formula 95 %", "", lambda c: f"{c.formula:.3f}"),
        *compared("region 95 %", "region", ""),
        ("region cut", lambda r: f"{r.cut:.3f}"),
    ]


def _heading(rows: Sequence[SampleCoverage]) -> str:
    sample = rows[0].sample
    parts = [sample.task, f"M = {sample.observations:,}"]
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


def notes(rows: Sequence[SampleCoverage]) -> list[str]:
    """Return the notes below the table."""
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


def table(rows: Sequence[SampleCoverage]) -> str:
    """Render tables for a terminal, at its width."""
    lines = []
    for group in by_size(rows):
        columns = _columns(group)
        texts = (([text(r) for _, text in columns], r.sample.multiple == inf) for r in group)
        grid = terminal_table([name for name, _ in columns], texts)
        lines += [printed(_heading(group), "bold"), printed(grid), "\n"]
    lines += [printed(note, "dim") for note in notes(rows)]
    lines += [printed(sentence) for sentence in verdict(rows)]
    return "".join(lines)


def markdown(rows: Sequence[SampleCoverage]) -> str:
    """Render GitHub-flavoured Markdown."""
    lines = ["# Coverage against the bootstrap multiple", ""]
    for group in by_size(rows):
        columns = _columns(group)
        texts = ([text(row) for _, text in columns] for row in group)
        table = markdown_table([name for name, _ in columns], texts, "---:")
        lines += [f"**{escape(_heading(group))}**", "", table]
    lines += [f"- {escape(note)}" for note in notes(rows)] + [""]
    lines += [f"{escape(sentence)}\n" for sentence in verdict(rows)]
    return "\n".join(lines)


def flat(rows: Sequence[SampleCoverage]) -> list[dict[str, Any]]:
    """Return one record per coverage for CSV and JSON; missing values are null."""
    records = []
    for row in rows:
        plan = row.sample.plan
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
            records.append(
                base
                | {"quantity": f"coverage/{name}" if name else "region_coverage"}
                | finite(compared.measured, ("value", "error", "dof"))
                | {
                    "expected": compared.expected,
                    "formula": compared.formula if isinstance(plan, BootstrapPlan) else None,
                    "region_cut": row.cut,
                    "unresolved": row.unresolved,
                }
            )
    return records


FORMATS: dict[str, Callable[[Sequence[SampleCoverage]], str]] = {
    "csv": lambda rows: csv_of(flat(rows)),
    "md": markdown,
    "json": lambda rows: json_of(flat(rows)),
}


def figures(rows: Sequence[SampleCoverage]) -> dict[str, bytes]:
    """Draw a panel for each task, M and quantity; nothing without matplotlib.

    Returns:
        The files' contents by format.
    """
    groups = by_size(rows)
    names = list(rows[0].coverage)

    def draw(figure: Any) -> None:
        axes = figure.subplots(len(groups), len(names), squeeze=False)
        for line, group in zip(axes, groups, strict=True):
            for name, ax in zip(names, line, strict=True):
                _panel(ax, group, name)
        axes[0, 0].legend(fontsize="x-small")

    return drawn(draw, (_PANEL[0] * len(names), _PANEL[1] * len(groups)))


def _panel(ax: Any, group: Sequence[SampleCoverage], name: str) -> None:
    sample = group[0].sample
    bootstraps = [row for row in group if row.sample.multiple < inf]
    k = np.array([row.sample.multiple for row in bootstraps])
    measured = [row.coverage[name].measured for row in bootstraps]
    for band in (row.coverage[name].measured for row in group if row.sample.multiple == inf):
        low, high = band.value - band.error, band.value + band.error
        ax.axhspan(low, high, color="0.85", label="independent ± 1 standard error")
    fine = np.linspace(1, max(k.max(), 2), 100)
    curve = [interval_coverage(m) if name else region_coverage(m) for m in fine]
    ax.plot(fine, curve, color="0.3", lw=1, label="formula")
    if sample.stratified:
        expected = [row.coverage[name].expected for row in bootstraps]
        ax.plot(k, expected, "_", color="C1", ms=12, label="expected with fixed numbers")
    ax.errorbar(
        k, [m.value for m in measured], [m.error for m in measured], fmt="o", ms=4, label="exact"
    )
    ax.set_title(f"{sample.task}, M = {sample.observations:,}", fontsize="small")
    ax.set_xlabel("bootstrap multiple k")
    ax.set_ylabel(f"coverage of {name}" if name else "coverage of 95 % regions")
