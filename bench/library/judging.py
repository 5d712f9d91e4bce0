"""Judgement of surrogates of a simulator whose likelihood is unknown: `bench.trust`."""

import os
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Literal

import torch

from bench.boards.judgement import MethodTrust, judged
from bench.boards.results import Results
from bench.contracts import (
    Diagnostic,
    IndependentPlan,
    LikelihoodPrediction,
    Method,
    StoredTask,
    Task,
)
from bench.contracts.plan import observations_of
from bench.echo import tell
from bench.errors import NotApplicable, UsageError, counted, message_of
from bench.experiment.preset import Preset, make_preset
from bench.experiment.schedule import Schedule, schedule
from bench.experiment.selection import MethodPattern, names_fit
from bench.library.examination import UNFORESEEN, examine, limited
from bench.library.fitting import (
    FittedSurrogate,
    TemporaryFolder,
    completed,
    needed,
    registry_for,
)
from bench.library.runs import Paths, perform, raise_failures
from bench.library.trust_result import Trust
from bench.registry.registry import Defined, Registry
from bench.stages.closure import EventClosure, event_closure
from bench.stages.diagnose import Diagnosis, EvidenceSource, diagnose
from bench.stages.predict import load
from bench.storage.fit_spec import FitSpec, plan_folder
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store

_PART = 250  # test datasets that one job evaluates
_SMALLER = (64, 16, 4)  # fractions of M that are judged where M fails
_EVENTS = 100_000  # most single observations for closure; no more than all others
_SHARE = 10  # their number is that of training over this where calls are expensive
_APART = 10_000  # from the seed of training, so that diagnostics have simulations of their own
_DIAGNOSED = 25_000  # most single observations for diagnostics; no more than all others
DIAGNOSTICS = ("sbc", "closure")
"""Diagnostics of every judgement (docs/results/diagnostics.md)."""


