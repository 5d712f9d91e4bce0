"""Estimated cost of a run: events, floating-point operations and hours of its missing jobs.

Operations are counted from shapes: methods count those of their networks (`Method.work`), plans
the evaluated events. The number of context nodes of a likelihood is known only during its
evaluation; the means here were measured, as were the speeds in `bench.nn.flops`.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter

import torch

from bench.contracts import (
    BootstrapPlan,
    HeldOutPlan,
    IndependentPlan,
    Plan,
    StoredTask,
    Task,
    Work,
)
from bench.contracts.plan import evaluator_of, number_of_sets
from bench.experiment.jobs import FitJob, MemberJob, PlanJob, ScoreJob
from bench.registry.registry import Registry
from bench.stages.evaluators import AT_ONCE
from bench.stages.posterior import AT_DRAWS
from bench.storage.fit_spec import FitSpec
from bench.storage.store import Store

NODES = {0: (30, 30), 1: (30.0, 140.0), 2: (600.0, 2000.0)}
"""Contexts per event of an independent and of a bootstrap set, by the context's dimensions."""
_SUMS = (90e-6, 4.5e-7)
"""Core-seconds per event for mixing, sums and profiles, and per event and dataset of its set.

Measured on `gaussians-near` and `higgs` with exact likelihoods: 90 µs for independent datasets of
1000 events, the box included; 55 to 66 µs for a hundred bootstraps.
"""
_PASSES = ((40.0, 17.0), (85.0, 6.0))
"""Forward passes per event of the gradient evaluator: of a dataset, and of each reported parameter.

Both are a constant and a slope in the number of parameters. They lie between passes of `exact` and
of trained networks, which differ by a factor of 1.7 (`bench study parameters`).
"""
_DRAWS = 2000.0
"""Forward passes per event of the exact likelihood that draw from its posterior; done once.

Measured: 1600 to 2800 for most datasets, and up to 5000 where there are several modes.
"""
_PASS = 2e-7
"""Core-seconds per event and forward pass of the gradient evaluator outside the networks."""
_CALLS = (0.65, 0.05)
"""Core-seconds of small calls: of profiles followed together, and of draws from one posterior."""
_SCORE = (0.1, 5e-3)
"""Core-seconds to score a prediction, and further ones for each of its datasets.

Measured: 1.5 s for 300 datasets (`lre:tuned` on `higgs`, with exact likelihoods).
"""
_CONTEXTS = 16
"""Contexts at which wrappers that learn evaluate a simulation, as calibrations do."""
_TIMED = 0.2
"""Least core-seconds of a timing; shorter ones are dominated by overheads."""
_LEAST = 0.05
"""Least seconds of any job."""


