"""The method under test: its fits on each task, shared by the checks, and what it is asked."""

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
"""The member that is also trained by itself."""
EVENTS = 400
"""Events of each component at each context of the asymmetric task."""
rng = partial(generator, "conformance")
"""Makes generators of the kit's own."""
_BUDGET = 1000  # simulator calls of a component in short fits; four times as many in others


class MethodUnderTest:
    """A method under test, trained when a check asks for it, and never twice the same.

    Args:
        method: the method.
        configuration: which of its configurations; the first where None.
        task: what it is checked on; where None the first that it takes of the asymmetric task and
            the toy tasks.
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
        """The harness on a task."""
        if task.name not in self._harnesses:
            self._harnesses[task.name] = FitHarness(self.type, self.configuration, task)
        return self._harnesses[task.name]

    @property
    def harness(self) -> FitHarness:
        """The harness on the task that most checks use.

        Raises:
            Skipped: if the method takes none.
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
        """Simulator calls of a short fit."""
        return _BUDGET * len(task.component_names)

    def fit(self, members: Sequence[int] = MEMBERS, again: int = 0) -> WatchedFit:
        """A short fit; of member 0 alone where the method is an oracle."""
        harness, block = self.harness, (0,) if self.type.oracle else tuple(members)
        return harness.fit(block, self.budget(harness.task), again=again)

    @property
    def surrogate(self) -> Surrogate:
        """The surrogate of a short fit of all members."""
        return self.fit().surrogate

    def trained(self) -> tuple[Surrogate, Tensor, list[Tensor]]:
        """The method trained in earnest on the asymmetric task.

        Returns:
            The surrogate of one member; contexts (3, 1); events (3 · EVENTS, 2) of each component,
            simulated at the contexts one after the other.

        Raises:
            Skipped: if the method does not take the task.
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
        """Simulated observations, and contexts in ascending order."""
        task = self.harness.task
        parts = task.components("test").values()
        drawn = task.space.draw_context(24, rng("probe"))
        x = torch.cat([c.simulate(drawn[k :: len(parts)], rng(k)) for k, c in enumerate(parts)])
        unit = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)[:, None]
        return x.float(), contexts(task, unit).float()


def calls_of_checks(task: Task) -> int:
    """Return about how many calls of an expensive simulator the checks of a method take."""
    training = len(MEMBERS) * _BUDGET * len(task.component_names)
    return FEATURE_SIMULATIONS[task.expensive] + training
