r"""Neural ratio estimation by the sbi package, for comparison with a widely used trainer.

sbi separates pairs that were simulated together from pairs that it shuffles within a batch, so the
denominator is the marginal of x over all shuffled pairs. Trained on each component separately, the
denominator would be :math:`E_\eta[p_k(x|\eta)]`, which differs between components. Therefore the
component's label is part of the parameters: (k, η) is shuffled, the denominator is the evidence of
the equal mixture, and one network gives every component's ratio to it.

`NRE` of sbi is NRE-B (Durkan, Murray & Papamakarios 2020, arXiv:2002.03712), whose ratio is correct
up to a function of x, which the components also share. `matched` is NRE-A (Hermans, Begy & Louppe
2020, arXiv:1903.04057), which has the loss of `lre`.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.contracts import (
    Draw,
    Features,
    FitContext,
    Method,
    ReferenceKind,
    Settings,
    Task,
    equal_draws,
)
from bench.nn.encoders import Encoder, encoder_of
from bench.nn.flows import ACTIVATIONS
from bench.nn.networks import Activation, evaluation_rows
from bench.nn.ratio import flat

from .sbi_training import REQUIRES, SbiNetworks, SbiTraining, in_blocks, quiet, rebuild, train


class SbiNREConfig(Settings):
    """Configuration of sbi-nre.

    Args:
        loss: sbi's NRE_A, a binary cross-entropy, or NRE_B, a classification among ten pairs.
        hidden: widths of hidden layers, as in `lre`, after its encoder of series and fields; None
            for sbi's own residual network, which takes series and fields as vectors.
        activation: their nonlinearity.
        training: settings of sbi's training.
    """

    loss: Literal["NRE_A", "NRE_B"] = "NRE_B"
    hidden: tuple[int, ...] | None = Field(default=None, min_length=1)
    activation: Activation = "relu"
    training: SbiTraining = SbiTraining()


class SbiNRE(Method):
    """Neural ratio estimation with sbi."""

    name = "sbi-nre"
    title = "Neural ratio estimation (sbi)"
    family = "discriminative"
    citation = "Durkan, Murray & Papamakarios (2020), arXiv:2002.03712; sbi, arXiv:2411.17337"
    requires: ClassVar[Mapping[str, str]] = REQUIRES
    Config = SbiNREConfig
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        # Network and training of lre:published.
        "matched": {
            "loss": "NRE_A",
            "hidden": (120, 120, 120),
            "training": {
                "training_batch_size": 1024,
                "learning_rate": 1e-3,
                "epochs": 10,
                "clip_max_norm": None,
            },
        },
    }
    config: SbiNREConfig

    def check(self, task: Task) -> None:
        super().check(task)
        self._encoder(task)

    def settings(self, task: Task) -> dict[str, Any]:
        settings = super().settings(task)
        if self.config.hidden is None:
            del settings["activation"]
        return settings

    def _encoder(self, task: Task) -> Encoder | None:
        """Return `lre`'s encoder of series and fields; None for vectors and sbi's own network."""
        if self.config.hidden is None or task.observation == "vector":
            return None
        return encoder_of(task)

    def build(self, task: Task) -> Any:
        with quiet(torch.Generator()):  # importing sbi may warn
            from sbi.neural_nets import classifier_nn
            from sbi.neural_nets.ratio_estimators import RatioEstimator

        if self.config.hidden is None:
            return classifier_nn("resnet")
        encoder, hidden = self._encoder(task), self.config.hidden

        def build(theta: Tensor, x: Tensor) -> Any:
            width = theta.shape[1] + (encoder.outputs if encoder else x.shape[1])
            layers: list[nn.Module] = []
            for inner, outer in zip((width, *hidden), hidden, strict=False):
                layers += [nn.Linear(inner, outer), ACTIVATIONS[self.config.activation]()]
            net = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))
            embedding = encoder() if encoder else nn.Identity()
            return RatioEstimator(net, theta[0].shape, x[0].shape, embedding_net_x=embedding)

        return build

    def reference_kind(self, task: Task) -> ReferenceKind | None:
        return "evidence" if self.config.loss == "NRE_A" else None

    def draws(self, task: Task, budget: int) -> list[Draw]:
        return equal_draws(task, budget)

    def fit(self, fit_context: FitContext) -> "SbiRatio":
        task, features = fit_context.task, fit_context.features
        names = task.component_names
        n = fit_context.calls_per_component
        drawn = [fit_context.bank.draw(name, n) for name in names]
        x = torch.cat([flat(features(own.x), task.event_shape) for own in drawn], 1)
        theta = [
            torch.stack([_labelled(eta, len(names))[k] for eta in features.context(own.context)])
            for k, own in enumerate(drawn)
        ]
        settings, build = self.config.training, self.build(task)
        trained = train(
            self.config.loss, build, torch.cat(theta, 1), x, settings, fit_context, mean=True
        )
        return SbiRatio(task, features, *trained, "ratio", reference=self.reference_kind(task))

    def restore(self, task: Task, features: Features, state: Mapping[str, Tensor]) -> "SbiRatio":
        build = self.build(task)
        components = len(task.component_names)
        parameters = len(task.space.context_index) + (components if components > 1 else 0)
        nets = rebuild(build, parameters, math.prod(task.event_shape), state)
        return SbiRatio(task, features, nets, reference=self.reference_kind(task))


def _labelled(context: Tensor, components: int) -> Tensor:
    """Append each component's one-hot label to contexts (J, d): (components, J, d + K)."""
    label = torch.eye(components, device=context.device)[:, None].expand(-1, len(context), -1)
    both = context.expand(components, -1, -1)
    return torch.cat([both, label], -1) if components > 1 else both


def _log_odds(net: Any, encoded: Tensor, embedded: Tensor) -> Any:
    return net.net(torch.cat([embedded, encoded], -1)).squeeze(-1)


class SbiRatio(SbiNetworks):
    """Trained networks of sbi for all components, one per member."""

    has_density = False

    def __init__(self, *arguments: Any, reference: ReferenceKind | None) -> None:
        super().__init__(*arguments)
        self.reference = reference

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        y = flat(self.features(x), self.task.event_shape)
        components, eta = len(self.task.component_names), self.features.context(context)
        members = []
        for net, own in zip(self.nets, eta.expand(len(self.nets), -1, -1), strict=True):
            encoded = net.embedding_net_x(y).expand(components, -1, -1)
            embedded = net.embedding_net_theta(_labelled(own, components))
            members.append(_log_odds(net, encoded, embedded))
        return torch.stack(members)

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        y = flat(self.features(x), self.task.event_shape)
        components = len(self.task.component_names)
        theta = _labelled(self.features.context(context), components).flatten(0, 1)
        members, rows = [], evaluation_rows(y.device)
        for net in self.nets:
            # Observations and parameters are embedded once, not once per pair.
            encoded = torch.cat([net.embedding_net_x(part) for part in torch.split(y, rows // 8)])
            embedded = net.embedding_net_theta(theta)
            values = in_blocks(partial(_log_odds, net), encoded, embedded, rows)
            members.append(values.view(len(x), components, len(context)).transpose(0, 1))
        return torch.stack(members)
