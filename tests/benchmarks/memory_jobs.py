"""Jobs of the memory benchmark, for worker processes whose peak memory the pool records."""

import os
import tempfile
from pathlib import Path

import torch
from bench.tasks.gaussians import near
from bench.tasks.higgs_fair import HiggsFair

from bench.contracts import BootstrapPlan, FitLog
from bench.stages.predict import predict
from bench.storage.store import Store


class Shifted:
    """Exact likelihood with z shifted per member: a stack without training."""

    reference = None
    has_density = True
    log = FitLog()

    def __init__(self, members):
        self.components = list(near().components("test").values())
        self.shifts = 0.01 * torch.arange(members)

    def log_ratio(self, x, context):
        return torch.stack(
            [
                torch.stack([c.log_prob(x[:, None], context[None] + s) for c in self.components])
                for s in self.shifts
            ]
        ).float()

    def state(self):
        return None


def seven_million_events(*, report, source, folder):
    """Fetch a file of events, and draw a million of them at different energy scales."""
    os.environ["NLBENCH_DATA"] = folder
    task = HiggsFair()
    task.events.fetch(source, lambda **_: None)
    context = 0.9 + 0.2 * torch.rand(1_000_000, 1)
    rng = torch.Generator().manual_seed(0)
    return float(task.components("train")["signal"].simulate(context, rng).mean())


def paper_plan(*, report, members, sets):
    """Evaluate a block of members on `sets` sets per point of the paper's plan."""
    store = Store(Path(tempfile.mkdtemp()))
    plan = BootstrapPlan(sets=sets)
    arrays = predict(near(), Shifted(members), plan, 0, store, torch.device("cpu"), report)
    return sum(a.nbytes for member in arrays for a in member.values())
