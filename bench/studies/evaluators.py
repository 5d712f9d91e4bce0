"""Gradient evaluator against the lattice: interval ends of the same datasets, and costs.

Either can be wrong. Where they differ most, a dense lattice decides, on which the surrogate is
evaluated at every node.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from bench.boards.render import csv_of, markdown_table
from bench.boards.results import Results, SavedFit
from bench.contracts import IndependentPlan
from bench.errors import UsageError
from bench.inference.datasets import log_ratio_of
from bench.inference.intervals import summarise
from bench.inference.lattice import Lattice
from bench.inference.likelihood import MixtureLikelihood
from bench.registry.registry import Registry
from bench.stages.datasets import sets
from bench.stages.members import open_fit
from bench.stats.clustering import Array
from bench.storage.entries import JobContext
from bench.storage.fit_spec import FitSpec
from bench.storage.simulations import SimulationStore
from bench.storage.store import Entry
from bench.studies.numbers import code
from bench.studies.scored import Group

NAME = "evaluators"

_SILENT = 0.1  # half-widths: a larger error must be flagged
_MARGIN = 0.15  # of a dense lattice beyond the interval, in lengths of the interval
_NODES = (1601, 401)  # nodes of a context parameter and of one that only mixes
_SQUARE = (401, 401)  # nodes of two context parameters


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
        scanned: number of datasets on the dense lattice: those whose ends differ most.
        lattice_off: largest distance of the lattice's ends from the dense one's, in half-widths.
        gradient_off: the same of the gradient evaluator, where it raises no flag.
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
    scanned: int
    lattice_off: float
    gradient_off: float


def agreements(
    results: Results, found: Sequence[Group], registry: Registry, scans: int
) -> list[Agreement]:
    """Compare the evaluators for every method with predictions of both.

    Args:
        results: a folder with predictions of two plans that differ by their evaluator.
        found: the groups with the methods.
        registry: the names.
        scans: number of datasets of each method on a dense lattice.

    Raises:
        UsageError: if there are no such predictions.
    """
    scored = [m for group in found for m in (*group.methods, group.truth) if m is not None]
    fits = {m.fit.folder: m.fit for m in scored}
    rows = [row for fit in fits.values() for row in _of_fit(results, fit, registry, scans)]
    if not rows:
        raise UsageError(
            "nothing to compare: it takes predictions of two independent plans that differ only by "
            'evaluator = "gradient", on tasks that the lattice can evaluate: at most two '
            "parameters, no constraints, no rate"
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


def _of_fit(results: Results, fit: SavedFit, registry: Registry, scans: int) -> Iterator[Agreement]:
    for plans in _pairs(results):
        found = {
            member: [
                results.entry(f"predictions/{fit.folder}/{p}/member-{member:03d}") for p in plans
            ]
            for member in sorted(fit.members)
        }
        # Without a window the first plan, too, was evaluated by gradients.
        both = {m: (a, b) for m, (a, b) in found.items() if a and b and "curves.joint" in a.arrays}
        if both:
            yield _agreement(results, fit, plans[0], both, registry, scans)


def _agreement(
    results: Results,
    fit: SavedFit,
    folder: str,
    found: Mapping[int, tuple[Entry, Entry]],
    registry: Registry,
    scans: int,
) -> Agreement:
    lattice, gradient = (_joined([e[which].arrays for e in found.values()]) for which in range(2))
    half = 0.5 * (lattice["upper"] - lattice["lower"])
    off = _distance(gradient, lattice, half)
    flagged = gradient["unresolved"].astype(bool)
    both = ~flagged & ~lattice["unresolved"].astype(bool)
    seconds = [sum(float(e[which].record["seconds"]) for e in found.values()) for which in range(2)]
    passes, restarts, information = gradient["evaluations"].mean(0)

    worst = np.argsort(-np.where(both, off.max(1), -1))[: min(scans, int(both.sum()))]
    size = len(half) // len(found)
    chosen = [(sorted(found)[row // size], int(row % size)) for row in worst]
    rows = [
        {name: arrays[name][worst] for name in ("lower", "upper")} for arrays in (lattice, gradient)
    ]
    dense = _scanned(results, fit, folder, chosen, rows, registry) if chosen else rows[0]
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
        len(chosen),
        *(round(_furthest(ends, dense, half[worst]), 4) for ends in rows),
    )


def _distance(own: Mapping[str, Array], other: Mapping[str, Array], half: Array) -> Array:
    """Return distances of interval ends in half-widths, (datasets, ends)."""
    ends = [np.abs(own[name] - other[name]) / half for name in ("lower", "upper")]
    return np.stack(ends, -1).reshape(len(half), -1)


def _furthest(own: Mapping[str, Array], other: Mapping[str, Array], half: Array) -> float:
    """Return the largest distance of interval ends in half-widths; 0 without datasets."""
    return float(_distance(own, other, half).max()) if len(half) else 0.0


def _scanned(
    results: Results,
    fit: SavedFit,
    folder: str,
    chosen: Sequence[tuple[int, int]],
    rows: Sequence[Mapping[str, Array]],
    registry: Registry,
) -> dict[str, Array]:
    """Return interval ends on dense lattices around those of both evaluators.

    Args:
        results: the folder.
        fit: the fit.
        folder: the plan's folder.
        chosen: member and number of each dataset.
        rows: ends of these datasets by both evaluators.
        registry: the names.
    """
    spec = FitSpec(fit.task, fit.method, fit.configuration, fit.identity, fit.oracle)
    context = JobContext(str(results.store.root.absolute()), registry.plugins, "cpu", 0.0)
    opened = open_fit(context, spec)
    task = opened.task
    record, bank = results.plans[folder], SimulationStore(opened.store)
    drawn = list(sets(task, IndependentPlan(**record["plan"]), record["seed"], bank))
    index = list(task.reported_index)
    lower, upper = [], []
    for row, (member, number) in enumerate(chosen):
        surrogate = opened.restore([member], torch.device("cpu"), bank)
        axes = []
        for place, parameter in enumerate(task.space.parameters):
            ends = np.array([[r["lower"][row, place], r["upper"][row, place]] for r in rows])
            margin = _MARGIN * (ends.max() - ends.min())
            low = max(parameter.low, ends.min() - margin)
            high = min(parameter.high, ends.max() + margin)
            axes.append((low, high))
        window = task.space.to_unit(torch.tensor(axes, dtype=torch.float64).T).T
        counts = _NODES[: len(window)] if len(task.space.context_index) == 1 else _SQUARE
        order = sorted(range(len(window)), key=lambda i: i not in task.space.context_index)
        nodes = [torch.empty(0)] * len(window)
        for place, count in zip(order, counts, strict=False):
            low, high = (float(bound) for bound in window[place])
            nodes[place] = torch.linspace(low, high, count, dtype=torch.float64)
        events = drawn[number]
        likelihood = MixtureLikelihood(
            partial(log_ratio_of, task, surrogate),
            events.x, events.counts, task.space, task.weights, events.theta,
        )  # fmt: skip
        values, at_truth = likelihood.log_likelihood(tuple(nodes))
        lattice = Lattice(
            tuple(nodes), values, at_truth, torch.zeros(len(values), dtype=torch.bool)
        )
        summary, _ = summarise(lattice, task.space, index)
        lower.append(summary.lower[0])
        upper.append(summary.upper[0])
    return {"lower": np.stack(lower), "upper": np.stack(upper)}


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
        "unresolved", "silent", "lattice off", "gradient off", "passes", "restarts", "information",
        "time",
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
            f"{100 * row.lattice_off:.1f} %" if row.scanned else "–",
            f"{100 * row.gradient_off:.1f} %" if row.scanned else "–",
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
        "resolve them. Unresolved: flagged by the gradient evaluator's own checks. Silent: off "
        "by more than 10 % without a flag. Off: largest distance from a dense lattice, of the "
        "datasets whose ends differ most. Passes: forward passes per event for maximum, ends and "
        "statistics; restarts and information apart. Time: relative to the lattice.\n"
    )
