"""Rank intervals of methods from paired comparisons of their scores.

A score is any quantity with a positive mean, lower is better: an interval score, a length, a
divergence. A method's score is g_i = mean over parameters p of log(mean score_ip / mean
reference_p): exp(g_i) is the geometric mean over parameters of its score in units of the
reference's (the exact likelihood's where there is one). All pairwise differences g_i − g_j are
tested together (single-step max-T: all intervals hold at once with probability ``level``), and

    rank interval of i = [1 + number significantly better than i, K − number significantly worse],

which then holds the true ranks of all K methods at once with at least that probability.

Sources: T. Hothorn, F. Bretz, P. Westfall, Biom. J. 50 (2008) 346 (max-T); M. Hasler, L. Hothorn,
Biom. J. 50 (2008) 793 (max-T with degrees of freedom per comparison); D. Al Mohamad, J. Goeman,
E. van Zwet, Biometrics 78 (2022) 238 and M. Mogstad, J. Romano, A. Shaikh, D. Wilhelm, Rev. Econ.
Stud. 91 (2024) 476 (rank intervals from pairwise tests).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bench.stats.clustering import Array, Strata, effective_dof, two_way_variance

DRAWS = 20_000
"""Number of draws of the largest deviation; their error of the family-wise error is ± 0.0015."""

TIE = 1e-10
"""Standard error of a difference of log-ratios below which methods are tied up to rounding."""


@dataclass(frozen=True)
class Ranking:
    """Paired comparison of K methods; entry [i, j] compares i with j.

    Attributes:
        log_ratio: g_i, natural logarithm of the geometric-mean ratio to the reference, (K,).
        error: standard error of ``log_ratio``, over members and sets, (K,).
        difference: g_i − g_j, negative where i is better, (K, K).
        difference_error: standard error of ``difference``, paired by set, (K, K).
        critical: critical value of max-T in standard normal units, as for known variances.
        half_width: half-width of the simultaneous intervals ``difference ± half_width``: the
            critical value converted to Student's t of each pair, times its error, (K, K).
        better: whether i is significantly better than j, (K, K).
        low: smallest rank that i may have, 1 is best, (K,).
        high: largest rank that i may have, (K,).
    """

    log_ratio: Array
    error: Array
    difference: Array
    difference_error: Array
    critical: float
    half_width: Array
    better: NDArray[np.bool_]
    low: NDArray[np.int64]
    high: NDArray[np.int64]


def rank(
    scores: Sequence[ArrayLike],
    reference: ArrayLike,
    stratum: ArrayLike | Strata,
    level: float = 0.95,
    seed: int = 0,
) -> Ranking:
    """Return the rank intervals of methods evaluated on the same sets.

    Effects of sets are shared by all methods and cancel in differences as far as methods agree.
    Effects of members are taken as independent between methods: conservative where methods train on
    the same simulations. For a method with one member, the comparison is of that one network.
    Methods whose difference has no variance (a method and its copy) are ties, never significant.

    Simulated family-wise errors at level 0.95, 6 tied methods: 5 % with 1 or 30 members, 1–3 % with
    2 to 10 and low power (2 members separate almost no methods); up to 8 % where one method
    has 2 members and a larger variance than others, or points have 2 sets and unequal variances.

    Args:
        scores: per method, scores averaged over the datasets inside a set, shape
            (members, sets, parameters); the number of members may differ between methods.
        reference: scores of the reference on the same sets, (sets, parameters).
        stratum: evaluation point of each set, integers, (sets,); or strata.
        level: probability that all intervals hold at once.
        seed: of the draws behind the critical value.

    Raises:
        ValueError: if there is no method or one set, a shape is wrong, a score is not finite, a
            parameter's mean score is not positive, or ``level`` is not between 0 and 1.

    >>> rng = np.random.default_rng(1)
    >>> exact = rng.gamma(4.0, size=(100, 2))  # 100 sets, 2 parameters
    >>> methods = [c * exact * rng.gamma(50, 1 / 50, size=(5, 100, 2)) for c in (1.5, 1.1, 1.1)]
    >>> ranking = rank(methods, exact, stratum=[0] * 100)
    >>> [(int(low), int(high)) for low, high in zip(ranking.low, ranking.high)]
    [(3, 3), (1, 2), (1, 2)]
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    strata = Strata.of(stratum)
    if strata.sets < 2:
        raise ValueError("ranking needs at least 2 sets: one set shows no spread between sets")
    if len(scores) == 0:
        raise ValueError("ranking needs at least one method")
    exact = np.asarray(reference, dtype=np.float64)[None]
    shape = (strata.sets, exact.shape[-1])
    base_log, base = _influence(exact, shape, "reference")
    logs, influences = zip(
        *(_influence(score, shape, f"scores[{i}]") for i, score in enumerate(scores)), strict=True
    )
    log_ratio = np.array(logs) - base_log
    variances = [two_way_variance(influence - base, strata) for influence in influences]
    members = np.array([v.members for v in variances])
    interaction = np.array([v.interaction for v in variances])
    degrees = np.array([len(u) - 1 or inf for u in influences])
    deviations = np.stack([strata.deviations((u - base).mean(0)) for u in influences])

    between = deviations[:, None] - deviations[None]
    by_set = (between**2).sum(-1)
    by_member = members[:, None] + members[None]
    set_only = np.maximum(by_set - (interaction[:, None] + interaction[None]), 0)
    np.fill_diagonal(by_member, 0)
    error = np.sqrt(np.maximum(set_only + by_member, by_set))

    excess = np.array([v.total - v.sets for v in variances])
    critical = _critical(deviations, excess, level, seed)
    tail = float(stats.norm.sf(critical))
    t_set = stats.t.isf(tail, strata.dof(between))
    t_member = stats.t.isf(tail, _member_dof(members, degrees))
    # Each source has its own Student quantile (Banerjee, Sankhyā 22 (1960) 357): pooled
    # Satterthwaite degrees fail far in the tail (2 members: 20 % family-wise error instead of 5 %).
    # The interaction is subtracted from the sets, whose variance is better known.
    half_width = np.sqrt(
        np.maximum(t_set**2 * set_only + t_member**2 * by_member, t_set**2 * by_set)
    )
    difference = log_ratio[:, None] - log_ratio[None]
    better = (difference < -half_width) & (error > TIE)
    return Ranking(
        log_ratio=log_ratio,
        error=np.sqrt([v.total for v in variances]),
        difference=difference,
        difference_error=error,
        critical=critical,
        half_width=half_width,
        better=better,
        low=1 + better.sum(axis=0),
        high=len(scores) - better.sum(axis=1),
    )


