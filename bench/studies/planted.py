"""Planted defects: exact likelihoods with an error of known size, for grading diagnostics."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from itertools import product
from math import cos, log, radians, sin
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bench.contracts import (
    Component,
    Features,
    FitLog,
    HasLogProb,
    ParameterSpace,
    ReferenceKind,
    Task,
)
from bench.nn.score_matching import monomials
from bench.seeds import generator

Kind = Literal["offset", "narrower", "rotation", "mode", "tail", "nats"]
SIZES: Mapping[Kind, tuple[float, float, float]] = {
    "offset": (0.01, 0.03, 0.1),
    "narrower": (0.01, 0.03, 0.1),
    "rotation": (1.0, 3.0, 10.0),
    "mode": (0.003, 0.01, 0.03),
    "tail": (0.003, 0.01, 0.03),
    "nats": (0.001, 0.003, 0.01),
}
"""Sizes of each defect.

The context is off by a share of its range. Observations are narrower by a share of their width, or
turned by an angle in degrees. A share of the observations is nearly missing, around one of them or
at large distances from the mean. The log-density is off by a number of nats between the bounds of
the first context parameter, the same for all observations.
"""

_NODES = 32  # of quadratures, along each context parameter
_SUPPRESSED = 0.01  # density that remains where observations are missing
_SIMULATIONS = 100_000  # of each component, for means, distances and normalisation


@dataclass(frozen=True)
class Defect:
    """Error of a likelihood.

    Args:
        kind: what is wrong.
        size: how much, as in `SIZES`; 0 for none.
    """

    kind: Kind
    size: float


class Planted:
    """Ratio of a wrong density to the exact one of the evidence reference, of one member.

    The evidence is the mean of the exact densities over components and contexts, by Gauss–Legendre
    quadrature.

    Args:
        task: the task, whose components have densities of vectors.
        features: its features, in which defects are defined.
        defect: the defect.
    """

    has_density = False

    def __init__(self, task: Task, features: Features, defect: Defect) -> None:
        self.reference: ReferenceKind | None = "evidence"
        self.task, self.features, self.defect = task, features, defect
        self.log = FitLog(0, [{}])
        every = task.components("test").values()
        self.components = [c for c in every if isinstance(c, HasLogProb)]
        self._contexts = ParameterSpace(task.space.context, ())
        self._nodes, self._log_weights = _quadrature(self._contexts)
        self._regions = [
            _Region.learn(task, features, component, k, defect) for k, component in enumerate(every)
        ]

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        """Return log-ratios, as `bench.contracts.Surrogate`."""
        return self._evaluate(x[:, None], context[None])

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        """Return log-ratios of pairs, as `bench.contracts.HasPairs`."""
        own = context.view(context.shape[-2:])
        return self._evaluate(x, own)

    def without_reference(self) -> "Planted":
        """Return log-densities instead, which make the same likelihoods in half the time."""
        found = copy(self)
        found.reference = None
        return found

    def state(self) -> None:
        """Return None, because there is nothing to save."""
        return None

    def _evaluate(self, x: Tensor, context: Tensor) -> Tensor:
        """Evaluate observations and contexts that are broadcast, (1, K, …)."""
        every = zip(self.components, self._regions, strict=True)
        found = torch.stack([self._log_density(*part, x, context) for part in every])
        if self.reference is None:
            return found[None]
        nodes = torch.cat([c.log_prob(x[..., None, :], self._nodes) for c in self.components], -1)
        weights = self._log_weights.repeat(len(self.components)) - log(len(self.components))
        return (found - torch.logsumexp(nodes + weights, -1))[None]

    def _log_density(
        self, component: HasLogProb, region: "_Region", x: Tensor, context: Tensor
    ) -> Tensor:
        kind, size = self.defect.kind, self.defect.size
        if not size:
            return component.log_prob(x, context)
        unit = self._contexts.to_unit(context.double())
        if kind == "offset":
            moved = self._contexts.from_unit((unit + size).clamp(0, 1))
            return component.log_prob(x, moved.to(context))
        if kind == "nats":
            return component.log_prob(x, context) + size * unit[..., 0]
        if kind in ("mode", "tail"):
            y = self.features(x).double()
            outside = region.distance(y, unit) > region.radius
            wrong = outside if kind == "tail" else ~outside
            factor = torch.where(wrong, _SUPPRESSED, 1.0).log()
            return component.log_prob(x, context) + factor - region.log_total(unit)
        y, mean = self.features(x).double(), region.mean(unit)
        moved_y = mean + self._moved(y - mean)
        change = self.features.log_jacobian(x)
        moved_x = self.features.inverse(moved_y)
        moved_change = self.features.log_jacobian(moved_x)
        stretch = -y.shape[-1] * log(1 - size) if kind == "narrower" else 0.0
        return component.log_prob(moved_x, context) - moved_change + change + stretch

    def _moved(self, y: Tensor) -> Tensor:
        """Return the deviations whose exact density is the wrong density of y, (…, F)."""
        if self.defect.kind == "narrower":
            return y / (1 - self.defect.size)
        angle = radians(self.defect.size)
        turned = y.clone()
        turned[..., 0] = cos(angle) * y[..., 0] - sin(angle) * y[..., 1]
        turned[..., 1] = sin(angle) * y[..., 0] + cos(angle) * y[..., 1]
        return turned


def _quadrature(contexts: ParameterSpace) -> tuple[Tensor, Tensor]:
    """Return contexts (C, d) and logarithms of weights (C,) of averages over all contexts."""
    at, weight = (torch.from_numpy(a / 2) for a in np.polynomial.legendre.leggauss(_NODES))
    unit = torch.tensor([*product((at + 0.5).tolist(), repeat=len(contexts))]).double()
    weights = torch.tensor([*product(weight.tolist(), repeat=len(contexts))]).double()
    return contexts.from_unit(unit), weights.log().sum(-1)


@dataclass(frozen=True)
class _Region:
    """Mean of one component's features, and the region where a defect suppresses observations.

    Args:
        coefficients: of the mean, as a quadratic function of the context, (terms, F).
        centre: centre of the region that a missing mode leaves, (F,); the mean where it is None.
        radius: distance from it.
        total: coefficients of the logarithm of the remaining probability, (terms,).
    """

    coefficients: Tensor
    centre: Tensor | None
    radius: float
    total: Tensor

    @classmethod
    def learn(
        cls, task: Task, features: Features, component: Component, k: int, defect: Defect
    ) -> "_Region":
        """Simulate the component, and find a region that has the defect's share."""
        rng = generator("planted", task.name, task.version, k)
        context = task.space.draw_context(_SIMULATIONS, rng)
        y = features(component.simulate(context, rng)).double()
        unit = ParameterSpace(task.space.context, ()).to_unit(context.double())
        basis = monomials(2 * unit - 1)
        coefficients = torch.linalg.lstsq(basis, y).solution
        nothing = torch.zeros(basis.shape[1], dtype=torch.float64)
        if defect.kind not in ("mode", "tail") or not defect.size:
            return cls(coefficients, None, 0.0, nothing)
        centre = y[0] if defect.kind == "mode" else None
        found = cls(coefficients, centre, 0.0, nothing)
        distance = found.distance(y, unit)
        share = defect.size if defect.kind == "mode" else 1 - defect.size
        radius = float(distance.sort().values[int(share * len(distance))])
        wrong = distance <= radius if defect.kind == "mode" else distance > radius
        remaining = 1 - (1 - _SUPPRESSED) * wrong.double()
        total = torch.linalg.lstsq(basis, remaining[:, None]).solution[:, 0]
        return cls(coefficients, centre, radius, total)

    def mean(self, unit: Tensor) -> Tensor:
        """Return the mean of the features at contexts in unit coordinates."""
        return monomials(2 * unit - 1) @ self.coefficients

    def distance(self, y: Tensor, unit: Tensor) -> Tensor:
        """Return the distance of features from the centre, broadcast over both arguments."""
        centre = self.mean(unit) if self.centre is None else self.centre
        found: Tensor = torch.linalg.vector_norm(y - centre, dim=-1)
        return found

    def log_total(self, unit: Tensor) -> Tensor:
        """Return the logarithm of the probability that remains at contexts."""
        return (monomials(2 * unit - 1) @ self.total).clamp_min(_SUPPRESSED).log()
