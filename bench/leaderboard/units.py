"""Which rows of a table of scores are independent: the units that errors resample."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.stats.clustering import Array

FEWEST_BLOCKS = 5
"""Of finite observations, the disjoint blocks that an error takes; with fewer it is n/a."""


@dataclass(frozen=True)
class ResamplingUnits:
    """The sets of a plan as units of resampling.

    Simulated sets are independent. Sets drawn from the same block of finite observations are not:
    they count as one, with their average.

    Args:
        point: evaluation point of each set, −1 where θ was drawn uniformly, (S,).
        block: the block of observations that it is drawn from, (S,).
        finite: whether observations are finite.
    """

    point: NDArray[np.int64]
    block: NDArray[np.int64]
    finite: bool = False

    def __getitem__(self, used: NDArray[np.bool_]) -> "ResamplingUnits":
        return ResamplingUnits(self.point[used], self.block[used], self.finite)

    @property
    def headline(self) -> NDArray[np.bool_]:
        """The sets that averages are over: θ uniform where there are such, else every point."""
        uniform: NDArray[np.bool_] = self.point < 0
        return uniform if uniform.any() else ~uniform

    @property
    def shared(self) -> bool:
        """Whether a block appears more than once."""
        return len(np.unique(self.block)) < len(self.block)

    @property
    def enough(self) -> bool:
        """Whether there are as many units as an error takes."""
        return not self.finite or len(np.unique(self.block)) >= FEWEST_BLOCKS

    @property
    def strata(self) -> NDArray[np.int64]:
        """Stratum of each unit: its point, or one for all where blocks appear at several."""
        if self.shared:
            return np.zeros(len(np.unique(self.block)), dtype=np.int64)
        return self.point

    def average(self, values: Array) -> Array:
        """Averages within blocks, (..., S) to (..., units)."""
        if not self.shared:
            return values
        _, row, count = np.unique(self.block, return_inverse=True, return_counts=True)
        belongs = (row[:, None] == np.arange(len(count))) / count
        out: Array = values @ belongs
        return out