def trust(
    on: Task | str,
    methods: Sequence[str | type[Method]] = (),
    *,
    budget: int = 50_000,
    toys: int = 1500,
    sizes: Sequence[int] = (),
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
        sizes: further numbers of observations in a dataset that are judged. Where empty, a method
            that fails is judged at 1/64, 1/16 and 1/4 of the task's number, up to the first that
            does not hold.
        tolerance: largest gap of the coverage to 68.27 % that holds.
        level: confidence level of all verdicts on a method together, at each size.
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
    if not isinstance(toys, int) or not 20 <= toys <= 10**6:
        raise UsageError(f"toys = {toys!r} is not allowed: it must be 20 to 1,000,000")
    for one in (tolerance, level):
        if not isinstance(one, float) or not 0 < one < 1:
            raise UsageError("tolerance and level must be numbers between 0 and 1")
    if isinstance(methods, str) or not isinstance(methods, Sequence):
        raise UsageError("methods must be a list")
    if not isinstance(sizes, Sequence) or not all(isinstance(one, int) for one in sizes):
        raise UsageError("sizes must be a list of numbers of observations")
    classes = [one for one in methods if not isinstance(one, str)]
    with limited(f"the simulator of {on if isinstance(on, str) else on.name}"):
        registry, name = registry_for(on, "exact", plugins, [*objects, *classes])
        task = registry.task(name)
        if task.has_exact:
            raise UsageError(f"the likelihood of {name} is known: `bench run` compares with it")
        _check_sizes(task, sizes)
        examine(task)
    preset = make_preset(
        tasks=(name,),
        methods=tuple(completed(registry, one) for one in methods or _suitable(task)),
        members=1,
        budgets=(budget,),
        seed=seed,
        device=device,
        tolerance=100 * tolerance,
        plans=_parts(task, toys),
    )
    temporary = TemporaryFolder() if folder is None else None
    root = temporary.path if temporary is not None else Path(folder or "")
    work = _Work(registry, preset, root, workers, quiet)
    planned, absent = work.run()
    found: list[MethodTrust] = []
    surrogates = {}
    for spec in planned.specs:
        judge = _Judge(work, task, spec, toys, tolerance, level)
        if (own := judge.at(None)) is None:
            continue
        surrogate = FittedSurrogate(planned.context, spec, preset, spec.label, temporary)
        if not quiet:
            tell(f"comparing {own.label} with simulations of single observations")
        own = replace(
            own,
            sizes=judge.at_sizes(own, sizes),
            closure=_closure(task, surrogate, own, seed),
        )
        own = judge.diagnosed(surrogate, own)
        found.append(own)
        surrogates[own.label] = surrogate
    if not found:
        said = {one.label: one.reason for one in planned.absent if one.label != "exact"} | absent
        reasons = "; ".join(f"{label}: {reason}" for label, reason in said.items())
        raise NotApplicable(f"no method can learn {name}: {reasons}")
    return Trust(task, found, absent, surrogates, tolerance, root, temporary)


class _Work:
    """Runs of the presets of one judgement.

    Args:
        registry, preset, root, workers, quiet: as in `trust`.
    """

    def __init__(
        self, registry: Registry, preset: Preset, root: Path, workers: int, quiet: bool
    ) -> None:
        self.registry, self.preset, self.root = registry, preset, root
        self.workers, self.quiet = workers, quiet
        self.results = Results(Store.open(root))

    def run(
        self, plans: Sequence[IndependentPlan] = (), spec: FitSpec | None = None
    ) -> tuple[Schedule, dict[str, str]]:
        """Train and evaluate, all fits or one; return the schedule, and reasons of absence."""
        preset = self.preset.model_copy(update={"plans": tuple(plans)} if plans else {})
        planned = schedule(self.registry, preset, Store.open(self.root))
        patterns = [MethodPattern.parse(written) for written in preset.methods]
        own = [
            one
            for one in planned.specs
            if (spec is None or one.folder == spec.folder)
            and any(names_fit(self.registry, pattern, one) for pattern in patterns)
        ]
        planned = replace(planned, specs=own, jobs=needed(planned.jobs, own))
        summary, self.results, _ = perform(
            planned, ["bench.trust"], self.workers or None, quiet=self.quiet, here=not self.workers
        )
        raise_failures(planned, summary)
        every = (*planned.absent, *summary.absent)
        return planned, {
            one.label: one.reason for one in every if not one.label.startswith(("exact", "every"))
        }


class _Judge:
    """Judgement of one fit at several sizes of datasets.

    Args:
        work: its runs.
        task: the task.
        spec: the fit.
        toys, tolerance, level: as in `trust`.
    """

    def __init__(
        self, work: _Work, task: Task, spec: FitSpec, toys: int, tolerance: float, level: float
    ) -> None:
        self.work, self.task, self.spec = work, task, spec
        self.toys, self.tolerance, self.level = toys, tolerance, level

    def at(self, size: int | None) -> MethodTrust | None:
        """Judge datasets of a number of observations, or of the task's; None without scores."""
        plans = _parts(self.task, self.toys, size)
        if size is not None:
            self.work.run(plans, self.spec)
        results, seed = self.work.results, self.work.preset.seed
        fits = [f for f in results.fits if f.folder == self.spec.folder and f.members]
        if not fits:
            return None
        folders = [plan_folder(self.task, plan, seed) for plan in plans]
        return judged(results, self.task, fits[0], folders, self.tolerance, self.level)

    def diagnosed(self, surrogate: FittedSurrogate, own: MethodTrust) -> MethodTrust:
        """Run the diagnostics that predict failures best; results are kept in the folder."""
        calls = min(_DIAGNOSED, own.training_calls + own.toy_calls)
        if self.task.expensive:
            calls = own.training_calls // _SHARE
        store, key = Store.open(surrogate.folder), f"diagnosed/{self.spec.folder}"
        chosen: list[Diagnostic] = [self.work.registry.get("diagnostics", n) for n in DIAGNOSTICS]
        names = [[one.name, one.version] for one in chosen]
        source = EvidenceSource(
            self.task,
            surrogate,
            SimulationStore(store),
            _APART + self.work.preset.seed,
            torch.device(surrogate.context.device),
            events=calls // 5,
            pool=calls - calls // 5,
            toys=self._toys(),
        )
        wanted = [names, calls, own.toys, source.seed]
        record = store.record(key) or {}
        if record.get("wanted") == wanted:
            found = {name: Diagnosis.of(kept) for name, kept in record["found"].items()}
            spent = int(record["spent"])
        else:
            try:
                with limited(f"diagnostics of {own.label}"):
                    found = diagnose(chosen, source)
            except UNFORESEEN as error:
                reason = message_of(error) or type(error).__name__
                found = {one.name: Diagnosis(None, reason, failed=True) for one in chosen}
            spent = source.spent
            if not any(one.failed for one in found.values()):
                kept = {name: one.record() for name, one in found.items()}
                store.write(key, {"wanted": wanted, "found": kept, "spent": spent})
        return replace(
            own,
            diagnoses={one.title: found[one.name] for one in chosen},
            diagnosis_calls=0 if isinstance(self.task, StoredTask) else spent,
        )

    def _toys(self) -> LikelihoodPrediction | None:
        """Return the likelihoods of all test datasets; None if a part is missing."""
        parts: list[LikelihoodPrediction] = []
        seed = self.work.preset.seed
        for plan in _parts(self.task, self.toys):
            key = self.spec.prediction_key(plan_folder(self.task, plan, seed), 0)
            entry = self.work.results.entry(key)
            if entry is None:
                return None
            part = load(self.task, plan, {k: v.copy() for k, v in entry.arrays.items()})
            assert isinstance(part, LikelihoodPrediction)
            parts.append(part)
        return LikelihoodPrediction.concatenate(parts) if parts else None

    def at_sizes(self, own: MethodTrust, sizes: Sequence[int]) -> dict[int, MethodTrust]:
        """Judge other sizes; smaller ones first, because the first failure ends."""
        usual, task = self.task.observations, self.task
        chosen: Sequence[int] = sizes
        if not sizes and own.word == "fails" and not task.expensive and not task.has_rate:
            chosen = [usual // part for part in _SMALLER if usual >= part]
        every: dict[int, MethodTrust] = {}
        for size in sorted({*chosen} - {usual}):
            found = self.at(size)
            if found is not None:
                every[size] = found
            if not sizes and (found is None or found.word != "holds"):
                break
        return every


def _parts(task: Task, toys: int, size: int | None = None) -> tuple[IndependentPlan, ...]:
    """Return the plans of test datasets: parts, so that more datasets need no old ones again."""
    recorded = observations_of(task, "test")
    if recorded is not None and not isinstance(task, StoredTask):
        return (IndependentPlan(uniform=toys, per_point=0, observations=size),)
    theta: Literal["stored", "random"] = "random"
    if isinstance(task, StoredTask):
        theta = "stored"
        toys = min(toys, available := (recorded or 0) // task.observations)
        if available < 2:
            raise NotApplicable(
                f"{task.name} has {counted(available, 'test dataset')} in the inner box; 2 are "
                "needed"
            )
    firsts = range(0, max(toys - 1, 1), _PART)  # the last part has two or more
    return tuple(
        IndependentPlan(
            uniform=min(toys - first, _PART + (first + _PART + 1 == toys)),
            per_point=0,
            theta=theta,
            observations=size,
            first=first,
        )
        for first in firsts
    )


def _check_sizes(task: Task, sizes: Sequence[int]) -> None:
    """Refuse numbers of observations that a task cannot have.

    Raises:
        UsageError: if there are any.
    """
    if sizes and task.has_rate:
        raise UsageError(f"the number of observations of {task.name} is random: it has a rate")
    most = task.observations if isinstance(task, StoredTask) else 10**6
    for size in sizes:
        if not 1 <= size <= most:
            raise UsageError(f"observations = {size} is not allowed: it must be 1 to {most:,}")


def _closure(task: Task, surrogate: FittedSurrogate, own: MethodTrust, seed: int) -> EventClosure:
    """Return the closure on single observations, which is kept in the results folder."""
    store, key = Store.open(surrogate.folder), f"closure/{surrogate.spec.folder}"
    events = min(_EVENTS, own.training_calls + own.toy_calls)
    if task.expensive:
        events = own.training_calls // _SHARE
    record = store.record(key) or {}
    names = {one.name for one in fields(EventClosure)}
    if record.get("wanted") == events and names <= record.keys():
        return EventClosure(**{name: record[name] for name in names})
    device = torch.device(surrogate.context.device)
    try:
        with limited(f"closure of {own.label}"):
            found = event_closure(task, surrogate, events, seed, SimulationStore(store), device)
    except UNFORESEEN as error:
        return EventClosure(0, failure=message_of(error) or type(error).__name__)
    store.write(key, {"wanted": events, **asdict(found)})
    return found


def _suitable(task: Task) -> list[str]:
    """Return the first choice for a type of observation (docs/results/index.md)."""
    if task.observation == "series" and task.discrete:
        return ["dle-counts:tuned"]
    if task.observation == "field" and not task.discrete:
        return ["dle-fields:tuned"]
    return ["lre:tuned"]
