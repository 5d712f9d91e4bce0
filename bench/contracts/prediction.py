"""Predictions: likelihoods of every dataset of a plan, from which metrics are computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_GRADIENT = ("information", "evaluations")  # arrays of profiles that the lattice does not have


@dataclass(frozen=True)
class _Arrays:
    def arrays(self, prefix: str = "") -> dict[str, Array]:
        """Return the arrays by name, for saving."""
        return {prefix + f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], prefix: str = "") -> Self:
        """Rebuild the object from saved arrays."""
        return cls(**{f.name: arrays[prefix + f.name] for f in fields(cls)})

    def split(self, members: int) -> list[Self]:
        """Split an object with the datasets of all members, member after member."""
        parts = {f.name: np.split(getattr(self, f.name), members) for f in fields(self)}
        return [type(self)(**{k: v[m] for k, v in parts.items()}) for m in range(members)]

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join objects of consecutive datasets."""
        return cls(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        )


@dataclass(frozen=True)
class ProfileSummary(_Arrays):
    """Profile likelihoods of D datasets in P parameters, I of which are reported.

    Differences of log-likelihood are to the dataset's own maximum.

    Args:
        mle: maximum-likelihood estimate, (D, P).
        lower: lower end of the connected 68.27 % profile-likelihood interval, (D, I).
        upper: upper end, (D, I).
        cut_lower: whether the interval is cut by the lower bound, (D, I) bool.
        cut_upper: whether it is cut by the upper bound, (D, I) bool.
        disconnected: whether the profile rises above the threshold again elsewhere, (D, I) bool.
        log_ratio_truth: log-likelihood at the generating parameters minus the maximum, (D,).
        unresolved: whether interval ends are less accurate than required, (D,) bool.
        information: observed information at the maximum in unit coordinates, (D, P, P); NaN from
            the lattice.
        evaluations: cost of each dataset in forward passes per event, of its maximum, ends and
            statistics, of the search for other maxima, and of the information, (D, 3); NaN from
            the lattice.
    """

    mle: Array
    lower: Array
    upper: Array
    cut_lower: Array
    cut_upper: Array
    disconnected: Array
    log_ratio_truth: Array
    unresolved: Array
    information: Array
    evaluations: Array

    def arrays(self, prefix: str = "") -> dict[str, Array]:
        """Return the arrays by name, for saving, without those that the lattice does not have."""
        found = super().arrays(prefix)
        unknown = {prefix + n for n in _GRADIENT if np.isnan(getattr(self, n)).all()}
        return {name: array for name, array in found.items() if name not in unknown}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], prefix: str = "") -> Self:
        """Rebuild the object from saved arrays; NaN for those that the lattice does not have."""
        rows, parameters = arrays[f"{prefix}mle"].shape
        shapes = (rows, parameters, parameters), (rows, 3)
        unknown = {
            prefix + name: np.full(shape, np.nan)
            for name, shape in zip(_GRADIENT, shapes, strict=True)
        }
        return super().from_arrays({**unknown, **arrays}, prefix)


@dataclass(frozen=True)
class LatticeWindow(_Arrays):
    """Likelihoods of D datasets on the lattice, around their maxima; P is 1 or 2.

    Windows have W nodes per parameter, evenly spaced in unit coordinates, from where the profile
    has fallen by 6 nats on one side to where it has on the other, or to a bound. Falls beyond 40
    nats are cut.

    Args:
        area: area of the 95 % Wilks region, in the parameters' units (log where the scale is),
            (D,).
        region_cut: whether that region touches a bound of the parameter space, (D,) bool.
        origin: first node of the window, unit coordinates, (D, P).
        spacing: distance between nodes, unit coordinates, (D, P).
        profile: profile log-likelihood minus the maximum, (D, P, W) float32.
        marginal: normalised marginal likelihood, a density in unit coordinates, (D, P, W) float32.
        joint: log-likelihood minus the maximum, (D, W) or (D, W, W) float32.
    """

    area: Array
    region_cut: Array
    origin: Array
    spacing: Array
    profile: Array
    marginal: Array
    joint: Array


@dataclass(frozen=True)
class BoxSummary(_Arrays):
    """Profile likelihoods of D datasets, restricted to the box of their P parameters.

    Maxima, profiles and intervals are those inside the box; I parameters are reported.

    Args:
        mle: maximum-likelihood estimate, (D, P).
        lower: lower ends of the connected intervals at T thresholds, (D, I, T) by parameter.
        upper: upper ends, (D, I, T).
        statistic: likelihood-ratio statistic of the profile at each generating value, (D, I).
        log_ratio_truth: log-likelihood at the generating parameters minus the maximum, (D,).
        unresolved: whether interval ends are less accurate than required, (D,) bool.
        region_factor: factor by which critical values rescale the statistic of all parameters, at
            the estimate, (D,); 1 where those of Wilks's theorem apply.
    """

    mle: Array
    lower: Array
    upper: Array
    statistic: Array
    log_ratio_truth: Array
    unresolved: Array
    region_factor: Array

    def arrays(self, prefix: str = "") -> dict[str, Array]:
        """Return the arrays by name, for saving, without factors that are all 1."""
        found = super().arrays(prefix)
        if (self.region_factor == 1).all():
            del found[f"{prefix}region_factor"]
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], prefix: str = "") -> Self:
        """Rebuild the object from saved arrays, with factors of 1 where there are none."""
        usual = {f"{prefix}region_factor": np.ones(len(arrays[f"{prefix}mle"]))}
        return super().from_arrays({**usual, **arrays}, prefix)


