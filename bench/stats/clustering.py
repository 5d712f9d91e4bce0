"""Errors of a mean over training sets (members) crossed with sets of events.

Every member of a method is evaluated on every set of events, so a metric is a table
y (members, sets), already averaged over the datasets inside a set, with crossed random effects

    y_ms = μ + stratum(s) + member_m + set_s + interaction_ms.

A stratum is an evaluation point, fixed by the benchmark. Members and sets are random:
the error asks how the mean would move with other training sets and other events. Neither all
members × sets nor all datasets are independent; an error that assumes so is too small (0.007
instead of 0.014 for a measured coverage). The two-way variance below counts each source once.

Sources: A. C. Cameron, J. B. Gelbach, D. L. Miller, J. Bus. Econ. Stat. 29 (2011) 238 (two-way
clustering); F. E. Satterthwaite, Biometrics Bulletin 2 (1946) 110 (degrees of freedom).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """Mean or ratio of means, with its standard errors.

    All but ``dof`` have the units of the metric. nan means "cannot be estimated", never zero.

    Attributes:
        value: the estimate.
        error: standard error over members and sets; with one member over sets alone, that is
            conditional on its training set; nan with one set.
        dof: Satterthwaite's effective degrees of freedom of ``error``; nan with one set.
        member_error: standard error from members alone, on these sets; nan with one member
            (for the exact likelihood, which has no training set, read "n/a").
        set_error: standard error from sets alone, for these members; nan with one set.
    """

    value: float
    error: float
    dof: float
    member_error: float
    set_error: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the central confidence interval of Student's t; (nan, nan) without an error.

        Simulated coverages are in docs/explanation/protocol.md, under "Errors". Few members do not
        determine a variance. Intervals are too wide where members and sets contribute by their
        interaction alone.

        Raises:
            ValueError: if ``level`` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, not {level}")
        half = float(stats.t.ppf((1 + level) / 2, self.dof)) * self.error
        return self.value - half, self.value + half


class Strata:
    """Fixed strata of random sets, which define deviations and their degrees of freedom.

    A stratum with one set has no internal variance. All such strata are pooled into one, and a
    single one joins the smallest other (collapsed strata: W. G. Cochran, Sampling Techniques (1977)
    §5A.12). Differences between the pooled points then count as noise. This is conservative, and
    exact where points were drawn at random with one set each.

    Sets whose parameters are a low-discrepancy sequence integrate smooth functions of these almost
    exactly. Deviations are then those from a quadratic polynomial in the parameters, and the error
    is that of the scatter about it (A. B. Owen, Ann. Stat. 25 (1997) 1541).

    Args:
        stratum: evaluation point of each set, integers, shape (sets,).
        trend: parameters of each set, if they are a low-discrepancy sequence, shape (sets, P).
            Ignored unless there are twice as many sets as coefficients, in one stratum.

    Raises:
        ValueError: if ``stratum`` is not a non-empty vector of integers.
    """

    def __init__(self, stratum: ArrayLike, trend: ArrayLike | None = None) -> None:
        label = np.asarray(stratum)
        if label.ndim != 1 or label.size == 0 or not np.issubdtype(label.dtype, np.integer):
            raise ValueError(f"stratum must hold one integer per set, not {label!r}")
        _, group, count = np.unique(label, return_inverse=True, return_counts=True)
        single = count == 1
        if single.any():
            target = np.flatnonzero(single)[0]
            if single.sum() == 1 and count.size > 1:
                target = np.argmin(np.where(single, label.size + 1, count))
            group = np.where(single[group], target, group)
            _, group, count = np.unique(group, return_inverse=True, return_counts=True)
        self.sets = label.size
        self._group = group
        self._count = count
        self._belongs = (group[:, None] == np.arange(count.size)).astype(np.float64)
        self._basis: Array | None = None
        if trend is not None and count.size == 1:
            at = np.asarray(trend, dtype=np.float64)
            products = [at[:, i] * at[:, j] for i in range(at.shape[1]) for j in range(i + 1)]
            monomials = np.column_stack([np.ones(len(at)), at, *products])
            if len(at) >= 2 * monomials.shape[1]:
                self._basis = np.linalg.qr(monomials).Q
        self.label = label

    @classmethod
    def of(cls, stratum: ArrayLike | Strata) -> Strata:
        """Return strata from the evaluation point of each set, or unchanged."""
        return stratum if isinstance(stratum, Strata) else cls(stratum)

    @property
    def degrees(self) -> int:
        """Number of sets minus number of fitted means or coefficients."""
        fitted = self._count.size if self._basis is None else self._basis.shape[1]
        return int(self.sets - fitted)

    def deviations(self, values: Array) -> Array:
        """Scale deviations from stratum means so that squares sum to the variance of the mean.

        The sum over sets of u_s v_s is then the unbiased stratified estimate
        Σ_h n_h cov_h(u, v) / n² of the covariance of the means of u and v.
        Shapes (..., sets) → (..., sets); nan with one set.
        """
        if self._basis is not None:
            scatter: Array = values - (values @ self._basis) @ self._basis.T
            scatter *= np.sqrt(self.sets / self.degrees) / self.sets
            return scatter
        centre = (values @ self._belongs / self._count)[..., self._group]
        count = self._count[self._group]
        if self.sets == 1:
            return np.full(values.shape, nan)
        deviation: Array = (values - centre) * np.sqrt(count / (count - 1)) / self.sets
        return deviation

    def dof(self, deviations: Array) -> Array:
        """Compute the effective degrees of freedom of Σ_s deviations², (..., sets) → (...).

        Satterthwaite's formula, each set a source of its own because variances of sets may differ:
        (Σ d²)² / Σ d⁴/3 for normal deviations, corrected for the subtracted stratum means.
        −2 corrects the bias 1 + 2/ν of a squared variance estimate (cf. M. von Davier,
        arXiv:2409.14606).
        """
        parts = deviations**2
        degrees = 3 * (1 - 1 / self._count[self._group])
        if self._basis is not None:
            degrees = np.full(self.sets, 3 * self.degrees / self.sets)
        effective = effective_dof(parts, degrees, parts.sum(-1)) - 2
        return np.clip(effective, min(1, self.degrees), self.degrees)


def effective_dof(parts: Array, degrees: ArrayLike, total: Array) -> Array:
    """Compute Satterthwaite's total² / Σ parts²/degrees over the last axis; inf for no variance."""
    share = parts / np.where(total == 0, 1, total)[..., None]  # avoids underflow of squares
    inverse = np.divide(share**2, degrees, out=np.zeros_like(share), where=share != 0).sum(-1)
    effective: Array = np.divide(1, inverse, out=np.full_like(inverse, inf), where=inverse != 0)
    return effective


