"""Exact ratios distorted by a known monotone map, as input of calibration.

It trains nothing and spends its budget as a classifier does.
"""

from typing import ClassVar, Literal

import torch

from bench.contracts import FitLog, Method, Settings


class DistortedConfig(Settings):
    """Map log r̂ = slope · sinh(bend · log r) / bend + offset of ratios to a reference."""

    slope: float = 1.0
    offset: float = 0.0
    bend: float = 0.0
    reference: Literal["fixed", "evidence", "none"] = "evidence"


class Distorted(Method):
    name = "distorted"
    Config = DistortedConfig
    configurations: ClassVar = {
        "exact": {},
        "stretched": {"slope": 2.0, "offset": 0.7},
        "bent": {"bend": 1.5},
        "fixed": {"slope": 0.5, "offset": -0.3, "reference": "fixed"},
        "density": {"reference": "none"},
    }

    def fit(self, fit_context):
        for name in fit_context.task.component_names:
            fit_context.bank.draw(name, fit_context.calls_per_component)
        return DistortedRatio(fit_context.task, self.config, len(fit_context.members))

    def restore(self, task, features, state):
        return DistortedRatio(task, self.config, len(state["nothing"]))


class DistortedRatio:
    has_density = False

    def __init__(self, task, config, members):
        self.task, self.config, self.members = task, config, members
        self.reference = None if config.reference == "none" else config.reference
        self.log = FitLog(1, [{} for _ in range(members)])

    def _log_prob(self, x, context):
        components = self.task.components("test").values()
        return torch.stack([c.log_prob(x[:, None], context[None]) for c in components])

    def log_ratio(self, x, context):
        if self.config.reference == "fixed":
            at = self.task.nominal[None]
        else:  # the evidence, by the midpoint rule in the unit context
            unit = torch.full((64, len(self.task.space)), 0.5, dtype=torch.float64)
            (index,) = self.task.space.context_index
            unit[:, index] = (torch.arange(64) + 0.5) / 64
            at = self.task.space.context_of(self.task.space.from_unit(unit)).float()
        reference = self._log_prob(x, at)
        below = reference.permute(1, 0, 2).flatten(1)
        evidence = below.logsumexp(1) - torch.log(torch.tensor(float(below.shape[1])))
        exact = self._log_prob(x, context) - evidence[:, None]
        bend = self.config.bend
        bent = torch.sinh(bend * exact) / bend if bend else exact
        out = self.config.slope * bent + self.config.offset
        return out.expand(self.members, *out.shape).float()

    def state(self):
        return {"nothing": torch.zeros(self.members, 1)}
