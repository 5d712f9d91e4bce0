"""The exact likelihood, where the task knows it: the truth that surrogates are held to."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bench.contracts import Features, FitContext, FitLog, HasLogProb, Method, Surrogate, Task
from bench.errors import NotApplicable


class Exact(Method):
    """Each component's own log-density; nothing to train."""

    name = "exact"
    version = 1
    title = "Exact likelihood"
    family = "oracle"
    oracle = True

    def check(self, task: Task) -> None:
        if not task.has_exact:
            raise NotApplicable(f"{task.name} has no exact likelihood")

    def fit(self, fit_context: FitContext) -> Surrogate:
        return ExactLikelihood(fit_context.task)

    def restore(self, task: Task, features: Features, state: Mapping[str, Tensor]) -> Surrogate:
        return ExactLikelihood(task)


class ExactLikelihood:
    """The exact log-densities of a task's components."""

    reference = None
    has_density = True

    def __init__(self, task: Task) -> None:
        self.components = [c for c in task.components("test").values() if isinstance(c, HasLogProb)]
        self.log = FitLog(0, [{}])

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        return torch.stack([c.log_prob(x[:, None], context[None]) for c in self.components])[None]

    def state(self) -> None:
        return None
