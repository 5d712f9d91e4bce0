"""Weighted ensembles: sums of log-ratios whose weights, and their uncertainty, are fitted."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit
from torch import Tensor

from bench.contracts import FitContext, Settings, Surrogate, Wrapped
from bench.nn.calibration import logistic_regression
from bench.wrappers.held_out import HeldOutPairs, HeldOutWrapper

Array = NDArray[np.float64]


class WeightedConfig(Settings):
    """Configuration of weighted ensembles.

    Args:
        members: number of independently trained members of one ensemble.
        draw: 0 for the fitted weights; a positive number for that draw from their distribution.
    """

    members: int = Field(ge=2, le=9999)
    draw: int = Field(default=0, ge=0)


class Weighted(HeldOutWrapper):
    """Weighted sum of log-ratios, with weights for every component.

    The weights minimise the binary cross-entropy of a tenth of the budget. Ensembles with drawn
    weights scatter as fits to other simulations would; `bench study training` quotes this spread.
    """

    name = "weighted"
    title = "Sum of the log-ratios of several members, with fitted weights"
    citation = "Benevedes & Thaler (2025), arXiv:2506.00113"
    Config = WeightedConfig
    example: ClassVar[Mapping[str, Any]] = {"members": 2}
    config: WeightedConfig

    @property
    def members(self) -> int:
        return self.config.members

    def fit(self, surrogates: Sequence[Surrogate], fit_context: FitContext) -> Mapping[str, Tensor]:
        """Fit the weights of every component, or draw them from their distribution."""
        found = []
        rng = fit_context.generator(fit_context.bank.members[0], "weights")
        for pairs in self.pairs(surrogates, fit_context):
            weights, covariance = fit_weights(pairs)
            if self.config.draw:
                normal = torch.randn(len(weights), generator=rng, dtype=torch.float64).numpy()
                weights = weights + _root(covariance) @ normal
            found.append(torch.from_numpy(weights))
        return {"weights": torch.stack(found, 1)[None]}

    def restore(self, surrogates: Sequence[Surrogate], state: Mapping[str, Tensor]) -> Surrogate:
        weights = state["weights"]  # (members, surrogates, components)

        def total(*log_ratios: Tensor) -> Tensor:
            own = weights.to(log_ratios[0]).unbind(1)
            shaped = (w.reshape(*w.shape, *(1,) * (log_ratios[0].dim() - 2)) for w in own)
            return torch.stack([w * r for w, r in zip(shaped, log_ratios, strict=True)]).sum(0)

        return Wrapped(surrogates, total, state)


def fit_weights(pairs: HeldOutPairs) -> tuple[Array, Array]:
    r"""Fit weights by logistic regression, with the covariance of their errors.

    The covariance is the sandwich :math:`H^{-1} V H^{-1}`, with the curvature H of the loss and the
    sum V of squared gradients of blocks (Huber 1967, Proc. Fifth Berkeley Symp. 1, 221).

    Args:
        pairs: log-ratios of N surrogates.

    Returns:
        Weights, (N,), and covariance, (N, N).
    """
    together, apart = (t.double().numpy().T for t in (pairs.together, pairs.apart))
    equal = np.full(together.shape[1], 1 / together.shape[1])
    weights = logistic_regression(together, apart, start=equal, n=pairs.simulations)
    curvature = 1e-3 / pairs.simulations * np.eye(len(weights))
    blocks = torch.cat([pairs.blocks_together, pairs.blocks_apart])
    gradient = np.zeros((int(blocks.max()) + 1, len(weights)))
    for design, own, sign in (
        (together, pairs.blocks_together, 1.0),
        (apart, pairs.blocks_apart, -1.0),
    ):
        p = expit(-sign * design @ weights)
        curvature += (design * (p * (1 - p))[:, None]).T @ design / (2 * len(design))
        np.add.at(gradient, own.numpy(), -sign * design * p[:, None] / (2 * len(design)))
    inverse = np.linalg.inv(curvature)
    covariance: Array = inverse @ (gradient.T @ gradient) @ inverse
    return weights, covariance


def _root(covariance: Array) -> Array:
    """Return a square root of a matrix that may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    root: Array = vectors * np.sqrt(values.clip(0))
    return root
