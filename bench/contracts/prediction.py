"""Predictions: likelihoods of every dataset of a plan, from which metrics are computed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class _Arrays:
    def arrays(self, prefix: str = "") -> dict[str, Array]:
        """Return the arrays by name, for saving."""
        return {prefix + f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], prefix: str = "") -> Self:
        """Rebuild the object from saved arrays."""
        return cls(**{f.name: arrays[prefix + f.name] for f in fields(cls)})


@dataclass(frozen=True)
class ProfileSummary(_Arrays):
    """Likelihoods of D datasets in two parameters, around their maxima.

    Differences of log-likelihood are to the dataset's own refined maximum. Windows have W nodes
    per parameter, evenly spaced in unit coordinates, from where the profile has fallen by 6 nats on
    one side to where it has on the other, or to a bound. Falls beyond 40 nats are cut.

    Args:
        mle: maximum-likelihood estimate, (D, 2).
        lower: lower end of the connected 68.27 % profile-likelihood interval, (D, 2).
        upper: upper end, (D, 2).
        cut_lower: whether the interval is cut by the lower bound, (D, 2) bool.
        cut_upper: whether it is cut by the upper bound, (D, 2) bool.
        disconnected: whether the profile rises above the threshold again elsewhere, (D, 2) bool.
        log_ratio_truth: log-likelihood at the generating parameters minus the maximum, (D,).
        area: area of the 95 % Wilks region, in the parameters' units (log where the scale is).
        region_cut: whether that region touches a bound of the parameter space, (D,) bool.
        unresolved: whether the final nodes are coarser than asked, or the window clips, (D,) bool.
        origin: first node of the window, unit coordinates, (D, 2).
        spacing: distance between nodes, unit coordinates, (D, 2).
        profile: profile log-likelihood minus the maximum, (D, 2, W) float32.
        marginal: normalised marginal likelihood, a density in unit coordinates, (D, 2, W) float32.
        joint: log-likelihood minus the maximum, (D, W, W) float32.
    """

    mle: Array
    lower: Array
    upper: Array
    cut_lower: Array
    cut_upper: Array
    disconnected: Array
    log_ratio_truth: Array
    area: Array
    region_cut: Array
    unresolved: Array
    origin: Array
    spacing: Array
    profile: Array
    marginal: Array
    joint: Array


@dataclass(frozen=True)
class BoxSummary(_Arrays):
    """Likelihoods of D datasets in two parameters, restricted to the box of their parameters.

    Maxima, profiles and intervals are those inside the box. Log-likelihoods are at G evenly spaced
    nodes per parameter in unit coordinates, from where the profile has fallen by 40 nats on one
    side to where it has on the other, or to a bound of the box. Falls beyond 40 nats are cut.

    Args:
        mle: maximum-likelihood estimate, (D, 2).
        lower: lower ends of the connected intervals at T thresholds, (D, 2, T) by parameter.
        upper: upper ends, (D, 2, T).
        statistic: likelihood-ratio statistic of the profile at each generating value, (D, 2).
        log_ratio_truth: log-likelihood at the generating parameters minus the maximum, (D,).
        origin: first node, unit coordinates, (D, 2).
        spacing: distance between nodes, unit coordinates, (D, 2).
        joint: log-likelihood minus the maximum, (D, G, G) float32.
        unresolved: whether interval ends are less accurate than required, (D,) bool.
    """

    mle: Array
    lower: Array
    upper: Array
    statistic: Array
    log_ratio_truth: Array
    origin: Array
    spacing: Array
    joint: Array
    unresolved: Array


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

    Args:
        names: the parameters' names.
        low, high, log_scale: the parameters' bounds and scales, (P,).
        datasets: the datasets.
        curves: the likelihoods of the datasets.
        full: the likelihoods of all k M events of each set (bootstrap plan), else None.
        full_set: index of the set of each row of `full`, (S,).
        box: the likelihoods inside the box (independent plan), else None.
    """

    names: tuple[str, ...]
    low: Array
    high: Array
    log_scale: Array
    datasets: Datasets
    curves: ProfileSummary
    full: ProfileSummary | None = None
    full_set: Array | None = None
    box: BoxSummary | None = None


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
