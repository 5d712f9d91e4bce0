r"""Ornstein–Uhlenbeck process with noisy measurements: a Kalman filter in one dimension.

A particle in a harmonic trap moves by :math:`dX = \kappa (m - X) dt + \sigma dW`, from its
stationary distribution (Uhlenbeck & Ornstein 1930). It is measured at T fixed times with Gaussian
noise of standard deviation :math:`\tau`. The sequence of its positions is an autoregression, so the
likelihood is exact by the filter of Kalman (1960).
"""

import math
from collections.abc import Mapping
from itertools import product

import numpy as np
import torch
from torch import Tensor

from bench.contracts import Observation, Parameter, ParameterSpace, ReferenceKind, Split, Task


class Path:
    """Noisy positions at T times; context (κ, m, σ, τ), event shape (T,).

    Args:
        times: T.
        interval: time Δ between two measurements.
    """

    size = None

    def __init__(self, times: int = 50, interval: float = 0.1) -> None:
        self.times = times
        self.interval = interval

    def _dynamics(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return e^(−κΔ), the stationary variance and the variance added in Δ, (*B) each."""
        rate, _, diffusion, _ = context.unbind(-1)
        stationary = diffusion.square() / (2 * rate)
        added = -stationary * torch.expm1(-2 * rate * self.interval)
        return torch.exp(-rate * self.interval), stationary, added

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        context = context.double()
        memory, stationary, added = self._dynamics(context)
        shape = 2, *context.shape[:-1], self.times
        steps, noise = torch.randn(shape, generator=generator, dtype=torch.float64).unbind()
        path = [stationary.sqrt() * steps[..., 0]]
        for t in range(1, self.times):
            path.append(memory * path[-1] + added.sqrt() * steps[..., t])
        x = context[..., 1:2] + torch.stack(path, -1) + context[..., 3:] * noise
        return x.float()

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        context = context.double()
        memory, variance, added = self._dynamics(context)
        noise = context[..., 3].square()
        deviation = x.double() - context[..., 1:2]  # from the mean, as is `predicted`
        predicted = torch.zeros_like(variance)
        quadratic = log_determinant = torch.zeros_like(variance)
        for t in range(self.times):
            innovation = deviation[..., t] - predicted
            total = variance + noise
            quadratic = quadratic + innovation.square() / total
            log_determinant = log_determinant + total.log()
            gain = memory * variance / total
            predicted = memory * predicted + gain * innovation
            variance = memory * gain * noise + added
        return -0.5 * (quadratic + log_determinant + self.times * math.log(2 * math.pi))

    def score(self, x: Tensor, context: Tensor) -> Tensor:
        pairs = np.broadcast_shapes(x.shape[:-1], context.shape[:-1])
        with torch.enable_grad():
            leaf = context.detach().double().expand(*pairs, -1).clone().requires_grad_()
            score: Tensor
            (score,) = torch.autograd.grad(self.log_prob(x, leaf).sum(), leaf)
        return score


class OrnsteinUhlenbeck(Task):
    """Datasets of M paths; reversion rate and diffusion are reported."""

    name = "ornstein-uhlenbeck"
    title = "Ornstein–Uhlenbeck process with noise"
    version = 1
    citation = (
        "Uhlenbeck & Ornstein (1930), Phys. Rev. 36, 823; Kalman (1960), J. Basic Eng. 82, 35"
    )
    observations = 30
    event_shape = (50,)
    observation: Observation = "series"
    reference: ReferenceKind = "evidence"
    reported = ("rate", "diffusion")
    space = ParameterSpace(
        [
            Parameter("rate", 0.1, 6.0, "interest", (0.6, 2.0), "log", "κ", "1/time"),
            Parameter("mean", -2.0, 2.0, "nuisance", (-1.0, 1.0), symbol="m"),
            Parameter("diffusion", 0.3, 3.0, "interest", (0.7, 1.4), "log", "σ"),
            Parameter("noise", 0.05, 1.0, "nuisance", (0.2, 0.4), "log", "τ"),
        ],
        context=["rate", "mean", "diffusion", "noise"],
    )
    nominal = torch.tensor([1.0, 0.0, 1.0, 0.3])
    points = torch.tensor(
        [[rate, 0.5, diffusion, 0.3] for rate, diffusion in product((0.7, 1.6), (0.8, 1.2))],
        dtype=torch.float64,
    )

    def components(self, split: Split) -> Mapping[str, Path]:
        return {"path": Path()}

    def summaries(self, x: Tensor) -> Tensor:
        """Return the mean, and logarithms of mean squared differences of neighbours and quarters.

        The last two are variograms, at one interval and at a quarter of the series.
        """
        quarter = x.shape[-1] // 4
        near = x.diff(dim=-1).square().mean(-1)
        far = (x[..., quarter:] - x[..., :-quarter]).square().mean(-1)
        return torch.stack([x.mean(-1), near.log(), far.log()], -1)

    def weights(self, theta: Tensor) -> Tensor:
        return torch.ones_like(theta[..., :1])
