"""Count of operations, and measured speeds of machines with their origin.

The speeds serve `bench plan`, which promises a factor of two. CPU: one of two busy cores of a
server of 2024, where float32 matrix products reach 32 to 50 GFLOP/s. GPU: an H100, stacks of five
to ten members. Another type of core, or one that shares its cache with other work, can be twice as
slow.
"""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.contracts.cost import Speed

CLASSIFIER = Speed(training=2.5e10, evaluation=2.5e10, step=8e-4)
"""Multilayer perceptrons of 120 units.

results/higgs: `lre` at 10⁶ calls trains at 20 to 24 GFLOP/s (99 s and 215 s) with both cores busy.
results/gaussians-published: 41 GFLOP/s at 2·10⁶ calls (115 s) with one core busy. The step is the
remaining time of 10⁴ calls (results/gaussians-budgets).
"""

CLASSIFIER_GPU = Speed(training=6e11, evaluation=1.2e13, step=2e-5)
"""Stacks of five at batch 1024, including the rest of a fit.

Training: 8 s a member for 2.7·10⁷ rows (results/gaussians-published). Evaluation: 2·10⁸ pairs a
second (docs/explanation/architecture.md).
"""

SPLINES = Speed(training=6e9, evaluation=1.5e10, step=8e-3)
"""Spline flows on zuko.

results/higgs: `dle` at 10⁶ calls trains 2.3·10⁴ to 2.6·10⁴ rows a second. The step is from 10⁴
calls (results/gaussians-budgets). Evaluation, compiled after 2·10⁶ rows, is twice as fast on pairs
as row by row. Flows with ReLU evaluate more nodes under a bootstrap plan than are counted:
109 s for 300 datasets and 630 s for 45 sets of 9000 events (results/higgs).
"""

SPLINES_GPU = Speed(training=1.4e11, evaluation=6.6e11, step=4e-4)
"""Stacks of five: 13 s a member for 9·10⁶ rows (results/gaussians-published).

Evaluation: 9·10⁶ pairs a second (docs/explanation/architecture.md).
"""

SPLINES_NFLOWS = Speed(training=1e10, evaluation=1.5e10, step=8e-3)
"""Spline flows on nflows, with both cores busy.

Training: 455 s for 2.2·10⁷ rows. Evaluation of a network on 300 datasets, compiled after 2·10⁶
rows: 150 to 200 s (results/gaussians-tuned).
"""

ENCODERS = Speed(training=1.5e10, evaluation=1.5e10, step=1.5e-3)
"""Convolutions over series and fields, and affine flows of them (results/processes)."""

TEMPLATES = Speed(training=2e7, evaluation=1e9, step=0.0)
"""Sorting and counting, in steps called operations.

Measured: 1.0 to 2.6 s for 2·10⁶ calls of two features (results/gaussians-published).
"""


def operations(function: Callable[[], object]) -> float:
    """Count the operations of a call, as PyTorch counts them: matrix products and convolutions."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function()  # a first call may also build the network
        before = counter.get_total_flops()
        function()
    return float(counter.get_total_flops() - before)
