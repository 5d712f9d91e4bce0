r"""Methods that learn likelihood ratios by classification, and their classifier.

A network separates pairs (x, η) of a component from pairs of a reference, for which η is drawn
independently of x. Its log-odds estimate :math:`\log p_k(x|\eta) / p_\text{ref}(x)` (Cranmer,
Pavez & Louppe 2015, arXiv:1506.02169). All components share the reference, so that it cancels.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from bench.contracts import Features, FitContext, FitLog, ReferenceKind, Task, Work
from bench.nn.encoders import Encoder, encoder_of
from bench.nn.flops import CLASSIFIER, CLASSIFIER_GPU, ENCODERS
from bench.nn.network_method import Examples, NetworkMethod
from bench.nn.networks import Activation
from bench.nn.normaliser import Normaliser
from bench.nn.ratio import RatioNetwork, flat
from bench.nn.score_matching import Augmentation, ScoreTerms, standard_scores

_NORMALISER = "normaliser"  # in a saved state, beside the network's parameters

Rows = TypeVar("Rows", bound=Examples)


class RatioMethod(NetworkMethod[RatioNetwork, Rows]):
    """Base of methods that learn the ratio to the evidence reference.

    Subclasses define examples, loss and head.
    """

    family = "discriminative"

    @abstractmethod
    def head(self) -> tuple[tuple[int, ...], Activation]:
        """Return the hidden layers' widths and the nonlinearity of the head."""

    def encoder(self, task: Task) -> Encoder | None:
        """Return the encoder of observations; None if the head takes the features themselves."""
        return encoder_of(task)

    def reference_kind(self, task: Task) -> ReferenceKind:
        return "evidence"

    def check(self, task: Task) -> None:
        super().check(task)
        self.encoder(task)  # raises NotApplicable if there is none

    def network(self, task: Task, generators: Sequence[torch.Generator]) -> RatioNetwork:
        features, contexts = math.prod(task.event_shape), len(task.space.context_index)
        return RatioNetwork.create(self.encoder(task), features, contexts, *self.head(), generators)

    def surrogate(
        self, fit_context: FitContext, examples: Rows, net: RatioNetwork, log: FitLog
    ) -> "Classifier":
        nothing = Normaliser.constant(0.0, len(fit_context.members), fit_context.device)
        return Classifier(net, fit_context.features, nothing, log, fit_context.task.event_shape)

    def restore_component(
        self, component: str, task: Task, features: Features, state: Mapping[str, Tensor]
    ) -> "Classifier":
        contexts = len(task.space.context_index)
        own = {name: value for name, value in state.items() if name != _NORMALISER}
        net = RatioNetwork.from_state(self.encoder(task), contexts, self.head()[1], own)
        normaliser = Normaliser(state[_NORMALISER], contexts)
        return Classifier(net, features, normaliser, FitLog(net.count), task.event_shape)

    def work_of(
        self, task: Task, rows: int, training: Callable[[float, float], float], pairs: float = 0.0
    ) -> Work:
        """Count the cost of one member.

        Args:
            task: the task.
            rows: training rows of a component.
            training: operations of a training row, given those of encoding and of the head.
            pairs: events times contexts that are evaluated during training.
        """
        components, settings = len(task.component_names), self.training(task)
        net = self.network(task, [torch.Generator()])
        encode, decide = net.operations(math.prod(task.event_shape))
        return Work(
            steps=components * settings.steps_of(rows),
            rows=components * settings.epochs_of(rows) * rows,
            training=training(encode, decide),
            evaluation=components * decide,
            cpu=ENCODERS if net.encoder else CLASSIFIER,
            gpu=CLASSIFIER_GPU,
            encoding=components * encode,
            pairs=pairs,
        )


