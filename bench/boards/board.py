"""Leaderboard and its rows: what tables, frames and reports show."""

from dataclasses import dataclass, field
from typing import Any

from bench.boards.quantities import Quantity
from bench.boards.results import SavedFit
from bench.contracts import Metric
from bench.stats.clustering import Estimate
from bench.stats.decision import CoverageVerdict, Word, together

EXPECTED = {
    "coverage": "expected_coverage",
    "interval_score": "expected_score",
    "width": "box_width",
    "region_coverage": "expected_region",
}
"""Metrics in expectation over the exact posterior, by the plain ones that they replace."""


@dataclass
class Row:
    """Row of a leaderboard: one method.

    Args:
        label: method and configuration.
        fit: the fit of the method.
        members: number of members.
        quantities: numbers by name, such as "coverage/mu".
        rank: rank interval by intervals: by length at honest coverage, or by interval score where
            that is not defined; None for the reference itself.
        cost: of one member: calls, calls_made where known, seconds, seconds_to_best, parameters,
            device.
        failures: reasons of failures, by the failed job.
        verdicts: decisions on coverage, by parameter.
        likelihood_rank: rank interval by divergence, where it is defined.
        recommended: whether its coverage holds and no such method has shorter intervals.
        better: labels of the methods that it is significantly better than, by ranking:
            "likelihood" and "interval".
        at_multiples: its verdict by the size of datasets, in multiples of M, where the same
            networks are evaluated on several sizes.
    """

    label: str
    fit: SavedFit
    members: int
    quantities: dict[str, Quantity]
    rank: tuple[int, int] | None
    cost: dict[str, Any]
    failures: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, CoverageVerdict] = field(default_factory=dict)
    likelihood_rank: tuple[int, int] | None = None
    recommended: bool = False
    better: dict[str, tuple[str, ...]] = field(default_factory=dict)
    at_multiples: dict[int, Word] = field(default_factory=dict)

    @property
    def word(self) -> Word:
        """Verdict on all parameters together: it holds if all hold, and fails if any fails."""
        return together(verdict.word for verdict in self.verdicts.values())

    @property
    def holds_up_to(self) -> int:
        """Largest size of datasets, in multiples of M, up to which its coverage holds, or 0."""
        largest = 0
        for multiple, word in sorted(self.at_multiples.items()):
            if word != "holds":
                break
            largest = multiple
        return largest

    def estimate(self, name: str) -> Estimate | None:
        """Return a number with its errors; None if it is not defined."""
        return self.quantities.get(name, Quantity()).estimate


@dataclass
class Leaderboard:
    """Methods of one task at one budget on one plan, best first.

    Args:
        task, budget, training_data, seed: identity of the run.
        plan: the plan's kind and settings.
        plan_folder: name of the plan's folder.
        parameters: names of the parameters.
        reference: denominator of interval scores: "exact", "histogram" or "" (none).
        rows: the methods.
        absent: reasons of methods that cannot run, by label.
        expected: coverage of exact intervals under this plan.
        blocks: number of disjoint blocks of observations, where these are finite.
        asked: the plan before it was shrunk to finite observations.
        metrics: metrics of the quantities.
        simulated: simulator calls of all results of the task, by purpose, where the task
            declares that they are expensive.
        plain: whether headline numbers are plain means, and not expectations in the box.
        tolerance: largest coverage gap that holds.
        level: confidence level of all verdicts together, and of all ranks of a kind.
    """

    task: str
    budget: int
    training_data: str
    seed: int
    plan: dict[str, Any]
    plan_folder: str
    parameters: tuple[str, ...]
    reference: str
    rows: list[Row]
    absent: dict[str, str]
    expected: float
    blocks: int | None = None
    asked: dict[str, Any] | None = None
    metrics: tuple[Metric, ...] = ()
    simulated: dict[str, int] | None = None
    plain: bool = True
    tolerance: float = 0.05
    level: float = 0.95

    def headline(self, metric: str) -> str:
        """Return the metric that tables show for a plain one."""
        return metric if self.plain else EXPECTED[metric]

    @property
    def ranks(self) -> bool:
        """Return whether its methods have ranks."""
        return any(row.rank is not None for row in self.rows)
