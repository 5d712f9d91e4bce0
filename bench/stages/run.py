"""A run: plans which fits, predictions and scores are missing, and makes them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from bench.contracts import Task
from bench.errors import UsageError
from bench.stages import jobs
from bench.stages.cells import Absent, Cell, plan_folder, select_cells, select_tasks
from bench.stages.preset import Preset
from bench.stages.registry import Registry
from bench.stages.store import Store
from bench.stages.workers import Event, Job, Outcome, Workers

STACK = 10
"""Members that train as one stack on a GPU; on a CPU each trains by itself."""


@dataclass(frozen=True)
class Planned:
    """One job with what it makes.

    Args:
        job: the job for the workers.
        kind: "fit", "predict" or "score".
        cell: the cell.
        members: its members that the job is about.
        keys: the store's keys that it writes.
    """

    job: Job
    kind: str
    cell: Cell
    members: tuple[int, ...]
    keys: tuple[str, ...]


@dataclass
class Report:
    """How a run went."""

    done: int = 0
    reused: int = 0
    failures: list[tuple[Planned, Outcome]] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    seconds: float = 0.0


def choose_device(wanted: str) -> str:
    """Resolves "auto", and refuses CUDA where there is none.

    Raises:
        UsageError: if CUDA is asked for and not there.
    """
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
    """

    def __init__(
        self, registry: Registry, preset: Preset, store: Store, overwrite: bool = False
    ) -> None:
        self.registry = registry
        self.preset = preset
        self.store = store
        self.device = choose_device(preset.device)
        self.tasks, absent = select_tasks(registry, preset)
        self.cells, more = select_cells(registry, self.tasks, preset)
        self.absent = absent + more
        self._place = jobs.Place(
            str(store.root), registry.plugins, self.device, time.time() if overwrite else 0.0
        )
        self.reused = 0
        self.planned = list(self._plan())

    def record(self, command: Sequence[str]) -> None:
        """Saves what this run is about, for status, leaderboards and whoever reads the folder."""
        self.store.write(
            "run",
            {
                "command": list(command),
                "preset": self.preset.model_dump(mode="json"),
                "plugins": list(self._place.plugins),
                "cells": [c.folder for c in self.cells],
                "absent": [asdict(a) for a in self.absent],
            },
        )
        for cell in self.cells:
            self.store.write(
                f"fits/{cell.folder}/fit",
                {
                    "task": cell.task,
                    "method": cell.method,
                    "configuration": cell.configuration,
                    "oracle": cell.oracle,
                    "identity": cell.identity,
                },
            )
        for task in self.tasks:
            for plan in self.preset.plans:
                folder = plan_folder(task, plan, self.preset.seed)
                self.store.write(
                    f"plans/{folder}",
                    {"plan": plan.model_dump(mode="json"), "seed": self.preset.seed},
                )

    def execute(
        self,
        workers: int,
        on_event: Callable[[Event], None],
        on_outcome: Callable[[Planned, Outcome], None],
    ) -> Report:
        """Makes everything that is missing; failures are recorded and the rest goes on."""
        begin = time.perf_counter()
        report = Report(reused=self.reused, absent=list(self.absent))
        by_key = {p.job.key: p for p in self.planned}
        with Workers(
            max(1, min(workers, len(self.planned))),
            self.preset.time_limit,
            int(self.preset.memory_limit * 2**30),
            on_event,
        ) as pool:
            for outcome in pool.run([p.job for p in self.planned]):
                planned = by_key[outcome.key]
                if outcome.status == "done":
                    report.done += outcome.value == "done"
                    report.reused += outcome.value == "reused"
                elif outcome.error_type == "NotApplicable":
                    if outcome.status == "failed":
                        reason = Absent(planned.cell.task, planned.cell.label, outcome.error)
                        report.absent.append(reason)
                        self._record_failure(planned, outcome, "n/a")
                else:
                    report.failures.append((planned, outcome))
                    if outcome.status == "failed":
                        self._record_failure(planned, outcome, "failed")
                on_outcome(planned, outcome)
        report.seconds = time.perf_counter() - begin
        return report

    def _record_failure(self, planned: Planned, outcome: Outcome, status: str) -> None:
        for key in planned.keys:
            with self.store.lock(key):
                if not jobs.is_done(self.store, key):
                    self.store.write(
                        key,
                        {
                            "status": status,
                            "error": outcome.error,
                            "error_type": outcome.error_type,
                            "traceback": outcome.traceback,
                            "seconds": outcome.seconds,
                        },
                    )

    def _plan(self) -> list[Planned]:
        planned: dict[str, Planned] = {}
        for task in self.tasks:
            cells = [c for c in self.cells if c.task == task.name]
            truth = next((c for c in cells if c.oracle), None)
            for cell in sorted(cells, key=lambda c: not c.oracle):
                for block in self._blocks(cell):
                    for p in self._plan_block(task, cell, truth, block, planned):
                        planned[p.job.key] = p
        # One member of everything first, so that an early leaderboard compares like with like.
        return sorted(planned.values(), key=lambda p: (not p.cell.oracle, min(p.members)))

    def _blocks(self, cell: Cell) -> list[tuple[int, ...]]:
        members = 1 if cell.oracle else self.preset.members
        size = STACK if self.device == "cuda" else 1
        return [
            tuple(range(start, min(start + size, members))) for start in range(0, members, size)
        ]

    def _plan_block(
        self,
        task: Task,
        cell: Cell,
        truth: Cell | None,
        block: tuple[int, ...],
        planned: dict[str, Planned],
    ) -> list[Planned]:
        out: list[Planned] = []
        fit_keys = tuple(cell.fit_key(m) for m in block)
        missing = [m for m, k in zip(block, fit_keys, strict=True) if not self._has(k)]
        fit_job = f"fit {cell.folder} {block[0]}"
        if missing:
            arguments: dict[str, Any] = {"place": self._place, "cell": cell, "members": missing}
            out.append(
                Planned(
                    Job(fit_job, jobs.fit, arguments),
                    "fit",
                    cell,
                    tuple(missing),
                    tuple(cell.fit_key(m) for m in missing),
                )
            )
        made = {p.job.key for p in out}
        for plan in self.preset.plans:
            folder = plan_folder(task, plan, self.preset.seed)
            values = plan.model_dump(mode="json")
            for member in block:
                base = {"place": self._place, "cell": cell, "member": member, "plan": values}
                after = (fit_job,) if fit_job in made and member in missing else ()
                predict_job = f"predict {cell.folder} {folder} {member}"
                key = cell.prediction_key(folder, member)
                if not self._has(key):
                    arguments = base | {"folder": folder, "seed": self.preset.seed}
                    job = Job(predict_job, jobs.predict_member, arguments, after)
                    out.append(Planned(job, "predict", cell, (member,), (key,)))
                    made.add(predict_job)
                needs = [predict_job] if predict_job in made else []
                if truth is not None and truth is not cell:
                    exact_job = f"predict {truth.folder} {folder} 0"
                    needs += [exact_job] if exact_job in planned else []
                arguments = base | {"folder": folder, "truth": truth}
                job = Job(
                    f"score {cell.folder} {folder} {member}",
                    jobs.score_member,
                    arguments,
                    tuple(needs),
                )
                score_key = cell.score_key(folder, member)
                inputs = jobs.score_inputs(
                    self.store, self.registry, cell, truth, member, plan.kind, folder
                )
                known = (self.store.record(score_key) or {}).get("inputs")
                if needs or known != inputs or not self._has(score_key):
                    out.append(Planned(job, "score", cell, (member,), (score_key,)))
        return out

    def _has(self, key: str) -> bool:
        there = jobs.is_done(self.store, key, self._place.overwrite_before)
        self.reused += there
        return there
