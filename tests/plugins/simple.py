"""Correct method that fits in milliseconds, and logs its fits to a file next to this one.

The density of each component is a Gaussian whose mean is linear in the context.
"""

import time
from pathlib import Path
from typing import ClassVar

import torch

from bench.contracts import FitLog, Method, Settings, equal_draws


class SimpleConfig(Settings):
    """Settings: `delay`, the duration of a fit in seconds; `scale`, the standard deviation."""

    delay: float = 0.0
    scale: float = 1.0


class Simple(Method):
    name = "simple"
    Config = SimpleConfig
    configurations: ClassVar = {
        "default": {},
        "same": {"scale": 1.0},
        "wide": {"scale": 1.5},
        "slow": {"delay": 1.0},
    }

    def draws(self, task, budget):
        return equal_draws(task, budget)

    def fit(self, fit_context):
        with Path(__file__).with_suffix(".log").open("a") as log:
            name = fit_context.task.name
            log.write("".join(f"{name} {self.config.scale} {m}\n" for m in fit_context.members))
        time.sleep(self.config.delay)
        n = fit_context.calls_per_component
        rows = []
        for name in fit_context.task.component_names:
            drawn = fit_context.bank.draw(name, n)
            inputs = torch.cat([drawn.context, torch.ones_like(drawn.context[..., :1])], -1)
            # Results of the default driver differ from call to call.
            solved = torch.linalg.lstsq(inputs.double(), drawn.x.double(), driver="gels")
            rows.append(solved.solution)
        return Linear(torch.stack(rows, 1), self.config.scale)

    def restore(self, task, features, state):
        return Linear(state["coefficients"], self.config.scale)


class Linear:
    reference = None
    has_density = False

    def __init__(self, coefficients, scale):
        self.coefficients = coefficients  # (members, components, d + 1, features)
        self.scale = scale
        self.log = FitLog(coefficients[0].numel(), [{} for _ in coefficients])

    def log_ratio(self, x, context):
        inputs = torch.cat([context, torch.ones_like(context[:, :1])], -1).double()
        mean = torch.einsum("ji,mkif->mkjf", inputs, self.coefficients)
        pull = (x.double()[:, None] - mean[:, :, None]) / self.scale
        return -0.5 * pull.square().sum(-1)

    def state(self):
        return {"coefficients": self.coefficients}
