"""Methods that learn each component's density by maximum likelihood."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.contracts import FitContext, Task
from bench.nn.coordinates import Coordinates
from bench.nn.network_method import Examples, NetworkMethod
from bench.nn.score_matching import Augmentation, slopes_of, standard_scores
from bench.nn.stacks import Stack


@dataclass(frozen=True, kw_only=True)
class DensityExamples(Examples):
    """Training rows: coordinates z and contexts, then targets of slopes if there are scores."""

    coordinates: Coordinates


class DensityMethod(NetworkMethod[Stack, DensityExamples]):
    """Base of methods that learn log q(z|η) from a component's simulations.

    Subclasses define the network. Counts are made continuous by uniform noise in their unit cells,
    drawn anew every epoch (Theis, van den Oord & Bethge 2016, arXiv:1511.01844).
    """

    family = "generative"
    has_density = True

    def examples(self, component: str, fit_context: FitContext) -> DensityExamples:
        config, task, features = self.config, fit_context.task, fit_context.features
        calls = int(fit_context.bank.budget * config.budget_share) // len(task.component_names)
        own = fit_context.bank.draw(component, calls, score=config.scores is not None)
        held_out = config.held_out(len(own))
        noise = fit_context.generators(f"{component} noise")

        def continuous(x: Tensor) -> Tensor:
            if task.discrete:
                x = x + torch.stack([torch.rand(x.shape[1:], generator=g) for g in noise])
            return features(x)

        x, validating = own.x[:, held_out:], continuous(own.x[:, :held_out])
        y = continuous(x)
        coordinates = Coordinates.estimate(task.observation, task.event_shape, y)
        scores = standard_scores(own, features, held_out, config.scores, noise)
        conditions = [t.to(fit_context.device) for t in (features.context(own.context), *scores)]

        def redraw(data: Sequence[Tensor]) -> None:
            data[0].copy_(coordinates(continuous(x)))

        z, z_validating = (coordinates(t).to(fit_context.device) for t in (y, validating))
        return DensityExamples(
            [z, *(t[:, held_out:] for t in conditions)],
            [z_validating, *(t[:, :held_out] for t in conditions)],
            redraw if task.discrete else None,
            coordinates=coordinates,
        )

    def loss(self, task: Task, net: Stack) -> Callable[..., Tensor]:
        terms = self.config.scores
        augmentation = None if terms is None else Augmentation(terms, net.parameters)

        def loss(z: Tensor, eta: Tensor, *scores: Tensor) -> Tensor:
            if augmentation is None:
                return -net(z, eta).mean(1)
            n = augmentation.matched(z.shape[1])
            values, slopes = slopes_of(lambda eta: net(z[:, :n], eta), eta[:, :n])
            if n < z.shape[1]:
                values = torch.cat([values, net(z[:, n:], eta[:, n:])], 1)
            return augmentation(-values.mean(1), slopes, *(t[:, :n] for t in scores))

        return loss
