"""Diagnostics of planted defects and of trained networks, beside the truth.

Everything that diagnostics find is kept as one record per examined network, from which
`bench.studies.grades` computes tables.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isfinite, nan
from typing import Any

import numpy as np
import torch

from bench.boards.results import Results, SavedFit
from bench.contracts import (
    Diagnostic,
    IndependentPlan,
    LikelihoodPrediction,
    Surrogate,
    Task,
)
from bench.errors import UsageError
from bench.inference.likelihood import ExactLikelihood
from bench.metrics.expected import divergence, expected_coverage
from bench.registry.registry import Registry
from bench.stages.diagnose import EvidenceSource, diagnose
from bench.stages.members import open_fit
from bench.stages.predict import load, predict
from bench.stages.simulate import features_of
from bench.storage.entries import JobContext
from bench.storage.fit_spec import FitSpec, truth_among
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store
from bench.studies.planted import SIZES, Defect, Planted

NAME = "diagnostics"
TOYS = 100
"""Simulated datasets of each network."""

_CPU = torch.device("cpu")
_NO_DEFECT = Defect("offset", 0.0)


@dataclass(frozen=True)
class Examined:
    """Results of diagnostics of one network, and the truth.

    Args:
        task: the task.
        label: the method, or the kind of the planted defect; "none" for exact ratios.
        size: size of the planted defect; 0 for a trained network.
        budget: simulator calls of the training; 0 for a planted defect.
        number: number of the network, or of the repetition.
        plan: folder of the plan of a trained network.
        gap: largest difference of any reported parameter's expected coverage from that of exact
            intervals, with its sign.
        gap_error: its standard error over datasets.
        divergence: mean divergence from the exact posterior, nats per dataset.
        statistics: numbers of the diagnostics that apply, by name.
        p_values: their p-values, where there are any.
        seconds: their times, evidence excluded.
        calls: simulator calls of their evidence.
        reasons: why others do not apply.
        versions: versions of all diagnostics.
    """

    task: str
    label: str
    size: float
    budget: int
    number: int
    plan: str
    gap: float
    gap_error: float
    divergence: float
    statistics: Mapping[str, float]
    p_values: Mapping[str, float]
    seconds: Mapping[str, float]
    calls: Mapping[str, int]
    reasons: Mapping[str, str]
    versions: Mapping[str, int]

    @classmethod
    def of(
        cls,
        task: str,
        label: str,
        number: int,
        *,
        size: float = 0.0,
        budget: int = 0,
        plan: str = "",
    ) -> "Examined":
        """Create an entry without findings."""
        return cls(task, label, size, budget, number, plan, nan, nan, nan, {}, {}, {}, {}, {}, {})

    @property
    def key(self) -> str:
        """Key of its record."""
        parts = [self.label, f"{self.size:g}", str(self.budget), self.plan]
        named = "-".join(part for part in parts if part).replace(":", "-")
        return f"{NAME}/{self.task}/{named}/{self.number:04d}"


def every(store: Store) -> list[Examined]:
    """Read all records of a folder."""
    found = (_read(store, key) for key in store.keys(NAME))
    return [one for one in found if one is not None]


def _read(store: Store, key: str) -> Examined | None:
    """Read a record; None if it is missing or of another kind."""
    record = (store.record(key) or {}).get("examined")
    known = {field.name for field in fields(Examined)}
    return Examined(**record) if isinstance(record, dict) and record.keys() == known else None


def _missing(
    store: Store, made: Examined, diagnostics: Sequence[Diagnostic]
) -> tuple[Examined, list[Diagnostic]]:
    """Return the entry that is kept, and the diagnostics that have not examined the network."""
    kept = _read(store, made.key) or made
    new = [one for one in diagnostics if kept.versions.get(one.name) != one.version]
    return kept, new


def planted(
    task: Task, diagnostics: Sequence[Diagnostic], repetitions: int, store: Store
) -> Iterator[Examined]:
    """Examine exact ratios with planted defects; yield what is new.

    Args:
        task: a task of vectors with a known likelihood, of one or two parameters.
        diagnostics: the diagnostics.
        repetitions: number of independent simulations of each defect.
        store: folder of the records.

    Raises:
        UsageError: if the task is of another kind.
    """
    if task.observation != "vector" or not task.has_exact or len(task.space) > 2:
        raise UsageError(
            f"{task.name}: defects are planted in exact densities of vectors, of one or two "
            "parameters"
        )
    simulations = SimulationStore(store)
    features = features_of(task, simulations)
    defects = {"none": [_NO_DEFECT]} | {
        kind: [Defect(kind, size) for size in sizes]
        for kind, sizes in SIZES.items()
        if kind != "rotation" or task.event_shape[0] > 1
    }
    plan = IndependentPlan(uniform=TOYS, per_point=0)
    surrogates = [
        (label, defect, Planted(task, features, defect))
        for label, some in defects.items()
        for defect in some
    ]
    for repetition in range(repetitions):
        truth: LikelihoodPrediction | None = None
        for label, defect, surrogate in surrogates:
            made = Examined.of(task.name, label, repetition, size=defect.size)
            made, new = _missing(store, made, diagnostics)
            if not new:
                continue
            truth = truth or _predicted(task, ExactLikelihood(task), plan, repetition, simulations)
            density = surrogate.without_reference()
            own = _predicted(task, density, plan, repetition, simulations)
            source = EvidenceSource(task, surrogate, simulations, repetition, _CPU, toys=own)
            yield _kept(store, made, new, source, own, truth)


def trained(
    results: Results, registry: Registry, diagnostics: Sequence[Diagnostic], store: Store
) -> Iterator[Examined]:
    """Examine the networks of a results folder; yield what is new.

    Args:
        results: folder of a run with `exact` and an independent plan, with its networks.
        registry: the names.
        diagnostics: the diagnostics.
        store: folder of the records.
    """
    for plan_folder, record in sorted(results.plans.items()):
        if record["plan"]["kind"] != "independent":
            continue
        plan = IndependentPlan(**record["plan"])
        if not plan.uniform or plan.per_point:  # coverage is that of the box
            continue
        for fit in sorted(results.fits, key=lambda fit: (fit.task, fit.budget, fit.label)):
            truth = truth_among(one for one in results.fits if one.task == fit.task)
            if fit.oracle or truth is None or not fit.members:
                continue
            yield from _of_fit(results, registry, fit, truth, plan, plan_folder, diagnostics, store)


def _of_fit(
    results: Results,
    registry: Registry,
    fit: SavedFit,
    truth: SavedFit,
    plan: IndependentPlan,
    folder: str,
    diagnostics: Sequence[Diagnostic],
    store: Store,
) -> Iterator[Examined]:
    task, context = registry.task(fit.task), None

    def prediction(fit: SavedFit, member: int) -> LikelihoodPrediction | None:
        entry = results.entry(f"predictions/{fit.folder}/{folder}/member-{member:03d}")
        if entry is None:
            return None
        found = load(task, plan, {name: array.copy() for name, array in entry.arrays.items()})
        assert isinstance(found, LikelihoodPrediction)
        return found

    exact = prediction(truth, 0)
    own = {member: prediction(fit, member) for member in sorted(fit.members)}
    known = {member: found for member, found in own.items() if found is not None}
    simulations = SimulationStore(results.store)
    for member, mine in known.items():
        made = Examined.of(fit.task, fit.label, member, budget=fit.budget, plan=folder)
        made, new = _missing(store, made, diagnostics)
        if exact is None or not new:
            continue
        if context is None:
            spec = FitSpec(fit.task, fit.method, fit.configuration, fit.identity, fit.oracle)
            root = str(results.store.root.absolute())
            context = open_fit(JobContext(root, registry.plugins, "cpu", 0.0), spec)
        surrogate = context.restore([member], _CPU, simulations)
        others = [found for number, found in known.items() if number != member]
        source = EvidenceSource(
            task,
            surrogate,
            simulations,
            10_000 + member,  # simulations of their own
            _CPU,
            toys=mine,
            members=[mine, *others] if others else (),
        )
        yield _kept(store, made, new, source, mine, exact)


def _predicted(
    task: Task,
    surrogate: Surrogate,
    plan: IndependentPlan,
    seed: int,
    simulations: SimulationStore,
) -> LikelihoodPrediction:
    arrays = predict(task, surrogate, plan, seed, simulations, _CPU, lambda **_: None)[0]
    found = load(task, plan, arrays)
    assert isinstance(found, LikelihoodPrediction)
    return found


def _kept(
    store: Store,
    made: Examined,
    diagnostics: Sequence[Diagnostic],
    source: EvidenceSource,
    own: LikelihoodPrediction,
    truth: LikelihoodPrediction,
) -> Examined:
    """Run the diagnostics, compare with the truth, and write the record."""
    found = diagnose(diagnostics, source)
    applied = {name: one for name, one in found.items() if one.finding is not None}
    gaps = {
        name: expected - expected_coverage.compute(truth, truth)[name]
        for name, expected in expected_coverage.compute(own, truth).items()
    }
    worst = max(gaps.values(), key=lambda gap: abs(float(np.nanmean(gap))))
    numbers = {name: one.finding for name, one in applied.items() if one.finding is not None}
    new: dict[str, Any] = {
        "gap": float(np.nanmean(worst)),
        "gap_error": float(np.nanstd(worst, ddof=1) / np.sqrt(len(worst))),
        "divergence": float(np.nanmean(divergence.compute(own, truth)["joint"])),
        "statistics": {
            name: one.statistic for name, one in numbers.items() if isfinite(one.statistic)
        },
        "p_values": {name: one.p_value for name, one in numbers.items() if isfinite(one.p_value)},
        "seconds": {name: one.seconds for name, one in applied.items()},
        "calls": {one.name: source.calls(one.takes) for one in diagnostics if one.name in applied},
        "reasons": {name: one.reason for name, one in found.items() if one.finding is None},
        "versions": {one.name: one.version for one in diagnostics},
    }
    record = asdict(made)
    for name, value in new.items():
        record[name] = record[name] | value if isinstance(value, dict) else value
    store.write(made.key, {"status": "done", "examined": record})
    return Examined(**record)
