"""Judgement of surrogates of a simulator whose likelihood is unknown: `bench.trust`."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import isfinite, nan
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor

from bench.boards.columns import parenthesised
from bench.boards.render import printed, terminal_table
from bench.boards.verdict import SIGNS, interval
from bench.contracts import HeldOutPlan, IndependentPlan, Method, Task, Wrapped
from bench.errors import NotApplicable, UsageError, counted, duration
from bench.experiment.preset import make_preset
from bench.experiment.schedule import schedule
from bench.library.evaluation import intervals_of, observations_of_user, profiles_of
from bench.library.examination import examine
from bench.library.fitting import FittedSurrogate, TemporaryFolder, completed, registry_for
from bench.library.judgement import MethodTrust, ParameterTrust, judged
from bench.library.runs import Paths, perform, raise_failures
from bench.registry.registry import Defined
from bench.seeds import generator
from bench.stages.datasets import simulate
from bench.stats.clustering import Array
from bench.stats.energy import energy_test
from bench.storage.fit_spec import plan_folder
from bench.storage.store import Store

_HELD_OUT = HeldOutPlan(contexts=50, events=200)
_EDGE = 0.02  # share of the training range at its bounds where an estimate is not believed
_UNLIKE = 0.01  # p-value below which data look unlike simulations
_TESTED = 500  # observations that are compared with simulations
_SIMULATED = 1000  # simulations that they are compared with
_VAGUE = 0.8  # width of a band of coverage above which it says nothing


class Trust:
    """Judgement of surrogates of one simulator.

    Attributes:
        task: the task of the simulator.
        methods: the judgement of each method.
        absent: reasons of methods that cannot learn the task, by label.
        surrogates: the trained surrogates, by label.
        tolerance: largest gap of the coverage that holds.
        folder: results folder, which later calls reuse.
    """

    def __init__(
        self,
        task: Task,
        methods: Sequence[MethodTrust],
        absent: Mapping[str, str],
        surrogates: Mapping[str, FittedSurrogate],
        tolerance: float,
        folder: Path,
        temporary: TemporaryFolder | None = None,
    ) -> None:
        self.task = task
        self.methods = tuple(methods)
        self.absent = absent
        self.surrogates = surrogates
        self.tolerance = tolerance
        self.folder = folder
        self._temporary = temporary

    def frame(self) -> pd.DataFrame:
        """Return a line for each method and parameter.

        Columns: `method, parameter, verdict, coverage, error, gap_low, gap_high, worst_at,
        worst_coverage, worst_low, worst_high, length, threshold, threshold_low, threshold_high,
        calibrated_length, calibrated_low, calibrated_high`.
        """
        return pd.DataFrame.from_records(
            [
                {
                    "method": method.label,
                    "parameter": own.name,
                    "verdict": own.verdict.word,
                    "coverage": own.coverage.value,
                    "error": own.coverage.error,
                    "gap_low": own.verdict.low,
                    "gap_high": own.verdict.high,
                    "worst_at": own.local.theta[own.worst],
                    "worst_coverage": own.local.coverage[own.worst],
                    "worst_low": own.local.low[own.worst],
                    "worst_high": own.local.high[own.worst],
                    "length": own.length.value,
                    "threshold": own.threshold,
                    "threshold_low": own.threshold_range[0],
                    "threshold_high": own.threshold_range[1],
                    "calibrated_length": own.calibrated_length,
                    "calibrated_low": own.calibrated_range[0],
                    "calibrated_high": own.calibrated_range[1],
                }
                for method in self.methods
                for own in method.parameters
            ]
        )

    def intervals(
        self, x: ArrayLike | Tensor, *, measured: Mapping[str, float] | None = None
    ) -> pd.DataFrame:
        r"""Return estimates and intervals of the observed dataset.

        Args:
            x: its observations, (n, \*event).
            measured: auxiliary measurements of constrained parameters, by name.

        Returns:
            A line for each method and parameter. Columns: `method, verdict, parameter, estimate,
            low, high, calibrated_low, calibrated_high, warning`. Calibrated intervals have the
            threshold that covers 68.27 % of the test datasets. They are NaN for tasks with several
            components, constraints or a rate.

        Raises:
            UsageError: if the observations have another shape, or are not finite.
        """
        events = observations_of_user(self.task, x)
        single = len(self.task.component_names) == 1 and not self.task.has_auxiliary
        rows = []
        for method in self.methods:
            surrogate = self.surrogates[method.label]
            profiles = profiles_of(self.task, surrogate, events, self.folder, measured)
            frame = intervals_of(self.task, profiles)
            unlike = [*self._unlike(profiles[0].mle[0], events), *self._few(events)]
            for own, row in zip(method.parameters, frame.to_dict("records"), strict=True):
                low = high = nan
                if single:
                    moved = Wrapped([surrogate], partial(_divided, own.threshold))
                    found = profiles_of(self.task, moved, events, self.folder, measured)
                    other = intervals_of(self.task, found)
                    (ends,) = other[other["parameter"] == own.name].to_dict("records")
                    low, high = ends["low"], ends["high"]
                rows.append(
                    {
                        "method": method.label,
                        "verdict": own.verdict.word,
                        "parameter": own.name,
                        "estimate": row["estimate"],
                        "low": row["low"],
                        "high": row["high"],
                        "calibrated_low": low,
                        "calibrated_high": high,
                        "warning": "; ".join([*self._warnings(row), *unlike]),
                    }
                )
        return pd.DataFrame.from_records(rows)

    def _warnings(self, row: Mapping[Any, Any]) -> Iterator[str]:
        """Yield reasons not to believe an interval."""
        bounds = self.task.space.parameters[self.task.space.names.index(row["parameter"])]
        edge = _EDGE * (bounds.high - bounds.low)
        if row["cut"] or not bounds.low + edge < row["estimate"] < bounds.high - edge:
            yield "at the edge of the training range"
        if row["unresolved"]:
            yield "its ends are less accurate than required"

    def _few(self, events: Tensor) -> Iterator[str]:
        """Yield a warning if thresholds are those of datasets of another size."""
        if len(events) != (usual := self.task.observations) and not self.task.has_rate:
            yield f"{counted(len(events), 'observation')}, where test datasets have {usual:,}"

    def _unlike(self, estimate: Array, events: Tensor) -> Iterator[str]:
        """Compare data with simulations at the estimate, and yield a warning if they differ."""
        space, components = self.task.space, self.task.components("test")
        if self.task.expensive or any(c.size is not None for c in components.values()):
            return  # calls are too dear, or there is nothing to simulate
        theta = torch.from_numpy(estimate)
        few = events[:_TESTED]
        rng = generator("unlike", self.task.name, len(few))
        kinds = torch.multinomial(self.task.weights(theta), _SIMULATED, True, generator=rng)
        context = space.context_of(theta).float().expand(_SIMULATED, -1)
        drawn = few.new_empty(_SIMULATED, *few.shape[1:])
        for k, component in enumerate(components.values()):
            if bool((rows := kinds == k).any()):
                drawn[rows] = simulate(self.task, component, context[rows], rng)
        data, simulated = few.flatten(1).double(), drawn.flatten(1).double()
        beyond = ((data < simulated.amin(0)) | (data > simulated.amax(0))).sum()
        # An observation is beyond all others with probability 2 / (n + 1) in each number.
        expected = 2 * data.numel() / (_SIMULATED + 1)
        outside = float(stats.poisson.sf(int(beyond) - 1, expected))
        scale = simulated.std(0).clamp_min(1e-12)
        tested = energy_test((data / scale).numpy(), (simulated / scale).numpy(), 999).p_value
        p_value = min(1.0, 2 * min(outside, tested))  # of two tests
        if p_value < _UNLIKE:
            yield f"the data look unlike simulations at the estimate (p = {p_value:.2g})"

    def text(self) -> str:
        """Return the judgement as tables for a terminal."""
        parts = []
        for method in self.methods:
            rows = [(_cells(own), False) for own in method.parameters]
            parts += [
                f"{self.task.name}, {method.label}: {SIGNS[method.word]} {method.word}\n",
                printed(terminal_table(_HEAD, rows, ("parameter", "verdict"))),
                *(f"{line}\n" for line in (*_costs(method), method.next_step, "")),
            ]
        parts += [f"{label}: n/a, {reason}\n" for label, reason in self.absent.items()]
        parts.append(
            f"Coverage holds if its gap to 68.3 % lies within ± {100 * self.tolerance:g} points. "
            "Verdicts are about the networks trained here.\n"
        )
        return "".join(parts)

    def __repr__(self) -> str:
        return self.text()


_HEAD = (
    "parameter",
    "verdict",
    "coverage",
    "gap, points",
    "worst coverage",
    "at",
    "length",
    "threshold",
    "calibrated length",
)


def _cells(own: ParameterTrust) -> list[str]:
    """Return the texts of a parameter's row."""
    local, at = own.local, own.worst
    known = local.high[at] - local.low[at] < _VAGUE
    return [
        own.name,
        f"{SIGNS[own.verdict.word]} {own.verdict.word}",
        parenthesised(own.coverage.value, own.coverage.error),
        interval(own.verdict),
        f"{local.coverage[at]:.2f} [{local.low[at]:.2f}, {local.high[at]:.2f}]" if known else "–",
        f"{local.theta[at]:.3g}" if known else "–",
        parenthesised(own.length.value, own.length.error),
        _ranged(own.threshold, own.threshold_range),
        _ranged(own.calibrated_length, own.calibrated_range),
    ]


