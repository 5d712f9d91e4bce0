"""Evidence of a trained network, and what diagnostics find in it."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from bench.errors import NotApplicable, PluginError
from bench.inference.datasets import log_ratio_of
from bench.nn.ratio import seen
from bench.registry.validate import blamed
from bench.seeds import generator
from bench.stages.held_out import predict_held_out
from bench.stages.predict import load
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.simulations import SimulationStore

_LEAST = 100  # rows of a sample
_CONTEXTS = 16  # of log-ratios over the reference
_BLOCK = 4096  # observations that are evaluated together
_LOSSES = HeldOutPlan(contexts=32, events=64)


@dataclass(frozen=True)
class Diagnosis:
    """What one diagnostic found.

    Args:
        finding: its number; None where it is not applicable.
        reason: why not.
        seconds: time of its computation, without that of the evidence.
    """

    finding: Finding | None
    reason: str = ""
    seconds: float = 0.0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Diagnosis":
        """Rebuild a diagnosis from its fields, as `dataclasses.asdict` writes them."""
        finding = record["finding"]
        return cls(Finding(**finding) if finding else None, record["reason"], record["seconds"])


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

    def evidence(self, diagnostic: Diagnostic) -> Evidence:
        """Return the evidence that a diagnostic takes.

        Raises:
            NotApplicable: if there is none.
        """
        part = diagnostic.takes
        if part not in self._kept:
            try:
                self._kept[part] = _PARTS[part](self)
            except NotApplicable as error:
                self._kept[part] = error
        if isinstance(found := self._kept[part], NotApplicable):
            raise found
        rng = np.random.default_rng(self._generator(diagnostic.name).initial_seed())
        return Evidence(rng, **{part: found})  # type: ignore[arg-type]

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
        return SimulationBank(self.task, self.simulations, budget, [0], "shared", self.seed)

    def rows(self, x: Tensor, context: Tensor, component: Tensor) -> Array:
        """Return rows of observations with their contexts and components, (n, F) float64."""
        features = self.features()
        columns = [seen(self.task, features, x.cpu()).double(), features.context(context).double()]
        if len(self.task.component_names) > 1:
            columns.append(component[:, None].double())
        return torch.cat(columns, 1).numpy()

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

    def simulated(self) -> Array:
        """Simulate held-out observations, in equal numbers of every component; return rows."""
        names = self.task.component_names
        # Stored observations of one dataset have one context, so that they are not independent.
        each = self.task.observations if isinstance(self.task, StoredTask) else 1
        size = observations_of(self.task, "heldout")
        n = self.events // len(names)
        wanted = n * each if size is None else min(n * each, size // len(names))
        bank, parts = self.bank(wanted * len(names)), []
        for k, name in enumerate(names):
            own = bank.draw(name, wanted, split="heldout")
            x, context = own.x[0, ::each], own.context[0, ::each]
            parts.append(self.rows(x, context, torch.full((len(x),), k)))
        return np.concatenate(parts)

    def drawn(self) -> Array:
        """Draw as many observations from a density; return rows.

        Raises:
            NotApplicable: if the surrogate cannot be sampled.
        """
        names, rng = self.task.component_names, self._generator("draws")
        n, parts = self.events // len(names), []
        for k in range(len(names)):
            context = self.bank(1).draw_contexts(n, [rng])[0]
            x = sample(self.surrogate, context.to(self.device), rng)[0, k]
            parts.append(self.rows(x, context, torch.full((n,), k)))
        return np.concatenate(parts)


def _weights(source: EvidenceSource) -> Weights:
    task, kind = source.task, source.surrogate.reference
    if kind is None:
        drawn = source.drawn()
        return Weights(source.simulated(), drawn, np.zeros(len(drawn)))
    size = observations_of(task, "heldout")
    n = source.pool if size is None else min(source.pool, size)
    rng, bank = source._generator("pool"), source.bank(n)
    x = bank.reference(n, kind, split="heldout").x[0]
    context = bank.draw_contexts(len(x), [rng])[0]
    component = torch.randint(len(task.component_names), (len(x),), generator=rng)
    found = []
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(x)), _BLOCK):
            every = log_ratio_paired(
                source.surrogate, x[rows].to(source.device), context[rows].to(source.device)
            )[0]
            found.append(every.double().cpu().gather(0, component[None, rows])[0])
    return Weights(source.simulated(), source.rows(x, context, component), torch.cat(found).numpy())


def _samples(source: EvidenceSource) -> Samples:
    """Return simulations and draws; a ratio's are reference observations accepted by weight."""
    if source.surrogate.reference is None:
        return Samples(source.simulated(), source.drawn())
    weights = source._kept.setdefault("weights", _weights(source))
    assert isinstance(weights, Weights)
    rng = np.random.default_rng(source._generator("acceptance").initial_seed())
    log_uniform = np.log1p(-rng.uniform(size=len(weights.log_weight)))
    accepted = weights.reference[log_uniform < weights.log_weight - weights.log_weight.max()]
    if len(accepted) < _LEAST:
        raise NotApplicable(
            f"{len(accepted)} of {len(weights.reference):,} reference observations are accepted by "
            f"their weights; {_LEAST} are needed"
        )
    return Samples(weights.simulated, accepted[: source.events])


def _ratios(source: EvidenceSource) -> Ratios:
    task, kind = source.task, source.surrogate.reference
    if kind is None:
        raise NotApplicable("log-ratios have no reference, over which their mean is known")
    size = observations_of(task, "heldout")
    n = source.common if size is None else min(source.common, size)
    x = source.bank(n).reference(n, kind, split="heldout").x[0]
    context = task.space.draw_context(_CONTEXTS, source._generator("contexts"))
    parts = [
        log_ratio_of(task, source.surrogate, block.to(source.device), context.to(source.device))[0]
        for block in torch.split(x, _BLOCK)
    ]
    scaled = source.features().context(context).double().numpy()
    return Ratios(scaled, torch.cat(parts, 1).double().cpu().numpy())


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
    """Run diagnostics on one network.

    Returns:
        What each found, by its name.

    Raises:
        PluginError: if a diagnostic fails, or returns no finding.
    """
    every: dict[str, Diagnosis] = {}
    for diagnostic in diagnostics:
        try:
            evidence = source.evidence(diagnostic)
            begin = time.perf_counter()
            finding = diagnostic.compute(evidence)
        except NotApplicable as error:
            every[diagnostic.name] = Diagnosis(None, str(error))
            continue
        except (Exception, SystemExit) as error:
            raise PluginError(f"diagnostic {diagnostic.name!r} fails: {blamed(error)}") from error
        if not isinstance(finding, Finding) or math.isinf(finding.statistic):
            raise PluginError(f"diagnostic {diagnostic.name!r} returned {finding!r:.80}")
        every[diagnostic.name] = Diagnosis(finding, seconds=time.perf_counter() - begin)
    return every
