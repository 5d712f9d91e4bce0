"""Schedules: the fits, predictions and scores of a preset, and the jobs that make them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product

import torch

from bench.contracts import HeldOutPlan, Plan, StoredTask, Task
from bench.contracts.plan import fit_to, number_of_blocks
from bench.errors import NotApplicable, UsageError
from bench.experiment.cost import CostEstimate, estimate
from bench.experiment.jobs import FitJob, MemberJob, PredictJob, ScoreJob
from bench.experiment.missing import Request, missing_keys
from bench.experiment.preset import Preset
from bench.experiment.selection import Absent, select_specs, select_tasks
from bench.registry.registry import Registry
from bench.storage.entries import JobContext
from bench.storage.fit_spec import FitSpec, plan_folder, truth_among
from bench.storage.store import Store

STACK = 10
"""Default number of members that train and are evaluated as one stack on a GPU."""

_SMALL = 100  # observations of a dataset up to which a stack saves time on a CPU


def choose_device(wanted: str, scheduler: str | None = None) -> str:
    """Resolve "auto" to a device, and refuse CUDA if there is none.

    On a cluster, "auto" is CUDA if any worker has the resource tag GPU now. Jobs that ask for CUDA
    wait for such a worker.

    Raises:
        UsageError: if CUDA is asked for but not available, or the cluster cannot be reached.
    """
    if scheduler is not None:
        from bench.execution.dask.connection import check_address, offers_gpus

        check_address(scheduler)
        if wanted == "auto":
            return "cuda" if offers_gpus(scheduler) else "cpu"
        if not scheduler.startswith("local:"):
            return wanted
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "device = 'cuda' was asked for, and PyTorch finds no CUDA device here; "
            "use --device auto or cpu"
        )
    return wanted


@dataclass(frozen=True)
class Schedule:
    """Fits and plans of a preset, and the jobs that make the missing entries in a results folder.

    Args:
        registry: the names.
        preset: what to compute.
        store: the results folder.
        context: results folder, plugins and device of the jobs.
        tasks: the tasks.
        specs: the fits that leaderboards show.
        bases: fits that only wrapped fits use; they get no predictions.
        plans: by task, pairs of each plan as adapted to the task and as requested.
        absent: tasks, methods and plugins that do not apply or do not load, with the reason.
        jobs: the jobs, in the order in which they start.
        reused: number of entries that exist already.
    """

    registry: Registry
    preset: Preset
    store: Store
    context: JobContext
    tasks: Sequence[Task]
    specs: Sequence[FitSpec]
    bases: Sequence[FitSpec]
    plans: Mapping[str, Sequence[tuple[Plan, Plan]]]
    absent: Sequence[Absent]
    jobs: Sequence[MemberJob] = ()
    reused: int = 0

    @cached_property
    def cost(self) -> CostEstimate:
        """Cost of the jobs."""
        return estimate(self.jobs, self.registry, self.store, self.context.device)

    def record(self, command: Sequence[str], found: Sequence[Absent] = ()) -> None:
        """Save a description of the run, which status and leaderboards read.

        Args:
            command: the command line.
            found: methods and metrics found to be absent during the run.
        """
        self.store.write(
            "run",
            {
                "command": list(command),
                "preset": self.preset.model_dump(mode="json"),
                "plugins": list(self.context.plugins),
                "cells": [spec.folder for spec in self.specs],
                "absent": [asdict(a) for a in dict.fromkeys([*self.absent, *found])],
            },
        )
        for spec in [*self.specs, *self.bases]:
            key, shown = spec.fit_record, spec in self.specs
            if not shown and self.store.record(key) is not None:
                continue  # an earlier run may have shown it
            self.store.write(
                key,
                {
                    "task": spec.task,
                    "method": spec.method,
                    "configuration": spec.configuration,
                    "oracle": spec.oracle,
                    "identity": spec.identity,
                    "shown": shown,
                },
            )
        for task in self.tasks:
            for plan, asked in self.plans[task.name]:
                folder = plan_folder(task, plan, self.preset.seed)
                described = {"plan": plan.model_dump(mode="json"), "seed": self.preset.seed}
                blocks = number_of_blocks(task, plan)
                if blocks is not None:
                    described["blocks"] = blocks
                if blocks is not None or asked != plan:
                    described["asked"] = asked.model_dump(mode="json")
                self.store.write(f"plans/{folder}", described)


def schedule(
    registry: Registry,
    preset: Preset,
    store: Store,
    overwrite: bool = False,
    scheduler: str | None = None,
) -> Schedule:
    """Return the schedule of a preset: the entries that a results folder lacks, and their jobs.

    The first members of all fits come first, so that an early leaderboard compares equal numbers of
    members. On a cluster, jobs with the longest chain of dependent jobs come first, which minimises
    the duration with many workers. The exact likelihood comes before all, because every score
    depends on it.

    Args:
        registry: the names.
        preset: what to compute.
        store: the results folder.
        overwrite: whether to make existing entries again.
        scheduler: the Dask cluster that fits and predicts: `tcp://HOST:PORT`, or `local:N`.

    Raises:
        UsageError: if the device, or a task or method that the preset names, does not exist.
    """
    device = choose_device(preset.device, scheduler)
    tasks, absent = select_tasks(registry, preset)
    specs, more = select_specs(registry, tasks, preset)
    registry.metrics()
    absent = absent + more
    specs, more = _with_enough_stored(specs, tasks, preset)
    absent = absent + more
    plans: dict[str, list[tuple[Plan, Plan]]] = {task.name: [] for task in tasks}
    for task, plan in product(tasks, preset.plans):
        try:
            plans[task.name].append((fit_to(task, plan), plan))
        except NotApplicable as error:
            absent.append(Absent(task.name, f"every method under the {plan.kind} plan", str(error)))
    absent += [
        Absent("every task", what, why, broken=True)
        for what, why in registry.failures.items()
        if what.startswith(("plugin ", "metric "))
    ]
    shown = {spec.folder for spec in specs}
    inner = [base for spec in specs for base in _inside(spec)]
    bases = {base.folder: base for base in inner if base.folder not in shown}
    since = time.time() if overwrite else 0.0
    root = str(store.root.absolute())
    context = JobContext(root, registry.plugins, device, since, registry.objects)
    found = Schedule(
        registry, preset, store, context, tasks, specs, [*bases.values()], plans, absent
    )
    jobs: list[MemberJob] = []
    reused = 0
    for task in tasks:
        own, there = _jobs_of(found, task)
        jobs += own
        reused += there
    jobs.sort(key=lambda job: (not job.spec.oracle, job.spec.size * (min(job.members) + 1)))
    found = replace(found, jobs=jobs, reused=reused)
    if scheduler is not None:
        chains = found.cost.seconds
        jobs.sort(key=lambda job: (not job.spec.oracle, -chains[job.key]))
    return found


def _inside(spec: FitSpec) -> Iterator[FitSpec]:
    """Yield the fits that a wrapped fit takes, directly or not."""
    while spec.wrappings:
        spec = spec.base
        yield spec


def _with_enough_stored(
    specs: Sequence[FitSpec], tasks: Sequence[Task], preset: Preset
) -> tuple[list[FitSpec], list[Absent]]:
    """Leave out fits whose training sets need more stored simulations than there are."""
    sets = preset.members if preset.training_data == "fresh" else 1
    absent: dict[tuple[str, int], Absent] = {}
    for task, budget in product(tasks, preset.budgets):
        try:
            if isinstance(task, StoredTask):
                task.check_calls(budget, sets)
        except NotApplicable as error:
            label = f"every method with a budget of {budget:,}"
            absent[task.name, budget] = Absent(task.name, label, str(error))
    stored = {task.name for task in tasks if isinstance(task, StoredTask)}
    found, several = [], []
    for spec in specs:
        if spec.task in stored and sum(one.calls > 0 for one in spec.wrappings) > 1:
            # The rows of the outer one would be those of the training.
            why = "stored simulations serve one wrapper that learns, not several"
            several.append(Absent(spec.task, spec.label, why))
        elif (spec.task, spec.identity["budget"]) not in absent:
            found.append(spec)
    return found, [*absent.values(), *several]


def _jobs_of(schedule: Schedule, task: Task) -> tuple[list[MemberJob], int]:
    """Return the jobs of a task, and the number of its entries that exist already."""
    preset, context = schedule.preset, schedule.context
    specs, bases = (
        [spec for spec in some if spec.task == task.name]
        for some in (schedule.specs, schedule.bases)
    )
    truth = truth_among(specs)
    plans = [(plan, plan_folder(task, plan, preset.seed)) for plan, _ in schedule.plans[task.name]]
    requests = [
        Request(spec, range(1 if spec.oracle else preset.members // spec.size), own)
        for some, own in ((specs, plans), (bases, []))
        for spec in some
    ]
    requests.sort(key=lambda r: (not r.spec.oracle, r.spec.size, len(r.spec.wrappings)))
    missing = missing_keys(
        schedule.store, schedule.registry, task, requests, truth, context.overwrite_before
    )
    stack = preset.stack or (STACK if context.device == "cuda" else 1)
    jobs: list[MemberJob] = []
    writers: dict[str, str] = {}  # keys of the jobs, by the entries that they write
    for request in requests:
        size = 1 if request.spec.wrappings else stack
        for start in range(0, len(request.members), size):
            block = request.members[start : start + size]
            for job in _jobs_of_block(schedule, request, block, truth, missing, writers):
                jobs.append(job)
                writers |= dict.fromkeys(job.keys, job.key)
    there = sum(key not in writers for request in requests for key in request.keys)
    return jobs, there


def _is_small(schedule: Schedule, spec: FitSpec, plan: Plan) -> bool:
    """Return whether a stack saves time on a CPU where a plan is evaluated.

    Work beside the networks takes most of the time on small datasets, and a stack shares it. On
    large ones it would save nothing, and evaluate each member in the windows of all.
    """
    if isinstance(plan, HeldOutPlan):
        return False
    task = next(task for task in schedule.tasks if task.name == spec.task)
    return (plan.observations or task.observations) <= _SMALL


def _jobs_of_block(
    schedule: Schedule,
    request: Request,
    block: range,
    truth: FitSpec | None,
    missing: AbstractSet[str],
    writers: Mapping[str, str],
) -> Iterator[MemberJob]:
    """Yield the jobs that make the missing entries of a block of members.

    Args:
        schedule: the schedule.
        request: the block's fit and plans.
        block: the members.
        truth: the fit of the task's exact likelihood, or None.
        missing: keys of the entries to make.
        writers: keys of the jobs so far, by the entries that they write; the caller adds to them.
    """
    spec, context = request.spec, schedule.context

    def after(*keys: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(writers[key] for key in keys if key in writers))

    if untrained := tuple(m for m in block if spec.fit_key(m) in missing):
        read = [key for m in untrained for key in spec.base_keys(m)]
        yield FitJob(context=context, spec=spec, members=untrained, after=after(*read))
    for plan, folder in request.plans:
        keys = {m: spec.prediction_key(folder, m) for m in block}
        unevaluated = tuple(m for m in block if keys[m] in missing)
        size = len(block) if context.device != "cpu" or _is_small(schedule, spec, plan) else 1
        for unpredicted in (unevaluated[i : i + size] for i in range(0, len(unevaluated), size)):
            read = [key for m in unpredicted for key in spec.state_keys(m)]
            yield PredictJob(
                context=context,
                spec=spec,
                members=unpredicted,
                after=after(*read),
                plan=plan,
                folder=folder,
                seed=schedule.preset.seed,
            )
        for member in block:
            needs = after(keys[member])
            if truth is not None and (needs or schedule.store.holds(f"{keys[member]}.json")):
                needs = after(keys[member], truth.prediction_key(folder, 0))
            if needs or spec.score_key(folder, member) in missing:
                yield ScoreJob(
                    context=context,
                    spec=spec,
                    members=(member,),
                    after=needs,
                    plan=plan,
                    folder=folder,
                    truth=truth,
                )
