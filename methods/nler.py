"""NLER and NLER-SA: ratios to the evidence, and their slopes matched to exact scores.

An encoder reads x, a small smooth head reads the encoding and η, and a classifier separates pairs
that were simulated together from pairs whose context is drawn anew (Hermans, Begy & Louppe 2020,
arXiv:1903.04057). NLER-SA matches its slopes to scores (Shen & Kuusela 2026): the context enters
after the encoder, so that they take a pass of the head alone.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

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
from bench.nn.encoders import encoder_of
from bench.nn.flops import CLASSIFIER, CLASSIFIER_GPU, ENCODERS
from bench.nn.normaliser import Normaliser
from bench.nn.ratio import RatioNetwork, flat
from bench.nn.score_matching import (
    LIGHT,
    Augmentation,
    ScoreTerms,
    need_scores,
    standard_scores,
    without_scores,
)
from bench.nn.training import Training, train

from .lre import Classifier


class NLERConfig(Settings):
    """Configuration of NLER.

    Args:
        width: encoder and head grow with it: 4, 8 and 14 make networks of about 3,000, 10,000 and
            30,000 parameters.
        validation_share: share of every simulation held out for choosing the best epoch.
        scores: how slopes are matched to scores; not at all where None.
        training: how the network trains.
    """

    width: int = Field(default=14, ge=1)
    validation_share: float = Field(default=0.1, gt=0, le=0.5)
    scores: ScoreTerms | None = None
    training: Training = Training(learning_rate=3e-3, batch_size=256, epochs=10, steps=4000)


class NLER(ComponentMethod):
    """Likelihood-to-evidence ratio with an encoder and a small head."""

    name = "nler"
    version = 1
    title = "Neural likelihood-to-evidence ratio"
    family = "discriminative"
    citation = "Hermans, Begy & Louppe (2020), arXiv:1903.04057"
    Config = NLERConfig
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tuned": {},
        "10k": {"width": 8},
        "3k": {"width": 4},
    }
    search: ClassVar[Mapping[str, Sequence[Any]]] = {
        "training.learning_rate": (1e-3, 3e-3, 1e-2),
        "training.batch_size": (256, 1024),
    }
    config: NLERConfig

    def check(self, task: Task) -> None:
        encoder_of(task)
        if self.config.scores is not None:
            need_scores(task)

    def settings(self, task: Task) -> dict[str, Any]:
        return without_scores(super().settings(task))

    def reference_kind(self, task: Task) -> ReferenceKind:
        return "evidence"

    def fit_component(
        self,
        component: str,
        task: Task,
        bank: Bank,
        features: Features,
        members: Sequence[int],
        fit_context: FitContext,
    ) -> Classifier:
        config, terms = self.config, self.config.scores
        n = bank.budget // len(task.component_names)
        drawn = {name: bank.draw(name, n, score=terms is not None) for name in task.component_names}
        held_out = max(1, int(n * config.validation_share))
        rngs = {
            what: [fit_context.generator(m, f"{component} {what}") for m in members]
            for what in ("weights", "shuffle", "pairs", "noise")
        }
        y = {name: flat(features(own.x), task.event_shape) for name, own in drawn.items()}
        eta = features.context(drawn[component].context)
        joint = [y[component], eta]
        if terms is not None:
            joint += standard_scores(drawn[component], features, held_out, terms, rngs["noise"])

        def pairs(rows: slice) -> list[Tensor]:
            """Contexts, and observations of the evidence, that know nothing of each other."""
            own = joint[0][:, rows]
            count = own.shape[1]
            contexts = [task.space.draw_context(count, g) for g in rngs["pairs"]]
            context = features.context(torch.stack(contexts))
            if len(y) == 1:  # the batch's own observations, which are encoded once
                return [context]
            label = torch.stack(
                [torch.randint(len(y), (count,), generator=g) for g in rngs["pairs"]]
            )
            chosen = torch.zeros_like(own)
            for k, part in enumerate(y.values()):
                chosen = torch.where((label == k)[..., None], part[:, rows], chosen)
            return [context, chosen]

        def data(rows: slice) -> list[Tensor]:
            return [t.to(fit_context.device) for t in (*(t[:, rows] for t in joint), *pairs(rows))]

        net = self._network(task, rngs["weights"]).to(fit_context.device)
        loss = PairLoss(net, terms)

        def redraw(data: Sequence[Tensor]) -> None:
            for kept, new in zip(data[len(joint) :], pairs(slice(held_out, None)), strict=True):
                kept.copy_(new)

        curves = train(
            net,
            loss,
            data(slice(held_out, None)),
            data(slice(held_out)),
            rngs["shuffle"],
            config.training,
            fit_context,
            refresh=redraw,
            record=terms is None or terms.recordable,
            label=component,
        )
        log = FitLog(net.count, [{"": curve} for curve in curves])
        return self._classifier(net, features, task, log)

    def restore_component(
        self, component: str, task: Task, features: Features, state: Mapping[str, Tensor]
    ) -> Classifier:
        encoder = encoder_of(task, self.config.width)
        own = {k: v for k, v in state.items() if k != "normaliser"}
        net = RatioNetwork.from_state(encoder, len(task.space.context_index), "silu", own)
        return self._classifier(net, features, task, FitLog(net.count))

    def work(self, task: Task, budget: int) -> Work:
        names, features = task.component_names, math.prod(task.event_shape)
        own = budget // len(names)
        rows = own - max(1, int(own * self.config.validation_share))
        net = self._network(task, [torch.Generator()])
        settings = self.config.training
        encode, decide = net.operations(features)
        passes = encode * (1 if len(names) == 1 else 2) + 2 * decide  # joint pairs, and apart
        factor = 3.0 if self.config.scores is None else 4.0  # forwards and backwards
        return Work(
            steps=len(names) * settings.steps_of(rows),
            rows=len(names) * settings.epochs_of(rows) * rows,
            training=factor * passes,
            evaluation=len(names) * decide,
            cpu=ENCODERS if net.encoder else CLASSIFIER,
            gpu=CLASSIFIER_GPU,
            encoding=len(names) * encode,
        )

    def draws(self, task: Task, budget: int) -> list[Draw]:
        return equal_draws(task, budget)

    def _network(self, task: Task, generators: Sequence[torch.Generator]) -> RatioNetwork:
        hidden = 6 * self.config.width
        return RatioNetwork.create(
            encoder_of(task, self.config.width),
            math.prod(task.event_shape),
            len(task.space.context_index),
            (hidden, hidden),
            "silu",
            generators,
        )

    def _classifier(
        self, net: RatioNetwork, features: Features, task: Task, log: FitLog
    ) -> Classifier:
        first = net.parameters()[0]
        nothing = torch.zeros(len(first), 1, dtype=torch.float64, device=first.device)
        return Classifier(net, features, Normaliser(nothing, 1), log, task.event_shape)


ADAPTIVE = {"weights": "adaptive", "weight": 1.0}


class NLERSA(NLER):
    """NLER whose slopes are matched to the exact scores of its simulations, or to noisy ones."""

    name = "nler-sa"
    title = "Score-augmented likelihood-to-evidence ratio"
    family = "score-augmented"
    citation = "Shen & Kuusela (2026), arXiv:2605.12118"
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tuned": {"scores": {}},
        "light": {"scores": LIGHT},
        "10k": {"scores": {}, "width": 8},
        "3k": {"scores": {}, "width": 4},
        "adaptive": {"scores": ADAPTIVE},
        "10k-adaptive": {"scores": ADAPTIVE, "width": 8},
        "3k-adaptive": {"scores": ADAPTIVE, "width": 4},
        "noise-0.01": {"scores": {"noise": 0.01}},
        "noise-0.1": {"scores": {"noise": 0.1}},
        "noise-0.5": {"scores": {"noise": 0.5}},
    }


class PairLoss:
    """Cross-entropy of pairs and, where there are scores, the squared errors of slopes.

    Args:
        net: of pairs.
        terms: how slopes are matched; not at all where None.
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
