"""Guard of the shared state of the process: detection and reversal of changes."""

import os
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_SHOWN = 3  # largest number of reported differences of a mapping


def _set_environment(before: dict[str, str]) -> None:
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


# Watched states, each with its getter and setter.
_STATES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, torch.set_default_device),
    "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's deterministic mode": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "torch's global random numbers": (
        lambda: torch.get_rng_state().numpy().tobytes(),
        lambda state: torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8)),
    ),
    "numpy's global random numbers": (
        lambda: np.random.get_state(legacy=True),  # noqa: NPY002
        np.random.set_state,
    ),
    "Python's global random numbers": (random.getstate, random.setstate),
    "numpy's floating-point errors": (np.geterr, lambda state: np.seterr(**state)),
    "the working directory": (os.getcwd, os.chdir),
    "the environment": (lambda: dict(os.environ), _set_environment),
}


@contextmanager
def guarded() -> Iterator[dict[str, str]]:
    """Hold the process's shared state: restore it at the end, and report changes.

    Yields:
        A mapping from the name of a state to its change; filled at the end.
    """
    changed: dict[str, str] = {}
    before = {name: read() for name, (read, _) in _STATES.items()}
    with warnings.catch_warnings():  # restores the filters
        filters = list(warnings.filters)
        try:
            yield changed
        finally:
            if list(warnings.filters) != filters:
                changed["the warnings' filters"] = "changed"
            for name, (read, restore) in _STATES.items():
                after = read()
                if repr(after) != repr(before[name]):
                    changed[name] = _difference(before[name], after)
                    restore(before[name])


def _difference(before: Any, after: Any) -> str:
    if isinstance(before, dict):
        names = [n for n in sorted({*before, *after}) if before.get(n) != after.get(n)]
        return ", ".join(f"{n}={after.get(n)!r}" for n in names[:_SHOWN])
    if isinstance(before, bytes | tuple | list):
        return "changed"
    return f"{before} became {after}"
