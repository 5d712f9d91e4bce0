"""Method under test: its fits on each task, shared by the checks, and probe inputs."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from bench.contracts import Method, Surrogate, Task
from bench.errors import NotApplicable
from bench.seeds import generator
from bench.stages.simulate import FEATURE_SIMULATIONS
from bench.testing.asymmetric import asymmetric
from bench.testing.fit_harness import FitHarness, WatchedFit
from bench.testing.model import contexts
from bench.testing.report import Skipped
from bench.testing.toy_tasks import toy_tasks

MEMBERS = (0, 1, 2)
ALONE = 1
"""Member that is also trained by itself."""
EVENTS = 400
"""Number of events of each component at each context of the asymmetric task."""
rng = partial(generator, "conformance")
"""Function that makes generators for the conformance kit."""
_BUDGET = 1000  # simulator calls of a component in short fits; long fits have four times as many


@torch.no_grad()
def log_ratio(surrogate: Surrogate, x: Tensor, context: Tensor) -> Tensor:
    """Evaluate a surrogate without gradients, as a run does."""
    return surrogate.log_ratio(x, context)


class MethodUnderTest:
    """Method under test, trained on demand and at most once per fit.

    Args:
        method: the method.
        configuration: name of the configuration; the first where None.
        task: task of the checks; where None the first of the asymmetric task and the toy tasks that
            the method accepts.
    """

    def __init__(
        self, method: type[Method], configuration: str | None = None, task: Task | None = None
    ) -> None:
        self.type = method
        self.configuration = configuration
        self.members = 1 if method.oracle else len(MEMBERS)
        self._task = task
        self._harnesses: dict[str, FitHarness] = {}

    def on(self, task: Task) -> FitHarness:
        """Return the harness on a task."""
        if task.name not in self._harnesses:
            self._harnesses[task.name] = FitHarness(self.type, self.configuration, task)
        return self._harnesses[task.name]

    @property
    def harness(self) -> FitHarness:
        """Harness on the task that most checks use.

        Raises:
            Skipped: if the method accepts no task.
        """
        reasons = []
        for task in [asymmetric, *toy_tasks()] if self._task is None else [self._task]:
            harness = self.on(task)
            try:
                harness.method.check(harness.task)
                return harness
            except NotApplicable as reason:
                reasons.append(str(reason))
        raise Skipped(f"it takes no task that it is checked on: {reasons[0]}; choose with --task")

    def budget(self, task: Task) -> int:
        """Return the number of simulator calls of a short fit."""
        return _BUDGET * len(task.component_names)

    def fit(self, members: Sequence[int] = MEMBERS, again: int = 0) -> WatchedFit:
        """Return a short fit; of member 0 alone where the method is an oracle."""
        harness, block = self.harness, (0,) if self.type.oracle else tuple(members)
        return harness.fit(block, self.budget(harness.task), again=again)

    @property
    def surrogate(self) -> Surrogate:
        """Surrogate of a short fit of all members."""
        return self.fit().surrogate

    def trained(self) -> tuple[Surrogate, Tensor, list[Tensor]]:
        """Return a long fit of the method on the asymmetric task.

        Returns:
            The surrogate of one member; contexts (3, 1); events (3 · EVENTS, 2) of each component,
            simulated at the contexts one after the other.

        Raises:
            Skipped: if the method does not accept the task.
        """
        harness = self.on(asymmetric)
        try:
            harness.method.check(asymmetric)
        except NotApplicable as reason:
            raise Skipped(f"it does not take the asymmetric task: {reason}") from reason
        fit = harness.fit((0,), 4 * self.budget(asymmetric), length="middle")
        contexts = torch.tensor([[0.7], [1.0], [1.4]])
        events = [
            torch.cat([c.simulate(node.expand(EVENTS, -1), rng(name)) for node in contexts])
            for name, c in asymmetric.components("test").items()
        ]
        return fit.surrogate, contexts, events

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return simulated observations, and contexts in ascending order."""
        task = self.harness.task
        parts = task.components("test").values()
        drawn = task.space.draw_context(24, rng("probe"))
        x = torch.cat([c.simulate(drawn[k :: len(parts)], rng(k)) for k, c in enumerate(parts)])
        unit = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)[:, None]
        return x.float(), contexts(task, unit).float()


def calls_of_checks(task: Task) -> int:
    """Return the approximate number of simulator calls of a method's checks on a task."""
    training = len(MEMBERS) * _BUDGET * len(task.component_names)
    return FEATURE_SIMULATIONS[task.expensive] + training