@dataclass(frozen=True)
class BoxWindow(_Arrays):
    """Likelihoods of D datasets on the lattice, restricted to the box; P is 1 or 2.

    Log-likelihoods are at G evenly spaced nodes per parameter in unit coordinates, from where the
    profile has fallen by 40 nats on one side to where it has on the other, or to a bound of the
    box. Falls beyond 40 nats are cut.

    Args:
        origin: first node, unit coordinates, (D, P).
        spacing: distance between nodes, unit coordinates, (D, P).
        joint: log-likelihood minus the maximum, (D, G) or (D, G, G) float32.
    """

    origin: Array
    spacing: Array
    joint: Array


@dataclass(frozen=True)
class PosteriorDraws(_Arrays):
    """Draws from the exact posteriors of U datasets, and likelihoods at some of them.

    These are the datasets whose parameters are drawn from the box, in order. Both likelihoods are
    relative to their maxima in the box; falls beyond 40 nats are cut.

    Args:
        theta: draws, (U, S, P) float32.
        exact: exact log-likelihoods at the first n of them, (U, n).
        own: the surrogate's log-likelihoods there, (U, n).
        log_ratio: logarithm of the ratio of the surrogate's integral over the box to the exact
            one, prior included, (U,).
        log_ratio_size: effective sample size of this estimate, (U,).
        size: effective sample size of the draws, (U,).
        source: how they were made: 0 by importance sampling, 1 by sequential Monte Carlo, 2 by
            repetition of the generating parameters, (U,) int64.
        evaluations: cost in forward passes per event, of the draws, which all methods share, and of
            the surrogate, (U, 2).
    """

    theta: Array
    exact: Array
    own: Array
    log_ratio: Array
    log_ratio_size: Array
    size: Array
    source: Array
    evaluations: Array


@dataclass(frozen=True)
class Datasets(_Arrays):
    """Datasets of a plan.

    Args:
        theta: generating parameters, (D, P).
        point: index of the evaluation point, −1 where θ was drawn uniformly, (D,) int64.
        set: index of the set of events, (D,) int64.
        block: index of the disjoint block of observations that the set is drawn from, (D,) int64:
            the unit of resampling. Each set of a simulator is a block; sets of a finite source
            may share one.
    """

    theta: Array
    point: Array
    set: Array
    block: Array

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], prefix: str = "") -> Self:
        """Rebuild the object from saved arrays; without saved blocks every set is a block."""
        block = arrays.get(f"{prefix}block", arrays[f"{prefix}set"])
        return super().from_arrays({**arrays, f"{prefix}block": block}, prefix)

    def __len__(self) -> int:
        return len(self.set)


@dataclass(frozen=True)
class LikelihoodPrediction:
    """Likelihoods by one member, for the datasets of an independent or bootstrap plan.

    Windows are None where the likelihoods are not evaluated on a lattice.

    Args:
        names: the names of the P parameters.
        low, high, log_scale: the parameters' bounds and scales, (P,).
        reported: positions of the I reported parameters among them, in rising order.
        datasets: the datasets.
        curves: the likelihoods of the datasets.
        window: their windows.
        full: the likelihoods of all k M events of each set (bootstrap plan), else None.
        full_window: their windows.
        full_set: index of the set of each row of `full`, (S,).
        box: the likelihoods inside the box (independent plan), else None.
        box_window: their windows.
        draws: draws from the exact posteriors, where the evaluator made them.
        constraint_width: standard deviations of the constraints in unit coordinates, (P,); NaN for
            parameters without one.
    """

    names: tuple[str, ...]
    low: Array
    high: Array
    log_scale: Array
    reported: tuple[int, ...]
    datasets: Datasets
    curves: ProfileSummary
    window: LatticeWindow | None = None
    full: ProfileSummary | None = None
    full_window: LatticeWindow | None = None
    full_set: Array | None = None
    box: BoxSummary | None = None
    box_window: BoxWindow | None = None
    draws: PosteriorDraws | None = None
    constraint_width: Array | None = None

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join predictions of consecutive datasets of independent plans."""
        joined: dict[str, Any] = {
            f.name: type(own).concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)
            if isinstance(own := getattr(parts[0], f.name), _Arrays)
        }
        return replace(parts[0], **joined)

    @property
    def reported_names(self) -> tuple[str, ...]:
        """Names of the reported parameters."""
        return tuple(self.names[i] for i in self.reported)


@dataclass(frozen=True)
class HeldOut(_Arrays):
    """Log-ratios of n held-out simulations of each of K components at C contexts.

    Args:
        context: the contexts, (C, d).
        own: log r̂_k(x|η) of x ~ p_k(·|η), (K, C, n).
        reference: log r̂_k(x|η) of x from the reference, (K, C, n); zeros without one.
        score: gradient of log r̂_k in the context scaled to [−1, 1], at `own`, (K, C, n, d).
        has_density: whether own is a log-density, () bool.
        has_reference: whether a reference is the denominator, () bool.
    """

    context: Array
    own: Array
    reference: Array
    score: Array
    has_density: Array
    has_reference: Array


@dataclass(frozen=True)
class HeldOutPrediction:
    """Log-ratios by one member, for the held-out plan.

    Args:
        components: names of the components.
        parameters: names of the context's parameters.
        values: the log-ratios.
    """

    components: tuple[str, ...]
    parameters: tuple[str, ...]
    values: HeldOut