def _ranged(value: float, ends: tuple[float, float]) -> str:
    low, high = (f"{end:.3g}" if isfinite(end) else "?" for end in ends)
    return f"{value:.3g} [{low}, {high}]" if isfinite(value) else "> 25"


def _costs(method: MethodTrust) -> Iterator[str]:
    """Yield sentences on calls, seconds and normalisation."""
    yield (
        f"{method.training_calls:,} simulator calls for training "
        f"({duration(method.training_seconds)}), {method.toy_calls:,} for "
        f"{counted(method.toys, 'test dataset')} ({duration(method.toy_seconds)})."
        if method.toy_calls
        else f"{method.training_calls:,} stored observations for training "
        f"({duration(method.training_seconds)}), {counted(method.toys, 'stored test dataset')} "
        f"({duration(method.toy_seconds)})."
    )
    if isfinite(method.normalisation):
        yield f"Normalisation: |log E[r̂]| is {method.normalisation:.2g} on average."


def _divided(threshold: float, log_ratio: Tensor) -> Tensor:
    """Scale a likelihood of a single component so that its intervals have a threshold."""
    return log_ratio / max(threshold, 1e-6)


def trust(
    on: Task | str,
    methods: Sequence[str | type[Method]] = (),
    *,
    budget: int = 50_000,
    toys: int = 1500,
    tolerance: float = 0.05,
    level: float = 0.95,
    seed: int = 0,
    device: str = "auto",
    folder: str | os.PathLike[str] | None = None,
    plugins: Paths = (),
    objects: Sequence[Defined] = (),
    workers: int = 0,
    quiet: bool = False,
) -> Trust:
    """Train surrogates of a simulator, and judge their intervals by simulated test datasets.

    The judgement is of these trained surrogates, not of the methods in general. It needs no
    likelihood. A test dataset costs as many simulator calls as it has observations.

    Args:
        on: the task of the simulator, such as a `bench.contracts.Simulator`, or its name.
        methods: METHOD:CONFIGURATION, also with wrappers, or subclasses of
            `bench.contracts.Method`; the first choice for the type of its observations where empty.
        budget: simulator calls of each training.
        toys: number of test datasets, with parameters uniform in the inner box.
        tolerance: largest gap of the coverage to 68.27 % that holds.
        level: confidence level of all verdicts on a method together.
        seed: seed of simulations and training.
        device: "auto", "cpu" or "cuda".
        folder: results folder to keep and reuse work in; a temporary one where None.
        plugins: files that define the task or the methods.
        objects: tasks, methods and wrappers of this program that are named.
        workers: worker processes, which know files of `plugins` only; 0 works in this process.
        quiet: whether to show no progress.

    Raises:
        UsageError: if a name or a value is wrong, or the likelihood is known.
        NotApplicable: if no method can learn the task.
        BenchError: if a simulation or a training fails.

    Example:
        >>> judged = bench.trust("my-simulator", plugins="my_simulator.py")  # doctest: +SKIP
        >>> judged.frame()  # doctest: +SKIP
    """
    if not 20 <= toys <= 10**6:
        raise UsageError(f"toys = {toys} is not allowed: it must be 20 to 1,000,000")
    if not 0 < tolerance < 1 or not 0 < level < 1:
        raise UsageError("tolerance and level must lie between 0 and 1")
    classes = [one for one in methods if not isinstance(one, str)]
    registry, name = registry_for(on, "exact", plugins, [*objects, *classes])
    task = registry.task(name)
    if task.has_exact:
        raise UsageError(f"the likelihood of {name} is known: `bench run` compares with it")
    examine(task)
    preset = make_preset(
        tasks=(name,),
        methods=tuple(completed(registry, one) for one in methods or _suitable(task)),
        members=1,
        budgets=(budget,),
        seed=seed,
        device=device,
        tolerance=100 * tolerance,
        plans=(IndependentPlan(uniform=toys, per_point=0), _HELD_OUT),
    )
    temporary = TemporaryFolder() if folder is None else None
    root = temporary.path if temporary is not None else Path(folder or "")
    planned = schedule(registry, preset, Store.open(root))
    summary, results, _ = perform(
        planned, ["bench.trust"], workers or None, quiet=quiet, here=not workers
    )
    raise_failures(planned, summary)
    every = (*planned.absent, *summary.absent)
    absent = {
        one.label: one.reason for one in every if not one.label.startswith(("exact", "every"))
    }
    folders = [plan_folder(task, one, seed) for one, _ in planned.plans[name]]
    found: list[MethodTrust] = []
    surrogates = {}
    for spec in planned.specs:
        for fit in (fit for fit in results.fits if fit.folder == spec.folder and fit.members):
            found.append(judged(results, task, fit, folders, tolerance, level))
            surrogates[fit.label] = FittedSurrogate(
                planned.context, spec, preset, spec.label, temporary
            )
    if not found:
        said = {one.label: one.reason for one in planned.absent if one.label != "exact"} | absent
        reasons = "; ".join(f"{label}: {reason}" for label, reason in said.items())
        raise NotApplicable(f"no method can learn {name}: {reasons}")
    return Trust(task, found, absent, surrogates, tolerance, root, temporary)


def _suitable(task: Task) -> list[str]:
    """Return the first choice for a type of observation (docs/results/index.md)."""
    if task.observation == "series" and task.discrete:
        return ["dle-counts:tuned"]
    if task.observation == "field" and not task.discrete:
        return ["dle-fields:tuned"]
    return ["lre:tuned"]