@dataclass(frozen=True)
class TwoWay:
    """Variance of a mean over members × sets, split by source; every array has shape (...).

    ``members``, ``sets`` and ``interaction`` estimate, with σ² the variances of the effects,

        σ²_member/n_m + σ²_int/(n_m n_s),   σ²_set/n_s + σ²_int/(n_m n_s),   σ²_int/(n_m n_s)

    without bias; ``members`` and ``interaction`` are zero with one member. ``total`` is members +
    sets − interaction, at least the larger of the two; ``dof`` are its degrees of freedom.
    """

    members: Array
    sets: Array
    interaction: Array
    total: Array
    dof: Array


def two_way_variance(values: Array, strata: Strata) -> TwoWay:
    """Split the variance of the mean of ``values`` (..., members, sets) into its sources.

    The deviation of a member may differ between strata; it counts as a member effect.
    """
    n = values.shape[-2]
    deviations = strata.deviations(values)
    common = deviations.mean(-2)
    sets: Array = (common**2).sum(-1)
    members = interaction = np.zeros_like(sets)
    if n > 1:
        members = values.mean(-1).var(-1, ddof=1) / n
        interaction = ((deviations - common[..., None, :]) ** 2).sum((-2, -1)) / (n * (n - 1))
    total = np.maximum(members + (sets - interaction), np.maximum(members, sets))
    set_dof = strata.dof(common)
    degrees = np.broadcast_arrays(n - 1, set_dof, (n - 1) * strata.degrees)
    parts = np.stack([members, sets, interaction], axis=-1)
    effective = effective_dof(parts, np.stack(degrees, axis=-1), total)
    # Without any variance the effective degrees are infinite; limit them to those of the data.
    return TwoWay(members, sets, interaction, total, np.minimum(effective, n - 1 + set_dof))


def mean(values: ArrayLike, stratum: ArrayLike | Strata) -> Estimate:
    """Estimate a metric's mean, with equal weight for every member and set.

    Args:
        values: contributions averaged over the datasets inside a set, shape (members, sets).
        stratum: evaluation point of each set, integers, shape (sets,); or strata.

    Raises:
        ValueError: if a shape is wrong or a value is not finite.

    >>> covered = [[0.66, 0.70, 0.71, 0.69], [0.60, 0.65, 0.66, 0.65]]  # 2 members, 4 sets
    >>> estimate = mean(covered, stratum=[0, 0, 1, 1])
    >>> print(f"{estimate.value:.3f} ± {estimate.error:.3f}, members {estimate.member_error:.3f}")
    0.665 ± 0.028, members 0.025
    """
    strata = Strata.of(stratum)
    table = _table(values, strata, "values")
    return _estimate(float(table.mean()), table, strata)


