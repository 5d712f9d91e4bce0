"""Units of resampling: independent rows of a table of scores."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.stats.clustering import Array

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
    """

    point: NDArray[np.int64]
    block: NDArray[np.int64]
    finite: bool = False

    def __getitem__(self, used: NDArray[np.bool_]) -> "ResamplingUnits":
        return ResamplingUnits(self.point[used], self.block[used], self.finite)

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
    def strata(self) -> NDArray[np.int64]:
        """Stratum of each unit: its point, or a common one where blocks occur at several points."""
        if self.shared:
            return np.zeros(len(np.unique(self.block)), dtype=np.int64)
        return self.point

    def average(self, values: Array) -> Array:
        """Average values within blocks, (..., S) to (..., units)."""
        if not self.shared:
            return values
        _, row, count = np.unique(self.block, return_inverse=True, return_counts=True)
        belongs = (row[:, None] == np.arange(len(count))) / count
        out: Array = values @ belongs
        return out
