"""Decisions on coverage: does a method's gap lie within a tolerance, outside, or is it open?

A coverage holds where the simultaneous confidence interval of its gap lies inside the tolerance,
and fails where it lies outside (two one-sided tests: D. Schuirmann, J. Pharmacokinet. Biopharm. 15
(1987) 657). A gap that is not established is no evidence of coverage.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite, isnan, sqrt
from typing import Literal

import numpy as np
from scipy import stats

from bench.stats.clustering import Estimate, effective_dof

Word = Literal["holds", "fails", "undetermined", "n/a"]
WORDS: tuple[Word, ...] = ("fails", "undetermined", "n/a", "holds")
"""Verdicts, in the order in which they decide on several parameters together."""


def together(words: Iterable[Word]) -> Word:
    """Return the verdict on several parameters: it holds if all hold, and fails if any fails.

    Example:
        >>> together(["holds", "undetermined"]), together(["holds", "fails"]), together([])
        ('undetermined', 'fails', 'n/a')
    """
    found = {*words}
    return next((word for word in WORDS if word in found), "n/a")


_MOST = 100  # largest factor on members or datasets that is worth proposing


@dataclass(frozen=True)
class CoverageVerdict:
    """Decision on the coverage of one method and parameter.

    Args:
        word: the decision; "n/a" without an error.
        low, high: simultaneous confidence interval of the gap.
        members: number of members that would probably decide; None if more of them cannot.
        sets: number of datasets that would probably decide, where members alone cannot.
    """

    word: Word
    low: float
    high: float
    members: int | None = None
    sets: int | None = None


def judge_coverage(
    gap: Estimate, members: int, sets: int, tolerance: float, level: float
) -> CoverageVerdict:
    """Decide whether a coverage gap lies within ± tolerance.

    Args:
        gap: the coverage minus that of the exact likelihood.
        members: number of members of the estimate.
        sets: number of datasets of the estimate.
        tolerance: largest gap at which a coverage holds.
        level: confidence level of this one interval, adjusted for the number of comparisons.

    Example:
        >>> close = Estimate(value=-0.01, error=0.009, dof=7.0, member_error=0.009, set_error=0.0)
        >>> judge_coverage(close, 8, 100, tolerance=0.05, level=0.99).word
        'holds'
        >>> far = Estimate(value=-0.04, error=0.009, dof=7.0, member_error=0.009, set_error=0.0)
        >>> judge_coverage(far, 8, 100, tolerance=0.05, level=0.99).members
        47
    """
    low, high = gap.interval(level)
    if isnan(low) or isnan(high):
        return CoverageVerdict("n/a", low, high)
    word = _word(low, high, tolerance)
    if word != "undetermined":
        return CoverageVerdict(word, low, high)

    def decides(members_now: int, sets_now: int) -> bool:
        half = _half_width(gap, (members, members_now), (sets, sets_now), level)
        return _word(gap.value - half, gap.value + half, tolerance) != "undetermined"

    wanted = None
    if isfinite(gap.member_error):
        wanted = _smallest(members, lambda number: decides(number, sets))
    if wanted is not None:
        return CoverageVerdict(word, low, high, members=wanted)
    wanted = _smallest(sets, lambda number: decides(members, number))
    return CoverageVerdict(word, low, high, sets=wanted)


def _word(low: float, high: float, tolerance: float) -> Word:
    if -tolerance < low and high < tolerance:
        return "holds"
    return "fails" if high < -tolerance or low > tolerance else "undetermined"


def _half_width(
    gap: Estimate, members: tuple[int, int], sets: tuple[int, int], level: float
) -> float:
    """Predict the half-width of the interval of a gap, each number as it is and as it would be."""
    of_members = gap.member_error**2 if isfinite(gap.member_error) else 0.0
    of_sets = max(gap.error**2 - of_members, 0.0) * sets[0] / sets[1]
    of_members *= members[0] / members[1]
    parts = np.array([of_members, of_sets])
    degrees = np.array([max(members[1] - 1, 1), max(sets[1] - 1, 1)])
    dof = effective_dof(parts, degrees, parts.sum())
    return float(stats.t.isf(0.5 - 0.5 * level, dof)) * sqrt(parts.sum())


def _smallest(now: int, decides: Callable[[int], bool]) -> int | None:
    """Return the smallest larger number that decides, up to _MOST times as large, or None."""
    low, high = now, _MOST * now
    if not decides(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high