def _influence(scores: ArrayLike, shape: tuple[int, int], name: str) -> tuple[float, Array]:
    """Return the mean over parameters of log(mean score), and its influences (members, sets).

    The error of the value is that of the mean of the influences. To first order (delta method)
    they are u = score / mean score. The term u²/2n, n sets, stretches differences between methods
    by 1 + u/n for the leverage u/n of a set on the mean, as HC3 and the jackknife do (J. MacKinnon,
    H. White, J. Econometrics 29 (1985) 305), because sets with large scores also shift the mean.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 3 or array.size == 0 or array.shape[1:] != shape:
        raise ValueError(f"{name} has shape {array.shape}, not (members, sets, parameters) {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    centre = array.mean((0, 1))
    if not (centre > 0).all():
        raise ValueError(f"{name} must have a positive mean for every parameter")
    share = array / centre
    return float(np.log(centre).mean()), (share + share**2 / (2 * shape[0])).mean(-1)


def _member_dof(members: Array, degrees: Array) -> Array:
    """Return the degrees of freedom of members_i + members_j, (K,), (K,) → (K, K).

    Satterthwaite's degrees, but at most twice the smaller. Where the method with fewer members has
    a small variance by chance, Satterthwaite's degrees are those of the other method and too many
    (simulated: 9 % family-wise error instead of 5 %).
    """
    pair = np.stack(np.broadcast_arrays(members[:, None], members), axis=-1)
    pair_degrees = np.stack(np.broadcast_arrays(degrees[:, None], degrees), axis=-1)
    pooled = effective_dof(pair, pair_degrees, pair.sum(-1))
    capped: Array = np.minimum(pooled, 2 * pair_degrees.min(-1))
    return capped


def _critical(deviations: Array, excess: Array, level: float, seed: int) -> float:
    """Simulate the ``level`` quantile of max |Z_ij| for the correlations of all differences.

    Z is normal with covariance deviations @ deviations.T + diag(excess), (K, sets) and (K,):
    sets are shared by the methods, members are not. Both parts are positive semi-definite.
    """
    factor = np.concatenate([deviations, np.diag(np.sqrt(excess))], axis=1)
    # Q of factor.T = QR cancels in the covariance RᵀR: K normals per draw instead of sets + K.
    root = np.linalg.qr(factor.T).R
    z = np.random.default_rng(seed).standard_normal((DRAWS, root.shape[0])) @ root
    largest = np.zeros(DRAWS)
    for i in range(len(factor) - 1):
        error = np.sqrt(((factor[i + 1 :] - factor[i]) ** 2).sum(-1))
        differ = error > TIE
        deviation = np.abs(z[:, i + 1 :] - z[:, i : i + 1])[:, differ] / error[differ]
        largest = np.maximum(largest, deviation.max(axis=1, initial=0))
    # The quantile of one comparison is the smallest possible; it also serves without comparisons.
    single = stats.norm.isf((1 - level) / 2)
    return float(max(single, np.quantile(largest, level)))
