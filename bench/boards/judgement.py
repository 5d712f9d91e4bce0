"""Judgement of one trained surrogate from test datasets, without a likelihood."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from math import ceil, isnan

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.interpolate import PchipInterpolator

from bench.boards.columns import parenthesised
from bench.boards.quantities import estimated
from bench.boards.results import Results, SavedFit, Scores
from bench.boards.units import ResamplingUnits
from bench.boards.verdict import SIGNS, interval
from bench.contracts import StoredTask, Task
from bench.errors import NotApplicable, counted, duration
from bench.inference.box import ROOTS
from bench.stages.closure import EventClosure
from bench.stages.diagnose import Diagnosis
from bench.stats.clustering import Estimate
from bench.stats.decision import CoverageVerdict, Word, judge_coverage, together
from bench.stats.local import LocalCoverage, local_coverage

NOMINAL = 0.6827
"""Claimed coverage of intervals."""

_SMALL = 0.001  # p-value
_LARGEST = max(ROOTS) ** 2


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
        threshold_range: its 95 % confidence interval; infinite beyond the largest that is known.
        calibrated_length: mean length of intervals at that threshold; NaN where it is not known.
        calibrated_range: that at the ends of the threshold's interval.
        bias: mean of estimates minus true values within the inner range, in halves of the mean
            length.
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
    bias: Estimate

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
        observations: number of observations in a test dataset.
        training_calls: simulator calls of its training.
        training_seconds: time of the training.
        toys: number of test datasets.
        toy_calls: simulator calls of the test datasets; 0 where they are stored.
        toy_seconds: time to simulate and evaluate them on one core.
        closure: its closure on single observations.
        sizes: judgements on datasets of other numbers of observations.
        diagnoses: results of diagnostics, by their titles.
        diagnosis_calls: simulator calls of their evidence; 0 where it is stored.
    """

    label: str
    parameters: tuple[ParameterTrust, ...]
    observations: int
    training_calls: int
    training_seconds: float
    toys: int
    toy_calls: int
    toy_seconds: float
    closure: EventClosure = field(default_factory=lambda: EventClosure(0))
    sizes: Mapping[int, "MethodTrust"] = field(default_factory=dict)
    diagnoses: Mapping[str, Diagnosis] = field(default_factory=dict)
    diagnosis_calls: int = 0

    @property
    def word(self) -> Word:
        """Verdict on all parameters: it holds if all hold, and fails if any fails."""
        return together(own.verdict.word for own in self.parameters)

    def at(self, observations: int) -> "MethodTrust":
        """Return the judgement on datasets of a size if there is one, else this."""
        return self.sizes.get(observations, self)

    @property
    def every(self) -> "list[MethodTrust]":
        """Judgements on all sizes, the smallest first."""
        return sorted([*self.sizes.values(), self], key=lambda one: one.observations)

    @property
    def holds_up_to(self) -> int:
        """Largest judged number of observations up to which it holds, or 0."""
        held = list(takewhile(lambda one: one.word == "holds", self.every))
        return held[-1].observations if held else 0

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
                "cover. Use calibrated intervals, which cover on average, or train with more calls."
            )
        wanted = max((own.verdict.sets or 0) for own in self.parameters)
        if not wanted:
            return "Undetermined; more test datasets would probably not decide."
        wanted = ceil(wanted / (unit := 10 ** max(len(str(wanted)) - 2, 0))) * unit
        if not self.toy_calls:
            return f"Undetermined; about {wanted:,} stored test datasets in all would decide."
        more = wanted - self.toys
        calls, seconds = (more / self.toys * cost for cost in (self.toy_calls, self.toy_seconds))
        return (
            f"Undetermined; about {counted(more, 'more test dataset')} would probably decide: "
            f"{calls:,.0f} simulator calls and {duration(seconds)} on one core. "
            f"Add --toys {wanted}."
        )

    @property
    def notes(self) -> Iterator[str]:
        """Yield sentences on costs, sizes and closure."""
        yield (
            f"{self.training_calls:,} simulator calls for training "
            f"({duration(self.training_seconds)}), {self.toy_calls:,} for "
            f"{counted(self.toys, 'test dataset')} ({duration(self.toy_seconds)} on one core), "
            f"{self.closure.calls:,} for closure, {self.diagnosis_calls:,} for diagnostics."
            if self.toy_calls
            else f"{self.training_calls:,} stored observations for training "
            f"({duration(self.training_seconds)}), {counted(self.toys, 'stored test dataset')} "
            f"({duration(self.toy_seconds)} on one core)."
        )
        if self.sizes:
            judged = "; ".join(
                f"{one.observations:,}: {SIGNS[one.word]} {one.word} "
                f"({', '.join(f'{own.name} {interval(own.verdict)}' for own in one.parameters)})"
                for one in self.every
            )
            largest = self.holds_up_to
            found = f"up to {largest:,}" if largest else "not shown for any"
            yield f"Holds {found}. Gaps by number of observations: {judged}."
        biases = ", ".join(
            f"{own.name} {parenthesised(own.bias.value, own.bias.error)}" for own in self.parameters
        )
        yield f"Closure of datasets: estimate minus true value in half-lengths: {biases}."
        closure = self.closure
        if closure.failure:
            yield f"Closure of observations: n/a, {closure.failure}."
        if closure.deviation is not None:
            yield (
                "Closure of observations: numbers of simulations in bins of r̂ deviate by "
                f"{100 * closure.deviation:.1f} %, beside fluctuations of "
                f"{100 * (closure.deviation_noise or 0):.1f} %."
            )
        if closure.normalisation is not None:
            yield (
                f"Normalisation: |log E[r̂]| is {closure.normalisation:.2g} on average, from "
                f"{closure.events:,} simulations; fluctuations give "
                f"{closure.normalisation_noise:.1g}."
            )
        if self.diagnoses:
            tests = "; ".join(f"{title}: {_written(one)}" for title, one in self.diagnoses.items())
            yield f"Diagnostics: {tests}. A small p is evidence of an error of any size."


