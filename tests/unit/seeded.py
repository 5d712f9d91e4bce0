"""Runs and generators for the tests of training: the same numbers every time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench.contracts import FitContext
from bench.seeds import generator

CPU = torch.device("cpu")


def run() -> FitContext:
    return FitContext(CPU, lambda member, what: generator("test", member, what), lambda **_: None)


def seeds(members: Sequence[int], what: str = "weights") -> list[torch.Generator]:
    return [generator("test training", what, m) for m in members]
