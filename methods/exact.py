"""Exact likelihood of tasks that define it: the truth to which surrogates are compared."""

from collections.abc import Mapping

from torch import Tensor

from bench.contracts import Features, FitContext, Method, Surrogate, Task
from bench.errors import NotApplicable
from bench.inference.likelihood import ExactLikelihood


class Exact(Method):
    """Method that returns each component's own log-density; it trains nothing."""

    name = "exact"
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
