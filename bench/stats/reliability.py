"""Reliability: coverage of regions at every level, with a band for statistical fluctuations.

For exact intervals, the level at which they just contain the truth is uniform. The coverage as a
function of the nominal level is then the empirical distribution of uniform numbers.

Source: T. Säilynoja, P.-C. Bürkner, A. Vehtari, Stat. Comput. 32 (2022) 32, arXiv:2103.10522.
"""

from functools import cache

import numpy as np
from scipy import stats

from bench.stats.clustering import Array

DRAWS = 20_000
"""Number of simulated empirical distributions; the band's coverage of 95 % is exact to ± 0.2 %."""


@cache
def simultaneous_band(
    datasets: int, levels: tuple[float, ...], probability: float = 0.95
) -> tuple[Array, Array]:
    """Return a simultaneous band for the coverage of exact intervals at all levels.

    Ends are quantiles of the binomial distribution with equal tails. The tails are chosen so
    that simulated empirical distributions of uniform numbers stay inside with the probability.

    Args:
        datasets: number of independent datasets.
        levels: nominal levels, rising, within (0, 1).
        probability: of staying inside the band at all levels.

    Returns:
        The lower and upper ends, each of the length of `levels`.

    Example:
        >>> low, high = simultaneous_band(100, (0.25, 0.5, 0.75))
        >>> [round(float(end), 2) for end in (low[1], high[1])]
        [0.39, 0.61]
    """
    level = np.array(levels)
    shares = np.diff(np.concatenate([[0.0], level, [1.0]]))
    drawn = np.random.default_rng(0).multinomial(datasets, shares, size=DRAWS)[:, :-1].cumsum(1)
    below = stats.binom.cdf(drawn, datasets, level)
    above = stats.binom.sf(drawn - 1, datasets, level)
    unlikely = 2 * np.minimum(below, above).min(1)
    tails = float(np.quantile(unlikely, 1 - probability, method="lower"))
    low = stats.binom.ppf(tails / 2, datasets, level)
    high = stats.binom.isf(tails / 2, datasets, level)
    return np.asarray(low) / datasets, np.asarray(high) / datasets
