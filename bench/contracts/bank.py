"""Interface of the bank: simulations of a task, metered by the budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Generator, Tensor

from bench.contracts.events import EventsOfSet
from bench.contracts.task import ReferenceKind, Split, Task

TrainingData = Literal["fresh", "shared", "bootstrap"]
"""Source of the training data.

"fresh": every member has simulations of its own. "shared": all members have the same simulations.
"bootstrap": members have bootstraps of the shared simulations.
"""


@dataclass(frozen=True)
class Simulations:
    r"""Simulated observations of a block of members.

    Args:
        x: observations, (members, n, \*event) float32.
        context: the contexts they were simulated at, (members, n, d) float32.
        score: scores at (x, context), (members, n, d) float64, where asked for.
    """

    x: Tensor
    context: Tensor
    score: Tensor | None = None

    def __len__(self) -> int:
        return self.x.shape[1]


@dataclass(frozen=True)
class Draw:
    """Draw of simulations that a fit makes, announced by `Method.draws`.

    Args:
        component: name of the component; None for a reference.
        n: number of simulations per member.
        at: contexts of a component, as in :meth:`Bank.draw`.
        reference: kind of the reference, as in :meth:`Bank.reference`.
    """

    component: str | None
    n: int
    at: Tensor | Literal["prior"] = "prior"
    reference: ReferenceKind | None = None


@dataclass(frozen=True)
class DatasetDraw:
    """Draw of toys: datasets with parameters from the inner box, as those of an independent plan.

    Args:
        sets: number of sets of events, each at parameters of its own.
        observations: number M of observations of a dataset.
        repeats: number of datasets of each set, at the same parameters.
        pool: size of a set in units of M, from which its datasets are resampled; 0 for datasets of
            separate events.
    """

    sets: int
    observations: int
    repeats: int = 1
    pool: int = 0

    @property
    def size(self) -> int:
        """Number of events of a set."""
        return self.observations * (self.pool or self.repeats)

    @property
    def n(self) -> int:
        """Number of simulator calls."""
        return self.sets * self.size


def equal_draws(task: Task, calls: int) -> list[Draw]:
    """Return the draws that share simulator calls equally among a task's components."""
    names = task.component_names
    return [Draw(name, calls // len(names)) for name in names]


class Bank(Protocol):
    """Simulations of a task for a block of members, metered by the budget.

    Each member has `budget` simulator calls in all, including references, validation and
    calibration. Repeating a draw, or drawing fewer simulations, is free. A longer draw of the same
    kind costs the difference and begins with the same simulations. There are two exceptions:
    bootstrapped training data are resampled draw by draw, in order, so that copies of a simulation
    stay together; and a draw beyond the size of a finite source repeats its observations at other
    contexts.
    """

    budget: int
    members: tuple[int, ...]

    @property
    def spent(self) -> int:
        """Number of simulator calls drawn so far, per member."""

    def draw(
        self,
        component: str,
        n: int,
        *,
        split: Split = "train",
        at: Tensor | Literal["prior"] = "prior",
        score: bool = False,
    ) -> Simulations:
        """Draw n simulations of a component.

        Args:
            component: name of the component.
            n: number of simulations per member.
            split: split of the simulations; "train" for a method.
            at: "prior" draws contexts uniformly from the training range; a tensor (d,) fixes one.
            score: whether to return exact scores too.

        Raises:
            BudgetExceeded: if the draw costs more than the budget has left.
            NotApplicable: if scores are asked of a component that has none.
        """

    def draw_contexts(self, n: int, generators: Sequence[Generator]) -> Tensor:
        """Draw n contexts for every member, without simulations; they are free.

        They have the distribution of the contexts of `draw`: uniform in the training range, or
        that of the member's own training set of stored simulations.

        Args:
            n: number of contexts per member.
            generators: a CPU generator of each member.

        Returns:
            Contexts, (members, n, d) float32.
        """

    def datasets(self, draw: DatasetDraw, *, split: Split = "calibration") -> list[EventsOfSet]:
        """Draw toys, for a bank of one member.

        Their parameters have the distribution of those of test datasets. Of stored simulations
        there are those in the inner box, which may be fewer.

        Raises:
            BudgetExceeded: if the draw costs more than the budget has left.
            NotApplicable: if a set of several datasets is asked of a task that has none.
        """

    def reference(self, n: int, kind: ReferenceKind, *, split: Split = "train") -> Simulations:
        """Draw n simulations of a reference, with every component equally often.

        `fixed` simulates at the task's nominal context. `evidence` simulates at contexts drawn from
        the training range.

        Raises:
            BudgetExceeded: if the draw costs more than the budget has left.
        """
