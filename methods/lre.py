r"""LRE: a parameterised classifier learns the likelihood ratio to a reference.

A network sees (x, η) and separates a component's simulations from a reference's, for which η is
drawn independently of x; its log-odds, corrected for the class sizes or normalised, estimate
:math:`\log p_k(x|\eta) / p_\text{ref}(x)` (Cranmer, Pavez & Louppe 2015, arXiv:1506.02169; Baldi
et al. 2016, arXiv:1601.07913). All components share the reference, so that it cancels.
Normalised ratios are divided by their mean over the reference, which is 1 for an exact one.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from bench.contracts import (
    Bank,
    ComponentMethod,
    Draw,
    Features,
    FitContext,
    FitLog,
    ReferenceKind,
    Settings,
    Task,
    Work,
    equal_draws,
)
from bench.errors import NotApplicable
from bench.nn.encoders import Encoder, encoder_of
from bench.nn.flops import CLASSIFIER, CLASSIFIER_GPU, ENCODERS
from bench.nn.networks import Activation, evaluation_rows
from bench.nn.normaliser import NODES, Normaliser
from bench.nn.ratio import RatioNetwork, flat
from bench.nn.score_matching import (
    LIGHT,
    Augmentation,
    ScoreTerms,
    need_scores,
    slopes_of,
    standard_scores,
    without_scores,
)
from bench.nn.training import SEARCH, Training, train

_NORMALISING = 1 << 18  # simulations of the reference that normalise ratios, held-out ones first


class LREConfig(Settings):
    """Configuration of LRE.

    Args:
        hidden: widths of the hidden layers.
        activation: their nonlinearity.
        reference: the denominator; where None the task's own, or the evidence if it has no share.
        reference_share: share of the budget for the reference, the rest is for the components. With
            0 the components' own simulations, contexts drawn anew, stand in for the evidence
            reference, which costs nothing (Hermans, Begy & Louppe 2020, arXiv:1903.04057).
        validation_share: share of every simulation held out for choosing the best epoch.
        redraw: whether the reference's contexts, which cost nothing, are drawn anew every epoch.
        normalise: whether ratios are divided by their mean over the reference, held-out simulations
            first, at most 262,144.
        training: how the classifier trains on vectors.
        encoded: how it trains where an encoder reads series or fields; not at all where None.
        scores: how slopes are matched to exact scores; not at all where None.
    """

    hidden: tuple[int, ...] = (120, 120, 120)
    activation: Activation = "silu"
    reference: Literal["fixed", "evidence"] | None = None
    reference_share: float = Field(default=0.0, ge=0, lt=1)
    validation_share: float = Field(default=0.1, gt=0, le=0.5)
    redraw: bool = True
    normalise: bool = True
    training: Training = Training(learning_rate=1e-2, batch_size=1024, epochs=9)
    encoded: Training | None = Training(learning_rate=3e-3, batch_size=256, epochs=10, steps=4000)
    scores: ScoreTerms | None = None


class LRE(ComponentMethod):
    """Likelihood-ratio estimation with a classifier."""

    name = "lre"
    version = 1
    title = "Likelihood-ratio classifier"
    family = "discriminative"
    citation = "Cranmer, Pavez & Louppe (2015), arXiv:1506.02169"
    Config = LREConfig
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tuned": {},
        "published": {
            "activation": "relu",
            "reference_share": 0.5,
            "redraw": False,
            "normalise": False,
            "encoded": None,
            "training": {
                "batch_size": 1024,
                "learning_rate": 1e-3,
                "schedule": "constant",
                "epochs": 10,
            },
        },
        "unnormalised": {"normalise": False},
        "scores": {"scores": {}},
        "scores-light": {"scores": LIGHT},
    }
    search: ClassVar[Mapping[str, Sequence[Any]]] = {
        "activation": ("relu", "silu"),
        **SEARCH,
    }
    config: LREConfig

    def check(self, task: Task) -> None:
        if _encoder(task) and self.config.encoded is None:
            raise NotApplicable("this configuration is for vectors")
        if self.config.scores is not None:
            need_scores(task)
        if self.config.reference == "fixed" and self.config.reference_share == 0:
            raise NotApplicable("lre needs a reference_share for its fixed reference")
        if self.config.normalise and len(task.space.context_index) not in NODES:
            raise NotApplicable(
                f"lre normalises ratios in one or two context parameters, and {task.name} has "
                f"{len(task.space.context_index)}; lre:unnormalised takes any number"
            )

    def settings(self, task: Task) -> dict[str, Any]:
        settings = without_scores(super().settings(task))
        del settings["encoded" if task.observation == "vector" else "training"]
        return settings

    def reference_kind(self, task: Task) -> ReferenceKind:
        if self.config.reference_share == 0:
            return "evidence"
        return self.config.reference or task.reference

    def work(self, task: Task, budget: int) -> Work:
        names, features = task.component_names, math.prod(task.event_shape)
        spent = int(budget * self.config.reference_share)
        own = (budget - spent) // len(names)
        reference = spent or len(names) * (budget // len(names))
        rows = sum(n - max(1, int(n * self.config.validation_share)) for n in (own, reference))
        net = self._network(task, [torch.Generator()])
        settings = (net.encoder and self.config.encoded) or self.config.training
        encode, decide = net.operations(features)
        dimensions = len(task.space.context_index)
        normalising = min(reference, _NORMALISING) * NODES[dimensions] ** dimensions
        factor = 3.0 if self.config.scores is None else 5.0  # forwards and backwards
        return Work(
            steps=len(names) * settings.steps_of(rows),
            rows=len(names) * settings.epochs_of(rows) * rows,
            training=factor * (encode + decide),
            evaluation=len(names) * decide,
            cpu=ENCODERS if net.encoder else CLASSIFIER,
            gpu=CLASSIFIER_GPU,
            encoding=len(names) * encode,
            pairs=normalising if self.config.normalise else 0.0,
        )

    def draws(self, task: Task, budget: int) -> list[Draw]:
        spent = int(budget * self.config.reference_share)
        own = equal_draws(task, budget - spent)
        return [*own, Draw(None, spent, reference=self.reference_kind(task))] if spent else own

    def _network(self, task: Task, generators: Sequence[torch.Generator]) -> RatioNetwork:
        return RatioNetwork.create(
            _encoder(task),
            math.prod(task.event_shape),
            len(task.space.context_index),
            self.config.hidden,
            self.config.activation,
            generators,
        )

    def _reference(self, task: Task, bank: Bank) -> Tensor:
        """Events of the reference, (members, n, *event); contexts of theirs do not matter."""
        if share := int(bank.budget * self.config.reference_share):
            return bank.reference(share, self.reference_kind(task)).x
        n = bank.budget // len(task.component_names)
        own = [bank.draw(name, n).x for name in task.component_names]
        return torch.stack(own, 2).flatten(1, 2)  # in turns, so that any part is a fair mixture

    def fit_component(
        self,
        component: str,
        task: Task,
        bank: Bank,
        features: Features,
        members: Sequence[int],
        fit_context: FitContext,
    ) -> "Classifier":
        spent = int(bank.budget * self.config.reference_share)
        terms = self.config.scores
        own = bank.draw(
            component,
            (bank.budget - spent) // len(task.component_names),
            score=terms is not None,
        )
        reference = self._reference(task, bank)
        n_reference = reference.shape[1]
        context = torch.stack(
            [
                task.space.draw_context(
                    n_reference, fit_context.generator(m, f"{component} context")
                )
                for m in members
            ]
        )
        held_out = [max(1, int(n * self.config.validation_share)) for n in (len(own), n_reference)]
        scores: list[Tensor] = []
        if terms is not None:
            noise = [fit_context.generator(m, f"{component} noise") for m in members]
            scores = standard_scores(own, features, held_out[0], terms, noise)

        def rows(validation: bool) -> list[Tensor]:
            parts = []
            for x, eta, n, label in (
                (own.x, own.context, held_out[0], 1.0),
                (reference, context, held_out[1], 0.0),
            ):
                part = slice(0, n) if validation else slice(n, None)
                y = flat(features(x[:, part]), task.event_shape)
                inputs = torch.cat([y, features.context(eta[:, part])], -1)
                # The reference has no scores: its rows, labelled 0, do not count.
                targets = [
                    t[:, part] if label else t.new_zeros(*inputs.shape[:2], t.shape[2])
                    for t in scores
                ]
                parts.append((inputs, torch.full(inputs.shape[:2], label), *targets))
            both = [torch.cat(p, 1) for p in zip(*parts, strict=True)]
            if terms is not None and validation:  # which is not shuffled, but read in pieces
                order = torch.randperm(both[0].shape[1], generator=torch.Generator().manual_seed(0))
                both = [t[:, order] for t in both]
            return [t.to(fit_context.device) for t in both]

        data, validation = rows(False), rows(True)
        dimensions = len(task.space.context_index)
        weights = [fit_context.generator(m, f"{component} weights") for m in members]
        net = self._network(task, weights).to(fit_context.device)
        contexts = [fit_context.generator(m, f"{component} redraw") for m in members]
        first_reference = len(own) - held_out[0]

        def redraw(data: Sequence[Tensor]) -> None:
            n = data[0].shape[1] - first_reference
            for m, generator in enumerate(contexts):
                drawn = features.context(task.space.draw_context(n, generator))
                data[0][m, first_reference:, -drawn.shape[-1] :] = drawn.to(fit_context.device)

        augmentation = None if terms is None else Augmentation(terms, net.parameters)

        def entropy(log_odds: Tensor, label: Tensor) -> Tensor:
            losses = functional.binary_cross_entropy_with_logits(log_odds, label, reduction="none")
            return losses.mean(1)

        def loss(inputs: Tensor, label: Tensor, *scores: Tensor) -> Tensor:
            if augmentation is None:
                return entropy(net(inputs), label)
            n = augmentation.matched(label.shape[1])
            encoded = net.encoding(inputs[:, :n, :-dimensions])
            values, slopes = slopes_of(
                lambda eta: net.decide(encoded, eta), inputs[:, :n, -dimensions:]
            )
            log_odds = torch.cat([values, net(inputs[:, n:])], 1)
            standard, per_unit = (t[:, :n] for t in scores)
            unscored = entropy(log_odds, label)
            return augmentation(unscored, slopes, standard, per_unit, label[:, :n])

        curves = train(
            net,
            loss,
            data,
            validation,
            [fit_context.generator(m, f"{component} shuffle") for m in members],
            (net.encoder and self.config.encoded) or self.config.training,
            fit_context,
            refresh=redraw if self.config.redraw else None,
            record=terms is None or terms.recordable,
            label=component,
        )
        log = FitLog(net.count, [{"": curve} for curve in curves])
        if self.config.normalise:
            y = flat(features(reference[:, :_NORMALISING]), task.event_shape).to(fit_context.device)
            normaliser = _normaliser(net, y)
        else:
            # It saw N_k rows against N_ref: its log-odds carry log(N_k / N_ref).
            offset = math.log(first_reference / (n_reference - held_out[1]))
            shape = (len(members), 1)
            constant = torch.full(shape, offset, dtype=torch.float64, device=fit_context.device)
            normaliser = Normaliser(constant, 1)
        return Classifier(net, features, normaliser, log, task.event_shape)

    def restore_component(
        self, component: str, task: Task, features: Features, state: Mapping[str, Tensor]
    ) -> "Classifier":
        dimensions = len(task.space.context_index)
        net = RatioNetwork.from_state(
            _encoder(task),
            dimensions,
            self.config.activation,
            {k: v for k, v in state.items() if k != "normaliser"},
        )
        normaliser = Normaliser(state["normaliser"], dimensions)
        return Classifier(net, features, normaliser, FitLog(net.count), task.event_shape)


def _encoder(task: Task) -> Encoder | None:
    """The encoder of series and fields; vectors are few numbers, and enter with the context."""
    return None if task.observation == "vector" else encoder_of(task)


@torch.no_grad()
def _normaliser(net: RatioNetwork, y: Tensor) -> Normaliser:
    """The mean odds of every member over its own reference, features (members, n, f)."""
    encoded = net.encode(y)
    rows = evaluation_rows(y.device)

    def log_odds(eta: Tensor) -> Tensor:
        parts = torch.split(encoded, rows, dim=1)
        context = eta.float()
        odds = [net.decide(part, context.expand(*part.shape[:2], -1)) for part in parts]
        return torch.cat(odds, 1)

    return Normaliser.estimate(log_odds, net.contexts, y.device)


class Classifier:
    """The trained classifiers of one component: log r̂(x|η) = log-odds − log-normaliser(η)."""

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

    @torch.no_grad()
    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        y, eta = flat(self.features(x), self.event_shape), self.features.context(context)
        members = len(self.normaliser.coefficients)
        encoded = self.net.encode(y.expand(members, -1, -1))
        return self.net.pairwise(encoded, eta) - self.normaliser(eta).float()[:, None]

    def state(self) -> Mapping[str, Tensor]:
        return {**self.net.state(), "normaliser": self.normaliser.coefficients}
