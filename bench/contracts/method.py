"""Methods: they learn from a bank and return a surrogate of the task's likelihood."""

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
from bench.contracts.pairs import log_ratio_paired
from bench.contracts.sampling import sampler
from bench.contracts.task import ReferenceKind, Task
from bench.errors import NotApplicable


class Settings(BaseModel):
    """Base class of method configurations: validated, immutable, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class FitContext:
    """Inputs of a fit.

    Args:
        task: the task.
        bank: simulations of a block of members, metered by the budget.
        features: the task's features, standardised.
        device: device of the arithmetic; random numbers are drawn on the CPU.
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
        """Number of simulator calls per component where all have equal shares of the budget."""
        return self.bank.budget // len(self.task.component_names)

    def generators(self, purpose: str) -> list[torch.Generator]:
        """Create the CPU generators of all members for a purpose."""
        return [self.generator(member, purpose) for member in self.members]

    def draw_contexts(self, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw n contexts for every member as `Bank.draw_contexts`, (members, n, d) float32."""
        return self.bank.draw_contexts(n, generators)


@dataclass
class TrainingCurve:
    """Training history of one network of one member: losses per epoch, seconds, best epoch.

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
    """Size and training curves of a fit.

    Args:
        parameters: trainable parameters of one member.
        curves: per member, one training curve per network, by name.
    """

    parameters: int = 0
    curves: list[dict[str, TrainingCurve]] = field(default_factory=list)


class Surrogate(Protocol):
    """Approximate likelihood of a task, with its members as the leading axis.

    It may also evaluate pairs with derivatives in the context, as `HasPairs`, and draw samples, as
    `HasSamples`.
    """

    @property
    def log(self) -> FitLog:
        """Parameters and training curves of the fit."""

    @property
    def reference(self) -> ReferenceKind | None:
        """Reference whose density is the denominator, or None."""

    @property
    def has_density(self) -> bool:
        """Return whether log_ratio is a normalised log-density, not only up to a term in x."""

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        r"""Return :math:`\log p_k(x_i|\eta_j)` up to a term that depends on x alone.

        That term must be the same for every component.

        Args:
            x: raw observations, (n_x, \*event).
            context: raw contexts, (n_context, d).

        Returns:
            (members, components, n_x, n_context), float32 or float64.
        """

    def state(self) -> Mapping[str, Tensor] | None:
        """Return the state that `Method.restore` needs; tensors lead with the members' axis."""


class Method(ABC):
    """Learning method of a likelihood.

    Subclasses set the attributes and define `fit` and `restore`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    title: ClassVar[str] = ""
    family: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    oracle: ClassVar[bool] = False
    """True for the exact likelihood, which is not trained and has one member and no budget."""
    requires: ClassVar[Mapping[str, str]] = {}
    """Packages that the method imports and the suite does not require.

    Each has its install target, as in {"nflows": "nlbench[nflows]"}.
    """
    Config: ClassVar[type[Settings]] = Settings
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    """Named settings of Config; the first is the default."""
    search: ClassVar[Mapping[str, Sequence[Any]]] = {}
    """Values that `bench tune` tries, by the dotted name of a setting.

    A method with such values must also have the setting `training.epochs`.
    """

    def __init__(self, config: Settings) -> None:
        self.config = config

    @classmethod
    def unavailable(cls) -> str:
        """Return the first missing package with the command that installs it; empty if none."""
        for package, install in cls.requires.items():
            if find_spec(package) is None:
                return f"{cls.name} needs {package}: pip install '{install}'"
        return ""

    def check(self, task: Task) -> None:
        """Raise NotApplicable, with the reason, if the method cannot run on the task.

        This default raises if a required package is not installed. The suite checks required
        packages even where a subclass overrides this method.
        """
        if missing := self.unavailable():
            raise NotApplicable(missing)

    def settings(self, task: Task) -> dict[str, Any]:
        """Return the configuration that identifies fits on a task.

        Settings without effect on the task may be left out.
        """
        return self.config.model_dump(mode="json")

    def work(self, task: Task, budget: int) -> Work | None:
        """Return the cost of one member at a budget, for `bench plan`; None if unknown."""
        return None

    def reference_kind(self, task: Task) -> ReferenceKind | None:
        """Return the reference whose density is the denominator, or None."""
        return None

    def draws(self, task: Task, budget: int) -> Sequence[Draw] | None:
        """Return all draws that a fit makes at a budget, for `bench plan`; None if unknown."""
        return None

    @abstractmethod
    def fit(self, fit_context: FitContext) -> Surrogate:
        """Train a block of members."""

    @abstractmethod
    def restore(self, task: Task, features: Features, state: Mapping[str, Tensor]) -> Surrogate:
        """Rebuild the surrogate from its saved state, on the device of the state's tensors."""


class ComponentSurrogate(Protocol):
    """Surrogate of one component, returned by `ComponentMethod.fit_component`.

    It may also evaluate pairs, as `HasPairs`, and draw samples, as `HasSamples`, both without the
    axis of components.
    """

    @property
    def log(self) -> FitLog:
        """Parameters and training curves of the fit."""

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        """Return log-ratios as `Surrogate.log_ratio`, of shape (members, n_x, n_context)."""

    def state(self) -> Mapping[str, Tensor]:
        """Return the state that `ComponentMethod.restore_component` needs."""


class ComponentMethod(Method):
    """Method that learns each component separately, against a shared denominator."""

    has_density: ClassVar[bool] = False

    @abstractmethod
    def fit_component(self, component: str, fit_context: FitContext) -> ComponentSurrogate:
        """Train a block of members for one component."""

    @abstractmethod
    def restore_component(
        self, component: str, task: Task, features: Features, state: Mapping[str, Tensor]
    ) -> ComponentSurrogate:
        """Rebuild one component's surrogate from its state."""

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

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        return torch.stack([log_ratio_paired(p, x, context) for p in self.parts.values()], 1)

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        able = [sampler(part) for part in self.parts.values()]
        return torch.stack([part.sample(context, generator) for part in able], 1)

    def state(self) -> Mapping[str, Tensor]:
        return {
            f"{name}/{key}": value
            for name, part in self.parts.items()
            for key, value in part.state().items()
        }