@dataclass(frozen=True)
class Cost:
    """Cost of a job.

    Args:
        events: events that pass through networks: rows in training, events times contexts in
            evaluation.
        operations: additions and multiplications in the networks.
        core_seconds: time of one core.
        gpu_seconds: time of one GPU.
    """

    events: float = 0.0
    operations: float = 0.0
    core_seconds: float = 0.0
    gpu_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Duration of the job, whose core and GPU work one after the other."""
        return self.core_seconds + self.gpu_seconds

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.events + other.events,
            self.operations + other.operations,
            self.core_seconds + other.core_seconds,
            self.gpu_seconds + other.gpu_seconds,
        )


class CostModel:
    """Model of the cost of planned jobs.

    Args:
        registry: the names.
        store: the results folder; its records replace the estimate for methods without a count.
        device: "cpu" or "cuda".
    """

    def __init__(self, registry: Registry, store: Store, device: str) -> None:
        self._registry = registry
        self._store = store
        self._gpu = device == "cuda"
        self._task: Callable[[str], Task] = cache(registry.task)
        self._simulation: Callable[[str], float] = cache(self._timed_simulation)
        self._oracle: Callable[[str, str], float] = cache(self._timed_oracle)
        self._works: dict[str, Work | None] = {}

    def __call__(self, job: MemberJob) -> Cost | None:
        """Return the cost of a job, or None if it is unknown."""
        spec, task = job.spec, self._task(job.spec.task)
        if isinstance(job, ScoreJob):
            return Cost(core_seconds=_SCORE[0] + _SCORE[1] * _datasets(task, job.plan))
        wraps = spec.wrappings if isinstance(job, FitJob) else ()
        if isinstance(job, FitJob) and (spec.oracle or (wraps and not wraps[-1].calls)):
            return Cost(core_seconds=_LEAST)  # there is nothing to learn
        work = None if spec.oracle else self._work(spec, task)
        if isinstance(job, PlanJob):
            one = self._prediction(work, spec, task, job.plan)
        elif wraps:
            one = None if work is None else self._learning(work, spec)
        else:
            one = None if work is None else self._fit(work, spec, task)
        return self._recorded(job) if one is None else sum(len(job.members) * [one], Cost())

    def _fit(self, work: Work, spec: FitSpec, task: Task) -> Cost:
        operations = work.rows * work.training + work.pairs * (work.evaluation + work.encoding)
        speed = work.gpu if self._gpu else work.cpu
        seconds = (
            work.steps * speed.step
            + work.rows * work.training / speed.training
            + work.pairs * (work.evaluation + work.encoding) / speed.evaluation
        )
        simulating = spec.identity["budget"] * self._simulation(spec.task)
        return self._split(work.rows + work.pairs, operations, seconds, simulating)

    def _learning(self, work: Work, spec: FitSpec) -> Cost:
        """Return the cost of what the outermost wrapper learns from its simulator calls."""
        calls = spec.wrappings[-1].calls
        pairs = calls * _CONTEXTS
        operations = spec.size * (pairs * work.evaluation + calls * work.encoding)
        speed = work.gpu if self._gpu else work.cpu
        seconds = operations / speed.evaluation
        return self._split(pairs, operations, seconds, calls * self._simulation(spec.task))

    def _prediction(self, work: Work | None, spec: FitSpec, task: Task, plan: Plan) -> Cost | None:
        events, pairs, sums = evaluated(task, plan)
        simulating = events * self._simulation(spec.task)
        if spec.oracle and self._untimed(spec.task, spec.method):
            return None
        if spec.oracle:
            # The exact likelihood comes first, and makes the draws that all methods share.
            drawn, size = _drawn(task, plan)
            drawing = drawn * size * _DRAWS
            pairs, sums = pairs + drawing, sums + drawing * _PASS + drawn * _CALLS[1]
            seconds = pairs * self._oracle(spec.task, spec.method)
            return Cost(pairs, 0.0, seconds + sums + simulating)
        if work is None:
            return None
        speed = work.gpu if self._gpu else work.cpu
        # Encoders read an event once per pass over its contexts, and there are about four passes.
        operations = spec.size * (pairs * work.evaluation + 4 * events * work.encoding)
        return self._split(pairs, operations, operations / speed.evaluation, sums + simulating)

    def _split(self, events: float, operations: float, seconds: float, beside: float) -> Cost:
        seconds += _LEAST
        if self._gpu:
            return Cost(events, operations, beside, seconds)
        return Cost(events, operations, seconds + beside)

    def _work(self, spec: FitSpec, task: Task) -> Work | None:
        trained = spec.trained
        if trained.key not in self._works:
            method = self._registry.method(spec.method)
            config = method.Config.model_validate(spec.identity["method"]["config"])
            try:
                work = method(config).work(task, trained.identity["budget"])
            except Exception:  # a plugin's error or a too small budget; the fit reports it
                work = None
            self._works[trained.key] = work
        return self._works[trained.key]

    def _recorded(self, job: MemberJob) -> Cost | None:
        """Return a job's cost from the mean duration in its fit's records, or None."""
        key = job.keys[0].rpartition("/")[0]
        records = [self._store.record(k) or {} for k in self._store.keys(key)]
        seconds = [r["seconds"] for r in records if r.get("status") == "done" and "seconds" in r]
        if not seconds:
            return None
        mean = len(job.members) * sum(seconds) / len(seconds)
        return Cost(gpu_seconds=mean) if self._gpu else Cost(core_seconds=mean)

    def _untimed(self, task: str, method: str | None = None) -> bool:
        """Return whether nothing is timed: calls are expensive, or the code is a plugin's."""
        items = [self._registry.item("tasks", task)]
        items += [] if method is None else [self._registry.item("methods", method)]
        return self._task(task).expensive or any(item.plugin_hash for item in items)

    def _timed_simulation(self, name: str) -> float:
        """Measure the core-seconds of one simulation, averaged over components and contexts."""
        if self._untimed(name) or isinstance(self._task(name), StoredTask):
            return 0.0
        task, rng = self._task(name), torch.Generator().manual_seed(0)
        components = task.components("train").values()

        def simulate(n: int) -> None:
            context = task.space.draw_context(n, rng)
            for component in components:
                component.simulate(context, rng)

        return _seconds_each(simulate, task.chunk) / len(components)

    def _timed_oracle(self, name: str, method: str) -> float:
        """Measure the core-seconds of an oracle for one event at one context."""
        task, rng = self._task(name), torch.Generator().manual_seed(0)
        context = task.space.draw_context(17 ** min(len(task.space.context_index), 2), rng)
        found = self._registry.method(method)
        surrogate = found(found.Config()).restore(task, None, {})  # type: ignore[arg-type]
        component = next(iter(task.components("test").values()))

        def evaluate(n: int) -> None:
            x = component.simulate(context[:1].expand(n, -1), rng)
            surrogate.log_ratio(x.float(), context)

        return _seconds_each(evaluate, task.observations) / len(context)


