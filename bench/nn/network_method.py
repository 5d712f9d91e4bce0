"""Methods that train one stack of networks per component by gradient descent."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from bench.contracts import (
    ComponentMethod,
    ComponentSurrogate,
    Draw,
    FitContext,
    FitLog,
    HasScore,
    Settings,
    Task,
    equal_draws,
)
from bench.errors import NotApplicable
from bench.nn.ratio import RatioNetwork
from bench.nn.score_matching import ScoreTerms
from bench.nn.stacks import Stack
from bench.nn.training import Training, train


class NetworkSettings(Settings):
    """Settings that all network methods share; subclasses add their own.

    Args:
        validation_share: share of the simulations held out to choose the best epoch.
        scores: settings of the terms that match slopes to exact scores; None for no such terms.
    """

    validation_share: float = Field(default=0.1, gt=0, le=0.5)
    scores: ScoreTerms | None = None

    def held_out(self, simulations: int) -> int:
        """Return the number of validation simulations, at least one; these are the first ones."""
        return max(1, int(simulations * self.validation_share))


@dataclass(frozen=True)
class Examples:
    """Rows from which a stack of networks learns; subclasses add data that the surrogate needs.

    Args:
        training: tensors (members, n, …) on the device; batches of them go to the loss.
        validation: the same tensors of held-out simulations.
        refresh: function called with the training tensors before every epoch; it redraws, in place,
            values that cost no simulation.
    """

    training: Sequence[Tensor]
    validation: Sequence[Tensor]
    refresh: Callable[[Sequence[Tensor]], None] | None = None


Net = TypeVar("Net", bound=Stack | RatioNetwork)
Data = TypeVar("Data", bound=Examples)


class NetworkMethod(ComponentMethod, Generic[Net, Data]):
    """Base of methods that train one stack of networks per component.

    Subclasses define the network, the examples and the loss.
    """

    config: Any  # a NetworkSettings

    @abstractmethod
    def network(self, task: Task, generators: Sequence[torch.Generator]) -> Net:
        """Create a component's networks, each member's from its own generator."""

    @abstractmethod
    def examples(self, component: str, fit_context: FitContext) -> Data:
        """Draw simulations and arrange them as rows."""

    @abstractmethod
    def loss(self, task: Task, net: Net) -> Callable[..., Tensor]:
        """Return the loss: it maps a batch of the examples' tensors to means, (members,)."""

    @abstractmethod
    def training(self, task: Task) -> Training:
        """Return the training settings for a task."""

    @abstractmethod
    def surrogate(
        self, fit_context: FitContext, examples: Data, net: Net, log: FitLog
    ) -> ComponentSurrogate:
        """Return the surrogate of the trained networks."""

    @property
    def recordable(self) -> bool:
        """Return whether CUDA may record gradient steps; adaptive weights prevent it."""
        return self.config.scores is None or self.config.scores.weights != "adaptive"

    def check(self, task: Task) -> None:
        super().check(task)
        if self.config.scores is not None and not task.space.context_index:
            raise NotApplicable(
                f"{task.name} has no context, and so no scores: choose a method or configuration "
                "that does not match them"
            )
        components = {} if self.config.scores is None else task.components("train")
        for name, component in components.items():
            if not isinstance(component, HasScore):
                raise NotApplicable(f"component {name!r} of {task.name} has no score")

    def settings(self, task: Task) -> dict[str, Any]:
        settings = super().settings(task)
        return {k: v for k, v in settings.items() if k != "scores" or v is not None}

    def draws(self, task: Task, budget: int) -> list[Draw]:
        return equal_draws(task, budget)

    def fit_component(self, component: str, fit_context: FitContext) -> ComponentSurrogate:
        task = fit_context.task
        examples = self.examples(component, fit_context)
        weights = fit_context.generators(f"{component} weights")
        net = self.network(task, weights)
        net.to(fit_context.device)
        curves = train(
            net.parameters(),
            self.loss(task, net),
            examples.training,
            examples.validation,
            fit_context.generators(f"{component} shuffle"),
            self.training(task),
            fit_context.report,
            refresh=examples.refresh,
            record=self.recordable,
            label=component,
        )
        for parameter in net.parameters():  # what is trained is constant: no graph is kept of it
            parameter.requires_grad_(False)
        log = FitLog(net.count, [{"": curve} for curve in curves])
        return self.surrogate(fit_context, examples, net, log)
