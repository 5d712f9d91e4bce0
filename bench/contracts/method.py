"""A method learns from a bank and returns a surrogate of the task's likelihood."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bench.contracts.bank import Bank, Draw
from bench.contracts.cost import Work
from bench.contracts.features import Features
from bench.contracts.task import ReferenceKind, Task
from bench.errors import NotApplicable


class Settings(BaseModel):
    """Base of method configurations: validated, immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class FitContext:
    """Everything that a fit is given.

    Args:
        task: the task.
        bank: simulations of a block of members, metered by the budget.
        features: the task's features, standardised.
        device: where arithmetic runs; random numbers are drawn on the CPU.
        generator: `generator(member, purpose)` returns a CPU generator that depends on the fit,
            the member and the purpose alone.
        report: `report(loss=…, epoch=…, epochs=…)` shows progress; cheap to call.
    """

    task: Task
    bank: Bank
    features: Features
    device: torch.device
    generator: Callable[[int, str], torch.Generator]
    report: Callable[..., None]

    @property
    def members(self) -> tuple[int, ...]:
        """Members to train."""
        return self.bank.members

    @property
    def calls_per_component(self) -> int:
        """Simulator calls of a component where all have equal shares of the budget."""
        return self.bank.budget // len(self.task.component_names)

    def generators(self, purpose: str) -> list[torch.Generator]:
        """Create the CPU generators of all members for a purpose."""
        return [self.generator(member, purpose) for member in self.members]

    def draw_contexts(self, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw n contexts of the training range for every member, (members, n, d) float32."""
        return torch.stack([self.task.space.draw_context(n, g) for g in generators])


@dataclass
class TrainingCurve:
    """How one network of one member trained: losses per epoch, seconds, best epoch.

    The best epoch counts from 1; 0 means that no validation loss was finite.
    """

    train_loss: list[float]
    validation_loss: list[float]
    best_epoch: int
    steps: int
    seconds: float
    seconds_to_best: float


@dataclass
class FitLog:
    """What a fit cost.

    Args:
        parameters: trainable parameters of one member.
        curves: per member, one training curve per network, by name.
    """

    parameters: int = 0
    curves: list[dict[str, TrainingCurve]] = field(default_factory=list)


class Surrogate(Protocol):
    """An approximate likelihood of a task, with its members as the leading axis."""

    @property
    def log(self) -> FitLog:
        """What the fit cost."""

    @property
    def reference(self) -> ReferenceKind | None:
        """The reference whose density is the denominator, or None."""

    @property
    def has_density(self) -> bool:
        """Whether log_ratio is a normalised log-density of x, not merely up to a term in x."""

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        r"""Returns :math:`\log p_k(x_i|\eta_j)` up to a term that depends on x alone.

        That term must be the same for every component.

        Args:
            x: raw observations, (n_x, \*event).
            context: raw contexts, (n_context, d).

        Returns:
            (members, components, n_x, n_context), float32 or float64.
        """

    def state(self) -> Mapping[str, Tensor] | None:
        """Returns what `Method.restore` needs; every tensor leads with the members' axis."""


class Method(ABC):
    """A way to learn a likelihood. Subclasses set the attributes and define fit and restore."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    title: ClassVar[str] = ""
    family: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    oracle: ClassVar[bool] = False
    """Whether this is the truth, with nothing to train: one member, no budget."""
    requires: ClassVar[Mapping[str, str]] = {}
    """Packages that it imports and the suite does not, each with what to install for it, as
    {"nflows": "nlbench[nflows]"}."""
    Config: ClassVar[type[Settings]] = Settings
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    """Named settings of Config; the first is the default."""
    search: ClassVar[Mapping[str, Sequence[Any]]] = {}
    """Values that `bench tune` tries, by the dotted name of a setting; there must also be a setting
    `training.epochs`."""

    def __init__(self, config: Settings) -> None:
        self.config = config

    @classmethod
    def unavailable(cls) -> str:
        """What it lacks, with the command that installs it; empty where it lacks nothing."""
        for package, install in cls.requires.items():
            if find_spec(package) is None:
                return f"{cls.name} needs {package}: pip install '{install}'"
        return ""

    def check(self, task: Task) -> None:
        """Raise NotApplicable, with the reason, if the method cannot run on the task.

        By itself if a package that it requires is not installed, for which the suite asks anyway.
        """
        if missing := self.unavailable():
            raise NotApplicable(missing)

    def settings(self, task: Task) -> dict[str, Any]:
        """The configuration as it identifies fits on a task: what has no effect there may go."""
        return self.config.model_dump(mode="json")

    def work(self, task: Task, budget: int) -> Work | None:
        """What one member costs at a budget, for `bench plan`; None where nobody has counted."""
        return None

    def reference_kind(self, task: Task) -> ReferenceKind | None:
        """The reference whose density is the denominator, or None."""
        return None

    def draws(self, task: Task, budget: int) -> Sequence[Draw] | None:
        """All that a fit draws at a budget, for `bench plan`; None where nobody has counted."""
        return None

    @abstractmethod
    def fit(self, fit_context: FitContext) -> Surrogate:
        """Train a block of members."""

    @abstractmethod
    def restore(self, task: Task, features: Features, state: Mapping[str, Tensor]) -> Surrogate:
        """Rebuilds the surrogate from its saved state, on the device of the state's tensors."""


class ComponentSurrogate(Protocol):
    """What `ComponentMethod.fit_component` returns: a surrogate of one component."""

    @property
    def log(self) -> FitLog:
        """What the fit cost."""

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        """As Surrogate.log_ratio without the components' axis: (members, n_x, n_context)."""

    def state(self) -> Mapping[str, Tensor]:
        """As Surrogate.state."""


class ComponentMethod(Method):
    """A method that learns each component by itself, against a denominator they share."""

    has_density: ClassVar[bool] = False

    @abstractmethod
    def fit_component(self, component: str, fit_context: FitContext) -> ComponentSurrogate:
        """Train a block of members for one component."""

    @abstractmethod
    def restore_component(
        self, component: str, task: Task, features: Features, state: Mapping[str, Tensor]
    ) -> ComponentSurrogate:
        """Rebuilds one component's surrogate from its state."""

    def fit(self, fit_context: FitContext) -> Surrogate:
        task = fit_context.task
        parts = {name: self.fit_component(name, fit_context) for name in task.component_names}
        return _Components(parts, self.reference_kind(task), self.has_density)

    def restore(self, task: Task, features: Features, state: Mapping[str, Tensor]) -> Surrogate:
        parts = {}
        for name in task.component_names:
            prefix = f"{name}/"
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            parts[name] = self.restore_component(name, task, features, own)
        return _Components(parts, self.reference_kind(task), self.has_density)


class _Components:
    def __init__(
        self,
        parts: Mapping[str, ComponentSurrogate],
        reference: ReferenceKind | None,
        has_density: bool,
    ) -> None:
        self.parts = parts
        self.reference = reference
        self.has_density = has_density
        logs = {name: part.log for name, part in parts.items()}
        members = max((len(log.curves) for log in logs.values()), default=0)
        self.log = FitLog(
            sum(log.parameters for log in logs.values()),
            [
                {
                    f"{name}/{network}" if network else name: curve
                    for name, log in logs.items()
                    for network, curve in (log.curves[m] if m < len(log.curves) else {}).items()
                }
                for m in range(members)
            ],
        )

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        return torch.stack([part.log_ratio(x, context) for part in self.parts.values()], 1)

    def state(self) -> Mapping[str, Tensor]:
        return {
            f"{name}/{key}": value
            for name, part in self.parts.items()
            for key, value in part.state().items()
        }
