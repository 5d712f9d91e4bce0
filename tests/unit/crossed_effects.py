"""Tables of members × sets with known random effects, and the coverage of their intervals."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.stats.clustering import Array, Strata, two_way_variance

Labels = NDArray[np.integer[Any]]
PAGE = Path(__file__).parents[2] / "docs" / "explanation/protocol.md"


def tables(
    effects: tuple[float, float, float], members: int, stratum: Labels, tables: int, seed: int
) -> Array:
    """Simulate tables (tables, members, sets) of mean zero, with large fixed stratum offsets.

    Args:
        effects: standard deviations of the member, set and interaction effects.
        members: rows of a table.
        stratum: evaluation point of each set.
        tables: number of tables.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    sets = len(stratum)
    member = effects[0] * rng.standard_normal((tables, members, 1))
    of_set = effects[1] * rng.standard_normal((tables, 1, sets))
    interaction = effects[2] * rng.standard_normal((tables, members, sets))
    offset = 7.0 * stratum
    table: Array = offset - offset.mean() + member + of_set + interaction
    return table


def coverage(values: Array, stratum: Labels) -> tuple[float, float]:
    """Return the coverage of zero by 95 % intervals, and the ratio of error bar to true spread.

    The error bar is the root mean square over tables.
    """
    variance = two_way_variance(values, Strata(stratum))
    estimates = values.mean((-2, -1))
    half = stats.t.ppf(0.975, variance.dof) * np.sqrt(variance.total)
    spread = math.sqrt(np.mean(estimates**2))
    return float(np.mean(np.abs(estimates) < half)), math.sqrt(variance.total.mean()) / spread


VARIANCES = [
    (member, of_set, interaction)
    for member, of_set in ((0, 1), (0.02, 1), (0.1, 1), (0.3, 1), (1, 1), (1, 0.3), (1, 0))
    for interaction in (0.25, 1)
]
"""Variances of the member, set and interaction effects behind the table of the page."""
MEMBERS = (2, 3, 5, 10)
SETS = (5, 16, 60)


def simulated(
    variances: tuple[float, float, float], members: int, sets: int, batches: int
) -> float:
    """Simulate the coverage of 95 % intervals, in per cent, from batches of 1000 tables."""
    effects = (variances[0] ** 0.5, variances[1] ** 0.5, variances[2] ** 0.5)
    stratum = np.zeros(sets, int)
    parts = [
        coverage(tables(effects, members, stratum, 1000, seed), stratum)[0]
        for seed in range(batches)
    ]
    return 100 * float(np.mean(parts))


def documented() -> dict[tuple[int, int], tuple[float, float]]:
    """Read the documented range of coverages, in per cent, by members and sets (0: no effects)."""
    rows = re.findall(r"(?m)^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text())
    found = {}
    for members, *cells in rows:
        for sets, cell in zip((*SETS, 0), cells, strict=True):
            low, high = cell.split("–")
            found[int(members), sets] = float(low), float(high)
    return found