class PairMethod(RatioMethod[Examples]):
    """Base of methods that separate a component's pairs from pairs with contexts drawn anew.

    The observations of the latter come from all components. Subclasses define the network
    (`encoder` and `head`) and its training (Hermans, Begy & Louppe 2020, arXiv:1903.04057).
    """

    def examples(self, component: str, fit_context: FitContext) -> Examples:
        config, task, features = self.config, fit_context.task, fit_context.features
        n, scored = fit_context.calls_per_component, config.scores is not None
        drawn = {k: fit_context.bank.draw(k, n, score=scored) for k in task.component_names}
        held_out = config.held_out(n)
        y = {name: flat(features(own.x), task.event_shape) for name, own in drawn.items()}
        own = drawn[component]
        noise = fit_context.generators(f"{component} noise")
        scores = standard_scores(own, features, held_out, config.scores, noise)
        joint = [y[component], features.context(own.context), *scores]
        generators = fit_context.generators(f"{component} pairs")

        def pairs(rows: slice) -> list[Tensor]:
            """Draw independent pairs: contexts, and observations of the evidence."""
            count = joint[0][:, rows].shape[1]
            context = features.context(fit_context.draw_contexts(count, generators))
            if len(y) == 1:  # the batch's own observations serve, so that they are encoded once
                return [context]
            return [context, _in_equal_shares([part[:, rows] for part in y.values()], generators)]

        def rows(part: slice) -> list[Tensor]:
            return [t.to(fit_context.device) for t in (*(t[:, part] for t in joint), *pairs(part))]

        def redraw(data: Sequence[Tensor]) -> None:
            for kept, new in zip(data[len(joint) :], pairs(slice(held_out, None)), strict=True):
                kept.copy_(new)

        return Examples(rows(slice(held_out, None)), rows(slice(held_out)), redraw)

    def loss(self, task: Task, net: RatioNetwork) -> "PairLoss":
        return PairLoss(net, self.config.scores)

    def work(self, task: Task, budget: int) -> Work:
        components = len(task.component_names)
        own = budget // components
        passes = 1 if components == 1 else 2  # the evidence's observations are encoded too
        factor = 3.0 if self.config.scores is None else 4.0  # forward and backward passes
        return self.work_of(
            task,
            own - self.config.held_out(own),
            lambda encode, decide: factor * (passes * encode + 2 * decide),
        )


def _in_equal_shares(parts: Sequence[Tensor], generators: Sequence[torch.Generator]) -> Tensor:
    """Take every row (members, n, …) from one of several tensors, with equal probability."""
    count = parts[0].shape[1]
    label = torch.stack([torch.randint(len(parts), (count,), generator=g) for g in generators])
    chosen = torch.zeros_like(parts[0])
    for k, part in enumerate(parts):
        chosen = torch.where((label == k)[..., None], part, chosen)
    return chosen


class PairLoss:
    """Cross-entropy of pairs and, if there are scores, the squared errors of slopes.

    Args:
        net: network of pairs.
        terms: settings of the score terms; None for no such terms.
    """

    def __init__(self, net: RatioNetwork, terms: ScoreTerms | None) -> None:
        self.net = net
        self.augmentation = None if terms is None else Augmentation(terms, net.parameters)

    def __call__(self, y: Tensor, eta: Tensor, *rest: Tensor) -> Tensor:
        scores, (context, *evidence) = (rest[:2], rest[2:]) if self.augmentation else ((), rest)
        encoded = self.net.encoding(y)
        joint = torch.cat([encoded, eta], -1)
        apart = torch.cat([self.net.encoding(evidence[0]) if evidence else encoded, context], -1)
        negative = functional.softplus(self.net.head(apart)).mean((1, 2))
        if self.augmentation is None:
            positive = functional.softplus(-self.net.head(joint)).mean((1, 2))
            return 0.5 * (positive + negative)
        matched = self.augmentation.matched(y.shape[1])
        value, slopes = self.net.head.with_slopes(joint[:, :matched], self.net.contexts)
        values = torch.cat([value, self.net.head(joint[:, matched:])], 1)
        entropy = 0.5 * (functional.softplus(-values).mean((1, 2)) + negative)
        standard, per_unit = (t[:, :matched] for t in scores)
        return self.augmentation(entropy, slopes[..., 0].mT, standard, per_unit)


class Classifier:
    """Trained classifiers of one component: log r̂(x|η) = log-odds − log-normaliser(η)."""

    def __init__(
        self,
        net: RatioNetwork,
        features: Features,
        normaliser: Normaliser,
        log: FitLog,
        event_shape: tuple[int, ...],
    ) -> None:
        self.net = net
        self.features = features
        self.normaliser = normaliser
        self.log = log
        self.event_shape = event_shape

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        """Return log-ratios, as ComponentSurrogate.log_ratio."""
        encoded, eta = self._encoded(x), self.features.context(context)
        return self.net.pairwise(encoded, eta) - self.normaliser(eta).float()[:, None]

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        """Return log-ratios of pairs, as HasPairs."""
        encoded, eta = self._encoded(x), self.features.context(context)
        log_odds = self.net.decide(encoded, eta.expand(len(encoded), -1, -1))
        return log_odds - self.normaliser.of_runs(eta).to(log_odds)

    def _encoded(self, x: Tensor) -> Tensor:
        y = flat(self.features(x), self.event_shape)
        return self.net.encode(y.expand(len(self.normaliser.coefficients), -1, -1))

    def state(self) -> Mapping[str, Tensor]:
        """Return the state, as ComponentSurrogate.state."""
        return {**self.net.state(), _NORMALISER: self.normaliser.coefficients}
