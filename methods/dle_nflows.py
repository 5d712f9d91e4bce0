"""DLE on nflows (Durkan et al. 2019, arXiv:1906.04032), which the first papers used.

Its splines check the values of their inputs, so members train one after another and no step is
recorded. In its autoregressive networks, the parameters of the first feature's spline are constant
and do not depend on the context. Blocks with reversed order condition this feature.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from bench.contracts import Task
from bench.errors import NotApplicable
from bench.nn.flops import SPLINES_NFLOWS
from bench.nn.flows import FlowShape, over_pairs

from .dle import DLE


class NflowsFlow(FlowShape):
    """Conditional flow, built with nflows."""

    def __call__(self) -> nn.Module:
        from nflows.distributions import StandardNormal
        from nflows.flows import Flow
        from nflows.transforms import (
            CompositeTransform,
            MaskedAffineAutoregressiveTransform,
            ReversePermutation,
        )

        from .nflows_splines import SplineBlock

        options: dict[str, Any] = {
            "num_blocks": len(self.hidden) - 1,
            "use_residual_blocks": False,
            "activation": getattr(functional, self.activation),
        }
        sizes = (self.features, self.hidden[0], self.embedding)
        blocks: list[nn.Module] = []
        for i in range(self.transforms):
            blocks += [ReversePermutation(self.features)] if i else []
            if self.bins is None:
                blocks.append(MaskedAffineAutoregressiveTransform(*sizes, **options))
            else:
                blocks.append(
                    SplineBlock(
                        *sizes, num_bins=self.bins, tails="linear", tail_bound=5.0, **options
                    )
                )
        flow = Flow(CompositeTransform(blocks), StandardNormal([self.features]), self.embed())
        return _LogDensity(flow)


class _LogDensity(nn.Module):
    def __init__(self, flow: Any) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, y: Tensor, eta: Tensor) -> Tensor:
        return over_pairs(self.flow.log_prob, y, eta)

    def inverse(self, noise: Tensor, eta: Tensor) -> Tensor:
        embedded = self.flow._embedding_net(eta)
        out: Tensor = self.flow._transform.inverse(noise, context=embedded)[0]
        return out


class DLENflows(DLE):
    """Density estimation with a conditional neural spline flow, on nflows."""

    name = "dle-nflows"
    title = "Conditional spline flow (nflows)"
    requires: ClassVar[Mapping[str, str]] = {"nflows": "nlbench[nflows]"}
    configurations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tuned": {
            "transforms": 4,
            "activation": "silu",
            # Long trainings diverge at 3e-2, the best rate of the short search.
            "training": {"batch_size": 1024, "learning_rate": 1e-2, "epochs": 12},
        },
        "published": DLE.configurations["published"],
    }
    Flow = NflowsFlow
    vectorise = False
    speed = gpu_speed = SPLINES_NFLOWS

    def check(self, task: Task) -> None:
        super().check(task)
        if len(set(self._sizes(task).hidden)) > 1:
            raise NotApplicable("the hidden layers of dle-nflows must be of one width")
