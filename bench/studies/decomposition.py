"""Decomposition of a method's divergence from the exact likelihood into three parts.

An average of infinitely many networks' log-ratios would remove the part of the training. If errors
are small, a divergence is quadratic in them, and that of an average of k networks is D + V/k. D is
estimated by the jackknife (Quenouille 1956, Biometrika 43). The part of the normalisation is what D
loses if averages of ratios are divided by their mean over fresh simulations of the reference. The
approximation is the rest.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import log, nan

import numpy as np
import torch
from torch import Tensor

from bench.boards.render import csv_of, markdown_table
from bench.boards.results import Results, SavedFit
from bench.contracts import (
    FitLog,
    IndependentPlan,
    LikelihoodPrediction,
    ParameterSpace,
    ReferenceKind,
    Surrogate,
)
from bench.errors import UsageError
from bench.inference.likelihood import ExactLikelihood
from bench.metrics.expected import divergence
from bench.nn.normaliser import Normaliser
from bench.registry.registry import Registry
from bench.stages.members import open_fit
from bench.stages.predict import load, predict
from bench.stages.simulate import SimulationBank
from bench.stats.clustering import Array, Estimate, Strata, mean
from bench.storage.entries import JobContext
from bench.storage.fit_spec import FitSpec
from bench.storage.simulations import SimulationStore
from bench.studies.numbers import code, number
from bench.studies.scored import Group

NAME = "decomposition"

_ROWS = 1 << 16  # simulations of the reference that are evaluated at once
_CPU = torch.device("cpu")
_PARTS = ("training", "normalisation", "approximation")


@dataclass(frozen=True)
class Part:
    """One line of the table.

    Args:
        task, budget, method: the fit.
        networks: number of networks, n.
        part: "average of k", or "training", "normalisation" or "approximation".
        value: nats per dataset.
        error: standard error over networks and datasets.
    """

    task: str
    budget: int
    method: str
    networks: int
    part: str
    value: float
    error: float


class Averages:
    """Surrogate whose members average the log-ratios of another surrogate's members.

    Args:
        surrogate: the surrogate, of n members.
        weights: weight of each of them in each average, (averages, n) float32.
        space: parameter space of the task.
        normaliser: logarithms of the averages' means over the reference, for averages × components;
            every average then appears twice, as it is and divided by its mean.
    """

    has_density = False

    def __init__(
        self,
        surrogate: Surrogate,
        weights: Tensor,
        space: ParameterSpace,
        normaliser: Normaliser | None = None,
    ) -> None:
        self.surrogate = surrogate
        self.weights = weights
        self.space = space
        self.context = ParameterSpace(space.context, ())
        self.normaliser = normaliser
        self.log = FitLog()

    @property
    def reference(self) -> ReferenceKind | None:
        """Reference of the members."""
        return self.surrogate.reference

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        """Return log-ratios of the averages, as Surrogate.log_ratio."""
        own = self.surrogate.log_ratio(x, context)
        averages = torch.einsum("am,mkij->akij", self.weights.to(own.dtype), own)
        if self.normaliser is None:
            return averages
        scaled = 2 * self.context.to_unit(context.double()) - 1
        mean = self.normaliser(scaled).view(*averages.shape[:2], 1, len(context))
        return torch.cat([averages, (averages - mean).to(own.dtype)])

    def state(self) -> None:
        """Return None, because the members are saved by themselves."""
        return None

    def normalised(self, events: Tensor) -> "Averages":
        r"""Return the averages with their means over the reference.

        Args:
            events: simulations of the reference, (parts, n, \*event).
        """

        def log_means(scaled: Tensor) -> Tensor:
            context = self.context.from_unit((scaled + 1) / 2)[None].float()
            parts = [self.log_ratio(x, context)[..., 0].double().logsumexp(-1) for x in events]
            return torch.stack(parts, -1).flatten(0, 1) - log(events.shape[1])

        found = Normaliser.estimate(log_means, len(self.context), _CPU)
        return Averages(self.surrogate, self.weights, self.space, found)


def averages(networks: int) -> tuple[list[int], Tensor]:
    """Return which averages of n networks are evaluated.

    Returns:
        Number of networks in each average, and the weights, (averages, n). Averages of 1, 2, 4, …
        have no network in common; then one has all networks, and n have all but one.
    """
    rows, size = [], 1
    while size < networks:
        starts = range(0, networks - size + 1, size)
        rows += [[start <= i < start + size for i in range(networks)] for start in starts]
        size *= 2
    rows += [[True] * networks, *([i != out for i in range(networks)] for out in range(networks))]
    chosen = torch.tensor(rows, dtype=torch.float32)
    return chosen.sum(1).int().tolist(), chosen / chosen.sum(1, keepdim=True)


def parts(
    sizes: Sequence[int], own: Array, normalised: Array | None, strata: Strata
) -> dict[str, Estimate]:
    """Split divergences of averages of n networks.

    Args:
        sizes: networks in each average, as `averages` returns them.
        own: divergences, (averages, datasets).
        normalised: the same of averages that are normalised with fresh simulations.
        strata: the datasets.
    """
    n = max(sizes)
    every = sizes.index(n)

    def limit(table: Array) -> Array:
        """Return pseudo-values of every network, (n, datasets), whose mean is D."""
        found: Array = n * table[every] - (n - 1) * table[every + 1 :]
        return found

    found = {}
    for size in dict.fromkeys(sizes[:every]):
        rows = [i for i in range(every) if sizes[i] == size]
        found[f"average of {size}"] = mean(own[rows], strata)
    unlimited = limit(own)
    rest = unlimited if normalised is None else limit(normalised)
    # The error of the average of all is that of the jackknife.
    together = replace(mean(unlimited, strata), value=float(own[every].mean()))
    found |= {f"average of {n}": together, "training": mean(own[:n] - unlimited, strata)}
    if normalised is not None:
        found["normalisation"] = mean(unlimited - rest, strata)
    return found | {"approximation": mean(rest, strata)}


def decomposed(
    results: Results,
    found: Sequence[Group],
    registry: Registry,
    datasets: int,
    simulations: int,
    on_fit: Callable[[str], None],
) -> list[Part]:
    """Decompose the divergence of every method with at least three networks.

    Args:
        results: the folder, with weights of networks.
        found: the groups with the methods.
        registry: the names.
        datasets: number of datasets, with parameters from a Sobol sequence.
        simulations: simulations of the reference that normalise averages of ratios, rounded up to a
            multiple of 65,536.
        on_fit: called with the task and the method before each decomposition.

    Raises:
        UsageError: if there is no such method on a task with an exact likelihood.
        StoreError: if weights are missing or damaged.
    """
    fits = {m.fit.folder: m.fit for group in found if group.truth for m in group.methods}
    chosen = [f for f in fits.values() if f.size == 1 and len(f.members) > 2]
    if not chosen:
        raise UsageError(
            "nothing to decompose: it takes three networks of a method or more, and the exact "
            "likelihood"
        )
    rows: list[Part] = []
    for fit in chosen:
        on_fit(f"{fit.task}, {fit.label}")
        rows += _parts_of(results, fit, registry, datasets, simulations)
    return rows


def _parts_of(
    results: Results, fit: SavedFit, registry: Registry, datasets: int, simulations: int
) -> Iterator[Part]:
    spec = FitSpec(fit.task, fit.method, fit.configuration, fit.identity, fit.oracle)
    context = JobContext(str(results.store.root.absolute()), registry.plugins, "cpu", 0.0)
    opened = open_fit(context, spec)
    store, task = opened.store, opened.task
    bank_store, seed = SimulationStore(store), int(fit.identity["seed"])
    members = sorted(fit.members)
    sizes, weights = averages(len(members))
    networks = opened.restore(members, _CPU, bank_store)
    surrogate = Averages(networks, weights, task.space)
    if (kind := networks.reference) is not None:
        count = -(-simulations // _ROWS) * _ROWS
        bank = SimulationBank(task, bank_store, count, [0], "shared", seed)
        drawn = bank.reference(count, kind, split="heldout").x[0]
        surrogate = surrogate.normalised(drawn.view(-1, _ROWS, *task.event_shape))
    plan = IndependentPlan(uniform=datasets, per_point=0, theta="sobol")

    def predictions(of: Surrogate) -> list[LikelihoodPrediction]:
        arrays = predict(task, of, plan, seed, bank_store, _CPU, lambda **_: None)
        loaded = [load(task, plan, own) for own in arrays]
        return [own for own in loaded if isinstance(own, LikelihoodPrediction)]

    (truth,) = predictions(ExactLikelihood(task))
    own = [divergence.compute(p, truth)["joint"] for p in predictions(surrogate)]
    plain, normalised = np.stack(own[: len(sizes)]), own[len(sizes) :]
    strata = Strata(np.zeros(datasets, int), truth.datasets.theta)
    found = parts(sizes, plain, np.stack(normalised) if normalised else None, strata)
    for part, estimate in found.items():
        value, error = round(estimate.value, 6), round(estimate.error, 6)
        yield Part(fit.task, fit.budget, fit.label, len(members), part, value, error)


def csv(rows: Sequence[Part]) -> str:
    """Render one line per part."""
    return csv_of([asdict(row) for row in rows])


def _place(part: str) -> tuple[int, int]:
    """Return a key that sorts averages by their networks, and other parts after them."""
    return (1, _PARTS.index(part)) if part in _PARTS else (0, int(part.split()[-1]))


def table(rows: Sequence[Part]) -> str:
    """Render a Markdown table: methods down, parts across."""
    names = sorted({row.part for row in rows}, key=_place)
    fits: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for row in rows:
        key = row.task, f"{row.budget:,}", code(row.method), str(row.networks)
        estimate = Estimate(row.value, row.error, nan, nan, nan)
        fits.setdefault(key, {})[row.part] = number(estimate)
    lines = [[*key, *(found.get(name, "–") for name in names)] for key, found in fits.items()]
    return markdown_table(["task", "calls", "method", "networks", *names], lines)


def markdown(rows: Sequence[Part]) -> str:
    """Render the table with a note."""
    return (
        f"{table(rows)}\nDivergence from the exact likelihood, nats per dataset, of averages of k "
        "networks, and the parts of that of one network.\n"
    )
