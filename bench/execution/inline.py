"""Executor that performs jobs in this process, one after another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from bench.execution.executor import Event, Executor, Job, Outcome
from bench.execution.worker import CLOCK, failure


class Inline(Executor):
    """Executor without worker processes, for tasks and methods that only this process knows.

    There are no limits on time and memory. PyTorch computes on one thread, as in workers, so that
    numbers are the same; networks are small, and slower on several.
    """

    _next: Job | None = None

    @property
    def busy(self) -> bool:
        return self._next is not None

    def take(self, ready: Sequence[Job]) -> list[str]:
        if not ready:
            return []
        self._next = ready[0]
        self.on_event(Event(self._next.key, "started"))
        return [self._next.key]

    def collect(self) -> list[Outcome]:
        if self._next is None:
            return []
        job, threads, begin = self._next, torch.get_num_threads(), time.perf_counter()

        def report(**fields: Any) -> None:
            if not fields.keys() & CLOCK:
                self.on_event(Event(job.key, "progress", fields))

        try:
            torch.set_num_threads(1)
            fields: dict[str, Any] = {"status": "done", "value": job.perform(report)}
        except Exception as error:
            fields = failure(error)
        finally:
            torch.set_num_threads(threads)
            self._next = None
        return [Outcome(job.key, seconds=time.perf_counter() - begin, **fields)]

    def halt(self) -> None:
        self._next = None
