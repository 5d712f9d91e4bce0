"""Methods that learn each component's density by maximum likelihood."""

from collections.abc import Callable

import torch
from torch import Tensor

from bench.contracts import FitContext, Simulations, Task
from bench.nn.network_method import Data, NetworkMethod
from bench.nn.score_matching import Augmentation, slopes_of, standard_scores
from bench.nn.stacks import Stack


class DensityMethod(NetworkMethod[Stack, Data]):
    """Base of methods that learn a log-density by maximum likelihood.

    Subclasses define the network, which maps rows and scaled contexts to log-densities, and the
    rows themselves.
    """

    family = "generative"
    has_density = True

    def drawn(
        self, component: str, fit_context: FitContext, calls: int
    ) -> tuple[Simulations, int, list[Tensor]]:
        """Draw a component's simulations.

        Args:
            component: name of the component.
            fit_context: inputs of the fit.
            calls: simulations per member.

        Returns:
            The simulations; the number of first ones held out for validation; the conditions of
            rows on the device, (members, n, d) each: scaled contexts, then targets of slopes and
            their factors if there are scores.
        """
        terms, features = self.config.scores, fit_context.features
        own = fit_context.bank.draw(component, calls, score=terms is not None)
        held_out = self.config.held_out(len(own))
        noise = fit_context.generators(f"{component} score noise")
        scores = standard_scores(own, features, held_out, terms, noise)
        conditions = [features.context(own.context), *scores]
        return own, held_out, [t.to(fit_context.device) for t in conditions]

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