def _seconds_each(function: Callable[[int], None], most: int) -> float:
    """Measure core-seconds per item of a function of n items, on one thread.

    n grows, at most to `most`, until a call takes `_TIMED` seconds and is no longer cheaper per
    item than the call before: some simulators prepare much that many items share.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in workers; waiting threads would count as processor time
    try:
        n = min(8, most)
        function(n)  # a first call is slower
        before = math.inf
        while True:
            begin = time.process_time()
            function(n)
            seconds = time.process_time() - begin
            linear = seconds / n > 0.8 * before
            if n >= most or (linear and seconds > _TIMED):
                return seconds / n
            before, n = seconds / n, min(4 * n, most)
    finally:
        torch.set_num_threads(threads)


def _datasets(task: Task, plan: Plan) -> int:
    if isinstance(plan, HeldOutPlan):
        return plan.contexts
    each = plan.bootstraps if isinstance(plan, BootstrapPlan) else 1
    return each * number_of_sets(task, plan)


def _drawn(task: Task, plan: Plan) -> tuple[int, int]:
    """Return the number of datasets with draws from their posteriors, and of events in each."""
    if not isinstance(plan, IndependentPlan) or not task.has_exact:
        return 0, 0
    if evaluator_of(task, plan) == "lattice":
        return 0, 0
    return plan.uniform, (plan.observations or task.observations) * plan.multiple


def evaluated(task: Task, plan: Plan) -> tuple[float, float, float]:
    """Return events of a plan, events times contexts, and core-seconds outside the networks."""
    dimensions = len(task.space.context_index)
    if isinstance(plan, HeldOutPlan):
        components = len(task.component_names)
        events = plan.contexts * plan.events * (components + 1)
        pairs = plan.contexts * plan.events * (components * (1 + 2 * dimensions) + 1)
        return events, pairs, 0.0
    bootstrap = isinstance(plan, BootstrapPlan)
    size = plan.observations or task.observations
    events = number_of_sets(task, plan) * size * plan.multiple
    if evaluator_of(task, plan) == "gradient":
        fixed, reported = (first + slope * len(task.space) for first, slope in _PASSES)
        passes = events * (fixed + reported * len(task.reported_index))
        passes += math.prod(_drawn(task, plan)) * AT_DRAWS
        together = math.ceil(number_of_sets(task, plan) / AT_ONCE)
        return events, passes, passes * _PASS + together * _CALLS[0]
    each = plan.bootstraps if isinstance(plan, BootstrapPlan) else 1
    nodes = NODES[min(dimensions, 2)][bootstrap]
    return events, events * nodes, events * (_SUMS[0] + _SUMS[1] * each)


@dataclass(frozen=True)
class CostEstimate:
    """Estimated cost of planned jobs.

    Args:
        parts: number of jobs and cost, by stage and method.
        unknown: methods whose cost is unknown.
        own: seconds of each job by itself.
        seconds: for each job, duration of the longest chain of jobs that starts with it.
    """

    parts: Mapping[tuple[str, str], tuple[int, Cost]]
    unknown: tuple[str, ...]
    own: Mapping[str, float]
    seconds: Mapping[str, float]

    @property
    def jobs(self) -> int:
        """Number of jobs that were counted."""
        return sum(count for count, _ in self.parts.values())

    @property
    def total(self) -> Cost:
        """Cost of all jobs."""
        return sum((cost for _, cost in self.parts.values()), Cost())

    @property
    def longest(self) -> float:
        """Duration in seconds of the longest chain of dependent jobs."""
        return max(self.seconds.values(), default=0.0)

    def duration(self, workers: int) -> float:
        """Return the seconds that a number of workers need; they share one GPU if there is any."""
        total = self.total
        return max(total.seconds / workers, total.gpu_seconds, self.longest)


def estimate(
    jobs: Sequence[MemberJob], registry: Registry, store: Store, device: str
) -> CostEstimate:
    """Estimate the cost of jobs, as if each had a core of its own."""
    model = CostModel(registry, store, device)
    parts: dict[tuple[str, str], tuple[int, Cost]] = {}
    unknown: dict[str, None] = {}
    own: dict[str, float] = {}
    for job in sorted(jobs, key=lambda job: ("fit", "predict", "score").index(job.stage)):
        cost = model(job)
        if cost is None:
            unknown[job.spec.label] = None
            continue
        own[job.key] = cost.seconds
        part = job.stage, job.spec.label
        count, so_far = parts.get(part, (0, Cost()))
        parts[part] = count + 1, so_far + cost
    chains: dict[str, float] = {}
    graph = {job.key: job.after for job in jobs}
    after: dict[str, float] = dict.fromkeys(graph, 0.0)
    for key in reversed([*TopologicalSorter(graph).static_order()]):
        chains[key] = own.get(key, 0.0) + after[key]
        for before in graph[key]:
            after[before] = max(after[before], chains[key])
    return CostEstimate(parts, tuple(unknown), own, chains)
