"""Losses of held-out simulations as diagnostics; only equal references are comparable."""

from collections.abc import Callable

import numpy as np

from bench.contracts.diagnostic import Diagnostic, Evidence, Finding
from bench.contracts.metric import Metric
from bench.errors import NotApplicable
from bench.metrics.heldout import bce, nll


def _mean_of(metric: Metric) -> Callable[[Evidence], Finding]:
    def compute(evidence: Evidence) -> Finding:
        found = metric.compute(evidence.losses, None)
        if not found:
            raise NotApplicable(f"the surrogate has no {metric.title}")
        return Finding(float(np.mean([np.nanmean(values) for values in found.values()])))

    return compute


held_out_bce = Diagnostic("bce", bce.title, bce.description, "event", "losses", _mean_of(bce))
held_out_nll = Diagnostic("nll", nll.title, nll.description, "event", "losses", _mean_of(nll))
