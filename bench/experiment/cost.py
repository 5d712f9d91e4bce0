"""What a run will cost: events, floating-point operations and hours of its missing jobs.

Counts come from shapes: the methods' own of their networks (`Method.work`), the plans' of what is
evaluated. How many nodes a likelihood takes is known only while it is evaluated; the means here
were measured, as were the speeds in `bench.nn.flops`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter

import torch

from bench.contracts import BootstrapPlan, HeldOutPlan, Plan, Task, Work
from bench.contracts.plan import number_of_sets
from bench.experiment.jobs import FitJob, MemberJob, PlanJob, ScoreJob
from bench.registry.registry import Registry
from bench.storage.fit_spec import FitSpec
from bench.storage.store import Store

_NODES = {1: (57.0, 140.0), 2: (600.0, 2000.0)}
"""Contexts per event of an independent and of a bootstrap set, by the context's dimensions."""
_SUMS = (21e-6, 4.5e-7)
"""Core-seconds per event beyond the networks: mixing, sums, profiles; and for each dataset that it
may be in. On `gaussians-near` and `higgs` with exact likelihoods: 21 µs for independent datasets,
55 to 66 µs for a hundred bootstraps."""
_SCORE = (0.1, 5e-3)
"""Core-seconds of the scores of a prediction, and for each of its datasets: 1.5 s for 300 of them
(`lre:tuned` on `higgs`, with exact likelihoods)."""
_TIMED = 0.2
"""Core-seconds that a timing takes, at least: what is small has overheads of its own."""
_LEAST = 0.05
"""Seconds that no job is shorter than."""


@dataclass(frozen=True)
class Cost:
    """What a job takes.

    Args:
        events: events that pass through networks: in training, or times contexts in evaluation.
        operations: products and sums in the networks.
        core_seconds: time of one core.
        gpu_seconds: time of one GPU.
    """

    events: float = 0.0
    operations: float = 0.0
    core_seconds: float = 0.0
    gpu_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """How long the job takes: what a GPU does not do, its core does."""
        return self.core_seconds + self.gpu_seconds

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.events + other.events,
            self.operations + other.operations,
            self.core_seconds + other.core_seconds,
            self.gpu_seconds + other.gpu_seconds,
        )


class CostModel:
    """Predicts the cost of planned jobs.

    Args:
        registry: the names.
        store: the results folder; its own records stand in where a method has not been counted.
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
        """The cost of a job; None where nobody knows."""
        spec, task = job.spec, self._task(job.spec.task)
        if isinstance(job, ScoreJob):
            return Cost(core_seconds=_SCORE[0] + _SCORE[1] * _datasets(task, job.plan))
        if isinstance(job, FitJob) and (spec.size > 1 or spec.oracle):
            return Cost(core_seconds=_LEAST)  # an average of stored members, or nothing to train
        work = None if spec.oracle else self._work(spec, task)
        if isinstance(job, PlanJob):
            one = self._prediction(work, spec, task, job.plan)
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

    def _prediction(self, work: Work | None, spec: FitSpec, task: Task, plan: Plan) -> Cost | None:
        events, pairs, sums = _evaluated(task, plan)
        simulating = events * self._simulation(spec.task)
        if spec.oracle and self._untimed(spec.task, spec.method):
            return None
        if spec.oracle:
            seconds = pairs * self._oracle(spec.task, spec.method)
            return Cost(pairs, 0.0, seconds + sums + simulating)
        if work is None:
            return None
        speed = work.gpu if self._gpu else work.cpu
        # Encoders read an event once in each pass over its contexts, of which there are about four.
        operations = spec.size * (pairs * work.evaluation + 4 * events * work.encoding)
        return self._split(pairs, operations, operations / speed.evaluation, sums + simulating)

    def _split(self, events: float, operations: float, seconds: float, beside: float) -> Cost:
        seconds += _LEAST
        if self._gpu:
            return Cost(events, operations, beside, seconds)
        return Cost(events, operations, seconds + beside)

    def _work(self, spec: FitSpec, task: Task) -> Work | None:
        if spec.base.key not in self._works:
            method = self._registry.method(spec.method)
            config = method.Config.model_validate(spec.identity["method"]["config"])
            try:
                work = method(config).work(task, spec.identity["budget"])
            except Exception:  # a plugin's, or a budget too small: the fit will say so itself
                work = None
            self._works[spec.base.key] = work
        return self._works[spec.base.key]

    def _recorded(self, job: MemberJob) -> Cost | None:
        """Return the mean cost of other members of the fit, by their records."""
        key = job.keys[0].rpartition("/")[0]
        records = [self._store.record(k) or {} for k in self._store.keys(key)]
        seconds = [r["seconds"] for r in records if r.get("status") == "done" and "seconds" in r]
        if not seconds:
            return None
        mean = len(job.members) * sum(seconds) / len(seconds)
        return Cost(gpu_seconds=mean) if self._gpu else Cost(core_seconds=mean)

    def _untimed(self, task: str, method: str | None = None) -> bool:
        """Whether calls are expensive, or code is a plugin's and runs in workers alone."""
        items = [self._registry.item("tasks", task)]
        items += [] if method is None else [self._registry.item("methods", method)]
        return self._task(task).expensive or any(item.plugin_hash for item in items)

    def _timed_simulation(self, name: str) -> float:
        """Core-seconds of one simulation, the mean over components, contexts from the prior."""
        if self._untimed(name):
            return 0.0
        task, rng = self._task(name), torch.Generator().manual_seed(0)
        components = task.components("train").values()

        def simulate(n: int) -> None:
            context = task.space.draw_context(n, rng)
            for component in components:
                component.simulate(context, rng)

        return _seconds_each(simulate, task.chunk) / len(components)

    def _timed_oracle(self, name: str, method: str) -> float:
        """Core-seconds of an oracle for one event at one context."""
        task, rng = self._task(name), torch.Generator().manual_seed(0)
        context = task.space.draw_context(17 ** len(task.space.context_index), rng)
        found = self._registry.method(method)
        surrogate = found(found.Config()).restore(task, None, {})  # type: ignore[arg-type]
        component = next(iter(task.components("test").values()))

        def evaluate(n: int) -> None:
            x = component.simulate(context[:1].expand(n, -1), rng)
            surrogate.log_ratio(x.float(), context)

        return _seconds_each(evaluate, task.observations) / len(context)


