"""Examination of a simulator before anything is spent: defects that would spoil every number."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from bench.contracts import Task
from bench.errors import PluginError
from bench.seeds import generator
from bench.stages.datasets import simulate

_CALLS = 64
_FEW = 4  # calls of an expensive simulator


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

        def drawn(seed: int, component=component, context=context) -> Tensor:  # type: ignore[no-untyped-def]
            with _global_seed(seed):
                return simulate(task, component, context, generator("examine", task.name, "x"))

        first, second = drawn(1), drawn(2)
        calls += 2 * n
        where = f"the simulator of {task.name}"
        if not torch.equal(first, second):
            raise PluginError(
                f"{where} draws from a global random generator, or one of its own, so that its "
                "results cannot be reproduced; draw from the generator that it is given"
            )
        if n > 1 and bool((first == first[:1]).all()):
            raise PluginError(f"{where} returns {_shown(first[0])} at all of {n} parameter sets")
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


def _shown(x: Tensor) -> str:
    numbers = ", ".join(f"{value:g}" for value in x.flatten()[:4].tolist())
    return f"({numbers}{', …' if x.numel() > 4 else ''})"


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators, and restore them."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
