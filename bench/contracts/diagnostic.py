"""Diagnostics: tests of a trained surrogate that need simulations, but no likelihood."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.contracts.prediction import HeldOutPrediction, LikelihoodPrediction

Array = NDArray[Any]
Level = Literal["event", "dataset", "training"]
Null = Literal["permutation", "closed form", "none"]
Part = Literal["samples", "weights", "ratios", "losses", "toys", "members"]
"""Part of the evidence that a diagnostic takes; all but "members" are of one network."""


@dataclass(frozen=True)
class Samples:
    """Rows of simulations, and rows that the surrogate would simulate.

    A row is the features of an observation, the context scaled to [−1, 1], and the number of the
    component. Contexts and components have equal distributions in both samples.

    Args:
        simulated: (n, F) float64.
        generated: (m, F) float64.
    """

    simulated: Array
    generated: Array


@dataclass(frozen=True)
class Weights:
    """Rows of simulations, and rows whose weights turn them into rows of the surrogate.

    Args:
        simulated: rows as in `Samples`, (n, F) float64.
        reference: (m, F) float64.
        log_weight: logarithms of the weights of `reference`, (m,) float64.
    """

    simulated: Array
    reference: Array
    log_weight: Array


@dataclass(frozen=True)
class Ratios:
    """Log-ratios of common observations of the reference at C contexts.

    Args:
        context: contexts scaled to [−1, 1], (C, d) float64.
        log_ratio: log r̂_k(x|η), (K, n, C) float64.
    """

    context: Array
    log_ratio: Array


@dataclass(frozen=True)
class Evidence:
    """Evidence on a trained network. Parts that do not exist are None.

    Args:
        rng: generator of permutations and projections.
        samples: simulations and draws from the surrogate.
        weights: simulations and weighted observations.
        ratios: log-ratios over the reference.
        losses: log-ratios of held-out simulations.
        toys: likelihoods of simulated datasets whose parameters are drawn from the box.
        members: the same by all networks of one training, this one first.
    """

    rng: np.random.Generator
    samples: Samples | None = None
    weights: Weights | None = None
    ratios: Ratios | None = None
    losses: HeldOutPrediction | None = None
    toys: LikelihoodPrediction | None = None
    members: Sequence[LikelihoodPrediction] | None = None


@dataclass(frozen=True)
class Finding:
    """Result of a diagnostic.

    Args:
        statistic: its number.
        p_value: probability of a number at least as extreme for an exact surrogate; NaN where the
            null distribution is unknown.
    """

    statistic: float
    p_value: float = nan


@dataclass(frozen=True)
class Diagnostic:
    """Named test of a surrogate.

    Args:
        name: name in tables.
        title: short column heading.
        description: definition in one sentence.
        level: what it looks at: single observations, datasets, or several trainings.
        takes: the part of the evidence that it computes its number from.
        compute: `compute(evidence)` returns the finding; the part that it takes is there.
        better: direction in which a surrogate is better.
        null: source of p-values.
        citation: source.
        version: increase it when the numbers change.
    """

    name: str
    title: str
    description: str
    level: Level
    takes: Part
    compute: Callable[[Any], Finding]
    better: Literal["lower", "higher"] = "lower"
    null: Null = "none"
    citation: str = ""
    version: int = 1
