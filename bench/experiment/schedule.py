"""A run: plans which fits, predictions and scores are missing, and makes them."""

import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from itertools import product
from typing import Any

import torch

from bench.contracts import Plan
from bench.contracts.plan import fit_to, number_of_blocks
from bench.errors import NotApplicable, UsageError
from bench.execution.executor import Event, Job, JobIO, Outcome
from bench.execution.runner import Absent, Planned, Report, execute
from bench.experiment.calls import Calls, count_calls
from bench.experiment.cost import Estimate, estimate
from bench.experiment.missing import Wanted, missing_keys
from bench.experiment.preset import Preset
from bench.experiment.selection import select_specs, select_tasks
from bench.registry.registry import Registry
from bench.stages import fit
from bench.stages.score import score_member
from bench.storage.entries import JobContext
from bench.storage.fit_spec import FitSpec, plan_folder, truth_among
from bench.storage.store import Store

STACK = 10
"""Members that train as one stack on a GPU; on a CPU each trains by itself."""


def choose_device(wanted: str, scheduler: str | None = None) -> str:
    """Resolves "auto", and refuses CUDA where there is none.

    On a cluster "auto" is CUDA if any worker is tagged with a GPU now, and jobs that ask for CUDA
    wait for a worker that is.

    Raises:
        UsageError: if CUDA is asked for and not there, or no cluster is.
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


class BenchmarkRun:
    """The jobs of a preset, in a results folder.

    Args:
        registry: the names.
        preset: what to compute.
        store: the results folder.
        overwrite: whether to make again what is there.
        scheduler: the Dask cluster that fits and predicts: `tcp://HOST:PORT`, or `local:N`.
    """

    def __init__(
        self,
        registry: Registry,
        preset: Preset,
        store: Store,
        overwrite: bool = False,
        scheduler: str | None = None,
    ) -> None:
        self.registry = registry
        self.preset = preset
        self.store = store
        self.scheduler = scheduler
        self.device = choose_device(preset.device, scheduler)
        self.tasks, absent = select_tasks(registry, preset)
        self.specs, more = select_specs(registry, self.tasks, preset)
        registry.metrics()
        self.absent = absent + more
        self.plans: dict[str, list[tuple[Plan, Plan]]] = {task.name: [] for task in self.tasks}
        """By task, the plans as they can be and as they were asked for."""
        for task, plan in product(self.tasks, preset.plans):
            try:
                self.plans[task.name].append((fit_to(task, plan), plan))
            except NotApplicable as error:
                what = f"every method under the {plan.kind} plan"
                self.absent.append(Absent(task.name, what, str(error)))
        self.absent += [
            Absent("every task", what, why, broken=True)
            for what, why in registry.failures.items()
            if what.startswith(("plugin ", "metric "))
        ]
        self._place = JobContext(
            str(store.root.absolute()),
            registry.plugins,
            self.device,
            time.time() if overwrite else 0.0,
        )
        self.reused = 0
        shown = {spec.folder for spec in self.specs}
        calibrated = [c.uncalibrated for c in self.specs if c.calibration and c.size == 1]
        bases = {c.folder: c for c in calibrated}
        self.bases = [base for folder, base in bases.items() if folder not in shown]
        """Cells that are trained for calibrated ones alone: nothing is predicted with them."""
        self.planned = list(self._plan())

    def record(self, command: Sequence[str], found: Sequence[Absent] = ()) -> None:
        """Saves what this run is about, for status, leaderboards and whoever reads the folder.

        Args:
            command: the command line.
            found: what turned out to be absent while it ran.
        """
        self.store.write(
            "run",
            {
                "command": list(command),
                "preset": self.preset.model_dump(mode="json"),
                "plugins": list(self._place.plugins),
                "cells": [c.folder for c in self.specs],
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
                    described |= {"blocks": blocks, "asked": asked.model_dump(mode="json")}
                self.store.write(f"plans/{folder}", described)

    def estimate(self) -> Estimate:
        """What the jobs will cost; on a cluster, those with most to come then start first.

        With many workers a run lasts no longer than its longest chain of jobs, if that starts in
        time; with a few it is better to have one member of everything early. The exact likelihood
        comes before all: every score waits for it.
        """
        found = estimate(self.planned, self.registry, self.store, self.device)
        if self.scheduler is not None:
            self.planned.sort(key=lambda p: (not p.spec.oracle, -found.seconds[p.job.key]))
        return found

    def calls(self) -> list[Calls]:
        """Count the simulator calls that the jobs will make, by task."""
        return count_calls(self.planned, self.registry, self.store)

    def execute(
        self,
        workers: int,
        on_event: Callable[[Event], None],
        on_outcome: Callable[[Planned, Outcome], None],
    ) -> Report:
        """Makes everything that is missing; failures are recorded and the rest goes on."""
        report = execute(
            self.planned,
            self.store,
            workers,
            (self.preset.time_limit, self.preset.memory_limit),
            on_event,
            on_outcome,
            self.scheduler,
        )
        report.reused += self.reused
        return report

    def _plan(self) -> list[Planned]:
        planned: list[Planned] = []
        for task in self.tasks:
            specs = [c for c in self.specs if c.task == task.name]
            truth = truth_among(specs)
            seed, since = self.preset.seed, self._place.overwrite_before
            plans = [(plan, plan_folder(task, plan, seed)) for plan, _ in self.plans[task.name]]
            wanted = [Wanted(spec, self._members(spec), plans) for spec in specs]
            wanted += [Wanted(c, self._members(c), ()) for c in self.bases if c.task == task.name]
            wanted.sort(key=lambda w: (not w.spec.oracle, w.spec.size, bool(w.spec.calibration)))
            missing = missing_keys(self.store, self.registry, task, wanted, truth, since)
            makers: dict[str, str] = {}
            for part in wanted:
                for block in self._blocks(part):
                    planned += self._plan_block(part, block, truth, missing, makers)
            self.reused += sum(key not in makers for part in wanted for key in part.keys)
        # One member of everything first, so that an early leaderboard compares like with like.
        return sorted(
            planned, key=lambda p: (not p.spec.oracle, p.spec.size * (min(p.members) + 1))
        )

    def _members(self, spec: FitSpec) -> range:
        return range(1 if spec.oracle else self.preset.members // spec.size)

    def _blocks(self, part: Wanted) -> list[range]:
        size = STACK if self.device == "cuda" and not part.spec.base_keys(0) else 1
        return [part.members[start : start + size] for start in range(0, len(part.members), size)]

    def _plan_block(
        self,
        part: Wanted,
        block: range,
        truth: FitSpec | None,
        missing: AbstractSet[str],
        makers: dict[str, str],
    ) -> list[Planned]:
        """The jobs that make what is missing of a block of members.

        `makers` has the names of planned jobs by the entries that they write; theirs are added.
        """
        spec, out = part.spec, []

        def after(*keys: str) -> tuple[str, ...]:
            return tuple(dict.fromkeys(makers[key] for key in keys if key in makers))

        def plan(job: Job, kind: str, members: tuple[int, ...], keys: tuple[str, ...]) -> None:
            out.append(Planned(job, kind, spec, members, keys))
            makers.update(dict.fromkeys(keys, job.key))

        if untrained := tuple(m for m in block if spec.fit_key(m) in missing):
            arguments: dict[str, Any] = {"place": self._place, "spec": spec, "members": untrained}
            written = tuple(spec.fit_key(m) for m in untrained)
            read = tuple(key for m in untrained for key in spec.base_keys(m))
            make = fit.calibrate_fits if spec.calibration else fit.fit
            name = f"fit {spec.folder} {block[0]}"
            if spec.size > 1:
                job = Job(name, fit.average, arguments, after(*read))
            else:
                job = Job(name, make, arguments, after(*read), JobIO(read, written))
            plan(job, "fit", untrained, written)
        for (datasets, folder), member in product(part.plans, block):
            values = datasets.model_dump(mode="json")
            base = {"place": self._place, "spec": spec, "member": member, "plan": values}
            key, score_key = spec.prediction_key(folder, member), spec.score_key(folder, member)
            if key in missing:
                states = tuple(spec.state_keys(member))
                arguments = base | {"folder": folder, "seed": self.preset.seed}
                needs = after(spec.fit_key(member), *states)
                name = f"predict {spec.folder} {folder} {member}"
                job = Job(name, fit.predict_member, arguments, needs, JobIO(states, (key,)))
                plan(job, "predict", (member,), (key,))
            needs = after(key)
            if truth is not None and (needs or self.store.holds(f"{key}.json")):
                needs = after(key, truth.prediction_key(folder, 0))
            if needs or score_key in missing:
                arguments = base | {"folder": folder, "truth": truth}
                name = f"score {spec.folder} {folder} {member}"
                plan(Job(name, score_member, arguments, needs), "score", (member,), (score_key,))
        return out
