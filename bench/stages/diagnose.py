"""Evidence of a trained network, and what diagnostics find in it."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.contracts import (
    Features,
    HeldOutPlan,
    HeldOutPrediction,
    LikelihoodPrediction,
    StoredTask,
    Surrogate,
    Task,
    log_ratio_paired,
    sample,
)
from bench.contracts.diagnostic import (
    Array,
    Diagnostic,
    Evidence,
    Finding,
    Part,
    Ratios,
    Samples,
    Weights,
)
from bench.contracts.plan import observations_of
from bench.errors import NotApplicable
from bench.inference.datasets import log_ratio_of
from bench.nn.ratio import seen
from bench.registry.validate import blamed
from bench.seeds import generator
from bench.stages.held_out import predict_held_out
from bench.stages.predict import load
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.simulations import SimulationStore

_LEAST = 200  # rows of a sample
_STORED = 5  # one in so many stored datasets gives a simulation, the others the reference
_CONTEXTS = 16  # of log-ratios over the reference
_BLOCK = 4096  # observations that are evaluated together
_LOSSES = HeldOutPlan(contexts=32, events=64)


@dataclass(frozen=True)
class Diagnosis:
    """Result of one diagnostic.

    Args:
        finding: its number; None where it is not applicable.
        reason: why not.
        seconds: time of its computation, without that of the evidence.
        failed: whether it failed, which is an error of the diagnostic or of the surrogate.
    """

    finding: Finding | None
    reason: str = ""
    seconds: float = 0.0
    failed: bool = False

    def record(self) -> dict[str, Any]:
        """Return the diagnosis as JSON takes it."""
        own = self.finding
        numbers = [own.statistic, None if math.isnan(own.p_value) else own.p_value] if own else None
        return {"finding": numbers, "reason": self.reason, "seconds": self.seconds}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Diagnosis":
        """Rebuild a diagnosis from its record."""
        numbers = record["finding"]
        finding = None
        if numbers is not None:
            statistic, p_value = numbers
            finding = Finding(statistic, math.nan if p_value is None else p_value)
        return cls(finding, record["reason"], record["seconds"])


@dataclass
class EvidenceSource:
    """Source of the evidence of one network; parts are made when they are first asked for.

    Args:
        task: the task.
        surrogate: the network's surrogate, of one member.
        simulations: store of simulations.
        seed: seed of the simulations.
        device: device of the surrogate.
        events: simulations of each sample.
        pool: reference observations from which a sample of the surrogate is drawn.
        common: reference observations of log-ratios.
        toys: likelihoods of simulated datasets, if there are any.
        members: those of all networks of the training, this one first.
    """

    task: Task
    surrogate: Surrogate
    simulations: SimulationStore
    seed: int
    device: torch.device
    events: int = 5000
    pool: int = 20_000
    common: int = 100_000
    toys: LikelihoodPrediction | None = None
    members: Sequence[LikelihoodPrediction] = ()
    _kept: dict[str, object] = field(default_factory=dict)
    _banks: list[SimulationBank] = field(default_factory=list)

    def evidence(self, diagnostic: Diagnostic) -> Evidence:
        """Return the evidence that a diagnostic takes.

        Raises:
            NotApplicable: if there is none.
        """
        found: dict[str, Any] = {diagnostic.takes: self.part(diagnostic.takes)}
        rng = np.random.default_rng(self._generator(diagnostic.name).initial_seed())
        return Evidence(rng, **found)

    def part(self, name: Part) -> object:
        """Return a part of the evidence, which is made once.

        Raises:
            NotApplicable: if there is none.
        """
        if name not in self._kept:
            try:
                self._kept[name] = _PARTS[name](self)
            except NotApplicable as error:
                self._kept[name] = error
        if isinstance(found := self._kept[name], NotApplicable):
            raise found
        return found

    def _generator(self, *purpose: str) -> torch.Generator:
        return generator("diagnostics", self.task.name, self.task.version, self.seed, *purpose)

    def features(self) -> Features:
        """Return the task's features."""
        if "features" not in self._kept:
            self._kept["features"] = features_of(self.task, self.simulations)
        found = self._kept["features"]
        assert isinstance(found, Features)
        return found

    def bank(self, budget: int) -> SimulationBank:
        """Return a bank of held-out simulations."""
        self._banks.append(
            SimulationBank(self.task, self.simulations, budget, [0], "shared", self.seed)
        )
        return self._banks[-1]

    @property
    def spent(self) -> int:
        """Simulations of single observations that samples and ratios have taken."""
        return sum(bank.spent for bank in self._banks)

    def calls(self, part: Part) -> int:
        """Return the simulator calls of a part; those of other trainings do not count."""
        reference = self.surrogate.reference is not None
        if part in ("samples", "weights"):
            return self.events + reference * self.pool
        if part == "losses":
            count = _LOSSES.contexts * _LOSSES.events
            return count * (len(self.task.component_names) + reference)
        datasets = 0 if self.toys is None else len(self.toys.datasets)
        return self.common if part == "ratios" else datasets * self.task.observations

    def rows(self, x: Tensor, context: Tensor, component: Tensor) -> Array:
        """Return rows of observations with their contexts and components, (n, F) float64.

        Raises:
            NotApplicable: if some are not finite.
        """
        features = self.features()
        columns = [seen(self.task, features, x.cpu()).double(), features.context(context).double()]
        if len(self.task.component_names) > 1:
            columns.append(component[:, None].double())
        found = torch.cat(columns, 1)
        if bad := int((~found.isfinite()).any(1).sum()):
            raise NotApplicable(f"features of {bad:,} of {len(x):,} observations are not finite")
        return found.numpy()

    def simulated(self) -> Array:
        """Simulate held-out observations, in equal numbers of every component; return rows.

        Raises:
            NotApplicable: if they are too few for any test.
        """
        if self.events < _LEAST:
            raise NotApplicable(f"{self.events} simulations are too few; {_LEAST} are needed")
        if isinstance(self.task, StoredTask):
            x, context = self._stored()
            n = len(x) // _STORED
            return self.rows(x[:n], context[:n], torch.zeros(n))
        names = self.task.component_names
        n, parts = self.events // len(names), []
        bank = self.bank(n * len(names))
        for k, name in enumerate(names):
            own = bank.draw(name, n, split="heldout")
            parts.append(self.rows(own.x[0], own.context[0], torch.full((n,), k)))
        return np.concatenate(parts)

    def reference(self, n: int) -> tuple[Tensor, Tensor]:
        """Return observations of the reference, and contexts drawn apart from them.

        Raises:
            NotApplicable: if stored simulations have another reference.
        """
        kind = self.surrogate.reference
        assert kind is not None
        if isinstance(self.task, StoredTask):
            if kind != "evidence":
                raise NotApplicable("there are no stored simulations of a fixed reference")
            x, context = (part[len(part) // _STORED :] for part in self._stored())
            return x, context.roll(1, 0)
        bank = self.bank(n)
        x = bank.reference(n, kind, split="heldout").x[0]
        return x, bank.draw_contexts(n, [self._generator("pool")])[0]

    def _stored(self) -> tuple[Tensor, Tensor]:
        """Return one observation of each stored held-out dataset, which are independent.

        The first ones are simulations, the others the reference.
        """
        each, size = self.task.observations, observations_of(self.task, "heldout") or 0
        (name,) = self.task.component_names
        own = self.bank(size).draw(name, size, split="heldout")
        return own.x[0, ::each], own.context[0, ::each]

    def drawn(self) -> Array:
        """Draw as many observations from a density; return rows.

        Raises:
            NotApplicable: if the surrogate cannot be sampled.
        """
        names, rng = self.task.component_names, self._generator("draws")
        n, parts = self.events // len(names), []
        for k in range(len(names)):
            if isinstance(self.task, StoredTask):
                every = self._stored()[1]
                context = every[len(every) // _STORED :]
            else:
                context = self.task.space.draw_context(n, rng)
            x = sample(self.surrogate, context.to(self.device), rng)[0, k]
            parts.append(self.rows(x, context, torch.full((len(x),), k)))
        return np.concatenate(parts)


def _weights(source: EvidenceSource) -> Weights:
    task = source.task
    if observations_of(task, "heldout") is not None and not isinstance(task, StoredTask):
        raise NotApplicable("recorded observations are not divided into independent samples")
    if source.surrogate.reference is None:
        simulated, drawn = source.simulated(), source.drawn()
        return Weights(simulated, drawn, np.zeros(len(drawn)))
    simulated = source.simulated()
    x, context = source.reference(source.pool)
    rng = source._generator("components")
    component = torch.randint(len(task.component_names), (len(x),), generator=rng)
    found = []
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(x)), _BLOCK):
            every = log_ratio_paired(
                source.surrogate, x[rows].to(source.device), context[rows].to(source.device)
            )[0]
            found.append(every.double().cpu().gather(0, component[None, rows])[0])
    log_weight = torch.cat(found)
    if not bool((log_weight < torch.inf).all()) or not bool((log_weight > -torch.inf).any()):
        raise NotApplicable("log-ratios of reference observations are NaN or infinite")
    return Weights(simulated, source.rows(x, context, component), log_weight.numpy())


def _samples(source: EvidenceSource) -> Samples:
    """Return simulations and draws; a ratio's are reference observations accepted by weight."""
    weights = source.part("weights")
    assert isinstance(weights, Weights)
    if source.surrogate.reference is None:
        return Samples(weights.simulated, weights.reference)
    rng = np.random.default_rng(source._generator("acceptance").initial_seed())
    log_uniform = np.log1p(-rng.uniform(size=len(weights.log_weight)))
    accepted = weights.reference[log_uniform < weights.log_weight - weights.log_weight.max()]
    if min(len(accepted), len(weights.simulated)) < _LEAST:
        raise NotApplicable(
            f"{len(accepted)} of {len(weights.reference):,} reference observations are accepted by "
            f"their weights, beside {len(weights.simulated):,} simulations; {_LEAST} are needed"
        )
    return Samples(weights.simulated, accepted[: source.events])


def _ratios(source: EvidenceSource) -> Ratios:
    task = source.task
    if source.surrogate.reference is None:
        raise NotApplicable("log-ratios have no reference, over which their mean is known")
    if observations_of(task, "heldout") is not None and not isinstance(task, StoredTask):
        raise NotApplicable("recorded observations of the reference are not independent")
    x, _ = source.reference(source.common)
    context = task.space.draw_context(_CONTEXTS, source._generator("contexts"))
    parts = [
        log_ratio_of(task, source.surrogate, block.to(source.device), context.to(source.device))[0]
        for block in torch.split(x, _BLOCK)
    ]
    found = torch.cat(parts, 1).double().cpu()
    if not bool((found < torch.inf).all()) or bool((found.amax(1) == -torch.inf).any()):
        raise NotApplicable("log-ratios of reference observations are NaN or infinite")
    scaled = source.features().context(context).double().numpy()
    return Ratios(scaled, found.numpy())


def _losses(source: EvidenceSource) -> HeldOutPrediction:
    arrays = predict_held_out(
        source.task, source.surrogate, _LOSSES, source.seed, source.simulations, source.device
    )
    found = load(source.task, _LOSSES, arrays[0])
    assert isinstance(found, HeldOutPrediction)
    return found


def _toys(source: EvidenceSource) -> LikelihoodPrediction:
    if source.toys is None:
        raise NotApplicable("there are no simulated datasets")
    if isinstance(source.task, StoredTask):  # whose parameters need not be uniform in the box
        return replace(source.toys, box_window=None)
    return source.toys


def _members(source: EvidenceSource) -> Sequence[LikelihoodPrediction]:
    if len(source.members) < 2:
        raise NotApplicable("there is one training only")
    return source.members


_PARTS: Mapping[Part, Callable[[EvidenceSource], object]] = {
    "samples": _samples,
    "weights": _weights,
    "ratios": _ratios,
    "losses": _losses,
    "toys": _toys,
    "members": _members,
}


def diagnose(diagnostics: Sequence[Diagnostic], source: EvidenceSource) -> dict[str, Diagnosis]:
    """Run diagnostics on one network. One that fails has the reason, and no finding.

    Returns:
        What each found, by its name.
    """
    return {diagnostic.name: _diagnosed(diagnostic, source) for diagnostic in diagnostics}


def _diagnosed(diagnostic: Diagnostic, source: EvidenceSource) -> Diagnosis:
    try:
        evidence = source.evidence(diagnostic)
        begin = time.perf_counter()
        finding = diagnostic.compute(evidence)
    except NotApplicable as error:
        return Diagnosis(None, str(error))
    except (Exception, SystemExit) as error:
        return Diagnosis(None, f"it fails: {blamed(error)}", failed=True)
    if (
        not isinstance(finding, Finding)
        or not math.isfinite(finding.statistic)
        or not (math.isnan(finding.p_value) or 0 <= finding.p_value <= 1)
    ):
        return Diagnosis(None, f"it returned {finding!r:.80}", failed=True)
    return Diagnosis(finding, seconds=time.perf_counter() - begin)
