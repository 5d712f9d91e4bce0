"""Gradient evaluator against the lattice: interval ends of the same datasets, and costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.contracts import IndependentPlan
from bench.errors import UsageError
from bench.leaderboard.render import csv_of, markdown_table
from bench.leaderboard.results import Results, SavedFit
from bench.stats.clustering import Array
from bench.storage.entries import Entry
from bench.studies.numbers import code
from bench.studies.scored import Group

NAME = "evaluators"

_SILENT = 0.1  # half-widths: a larger error must be flagged


@dataclass(frozen=True)
class Agreement:
    """One line of the table: a method on a task.

    Args:
        task, budget, method: the fits.
        datasets: number of members times datasets that both evaluated.
        within_1: share of interval ends within 1 % of a half-width of those of the lattice, among
            datasets that both resolved.
        within_5: the same within 5 %.
        median: median distance of ends, in half-widths.
        worst: largest distance.
        unresolved: share of datasets that the gradient evaluator flagged.
        silent: number of datasets with an end off by more than 10 % that it did not flag.
        passes: mean cost of a dataset, in forward passes per event: maximum, ends, statistics.
        restarts: the same of the scan and restarts.
        information: the same of the observed information.
        time_ratio: seconds of the gradient evaluator over those of the lattice.
    """

    task: str
    budget: int
    method: str
    datasets: int
    within_1: float
    within_5: float
    median: float
    worst: float
    unresolved: float
    silent: int
    passes: float
    restarts: float
    information: float
    time_ratio: float


def agreements(results: Results, found: Sequence[Group]) -> list[Agreement]:
    """Compare the evaluators for every method with predictions of both.

    Args:
        results: a folder with predictions of two plans that differ by their evaluator.
        found: the groups with the methods.

    Raises:
        UsageError: if there are no such predictions.
    """
    scored = [m for group in found for m in (*group.methods, group.truth) if m is not None]
    fits = {m.fit.folder: m.fit for m in scored}
    rows = [row for fit in fits.values() for row in _of_fit(results, fit)]
    if not rows:
        raise UsageError(
            "nothing to compare: it takes predictions of two independent plans that differ only by "
            'evaluator = "gradient"'
        )
    return sorted(rows, key=lambda row: (row.task, row.budget, row.method))


def _pairs(results: Results) -> Iterator[tuple[str, str]]:
    """Yield the folders of a lattice's plan and of the same plan by gradients."""
    plans: dict[Any, dict[str, str]] = {}
    for folder, record in results.plans.items():
        plan = record["plan"]
        if plan["kind"] == "independent":
            known = IndependentPlan(**plan)
            same = known.model_copy(update={"evaluator": None}), record["seed"]
            plans.setdefault(same, {})[known.evaluator or "lattice"] = folder
    for both in plans.values():
        if len(both) == 2:
            yield both["lattice"], both["gradient"]


def _of_fit(results: Results, fit: SavedFit) -> Iterator[Agreement]:
    for folders in _pairs(results):
        found = [
            [results.entry(f"predictions/{fit.folder}/{plan}/member-{m:03d}") for plan in folders]
            for m in sorted(fit.members)
        ]
        complete = [(a, b) for a, b in found if a is not None and b is not None]
        if complete:
            yield _agreement(fit, complete)


def _agreement(fit: SavedFit, found: Sequence[tuple[Entry, Entry]]) -> Agreement:
    lattice, gradient = (
        _joined([entries[which].arrays for entries in found]) for which in range(2)
    )
    half = 0.5 * (lattice["upper"] - lattice["lower"])
    ends = [np.abs(gradient[name] - lattice[name]) / half for name in ("lower", "upper")]
    off = np.stack(ends, -1).reshape(len(half), -1)  # (datasets, ends)
    flagged = gradient["unresolved"].astype(bool)
    both = ~flagged & ~lattice["unresolved"].astype(bool)
    seconds = [sum(float(e[which].record["seconds"]) for e in found) for which in range(2)]
    passes, restarts, information = gradient["evaluations"].mean(0)
    return Agreement(
        fit.task,
        0 if fit.oracle else fit.budget,
        fit.label,
        len(half),
        round(float((off[both] <= 0.01).mean()), 4),
        round(float((off[both] <= 0.05).mean()), 4),
        round(float(np.median(off[both])), 5),
        round(float(off[both].max()), 4),
        round(float(flagged.mean()), 4),
        int((off[both] > _SILENT).any(1).sum()),
        round(float(passes), 1),
        round(float(restarts), 1),
        round(float(information), 1),
        round(seconds[1] / seconds[0], 2),
    )


def _joined(arrays: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the arrays of likelihoods of all members' datasets."""
    names = [n for n in arrays[0] if n.startswith("curves.")]
    return {
        name.removeprefix("curves."): np.concatenate([a[name] for a in arrays]) for name in names
    }


def csv(rows: Sequence[Agreement]) -> str:
    """Render one line per method and task."""
    return csv_of([asdict(row) for row in rows])


def markdown(rows: Sequence[Agreement]) -> str:
    """Render a Markdown table with a note."""
    head = [
        "task", "calls", "method", "datasets", "ends within 1 %", "within 5 %", "worst",
        "unresolved", "silent", "passes", "restarts", "information", "time",
    ]  # fmt: skip
    lines = [
        [
            row.task,
            f"{row.budget:,}" if row.budget else "–",
            code(row.method),
            f"{row.datasets:,}",
            f"{100 * row.within_1:.1f} %",
            f"{100 * row.within_5:.1f} %",
            f"{100 * row.worst:.1f} %",
            f"{100 * row.unresolved:.1f} %",
            f"{row.silent}",
            f"{row.passes:.0f}",
            f"{row.restarts:.0f}",
            f"{row.information:.0f}",
            f"× {row.time_ratio:.1f}",
        ]
        for row in rows
    ]
    return (
        f"{markdown_table(head, lines)}\n"
        "Ends: distance of 68.27 % interval ends from the lattice's, in half-widths, where both "
        "resolve them. Unresolved: flagged by the gradient evaluator's own checks. Silent: off by "
        "more than 10 % without a flag. Passes: forward passes per event for maximum, ends and "
        "statistics; restarts and information apart. Time: relative to the lattice.\n"
    )
