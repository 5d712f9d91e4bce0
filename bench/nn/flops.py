"""Counts operations, and says how fast machines do them: all measured constants, with their origin.

The constants serve `bench plan`, which promises a factor of two. Cores: one of two busy ones of a
server of 2024, where float32 matrix products reach 32 to 50 GFLOP/s; GPU: an H100, stacks of five
to ten members. A core of another make, or one that shares its cache with other work, is easily
slower by half.
"""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.contracts.cost import Speed

CLASSIFIER = Speed(training=2.5e10, evaluation=2.5e10, step=8e-4)
"""Multilayer perceptrons of 120 units. results/higgs: `lre` at 10⁶ calls trains at 20 to 24 GFLOP/s
(99 s and 215 s) where both cores are busy, results/gaussians-published at 2·10⁶ calls at 41
(115 s) where one is; the step is what 10⁴ calls take beyond that (results/gaussians-budgets)."""

CLASSIFIER_GPU = Speed(training=6e11, evaluation=1.2e13, step=2e-5)
"""Stacks of five at batch 1024, with all else that a fit does: 8 s a member for 2.7·10⁷ rows
(results/gaussians-published). Evaluation: 2·10⁸ pairs a second (docs/architecture.md)."""

SPLINES = Speed(training=6e9, evaluation=1.5e10, step=8e-3)
"""Spline flows on zuko. results/higgs: `dle` at 10⁶ calls trains 2.3·10⁴ to 2.6·10⁴ rows a second;
the step is from 10⁴ calls (results/gaussians-budgets). Evaluation, compiled after 2·10⁶ rows, is
twice as fast on pairs as row by row, but flows with ReLU take more nodes under a bootstrap plan
than are counted: 109 s for 300 datasets and 630 s for 45 sets of 9000 events (results/higgs)."""

SPLINES_GPU = Speed(training=1.4e11, evaluation=6.6e11, step=4e-4)
"""Stacks of five: 13 s a member for 9·10⁶ rows (results/gaussians-published); evaluation: 9·10⁶
pairs a second (docs/architecture.md)."""

SPLINES_NFLOWS = Speed(training=1e10, evaluation=1.5e10, step=8e-3)
"""Spline flows on nflows, where both cores are busy: 455 s for 2.2·10⁷ rows, and 150 to 200 s to
evaluate a network on 300 datasets, compiled after 2·10⁶ rows (results/gaussians-tuned)."""

ENCODERS = Speed(training=1.5e10, evaluation=1.5e10, step=1.5e-3)
"""Convolutions over series and fields, and affine flows of them (results/processes)."""

TEMPLATES = Speed(training=2e7, evaluation=1e9, step=0.0)
"""Sorting and counting, in steps called operations: 1.0 to 2.6 s for 2·10⁶ calls of two features
(results/gaussians-published)."""


def operations(function: Callable[[], object]) -> float:
    """Counts the operations of a call, as PyTorch counts them: matrix products and convolutions."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function()
    return float(counter.get_total_flops())
