"""Wrappers: they turn surrogates of one method into another surrogate, as an average does."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.contracts.bank import DatasetDraw, Draw, equal_draws
from bench.contracts.method import FitContext, FitLog, Settings, Surrogate
from bench.contracts.pairs import log_ratio_paired
from bench.contracts.sampling import sample
from bench.contracts.task import ReferenceKind, Task
from bench.errors import NotApplicable

_PROPOSALS = 32  # of a sample
_PAIRS = 8192  # proposals evaluated at a time


class Wrapper(ABC):
    """Method built around others: `ensemble(lre,5)`, `calibrated(lre)`, or one of your own.

    Subclasses set the attributes and define `restore`. Those that learn from simulations also
    define `calls` and `fit`. Settings are written after the wrapped method, in the order of
    `Config`: `temper(lre:tuned,0.5)`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    title: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    Config: ClassVar[type[Settings]] = Settings
    outermost: ClassVar[bool] = False
    """True if no other wrapper may be around it, because it corrects more than log-ratios."""
    example: ClassVar[Mapping[str, Any]] = {}
    """Settings for `bench check`, where some have no default."""

    def __init__(self, config: Settings) -> None:
        self.config = config

    @property
    def members(self) -> int:
        """Number of independently trained surrogates that one wrapped member takes."""
        return 1

    def calls(self, budget: int) -> int:
        """Return the simulator calls that `fit` takes from a member's budget; 0 learns nothing.

        The wrapped method has the rest of the budget.
        """
        return 0

    def check(self, task: Task, calls: int) -> None:  # noqa: B027 - most have nothing to check
        """Raise NotApplicable, with the reason, if the wrapper cannot run on the task.

        Args:
            task: the task.
            calls: simulator calls that `fit` may spend.
        """

    def draws(
        self, task: Task, calls: int, reference: ReferenceKind | None
    ) -> Sequence[Draw | DatasetDraw]:
        """Return the draws of `fit`, for plans: equal numbers of every component by default.

        Args:
            task: the task.
            calls: simulator calls that `fit` may spend.
            reference: reference of the wrapped log-ratios.
        """
        return equal_draws(task, calls) if calls else []

    def fit(self, surrogates: Sequence[Surrogate], fit_context: FitContext) -> Mapping[str, Tensor]:
        """Learn from simulations that the surrogates have not seen, of the split "calibration".

        It is called for one member at a time, and only if `calls` is positive.

        Args:
            surrogates: `members` surrogates, of one member each.
            fit_context: task, bank with a budget of `calls`, features, device and generators.

        Returns:
            State that `restore` needs; tensors lead with an axis of one member.
        """
        return {}

    @abstractmethod
    def restore(self, surrogates: Sequence[Surrogate], state: Mapping[str, Tensor]) -> Surrogate:
        """Return the wrapped surrogate, often a `Wrapped`.

        Args:
            surrogates: `members` surrogates, with equal numbers of members each.
            state: what `fit` returned, with an entry for every member; empty if nothing is learned.
        """


class Wrapped:
    r"""Surrogate whose log-ratios are a function of those of other surrogates.

    Args:
        surrogates: surrogates of one task, with equal numbers of members.
        function: maps their log-ratios, each (members, components, \*B), to one of that shape; it
            is elementwise in \*B and differentiable.
        state: tensors that the function depends on, which lead with the members' axis.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> one = SimpleNamespace(reference=None, log_ratio=lambda x, context: x[None, None])
        >>> half = Wrapped([one], lambda log_ratio: log_ratio / 2)
        >>> half.log_ratio(torch.tensor([[2.0]]), torch.zeros(1, 1))
        tensor([[[[1.]]]])
    """

    has_density = False

    def __init__(
        self,
        surrogates: Sequence[Surrogate],
        function: Callable[..., Tensor],
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        if not isinstance(surrogates, Sequence):
            raise TypeError("Wrapped takes a list of surrogates, as restore gets them")
        self.surrogates = surrogates
        self.function = function
        self.log = FitLog()
        self._state = state

    @property
    def reference(self) -> ReferenceKind | None:
        """Reference of the wrapped log-ratios."""
        return self.surrogates[0].reference

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        """Return the function of the log-ratios, as `Surrogate.log_ratio`."""
        return self.function(*(s.log_ratio(x, context) for s in self.surrogates))

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        """Return the function of the log-ratios of pairs, as `HasPairs`."""
        return self.function(*(log_ratio_paired(s, x, context) for s in self.surrogates))

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Draw observations by sampling-importance-resampling (Rubin 1988), as `HasSamples`.

        The samples follow the exponential of the function, normalised in every context. At least 32
        proposals come in equal numbers from the wrapped surrogates, and one of them is chosen. The
        choice is approximate: its error is of the order of one over the number of proposals, and
        small where the wrapped surrogates agree.

        Raises:
            NotApplicable: if a wrapped surrogate is no density, or cannot sample.
        """
        if not all(surrogate.has_density for surrogate in self.surrogates):
            raise NotApplicable(
                "samples of a wrapper need wrapped surrogates with a normalised density"
            )
        each = -(-_PROPOSALS // len(self.surrogates))
        repeated = context.repeat_interleave(each, 0)
        drawn = [sample(surrogate, repeated, generator) for surrogate in self.surrogates]
        proposals = torch.cat([torch.unflatten(x, 2, (len(context), each)) for x in drawn], 3)
        weights = self._log_weights(proposals, context).double()
        # A context in which all proposals are impossible chooses any of them.
        below = weights.nan_to_num(nan=-1e30, neginf=-1e30).softmax(-1).cumsum(-1)
        uniform = torch.rand(below.shape[:3], generator=generator, dtype=torch.float64)
        chosen = (below <= uniform.to(below.device)[..., None]).sum(-1)
        index = chosen.clamp_max(below.shape[-1] - 1).view(
            *chosen.shape, *[1] * (drawn[0].dim() - 2)
        )
        return proposals.take_along_dim(index, 3).squeeze(3)

    def _log_weights(self, proposals: Tensor, context: Tensor) -> Tensor:
        r"""Return logarithms of weights of proposals (members, components, n, J, \*event).

        Pairs are evaluated for all members and components, of which each proposal takes its own.

        Returns:
            (members, components, n, J).
        """
        at = context.repeat_interleave(proposals.shape[3], 0)
        found = torch.empty(proposals.shape[:4], device=context.device)
        for m, k in torch.cartesian_prod(*map(torch.arange, proposals.shape[:2])).tolist():
            rows = proposals[m, k].flatten(0, 1)
            parts = []
            for x, eta in zip(torch.split(rows, _PAIRS), torch.split(at, _PAIRS), strict=True):
                of = [log_ratio_paired(surrogate, x, eta) for surrogate in self.surrogates]
                mixture = torch.stack(of).logsumexp(0)
                parts.append((self.function(*of) - mixture)[m, k])
            found[m, k] = torch.cat(parts).view(found.shape[2:])
        return found

    def state(self) -> Mapping[str, Tensor] | None:
        """Return the state that the function depends on; the surrogates are saved elsewhere."""
        return self._state
