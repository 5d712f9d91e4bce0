"""Methods that learn each component's density by maximum likelihood, and their surrogates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.contracts import Features, FitContext, FitLog, Simulations, Task
from bench.nn.coordinates import Coordinates
from bench.nn.network_method import Data, Examples, NetworkMethod
from bench.nn.score_matching import Augmentation, slopes_of, standard_scores
from bench.nn.stacks import Stack


@dataclass(frozen=True, kw_only=True)
class CoordinateExamples(Examples):
    """Training rows: coordinates z and contexts, then targets of slopes if there are scores."""

    coordinates: Coordinates


class DensityMethod(NetworkMethod[Stack, Data]):
    """Base of methods that learn a log-density by maximum likelihood.

    Subclasses define the network, which maps rows and scaled contexts to log-densities, and the
    rows themselves.
    """

    family = "generative"
    has_density = True

    def calls(self, task: Task, budget: int) -> int:
        """Return the simulations of each component."""
        return budget // len(task.component_names)

    def drawn(
        self, component: str, fit_context: FitContext
    ) -> tuple[Simulations, int, list[Tensor]]:
        """Draw a component's simulations.

        Returns:
            The simulations; the number of first ones held out for validation; the conditions of
            rows on the device, (members, n, d) each: scaled contexts, then targets of slopes and
            their factors if there are scores.
        """
        terms, features = self.config.scores, fit_context.features
        calls = self.calls(fit_context.task, fit_context.bank.budget)
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


class CoordinateMethod(DensityMethod[CoordinateExamples]):
    """Base of methods whose rows are coordinates of standardised features."""

    def examples(self, component: str, fit_context: FitContext) -> CoordinateExamples:
        """Return rows; counts get uniform noise in their unit cells, drawn anew every epoch."""
        task, features = fit_context.task, fit_context.features
        own, held_out, conditions = self.drawn(component, fit_context)
        noise = fit_context.generators(f"{component} noise")

        def continuous(x: Tensor) -> Tensor:
            if task.discrete:
                x = x + torch.stack([torch.rand(x.shape[1:], generator=g) for g in noise])
            return features(x)

        x, validating = own.x[:, held_out:], continuous(own.x[:, :held_out])
        y = continuous(x)
        coordinates = Coordinates.estimate(task.observation, task.event_shape, y)

        def redraw(data: Sequence[Tensor]) -> None:
            data[0].copy_(coordinates(continuous(x)))

        z, z_validating = (coordinates(t).to(fit_context.device) for t in (y, validating))
        return CoordinateExamples(
            [z, *(t[:, held_out:] for t in conditions)],
            [z_validating, *(t[:, :held_out] for t in conditions)],
            redraw if task.discrete else None,
            coordinates=coordinates,
        )


_ELEMENTS = 2**21  # numbers per intermediate result of a block, of one member
SCALE = "coordinates.scale"
"""Name of the coordinates' scale in a saved state, beside the network's parameters."""


class PairedDensity:
    """Trained networks of one component that share terms between observations and contexts.

    Args:
        net: maps rows (members, n, 1, …) and scaled contexts (members, 1, J, d) to (members, n, J);
            its modules need a method `inverse` for samples.
        features: the task's.
        log: of the training.
        observations: observations that are evaluated at a time.
        numbers: numbers that the evaluation of a pair keeps at once; it bounds the contexts that
            are evaluated at a time.
        coordinates: rows are these coordinates of features; None if they are observations.
    """

    def __init__(
        self,
        net: Stack,
        features: Features,
        log: FitLog,
        observations: int,
        numbers: int,
        coordinates: Coordinates | None = None,
    ) -> None:
        self.net = net
        self.features = features
        self.log = log
        self.observations = observations
        self.contexts = max(1, _ELEMENTS // (observations * numbers))
        self.coordinates = coordinates

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        rows, eta = self._rows(x), self.features.context(context)
        near = torch.split(eta, self.contexts)
        out = torch.cat(
            [
                torch.cat([self._of_block(some, others) for others in near], -1)
                for some in torch.split(rows, self.observations, 1)
            ],
            1,
        )
        return out + self._log_jacobian(x)

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        pairs = self._rows(x), self.features.context(context)
        out = self.net(*(t.expand(self.net.members, *t.shape[-2:]) for t in pairs))
        return out + self._log_jacobian(x)[..., 0]

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Draw observations element by element, as `HasSamples`.

        The network's method `inverse` maps uniform numbers (n, 2, elements) and scaled contexts
        (n, d) to rows.
        """
        eta, (members, event) = self.features.context(context), (self.net.members, self._event)
        shape = members, len(context), 2, event.numel()
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64).to(context.device)
        rows = self.net.inverse(uniform, eta.expand(members, *eta.shape))
        if self.coordinates is None:
            return rows.float().view(members, len(context), *event)
        return self.features.inverse(self.coordinates.inverse(rows))

    @property
    def _event(self) -> torch.Size:
        return self.features.mean.shape

    def _rows(self, x: Tensor) -> Tensor:
        """Return the network's rows, (members or 1, n, numbers)."""
        if self.coordinates is None:
            return x.float()[None]
        return self.coordinates(self.features(x)[None])

    def _log_jacobian(self, x: Tensor) -> Tensor:
        """Return the term that a density of coordinates adds, (members or 1, n, 1)."""
        if self.coordinates is None:
            return torch.zeros(1, len(x), 1, device=x.device)
        jacobian = self.features.log_jacobian(x).float()[:, None]
        return jacobian + self.coordinates.log_jacobian(x.device)

    def _of_block(self, rows: Tensor, eta: Tensor) -> Tensor:
        pairs = rows[:, :, None], eta[None, None]
        return self.net(*(t.expand(self.net.members, *t.shape[1:]) for t in pairs))

    def state(self) -> Mapping[str, Tensor]:
        scale = None if self.coordinates is None else self.coordinates.scale
        return self.net.state() | ({} if scale is None else {SCALE: scale})