def _seconds_each(function: Callable[[int], None], most: int) -> float:
    """Core-seconds of one of n on one thread, as workers have it, from as many as take a moment."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # others would wait for each other, which counts, where cores are busy
    try:
        n = min(8, most)
        function(n)  # the first call of anything takes longer
        while True:
            begin = time.process_time()
            function(n)
            seconds = time.process_time() - begin
            if seconds > _TIMED or n >= most:
                return seconds / n
            n = min(4 * n, most)
    finally:
        torch.set_num_threads(threads)


def _datasets(task: Task, plan: Plan) -> int:
    if isinstance(plan, HeldOutPlan):
        return plan.contexts
    each = plan.bootstraps if isinstance(plan, BootstrapPlan) else 1
    return each * number_of_sets(task, plan)


def _evaluated(task: Task, plan: Plan) -> tuple[float, float, float]:
    """Events of a plan, events times contexts, and core-seconds of all beyond the networks."""
    dimensions = len(task.space.context_index)
    if isinstance(plan, HeldOutPlan):
        components = len(task.component_names)
        events = plan.contexts * plan.events * (components + 1)
        pairs = plan.contexts * plan.events * (components * (1 + 2 * dimensions) + 1)
        return events, pairs, 0.0
    bootstrap = isinstance(plan, BootstrapPlan)
    size = plan.observations or task.observations
    events = number_of_sets(task, plan) * size
    if isinstance(plan, BootstrapPlan):
        events *= plan.multiple
    each = plan.bootstraps if isinstance(plan, BootstrapPlan) else 1
    nodes = _NODES[min(dimensions, 2)][bootstrap]
    return events, events * nodes, events * (_SUMS[0] + _SUMS[1] * each)


@dataclass(frozen=True)
class CostEstimate:
    """What planned jobs will take.

    Args:
        parts: number of jobs and cost, by stage and method.
        unknown: methods that nobody has counted.
        own: seconds of each job by itself.
        seconds: by job, the longest chain of jobs that begins with it.
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
        """The cost of all jobs."""
        return sum((cost for _, cost in self.parts.values()), Cost())

    @property
    def longest(self) -> float:
        """Seconds of the longest chain of jobs that need each other."""
        return max(self.seconds.values(), default=0.0)

    def duration(self, workers: int) -> float:
        """Seconds with so many workers, which share one GPU if there is any."""
        total = self.total
        return max(total.seconds / workers, total.gpu_seconds, self.longest)


def estimate(
    jobs: Sequence[MemberJob], registry: Registry, store: Store, device: str
) -> CostEstimate:
    """Estimate what jobs will cost, each as if it had a core of its own."""
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
