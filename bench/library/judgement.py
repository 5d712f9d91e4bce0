"""Judgement of one trained surrogate from test datasets, without a likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.interpolate import PchipInterpolator

from bench.boards.quantities import estimated
from bench.boards.results import Results, SavedFit, Scores
from bench.boards.units import ResamplingUnits
from bench.contracts import StoredTask, Task
from bench.errors import NotApplicable, duration
from bench.stats.clustering import Estimate
from bench.stats.decision import WORDS, CoverageVerdict, Word, judge_coverage
from bench.stats.local import LocalCoverage, local_coverage

NOMINAL = 0.6827
"""Claimed coverage of intervals."""


@dataclass(frozen=True)
class ParameterTrust:
    """Judgement of the intervals of one parameter.

    Args:
        name: the parameter.
        coverage: share of test datasets whose 68.27 % interval contains the true value.
        verdict: decision on it, with the simultaneous interval of its gap to 68.27 %.
        local: coverage along the parameter, with a band.
        length: mean length of intervals as delivered.
        threshold: value of the likelihood-ratio statistic that 68.27 % of the true values in the
            test datasets do not exceed; 1 for exact likelihoods of large datasets.
        threshold_range: its 95 % confidence interval.
        calibrated_length: mean length of intervals at that threshold.
        calibrated_range: that at the ends of the threshold's interval.
    """

    name: str
    coverage: Estimate
    verdict: CoverageVerdict
    local: LocalCoverage
    length: Estimate
    threshold: float
    threshold_range: tuple[float, float]
    calibrated_length: float
    calibrated_range: tuple[float, float]

    @property
    def worst(self) -> int:
        """Place in `local` where the coverage is farthest from 68.27 %."""
        return self.local.worst(NOMINAL)


@dataclass(frozen=True)
class MethodTrust:
    """Judgement of one trained surrogate.

    Args:
        label: its method.
        parameters: judgement of each reported parameter.
        normalisation: mean over contexts of |log E[r̂]|, the logarithm of the mean estimated ratio
            over the reference; NaN for densities, which are normalised.
        training_calls: simulator calls of its training.
        training_seconds: time of the training.
        toys: number of test datasets.
        toy_calls: simulator calls of the test datasets; 0 where they are stored.
        toy_seconds: time to simulate and evaluate them.
    """

    label: str
    parameters: tuple[ParameterTrust, ...]
    normalisation: float
    training_calls: int
    training_seconds: float
    toys: int
    toy_calls: int
    toy_seconds: float

    @property
    def word(self) -> Word:
        """Verdict on all parameters: it holds if all hold, and fails if any fails."""
        words = {own.verdict.word for own in self.parameters}
        return next(word for word in WORDS if word in words)

    @property
    def next_step(self) -> str:
        """Sentence on what to do, with its price."""
        if self.word == "holds":
            return (
                f"Use {self.label} as trained here: its coverage holds, averaged over the inner "
                "range."
            )
        if self.word == "fails":
            failed = [own.name for own in self.parameters if own.verdict.word == "fails"]
            return (
                f"Do not use {self.label} as delivered: intervals of {', '.join(failed)} do not "
                "cover. Use calibrated intervals, or train with more calls."
            )
        wanted = max((own.verdict.sets or 0) for own in self.parameters)
        if not wanted:
            return "Undetermined; more test datasets would probably not decide."
        if not self.toy_calls:
            return f"Undetermined; about {wanted:,} stored test datasets in all would decide."
        calls, seconds = (wanted / self.toys * cost for cost in (self.toy_calls, self.toy_seconds))
        return (
            f"Undetermined; about {wanted:,} test datasets in all would decide. They take "
            f"{calls:,.0f} simulator calls and {duration(seconds)}."
        )


def judged(
    results: Results,
    task: Task,
    fit: SavedFit,
    folders: Sequence[str],
    tolerance: float,
    level: float,
) -> MethodTrust:
    """Judge one fit of a results folder; the first plan is that of test datasets."""
    scores = results.scores(fit, folders[0])
    if scores is None:
        raise NotApplicable(f"{fit.label} has no scores")
    units = ResamplingUnits.of(results.plans[folders[0]], scores)
    each = 1 - (1 - level) / len(task.reported)
    record = fit.members[0]
    prediction = results.store.record(f"predictions/{fit.folder}/{folders[0]}/member-000") or {}
    toys = len(scores.point)
    return MethodTrust(
        fit.label,
        tuple(_of_parameter(scores, units, name, tolerance, each) for name in task.reported),
        _normalisation(results, fit, folders[1:]),
        int(record["calls"]),
        float(record["seconds"]),
        toys,
        0 if isinstance(task, StoredTask) else toys * task.observations,
        float(prediction.get("seconds", nan)),
    )


def _of_parameter(
    scores: Scores, units: ResamplingUnits, name: str, tolerance: float, level: float
) -> ParameterTrust:
    covered = scores.values[f"coverage/{name}"]
    coverage = estimated(covered, units, units.headline, share=True).estimate
    length = estimated(scores.values[f"width/{name}"], units, units.headline).estimate
    assert coverage is not None
    assert length is not None
    theta = scores.values[f"generating/{name}"][0][:, None]
    threshold, spread = _quantile(scores.values[f"statistic/{name}"][0])
    # Within the box, where thresholds are defined; relative to lengths at the usual threshold.
    usual, *moved = _lengths(scores, name, (1.0, threshold, *spread))
    calibrated, low, high = (length.value * other / usual for other in moved)
    return ParameterTrust(
        name,
        coverage,
        judge_coverage(
            replace(coverage, value=coverage.value - NOMINAL), 1, len(theta), tolerance, level
        ),
        local_coverage(theta, covered[..., None], np.zeros(len(theta), dtype=int)),
        length,
        threshold,
        spread,
        calibrated,
        (low, high),
    )


def _quantile(values: ArrayLike) -> tuple[float, tuple[float, float]]:
    """Return the 68.27 % quantile, and its 95 % interval between two order statistics.

    Example:
        >>> value, (low, high) = _quantile(np.arange(1001) / 1000)
        >>> round(value, 4), low, high
        (0.6827, 0.653, 0.712)
    """
    found = np.sort(np.asarray(values, dtype=np.float64))
    n = len(found)
    low, high = (int(rank) for rank in np.asarray(stats.binom.ppf([0.025, 0.975], n, NOMINAL)))
    ends = float(found[max(low - 1, 0)]), float(found[min(high, n - 1)])
    return float(np.quantile(found, NOMINAL)), ends


def _lengths(scores: Scores, name: str, thresholds: Sequence[float]) -> list[float]:
    """Return mean lengths of intervals at thresholds; NaN beyond the last that is stored."""
    found, start = {0.0: 0.0}, f"profile_lower/{name} "
    for key, lower in scores.values.items():
        if key.startswith(start):
            root = key.removeprefix(start)
            found[float(root)] = float(
                (scores.values[f"profile_upper/{name} {root}"] - lower).mean()
            )
    curve = PchipInterpolator(sorted(found), [found[r] for r in sorted(found)], extrapolate=False)
    return [float(curve(np.sqrt(one))) for one in thresholds]


def _normalisation(results: Results, fit: SavedFit, folders: Sequence[str]) -> float:
    """Return the mean absolute logarithm of the mean ratio; NaN where there is no reference."""
    for folder in folders:
        scores = results.scores(fit, folder)
        values = {} if scores is None else scores.values
        found = [v for key, v in values.items() if key.startswith("log_mean_ratio/")]
        if found:
            return float(np.abs(np.concatenate(found)).mean())
    return nan
