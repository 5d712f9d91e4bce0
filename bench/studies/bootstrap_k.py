"""Coverage of exact intervals against the bootstrap multiple k.

Datasets that are resampled from a set of k M events share the set's own fluctuation, so that even
exact intervals cover less than they say: 2 Φ(1/√(1 + 1/k)) − 1, 52.0 % at k = 1 and 65.7 % at
k = 9, rising to the 68.27 % of independent datasets (figure 3 of Sluijter, Diefenbacher, Bhimji &
Nachman 2025). The study measures it with a task's own likelihood; nothing is trained.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

import numpy as np
import torch

from bench.contracts import BootstrapPlan, IndependentPlan, Task
from bench.errors import PluginError, UsageError, counted
from bench.execution.executor import Call, Outcome
from bench.execution.pool import Workers
from bench.inference.likelihood import ExactLikelihood
from bench.metrics.intervals import coverage, cut, region_coverage, unresolved
from bench.registry.registry import Registry
from bench.seeds import digest
from bench.stages.datasets import describe, sets
from bench.stages.evaluators import evaluate
from bench.stages.predict import load
from bench.stages.score import score
from bench.storage.fit_spec import EVALUATION
from bench.storage.store import SCHEMA, Store
from bench.studies.expected import MULTINOMIAL, expected, stratified_shares

NAME = "bootstrap-k"
TASKS = ("gaussians-far", "gaussians-near")
MULTIPLES = (1, 2, 3, 5, 9)

_VERSION = 1  # raise it when the numbers change
_METRICS = (coverage, region_coverage, cut, unresolved)
_LARGER = 5  # a second M, in units of the task's own, for multiples up to
_SMALL = 3


@dataclass(frozen=True)
class Sample:
    """The datasets behind one row of the table; plain values only.

    Args:
        task: name of the task.
        plan: bootstraps of sets of k M events, or independent datasets at the same points.
        seed: seed of the datasets.
        identity: everything that the row depends on.
    """

    task: str
    plan: IndependentPlan | BootstrapPlan
    seed: int
    identity: dict[str, Any]

    @property
    def observations(self) -> int:
        """Number of observations M in a dataset."""
        assert self.plan.observations is not None
        return self.plan.observations

    @property
    def multiple(self) -> float:
        """Multiple k; inf for independent datasets."""
        return self.plan.multiple if isinstance(self.plan, BootstrapPlan) else inf

    @property
    def stratified(self) -> bool:
        """True for sets with fixed numbers of events of each component."""
        return isinstance(self.plan, BootstrapPlan) and self.plan.stratified

    @property
    def label(self) -> str:
        """Name of the sample in progress and sentences."""
        k = "independent" if self.multiple == inf else f"k = {self.multiple:g}"
        return f"{self.task}, M = {self.observations}, {k}"

    @property
    def key(self) -> str:
        """Key of its result."""
        k = "independent" if self.multiple == inf else f"{self.multiple:g}"
        return f"{NAME}/{self.task}-{self.observations}-{k}-{digest(self.identity)[:12]}"


def choose(registry: Registry, patterns: Sequence[str]) -> tuple[list[Task], dict[str, str]]:
    """Return the matching tasks that can be studied, and the reasons to skip the others.

    They have two parameters and an exact likelihood.

    Raises:
        UsageError: if a pattern matches nothing, or no task is left.
    """
    able, skipped = registry.runnable(registry.select("tasks", patterns))
    tasks = []
    for task in able:
        if not task.has_exact:
            skipped[task.name] = "it has no exact likelihood"
        elif len(task.space) != 2:
            count = counted(len(task.space), "parameter")
            skipped[task.name] = f"it has {count}, and the study is of two"
        else:
            tasks.append(task)
    if not tasks:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise UsageError(f"no task to study: {reasons}")
    return tasks, skipped


def samples(
    registry: Registry,
    tasks: Sequence[Task],
    *,
    multiples: Sequence[int] = MULTIPLES,
    observations: Sequence[int] = (),
    sets: int = 12,
    bootstraps: int = 100,
    stratified: bool = True,
    independent: int = 1800,
    seed: int = 0,
) -> list[Sample]:
    """List the samples to measure, in the order of the table.

    Args:
        registry: where the tasks are from.
        tasks: tasks with an exact likelihood.
        multiples: every k.
        observations: every M; where empty the task's own with every k and, with k ≤ 3, five times
            as many.
        sets: sets of k M events at each evaluation point.
        bootstraps: resamplings of each set.
        stratified: whether numbers of events of each component are fixed, as in the paper.
        independent: independent datasets, spread evenly over the points (rounded up).
        seed: seed of everything; the rows' datasets are independent of each other.
    """
    found = []
    for task in tasks:
        several = observations or (task.observations, _LARGER * task.observations)
        for m in sorted(set(several)):
            small = not observations and m > task.observations
            plans: list[IndependentPlan | BootstrapPlan] = [
                BootstrapPlan(
                    sets=sets,
                    multiple=k,
                    bootstraps=bootstraps,
                    stratified=stratified,
                    observations=m,
                )
                for k in sorted(set(multiples))
                if k <= _SMALL or not small
            ]
            if plans:
                each = -(-independent // len(task.points))
                plans.append(IndependentPlan(uniform=2, per_point=each, observations=m))
            found += [_sample(registry, task, plan, seed) for plan in plans]
    return found


def _sample(
    registry: Registry, task: Task, plan: IndependentPlan | BootstrapPlan, seed: int
) -> Sample:
    # A plan's datasets depend on neither k nor M, and rows that share events would err together.
    size = {k: v for k, v in plan.definition().items() if k in ("multiple", "observations")}
    own = int(digest(NAME, seed, size)[:8], 16)
    identity = {
        "schema": SCHEMA,
        "study": [NAME, _VERSION],
        "evaluation": EVALUATION,
        "task": {
            "name": task.name,
            "version": task.version,
            "settings": dict(task.settings),
            "plugin": registry.item("tasks", task.name).plugin_hash,
        },
        "resolution": [asdict(r) for r in task.resolution],
        "metrics": {m.name: m.version for m in _METRICS},
        "plan": plan.definition(),
        "seed": own,
    }
    return Sample(task.name, plan, own, identity)


def measure(
    *, report: Callable[..., None], root: str, plugins: tuple[str, ...], sample: Sample
) -> str:
    """Evaluate every set of a sample in a worker, and save the shares by set.

    Returns:
        "done", or "reused" where the result was there.

    Raises:
        PluginError: if the task's plugin file has been edited since.
    """
    registry, store = Registry(plugins), Store.open(root)
    item = registry.item("tasks", sample.task)
    if item.plugin_hash != sample.identity["task"]["plugin"]:
        raise PluginError(f"{item.place} was edited while the study was under way; run again")
    with store.lock(sample.key):
        if is_done(store, sample):
            return "reused"
        begin = time.perf_counter()
        task, plan = registry.task(sample.task), sample.plan
        log_ratio, cpu = ExactLikelihood(task).log_ratio, torch.device("cpu")
        rows = []
        for events in sets(task, plan, sample.seed):
            if events.point < 0:  # every plan of independent datasets has some with θ uniform
                continue
            arrays = describe([events]).arrays("datasets.")
            for part in evaluate(task, log_ratio, events, cpu)[0].curves[0]:
                arrays |= part.arrays("curves.")
            rows.append(score(_METRICS, load(task, plan, arrays), None)[0])
            report(stage="evaluate", done=len(rows))
        shares = stratified_shares(task) if sample.stratified else [MULTINOMIAL]
        record = {
            "status": "done",
            "identity": sample.identity,
            "seconds": time.perf_counter() - begin,
            "by_set": {name: np.concatenate([r[name] for r in rows]).tolist() for name in rows[0]},
            "expected": expected(task, sample.multiple, shares),
            "formula": expected(task, sample.multiple, [MULTINOMIAL]),
        }
        store.write(sample.key, record)
    return "done"


def is_done(store: Store, sample: Sample) -> bool:
    """Return whether a sample has a sound result."""
    return (store.record(sample.key) or {}).get("status") == "done"


def run(
    wanted: Sequence[Sample],
    store: Store,
    plugins: tuple[str, ...],
    workers: int,
    on_outcome: Callable[[Sample, Outcome], None] = lambda sample, outcome: None,
) -> None:
    """Measure missing samples, longest first, and save each result at once."""
    missing = {s.key: s for s in wanted if not is_done(store, s)}
    ordered = sorted(missing.values(), key=lambda s: -s.observations * min(s.multiple, 99))
    jobs = [
        Call(s.key, measure, {"root": str(store.root), "plugins": plugins, "sample": s})
        for s in ordered
    ]
    with Workers(max(1, min(workers, len(jobs)))) as pool:
        for outcome in pool.run(jobs):
            on_outcome(missing[outcome.key], outcome)
