r"""Likelihood-ratio estimation (LRE): a parameterised classifier learns the ratio to a reference.

A network takes (x, η) and separates a component's simulations from those of a reference, for which
η is drawn independently of x. Its log-odds, corrected for the class sizes or normalised, estimate
:math:`\log p_k(x|\eta) / p_\text{ref}(x)` (Cranmer, Pavez & Louppe 2015, arXiv:1506.02169; Baldi
et al. 2016, arXiv:1601.07913). All components share the reference, so that it cancels.

Normalised ratios are divided by their mean over the reference, which is 1 for an exact ratio.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from bench.contracts import Bank, Draw, FitContext, FitLog, ReferenceKind, Task, Work, equal_draws
from bench.errors import NotApplicable
from bench.nn.encoders import Encoder, VariogramEncoder, encoder_of
from bench.nn.network_method import Examples, NetworkSettings
from bench.nn.networks import Activation, evaluation_rows
from bench.nn.normaliser import Normaliser, number_of_contexts
from bench.nn.ratio import RatioNetwork, flat
from bench.nn.ratio_method import Classifier, RatioMethod
from bench.nn.score_matching import LIGHT, Augmentation, slopes_of, standard_scores
from bench.nn.training import SEARCH, Training

_NORMALISING = 1 << 18  # simulations of the reference that normalise ratios, held-out ones first


class LREConfig(NetworkSettings):
    """Configuration of LRE.

    Args:
        hidden: widths of the hidden layers.
        activation: their nonlinearity.
        reference: the denominator; None for the task's, or the evidence if reference_share is 0.
        reference_share: share of the budget for the reference; the rest is for the components. With
            0 the components' own simulations, with contexts drawn anew, replace the evidence
            reference at no cost (Hermans, Begy & Louppe 2020, arXiv:1903.04057).
        redraw: whether the reference's contexts, which cost nothing, are drawn anew every epoch.
        normalise: whether ratios are divided by their mean over the reference. The mean is over at
            most 262,144 simulations, held-out ones first.
        training: settings of the training on vectors.
        encoded: settings of the training with an encoder of series or fields; None to refuse these.
        variogram: whether this encoder also reads the variogram; see `VariogramEncoder`.
    """

    hidden: tuple[int, ...] = (120, 120, 120)
    activation: Activation = "silu"
    reference: Literal["fixed", "evidence"] | None = None
    reference_share: float = Field(default=0.0, ge=0, lt=1)
    redraw: bool = True
    normalise: bool = True
    training: Training = Training(learning_rate=1e-2, batch_size=1024, epochs=9)
    encoded: Training | None = Training(learning_rate=3e-3, batch_size=256, epochs=10, steps=4000)
    variogram: bool = True


@dataclass(frozen=True, kw_only=True)
class ReferenceExamples(Examples):
    r"""Rows of a component, labelled 1, before rows of the reference, labelled 0.

    Args:
        reference: all simulations of the reference, (members, n, \*event).
        own: number of training rows of the component.
    """

    reference: Tensor
    own: int


class LRE(RatioMethod[ReferenceExamples]):
    """Likelihood-ratio estimation with a classifier."""

    name = "lre"
    title = "Likelihood-ratio classifier"
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
        "variogram": (False, True),
        "encoded.learning_rate": (1e-3, 3e-3, 1e-2),
        "encoded.batch_size": (64, 256),
    }
    config: LREConfig

    def check(self, task: Task) -> None:
        if task.observation != "vector" and self.config.encoded is None:
            raise NotApplicable("this configuration is for vectors")
        super().check(task)
        if self.config.reference == "fixed" and self.config.reference_share == 0:
            raise NotApplicable("lre needs a reference_share for its fixed reference")

    def settings(self, task: Task) -> dict[str, Any]:
        settings = super().settings(task)
        del settings["encoded" if task.observation == "vector" else "training"]
        if task.observation == "vector" or not self.config.variogram:
            del settings["variogram"]
        return settings

    def reference_kind(self, task: Task) -> ReferenceKind:
        if self.config.reference_share == 0:
            return "evidence"
        return self.config.reference or task.reference

    def work(self, task: Task, budget: int) -> Work:
        components, spent = len(task.component_names), self._spent(budget)
        own = (budget - spent) // components
        reference = spent or components * (budget // components)
        dimensions = len(task.space.context_index)
        normalising = min(reference, _NORMALISING) * number_of_contexts(dimensions)
        factor = 3.0 if self.config.scores is None else 5.0  # forward and backward passes
        return self.work_of(
            task,
            sum(n - self.config.held_out(n) for n in (own, reference)),
            lambda encode, decide: factor * (encode + decide),
            normalising if self.config.normalise else 0.0,
        )

    def draws(self, task: Task, budget: int) -> list[Draw]:
        spent = self._spent(budget)
        own = equal_draws(task, budget - spent)
        return [*own, Draw(None, spent, reference=self.reference_kind(task))] if spent else own

    def encoder(self, task: Task) -> Encoder | None:
        if task.observation == "vector":
            return None
        return VariogramEncoder.of(task) if self.config.variogram else encoder_of(task)

    def head(self) -> tuple[tuple[int, ...], Activation]:
        return self.config.hidden, self.config.activation

    def training(self, task: Task) -> Training:
        encoded = None if task.observation == "vector" else self.config.encoded
        return encoded or self.config.training

    def _spent(self, budget: int) -> int:
        """Return the number of simulator calls for the reference."""
        return int(budget * self.config.reference_share)

    def reference_events(self, task: Task, bank: Bank) -> Tensor:
        """Draw events of the reference, (members, n, *event); their contexts are not needed."""
        if spent := self._spent(bank.budget):
            return bank.reference(spent, self.reference_kind(task)).x
        n = bank.budget // len(task.component_names)
        own = [bank.draw(name, n).x for name in task.component_names]
        return torch.stack(own, 2).flatten(1, 2)  # alternating: any part contains all

    def examples(self, component: str, fit_context: FitContext) -> ReferenceExamples:
        config, task, features = self.config, fit_context.task, fit_context.features
        bank, device = fit_context.bank, fit_context.device
        calls = (bank.budget - self._spent(bank.budget)) // len(task.component_names)
        own = bank.draw(component, calls, score=config.scores is not None)
        reference = self.reference_events(task, bank)
        count = reference.shape[1]
        context = fit_context.draw_contexts(count, fit_context.generators(f"{component} context"))
        held_out, others = config.held_out(len(own)), config.held_out(count)
        noise = fit_context.generators(f"{component} noise")
        scores = standard_scores(own, features, held_out, config.scores, noise)

        def inputs(x: Tensor, eta: Tensor) -> Tensor:
            return torch.cat([flat(features(x), task.event_shape), features.context(eta)], -1)

        positive = [inputs(own.x, own.context), torch.ones(own.x.shape[:2]), *scores]
        # The reference has no scores: its rows, labelled 0, do not count.
        nothing = [t.new_zeros(*reference.shape[:2], *t.shape[2:]) for t in positive[1:]]
        rows = list(zip(positive, [inputs(reference, context), *nothing], strict=True))
        training = [torch.cat([a[:, held_out:], b[:, others:]], 1) for a, b in rows]
        validation = [torch.cat([a[:, :held_out], b[:, :others]], 1) for a, b in rows]
        if scores:  # validation rows are not shuffled during training
            shuffle = torch.Generator().manual_seed(0)
            order = torch.randperm(held_out + others, generator=shuffle)
            validation = [t[:, order] for t in validation]
        contexts = fit_context.generators(f"{component} redraw")
        first = len(own) - held_out

        def redraw(data: Sequence[Tensor]) -> None:
            drawn = features.context(fit_context.draw_contexts(count - others, contexts))
            data[0][:, first:, -drawn.shape[-1] :] = drawn.to(device)

        return ReferenceExamples(
            [t.to(device) for t in training],
            [t.to(device) for t in validation],
            redraw if config.redraw and task.space.context_index else None,
            reference=reference,
            own=first,
        )

    def loss(self, task: Task, net: RatioNetwork) -> Callable[..., Tensor]:
        terms, dimensions = self.config.scores, len(task.space.context_index)
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

        return loss

    def surrogate(
        self,
        fit_context: FitContext,
        examples: ReferenceExamples,
        net: RatioNetwork,
        log: FitLog,
    ) -> Classifier:
        features, shape = fit_context.features, fit_context.task.event_shape
        if self.config.normalise:
            y = flat(features(examples.reference[:, :_NORMALISING]), shape)
            normaliser = _normaliser(net, y.to(fit_context.device))
        else:
            # Training used N_k against N_ref rows: log-odds contain log(N_k / N_ref).
            others = examples.training[0].shape[1] - examples.own
            offset = math.log(examples.own / others)
            normaliser = Normaliser.constant(offset, len(fit_context.members), fit_context.device)
        return Classifier(net, features, normaliser, log, shape)


@torch.no_grad()
def _normaliser(net: RatioNetwork, y: Tensor) -> Normaliser:
    """Return the mean odds of every member over its own reference, features (members, n, f)."""
    encoded = net.encode(y)
    rows = evaluation_rows(y.device)

    def log_odds(eta: Tensor) -> Tensor:
        parts, context = torch.split(encoded, rows, dim=1), eta.float()
        odds = [net.decide(part, context.expand(*part.shape[:2], -1)) for part in parts]
        return torch.cat(odds, 1)

    return Normaliser.estimate(log_odds, net.contexts, y.device)