def ratio(numerator: ArrayLike, denominator: ArrayLike, stratum: ArrayLike | Strata) -> Estimate:
    """Estimate R = mean(numerator) / mean(denominator) of contributions paired by set.

    The error is linearised (delta method). It is the error of the mean of
    (numerator − R·denominator) / mean(denominator).

    Args:
        numerator: a method's contributions, shape (members, sets).
        denominator: the reference's, shape (members, sets) for the same members, or (1, sets).
        stratum: evaluation point of each set, integers, shape (sets,); or strata.

    Raises:
        ValueError: if a shape is wrong, a value is not finite, or the denominator's mean is 0.

    >>> estimate = ratio([[3.0, 5.0, 7.0]], [[2.0, 4.0, 6.0]], stratum=[0, 0, 0])
    >>> print(f"{estimate.value:.2f} ± {estimate.error:.2f}")
    1.25 ± 0.07
    """
    strata = Strata.of(stratum)
    above = _table(numerator, strata, "numerator")
    below = _table(denominator, strata, "denominator")
    members = above.shape[0]
    if below.shape[0] not in (1, members):
        raise ValueError(f"denominator has {below.shape[0]} members, not 1 or {members}")
    scale = float(below.mean())
    if scale == 0:
        raise ValueError("the denominator's mean is 0, so its ratio is undefined")
    value = float(above.mean()) / scale
    return _estimate(value, (above - value * below) / scale, strata)


def median(values: ArrayLike, stratum: ArrayLike | Strata, replications: int = 400) -> Estimate:
    """Estimate the median over members × sets, with its error by `resampled`.

    Args:
        values: contributions averaged over the datasets inside a set, shape (members, sets).
        stratum: evaluation point of each set, integers, shape (sets,).
        replications: number of bootstraps.

    Raises:
        ValueError: if a shape is wrong or a value is not finite.

    >>> median([[1.0, 2.0, 3.0, 4.0, 100.0]], stratum=[0] * 5).value
    3.0
    """
    return resampled(lambda table: float(np.median(table)), [values], stratum, replications)


def resampled(
    statistic: Callable[..., float],
    values: Sequence[ArrayLike],
    stratum: ArrayLike | Strata,
    replications: int = 400,
) -> Estimate:
    """Estimate a statistic of members × sets, with its error by the pigeonhole bootstrap.

    Members and, within strata, sets are resampled at the same time (A. B. Owen, Ann. Appl. Stat.
    1 (2007) 386), from a fixed seed. The error is conservative: it counts the interaction of
    members and sets three times. Errors from members and from sets alone are not estimated (nan).

    Args:
        statistic: maps tables (members, sets) to a number.
        values: the tables, contributions averaged over the datasets inside a set.
        stratum: evaluation point of each set, integers, shape (sets,).
        replications: number of bootstraps.

    Raises:
        ValueError: if a shape is wrong or a value is not finite.
    """
    strata = Strata.of(stratum)
    tables = [_table(table, strata, "values") for table in values]
    value = statistic(*tables)
    if strata.degrees == 0:
        return Estimate(value, nan, nan, nan, nan)
    rng = np.random.default_rng(0)
    label = strata.label
    groups = [np.flatnonzero(label == one) for one in np.unique(label)]
    found = np.empty(replications)
    count = len(tables[0])
    for i in range(replications):
        members = rng.integers(count, size=count)
        sets = np.concatenate([rng.choice(g, size=len(g)) for g in groups])
        found[i] = statistic(*(table[np.ix_(members, sets)] for table in tables))
    return Estimate(value, float(found.std(ddof=1)), float(strata.degrees), nan, nan)


def _estimate(value: float, contributions: Array, strata: Strata) -> Estimate:
    """Return ``value`` with the errors of the mean of its linearised contributions."""
    variance = two_way_variance(contributions, strata)
    return Estimate(
        value=value,
        error=sqrt(variance.total),
        dof=float(variance.dof),
        member_error=sqrt(variance.members) if contributions.shape[0] > 1 else nan,
        set_error=sqrt(variance.sets),
    )


def _table(values: ArrayLike, strata: Strata, name: str) -> Array:
    """Return contributions as a finite float64 array of shape (members, sets)."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or table.shape[1] != strata.sets:
        raise ValueError(f"{name} has shape {table.shape}, not (members, {strata.sets} sets)")
    if not np.isfinite(table).all():
        raise ValueError(f"{name} holds {np.sum(~np.isfinite(table))} values that are not finite")
    return table
