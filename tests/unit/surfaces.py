"""Likelihoods for tests of surfaces: exact, resampled, and Gaussian by construction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.contracts import HasLogProb, Parameter, ParameterSpace, Resolution, Task
from bench.inference.likelihood import MixtureLikelihood
from bench.registry.registry import Registry
from bench.testing import asymmetric

Array = NDArray[np.float64]
LogRatio = Callable[[Tensor, Tensor], Tensor]
REGISTRY = Registry([asymmetric.__file__])
DEFAULT = (Resolution(spacing=0.25, tolerance=None), Resolution())


def square(context: tuple[str, ...] = ("a", "b")) -> ParameterSpace:
    """Return a space of two parameters between 0 and 1."""
    return ParameterSpace(
        [Parameter(name, 0.0, 1.0, "interest", (0.1, 0.9)) for name in "ab"], context=context
    )


def alone(theta: Tensor) -> Tensor:
    """Return the weight of a single component."""
    return torch.ones(*theta.shape[:-1], 1, dtype=theta.dtype)


def exact_log_ratio(task: Task) -> LogRatio:
    """Return the exact log-ratio, implemented independently of the suite."""
    components = [c for c in task.components("test").values() if isinstance(c, HasLogProb)]

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        return torch.stack([c.log_prob(x[:, None], context[None]) for c in components])[None]

    return log_ratio


def bootstraps(n: int, size: int, datasets: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(size, np.full(n, 1 / n), datasets)
    return torch.tensor(counts, dtype=torch.float32)


def normal_log_ratio(precision: Tensor) -> LogRatio:
    """Return the log-ratio of one component: x Gaussian around η in two dimensions."""

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        pull = x.double()[:, None] - context.double()[None]
        return -0.5 * ((pull @ precision) * pull).sum(-1)[None, None]

    return log_ratio


def normal_set(
    sigma: tuple[float, float], rho: float, estimates: list[tuple[float, float]]
) -> MixtureLikelihood:
    """Return datasets with Gaussian likelihoods around `estimates` in unit coordinates."""
    covariance = torch.tensor(
        [[sigma[0] ** 2, rho * sigma[0] * sigma[1]], [rho * sigma[0] * sigma[1], sigma[1] ** 2]],
        dtype=torch.float64,
    )
    return MixtureLikelihood(
        normal_log_ratio(torch.linalg.inv(covariance)),
        torch.tensor(estimates, dtype=torch.float64),
        torch.eye(len(estimates)),
        square(),
        alone,
        torch.tensor([0.5, 0.5], dtype=torch.float64),
    )
