"""Units of resampling: independent rows of a table of scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.boards.results import Scores
from bench.stats.clustering import Array, Strata

FEWEST_BLOCKS = 5
"""Smallest number of disjoint blocks of finite observations for an error; below it is n/a."""


@dataclass(frozen=True)
class ResamplingUnits:
    """Sets of a plan as units of resampling.

    Simulated sets are independent. Sets from the same block of finite observations are dependent.
    They count as one unit, with their average.

    Args:
        point: evaluation point of each set, −1 where θ was drawn uniformly, (S,).
        block: block of observations from which each set is drawn, (S,).
        finite: whether observations are finite.
        trend: parameters of each set, if they are a low-discrepancy sequence, (S, P).
    """

    point: NDArray[np.int64]
    block: NDArray[np.int64]
    finite: bool = False
    trend: Array | None = None

    @classmethod
    def of(cls, plan: Mapping[str, Any], scores: Scores) -> "ResamplingUnits":
        """Return the sets of a plan, which all methods share.

        Args:
            plan: record of the plan.
            scores: scores of any method.
        """
        known = [v[0] for name, v in scores.values.items() if name.startswith("generating/")]
        trend = np.stack(known, -1) if known and plan["plan"].get("theta") == "sobol" else None
        if trend is not None:
            low, high = trend.min(0), trend.max(0)
            trend = (2 * trend - low - high) / np.where(high > low, high - low, 1)
        return cls(scores.point, scores.block, "blocks" in plan, trend)

    def __getitem__(self, used: NDArray[np.bool_]) -> "ResamplingUnits":
        trend = None if self.trend is None else self.trend[used]
        return ResamplingUnits(self.point[used], self.block[used], self.finite, trend)

    @property
    def headline(self) -> NDArray[np.bool_]:
        """Mask of the sets in averages: those with θ uniform if there are any, else all."""
        uniform: NDArray[np.bool_] = self.point < 0
        return uniform if uniform.any() else ~uniform

    @property
    def shared(self) -> bool:
        """Return whether a block occurs more than once."""
        return len(np.unique(self.block)) < len(self.block)

    @property
    def enough(self) -> bool:
        """Return whether there are enough units for an error."""
        return not self.finite or len(np.unique(self.block)) >= FEWEST_BLOCKS

    @property
    def strata(self) -> Strata:
        """Strata of the units: points, or a common one where blocks occur at several points."""
        if self.shared:
            return Strata(np.zeros(len(np.unique(self.block)), dtype=np.int64))
        return Strata(self.point, self.trend)

    def average(self, values: Array) -> Array:
        """Average values within blocks, (..., S) to (..., units)."""
        if not self.shared:
            return values
        _, row, count = np.unique(self.block, return_inverse=True, return_counts=True)
        belongs = (row[:, None] == np.arange(len(count))) / count
        out: Array = values @ belongs
        return out
