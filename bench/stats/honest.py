"""Length of intervals at honest coverage: their threshold is moved until they cover as claimed.

Intervals of a likelihood-ratio statistic widen with the square root r of its threshold. The root of
a member is moved until the mean coverage of its intervals is the claimed one. Lengths at that root
compare methods fairly, because all of them then cover equally.

The root for a dataset is found on the other datasets (cross-fitting). What it misses on the dataset
itself is corrected to first order, so that errors of roots are part of the error of a mean length
(Chernozhukov et al. 2018, arXiv:1608.00060).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.interpolate import PchipInterpolator

from bench.stats.clustering import Array

FOLDS = 5
"""Number of parts of the datasets; the root for one part is found on the others."""


@dataclass(frozen=True)
class HonestLengths:
    """Lengths of intervals at honest coverage, of n members on S datasets.

    Args:
        lengths: contributions, whose mean is the mean length at honest coverage, (n, S).
        root: square root of each member's threshold, mean over parts; infinite where even the last
            threshold covers too little, (n,).
    """

    lengths: Array
    root: Array


def fold_of(number: int) -> int:
    """Return the part that a dataset belongs to, from its number alone.

    Example:
        >>> [fold_of(number) for number in range(8)]
        [3, 4, 4, 2, 2, 2, 1, 3]
    """
    return int.from_bytes(sha256(str(number).encode()).digest()[:4]) % FOLDS


def honest_lengths(
    coverage: ArrayLike,
    length: ArrayLike,
    roots: Sequence[float],
    whole: float,
    level: float,
    fold: ArrayLike,
) -> HonestLengths:
    """Return the lengths of intervals at the thresholds where they cover as claimed.

    The whole range of the parameter covers always. Beyond the last threshold, an interval is the
    whole range for a share of the datasets.

    Args:
        coverage: coverage of the intervals of each member and dataset at T thresholds: a
            probability, or 0 and 1, (n, S, T).
        length: lengths of these intervals, (n, S, T).
        roots: square roots of the thresholds, in rising order, (T,).
        whole: length of the whole range of the parameter.
        level: claimed coverage.
        fold: part of each dataset, integers, (S,).

    Raises:
        ValueError: if there is a single part.
    """
    covers, lengths = (np.asarray(a, dtype=np.float64) for a in (coverage, length))
    part = np.asarray(fold)
    if len(np.unique(part)) < 2:
        raise ValueError("lengths at honest coverage need datasets in at least 2 parts")
    none = np.zeros((*covers.shape[:2], 1))
    covers = np.concatenate([none, covers, none + 1], -1)
    lengths = np.concatenate([none, lengths, none + whole], -1)
    found = [
        _of_member(c, one, np.array([0.0, *roots]), level, part)
        for c, one in zip(covers, lengths, strict=True)
    ]
    return HonestLengths(np.stack([own for own, _ in found]), np.array([root for _, root in found]))


def _of_member(
    covers: Array, lengths: Array, roots: Array, level: float, part: NDArray[np.generic]
) -> tuple[Array, float]:
    """Return contributions (S,) and the mean root of a member.

    Args:
        covers: coverage of intervals at threshold 0, at all saved ones, and of the whole range,
            (S, T + 2).
        lengths: their lengths, (S, T + 2).
        roots: square roots of the thresholds, the first is 0, (T + 1,).
        level: claimed coverage.
        part: part of each dataset, (S,).
    """
    out, found = np.empty(len(covers)), []
    widening = PchipInterpolator(roots, lengths[:, :-1], axis=-1)
    for one in np.unique(part):
        own, others = part == one, part != one
        mean, long = covers[others].mean(0), lengths[others].mean(0)
        j = int(np.searchsorted(mean[:-1], level, side="right")) - 1
        mixed = share = (level - mean[j]) / (mean[j + 1] - mean[j])
        rate = (long[j + 1] - long[j]) / (mean[j + 1] - mean[j])
        if j + 1 == len(roots):
            root, length = np.inf, (1 - share) * lengths[own, j] + share * lengths[own, j + 1]
        else:
            # In standard deviations, the coverage of a Gaussian rises along a straight line.
            low, at, high = stats.norm.ppf(0.5 + 0.5 * np.array([mean[j], level, mean[j + 1]]))
            if np.isfinite(high):
                share = (at - low) / (high - low)
                rate = (long[j + 1] - long[j]) / (2 * stats.norm.pdf(at) * (high - low))
            root = roots[j] + share * (roots[j + 1] - roots[j])
            length = widening(root)[own]
        reached = (1 - mixed) * covers[own, j] + mixed * covers[own, j + 1]
        out[own] = length - rate * (reached - level)
        found.append(root)
    return out, float(np.mean(found))
