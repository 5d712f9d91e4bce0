"""Diagnostics of simulated datasets: calibration of posteriors, coverage, spread of trainings."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from bench.contracts import LikelihoodPrediction
from bench.contracts.diagnostic import Array, Diagnostic, Evidence, Finding
from bench.errors import NotApplicable
from bench.metrics import posterior_lattice

NOMINAL = float(stats.chi2.cdf(1, 1))
"""Nominal coverage of intervals."""


def together(p_values: Sequence[float]) -> float:
    """Return the p-value of several tests together (Bonferroni)."""
    return min(1.0, len(p_values) * min(p_values))


def _toys(evidence: Evidence) -> LikelihoodPrediction:
    """Return datasets whose posteriors are known.

    Raises:
        NotApplicable: if posteriors are not tabulated.
    """
    assert evidence.toys is not None
    if evidence.toys.box_window is None:
        raise NotApplicable(
            "posteriors are tabulated for at most two parameters that are drawn from the box, "
            "without constraints or a rate"
        )
    return evidence.toys


def _uniform(every: Sequence[Array]) -> Finding:
    """Test that the numbers of each array are uniform in [0, 1]."""
    tests = [stats.kstest(values, "uniform") for values in every]
    return Finding(
        float(max(test.statistic for test in tests)),
        together([float(test.pvalue) for test in tests]),
    )


def _ranks(evidence: Evidence) -> Finding:
    toys = _toys(evidence)
    return _uniform(list(posterior_lattice.ranks(toys).values()))


def _distances(evidence: Evidence) -> Finding:
    toys = _toys(evidence)
    share = evidence.rng.uniform(size=(len(toys.datasets), len(toys.names)))
    return _uniform([posterior_lattice.nearer(toys, share)])


def _coverage(evidence: Evidence) -> Finding:
    """Test the share of intervals that contain the truth; ties of counts are broken at random."""
    assert evidence.toys is not None
    toys = evidence.toys
    theta = toys.datasets.theta[:, list(toys.reported)]
    inside = (toys.curves.lower <= theta) & (theta <= toys.curves.upper)
    n, count = len(inside), inside.sum(0)
    below = stats.binom.cdf(count - 1, n, NOMINAL)
    lower = below + evidence.rng.uniform(size=count.shape) * stats.binom.pmf(count, n, NOMINAL)
    tests = 2 * np.minimum(lower, 1 - lower)
    return Finding(float(np.abs(inside.mean(0) - NOMINAL).max()), together(tests.tolist()))


def _spread(evidence: Evidence) -> Finding:
    """Return the distance of a member's estimates from those of the others, in half-lengths."""
    assert evidence.members is not None
    if len(evidence.members) < 2:
        raise NotApplicable("there is one training only")
    own, *others = evidence.members
    reported = list(own.reported)
    others_mean = np.mean([other.curves.mle[:, reported] for other in others], 0)
    half = 0.5 * (own.curves.upper - own.curves.lower)
    distance = (own.curves.mle[:, reported] - others_mean) / np.where(half > 0, half, np.nan)
    return Finding(float(np.sqrt(np.nanmean(distance**2))))


sbc = Diagnostic(
    "sbc",
    "calibration of ranks",
    "Kolmogorov–Smirnov distance from uniform of the posterior probabilities below the true "
    "values, the largest of all parameters.",
    "dataset",
    "toys",
    _ranks,
    null="closed form",
    citation="Talts et al. (2018), arXiv:1804.06788",
)
tarp = Diagnostic(
    "tarp",
    "calibration of distances",
    "Kolmogorov–Smirnov distance from uniform of the posterior probabilities nearer to a random "
    "point than the true parameters.",
    "dataset",
    "toys",
    _distances,
    null="closed form",
    citation="Lemos et al. (2023), arXiv:2302.03026",
)
coverage = Diagnostic(
    "coverage",
    "coverage of toys",
    "Largest absolute difference of the coverage of intervals from 68.27 %.",
    "dataset",
    "toys",
    _coverage,
    null="closed form",
    citation="Neyman (1937)",
)
member_spread = Diagnostic(
    "member-spread",
    "spread of trainings",
    "Root mean square distance of the estimates from the mean of other trainings, in half-lengths "
    "of intervals.",
    "training",
    "members",
    _spread,
    citation="Lakshminarayanan, Pritzel & Blundell (2017), arXiv:1612.01474",
)
