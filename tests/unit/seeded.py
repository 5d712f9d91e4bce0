"""Fit contexts and generators with fixed seeds, for tests of training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from bench.contracts import Bank, Features, FitContext, Task
from bench.seeds import generator

CPU = torch.device("cpu")


def silent(**fields: object) -> None:
    """Show no progress."""


def fit_context(
    task: Task, bank: Bank, features: Features, *, what: str = "test", device: torch.device = CPU
) -> FitContext:
    return FitContext(task, bank, features, device, partial(generator, what), silent)


def seeds(members: Sequence[int], what: str = "weights") -> list[torch.Generator]:
    return [generator("test training", what, m) for m in members]