def _written(diagnosis: Diagnosis) -> str:
    if diagnosis.finding is None:
        return f"n/a, {diagnosis.reason}"
    p_value = diagnosis.finding.p_value
    if isnan(p_value):
        return "no p-value"
    return f"p < {_SMALL}" if p_value < _SMALL else f"p = {p_value:.2g}"


def judged(
    results: Results,
    task: Task,
    fit: SavedFit,
    folders: Sequence[str],
    tolerance: float,
    level: float,
) -> MethodTrust:
    """Judge one fit of a results folder by all parts of a plan."""
    parts = [results.scores(fit, folder) for folder in folders]
    scores = joined([part for part in parts if part is not None])
    record = fit.members[0]
    key = f"predictions/{fit.folder}/{{}}/member-000"
    seconds = [(results.store.record(key.format(f)) or {}).get("seconds", 0.0) for f in folders]
    plan = results.plans[folders[0]]
    observations = plan["plan"]["observations"] or task.observations
    toys = len(scores.point)
    return MethodTrust(
        fit.label,
        of_parameters(scores, ResamplingUnits.of(plan, scores), task.reported, tolerance, level),
        observations,
        int(record["calls"]),
        float(record["seconds"]),
        toys,
        0 if isinstance(task, StoredTask) else toys * observations,
        float(sum(seconds)),
    )


def joined(parts: Sequence[Scores]) -> Scores:
    """Return the scores of all parts of a plan, whose datasets are independent.

    Raises:
        NotApplicable: if there are none.
    """
    if not parts:
        raise NotApplicable("there are no scores of test datasets")
    common = set.intersection(*({*part.values} for part in parts))
    first = np.cumsum([0, *(part.block.max() + 1 for part in parts)])
    return replace(
        parts[0],
        point=np.concatenate([part.point for part in parts]),
        block=np.concatenate([n + part.block for n, part in zip(first, parts, strict=False)]),
        values={k: np.concatenate([p.values[k] for p in parts], 1) for k in sorted(common)},
    )


def of_parameters(
    scores: Scores,
    units: ResamplingUnits,
    names: Sequence[str],
    tolerance: float,
    level: float,
) -> tuple[ParameterTrust, ...]:
    """Judge the intervals of parameters, all verdicts together at a confidence level."""
    each = 1 - (1 - level) / len(names)
    return tuple(_of_parameter(scores, units, name, tolerance, each) for name in names)


def _of_parameter(
    scores: Scores, units: ResamplingUnits, name: str, tolerance: float, level: float
) -> ParameterTrust:
    def mean(values: np.ndarray, *, share: bool = False) -> Estimate:
        found = estimated(values, units, units.headline, share=share).estimate
        assert found is not None
        return found

    covered = scores.values[f"coverage/{name}"]
    coverage = mean(covered, share=True)
    length = mean(scores.values[f"width/{name}"])
    truth = scores.values[f"generating/{name}"]
    half = 0.5 * length.value or np.inf
    missed = (scores.values[f"estimate/{name}"] - truth) / half
    theta = truth[0][:, None]
    threshold, spread = _quantile(scores.values[f"statistic/{name}"][0])
    # Within the box, where thresholds are defined; relative to lengths at the usual threshold.
    usual, *moved = _lengths(scores, name, (1.0, threshold, *spread))
    calibrated, low, high = (length.value * other / (usual or np.nan) for other in moved)
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
        mean(missed),
    )


def _quantile(values: ArrayLike) -> tuple[float, tuple[float, float]]:
    """Return the 68.27 % quantile, and its 95 % interval between two order statistics.

    Values beyond the largest threshold are infinite, because profiles end there.

    Example:
        >>> value, (low, high) = _quantile(np.arange(1001) / 1000)
        >>> round(value, 4), low, high
        (0.6827, 0.653, 0.712)
    """
    found = np.sort(np.asarray(values, dtype=np.float64))
    n = len(found)
    low, high = (int(rank) for rank in np.asarray(stats.binom.ppf([0.025, 0.975], n, NOMINAL)))
    ends = found[max(low - 1, 0)], found[min(high, n - 1)]
    value, first, last = (
        float(one) if one <= _LARGEST else np.inf for one in (np.quantile(found, NOMINAL), *ends)
    )
    return value, (first, last)


def _lengths(scores: Scores, name: str, thresholds: Sequence[float]) -> list[float]:
    """Return mean lengths of intervals at thresholds; NaN beyond those that are stored."""
    found, start = {}, f"profile_lower/{name} "
    for key, lower in scores.values.items():
        if key.startswith(start):
            root = key.removeprefix(start)
            found[float(root)] = float(
                (scores.values[f"profile_upper/{name} {root}"] - lower).mean()
            )
    curve = PchipInterpolator(sorted(found), [found[r] for r in sorted(found)], extrapolate=False)
    return [float(curve(np.sqrt(one))) if np.isfinite(one) else np.nan for one in thresholds]
