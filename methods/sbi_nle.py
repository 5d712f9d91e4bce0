"""Neural likelihood estimation by the sbi package, for comparison with a widely used flow.

It trains a flow per component (Papamakarios, Sterratt & Murray 2019, arXiv:1805.07226) with sbi on
standardised features; the density of x adds the logarithm of the Jacobian.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.contracts import (
    ComponentMethod,
    Draw,
    Features,
    FitContext,
    Settings,
    Task,
    equal_draws,
)
from bench.errors import NotApplicable
from bench.nn.flows import ZukoFlow
from bench.nn.networks import evaluation_rows
from bench.nn.ratio import flat

from .sbi_training import REQUIRES, SbiNetworks, SbiTraining, in_blocks, quiet, rebuild, train


class SbiNLEConfig(Settings):
    """Configuration of sbi-nle.

    Args:
        ours: whether the flow is that of `dle`, a spline flow on zuko, instead of sbi's own, a
            masked autoregressive flow on nflows.
        training: settings of sbi's training.
    """

    ours: bool = False
    training: SbiTraining = SbiTraining()


class SbiNLE(ComponentMethod):
    """Neural likelihood estimation with sbi."""

    name = "sbi-nle"
    title = "Neural likelihood estimation (sbi)"
    family = "generative"
    citation = "Papamakarios, Sterratt & Murray (2019), arXiv:1805.07226; sbi, arXiv:2411.17337"
    has_density = True
    requires: ClassVar[Mapping[str, str]] = REQUIRES
    Config = SbiNLEConfig
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        # Flow and training of dle:published, but with the whole budget.
        "matched": {
            "ours": True,
            "training": {
                "training_batch_size": 1024,
                "learning_rate": 1e-3,
                "epochs": 10,
                "clip_max_norm": None,
            },
        },
    }
    config: SbiNLEConfig

    def check(self, task: Task) -> None:
        super().check(task)
        if task.discrete:
            raise NotApplicable(f"{self.name} takes continuous observations, {task.name} counts")
        if self.config.ours and task.observation != "vector":
            raise NotApplicable("this configuration is for vectors")

    def build(self, task: Task) -> Any:
        with quiet(torch.Generator()):  # importing sbi may warn
            from sbi.neural_nets import likelihood_nn
            from sbi.neural_nets.estimators import ZukoFlow as SbiFlow

        if not self.config.ours:
            return likelihood_nn("maf")

        def build(theta: Tensor, x: Tensor) -> Any:
            shape = ZukoFlow(x.shape[1], theta.shape[1], 4, 8, (64, 64), 32, "relu")
            density: Any = shape()
            return SbiFlow(density.flow, density.embedding, x[0].shape, theta[0].shape)

        return build

    def draws(self, task: Task, budget: int) -> list[Draw]:
        return equal_draws(task, budget)

    def fit_component(self, component: str, fit_context: FitContext) -> "SbiDensity":
        task, features = fit_context.task, fit_context.features
        own = fit_context.bank.draw(component, fit_context.calls_per_component)
        x, theta = flat(features(own.x), task.event_shape), features.context(own.context)
        trained = train(
            "NLE_A", self.build(task), theta, x, self.config.training, fit_context, component
        )
        return SbiDensity(task, features, *trained)

    def restore_component(
        self, component: str, task: Task, features: Features, state: Mapping[str, Tensor]
    ) -> "SbiDensity":
        build = self.build(task)
        numbers = math.prod(task.event_shape)
        nets = rebuild(build, len(task.space.context_index), numbers, state)
        return SbiDensity(task, features, nets)


class SbiDensity(SbiNetworks):
    """Trained flows of sbi for one component, one per member."""

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        y, eta = flat(self.features(x), self.task.event_shape), self.features.context(context)
        own = eta.expand(len(self.nets), -1, -1)
        members = [_log_density(net, y, at) for net, at in zip(self.nets, own, strict=True)]
        return torch.stack(members) + self.features.log_jacobian(x).float()

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        y, eta = flat(self.features(x), self.task.event_shape), self.features.context(context)
        rows, jacobian = evaluation_rows(y.device), self.features.log_jacobian(x).float()[:, None]
        members = [in_blocks(partial(_log_density, net), y, eta, rows) for net in self.nets]
        return torch.stack(members) + jacobian


def _log_density(net: Any, y: Tensor, eta: Tensor) -> Any:
    return net.log_prob(y[None], eta)[0]
