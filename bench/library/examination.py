"""Examination of a simulator before anything is spent: defects that would spoil every number."""

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import numpy as np
import torch
from torch import Tensor

from bench.contracts import Component, Task
from bench.errors import LimitExceeded, PluginError, duration
from bench.seeds import generator
from bench.stages.datasets import simulate
from bench.testing.guard import guarded

_CALLS = 64
_FEW = 4  # calls of an expensive simulator
UNFORESEEN = (Exception, SystemExit, GeneratorExit)
"""Exceptions that a user's simulator may raise."""

LONGEST = 600.0
"""Seconds that the examination of a simulator may take."""


def examine(task: Task) -> int:
    """Simulate a few observations and refuse what cannot be learned.

    Returns:
        The number of simulator calls.

    Raises:
        PluginError: if observations are constant, do not depend on a parameter, or come from a
            global random generator.
        BenchError: if the simulator fails, or returns wrong shapes or numbers.
    """
    calls = 0
    for name, component in task.components("test").items():
        if component.size is not None:
            continue  # recorded observations
        n = _FEW if task.expensive else _CALLS
        context = task.space.draw_context(n, generator("examine", task.name, name))

        first, second = (_drawn(task, component, context, seed) for seed in (1, 2))
        calls += 2 * n
        where = f"the simulator of {task.name}"
        if not torch.equal(first, second):
            raise PluginError(
                f"{where} draws from a global random generator, or one of its own, so that its "
                "results cannot be reproduced; draw from the generator that it is given, or use "
                "the seeds that a command is given"
            )
        if n > 1 and bool((first == first[:1]).all()):
            raise PluginError(
                f"{where} returns {_shown(first[0])} at all of {n} parameter sets, in single "
                "precision"
            )
        if task.discrete and bool(((first < 0) | (first != first.round())).any()):
            raise PluginError(f"{where} is discrete, and returns other numbers than 0, 1, 2, …")
        for j, parameter in enumerate(task.space.context):
            ends = context[:1].repeat(2, 1)
            ends[:, j] = torch.tensor([parameter.low, parameter.high])
            same = [
                simulate(task, component, end[None].expand(n, -1), generator("examine", task.name))
                for end in ends
            ]
            calls += 2 * n
            if torch.equal(*same):
                raise PluginError(f"{where} does not depend on {parameter.name}")
    return calls


class _TimeOver(BaseException):
    """Signal of the end of a time limit, which `except Exception` in a simulator lets pass."""


@contextmanager
def limited(what: str, seconds: float = LONGEST) -> Iterator[None]:
    """Stop a simulator that does not return; only the main thread can.

    Args:
        what: the simulator, for the message.
        seconds: time limit.

    Raises:
        LimitExceeded: if the time is over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        raise _TimeOver

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TimeOver:
        raise LimitExceeded(
            f"{what} has not returned after {duration(seconds)}: it hangs, or its calls are slow; "
            "a slow simulator sets expensive=True"
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _drawn(task: Task, component: Component, context: Tensor, seed: int) -> Tensor:
    """Simulate with given seeds of the global generators, which are restored."""
    with guarded():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - users' simulators may draw from it
        torch.manual_seed(seed)
        return simulate(task, component, context, generator("examine", task.name, "x"))


def _shown(x: Tensor) -> str:
    numbers = ", ".join(f"{value:g}" for value in x.flatten()[:4].tolist())
    return f"({numbers}{', …' if x.numel() > 4 else ''})"
