r"""Coverage that exact intervals and regions should have when datasets are bootstraps of a set.

A set of k M events has an estimate of its own, which scatters about the truth; bootstraps of M
events scatter about that estimate. In units of the variance that an interval of M events allows
for, the two add up to 1 + s/k. The share s is 1 where the numbers of events of each component
scatter from set to set, as multinomial numbers do, and smaller where they are fixed (stratified
sets, as in Sluijter, Diefenbacher, Bhimji & Nachman 2025): what the numbers tell of a parameter
then does not scatter.

With :math:`I` the Fisher information of one event and :math:`J = \sum_k w_k \mathrm{Cov}_k(s)` the
covariance of the score s within components, estimates of stratified sets have the covariance
:math:`I^{-1} J I^{-1}` per event instead of :math:`I^{-1}`.
"""

from dataclasses import dataclass
from math import inf
from statistics import fmean

import torch
from torch import Tensor

from bench.boards.build import expected_coverage
from bench.contracts import Task
from bench.inference.intervals import region_threshold
from bench.inference.likelihood import ExactLikelihood
from bench.seeds import generator

_EVENTS = 20_000  # of each component, for covariances of the score: coverage is good to 5e-4
_STEP = 1e-3  # half the finite difference of a score, in unit coordinates
_ANGLES = 256  # the mean over a circle is exact to rounding


@dataclass(frozen=True)
class Shares:
    """Scatter of estimates of sets at one point, in units of that of multinomial sets.

    Args:
        parameters: ratios of variances of each parameter's estimate, P numbers.
        axes: ratios along the principal axes of all of them jointly, P numbers.
    """

    parameters: tuple[float, ...]
    axes: tuple[float, ...]


MULTINOMIAL = Shares((1.0, 1.0), (1.0, 1.0))
"""Multinomial sets, in two parameters."""


def interval_coverage(multiple: float, share: float = 1.0) -> float:
    """Return the coverage of 68.27 % intervals, 2 Φ(1/√(1 + s/k)) − 1.

    Args:
        multiple: k, the size of a set in units of M; inf for independent datasets.
        share: s, how much estimates of sets scatter.

    Example:
        >>> [round(interval_coverage(k), 4) for k in (1, 9, inf)]
        [0.5205, 0.6572, 0.6827]
    """
    effective = multiple / share if share > 0 else inf
    return expected_coverage({"kind": "bootstrap", "multiple": effective})


def region_coverage(multiple: float, shares: tuple[float, ...] = MULTINOMIAL.axes) -> float:
    """Return the coverage of 95 % Wilks regions in two parameters.

    The likelihood-ratio statistic is a₁ z₁² + a₂ z₂² of standard normal z, a = 1 + s/k; over the
    direction φ of z its distribution is the mean of 1 − exp(−½ t / (a₁ cos²φ + a₂ sin²φ)). With
    s = 1 that is F_χ²₂(5.991/(1 + 1/k)).

    Args:
        multiple: k, the size of a set in units of M; inf for independent datasets.
        shares: s along the two principal axes.

    Example:
        >>> [round(region_coverage(k), 4) for k in (1, 9, inf)]
        [0.7764, 0.9325, 0.95]
    """
    angle = torch.arange(_ANGLES, dtype=torch.float64) * (torch.pi / _ANGLES)
    first, second = (1 + share / multiple for share in shares)
    scale = first * angle.cos() ** 2 + second * angle.sin() ** 2
    return float(1 - (-0.5 * region_threshold(2) / scale).exp().mean())


def expected(task: Task, multiple: float, shares: list[Shares]) -> dict[str, float]:
    """Return coverages by quantity, such as "coverage/mu", averaged over points."""
    values = {
        f"coverage/{task.space.names[i]}": fmean(
            interval_coverage(multiple, s.parameters[i]) for s in shares
        )
        for i in task.reported_index
    }
    return values | {"region_coverage/": fmean(region_coverage(multiple, s.axes) for s in shares)}


def stratified_shares(task: Task, events: int = _EVENTS) -> list[Shares]:
    """Measure the scatter of estimates of sets with fixed numbers of each component.

    Args:
        task: a task with an exact likelihood in two parameters.
        events: simulations of each component at each point; from a seed of their own.
    """
    if len(task.component_names) == 1:  # nothing is fixed
        return [MULTINOMIAL] * len(task.points)
    return [_shares(task, point, number, events) for number, point in enumerate(task.points)]


def _shares(task: Task, point: Tensor, number: int, events: int) -> Shares:
    theta = point.double()
    context = task.space.context_of(theta).float()
    within = torch.zeros(len(theta), len(theta), dtype=torch.float64)
    information = torch.zeros_like(within)
    weights = task.weights(theta).double().tolist()
    rng = generator("fixed counts", task.name, task.version, dict(task.settings), number)
    for weight, component in zip(weights, task.components("test").values(), strict=True):
        x = component.simulate(context.expand(events, -1), rng)
        score = _score(task, x, theta)
        within += weight * torch.cov(score.T)
        information += weight * (score.T @ score) / events
    covariance = torch.linalg.inv(information)
    fixed = covariance @ within @ covariance
    root = torch.linalg.cholesky(covariance)
    axes = torch.linalg.eigvalsh(root.T @ within @ root)
    return Shares(tuple((fixed.diagonal() / covariance.diagonal()).tolist()), tuple(axes.tolist()))


def _score(task: Task, x: Tensor, theta: Tensor) -> Tensor:
    """Compute central differences of log p(x|θ) in unit coordinates, (n, P) float64."""
    unit = task.space.to_unit(theta)
    around = unit + _STEP * torch.cat([torch.eye(len(theta)), -torch.eye(len(theta))]).double()
    nodes = task.space.from_unit(around)
    context = task.space.context_of(nodes)
    log_prob = ExactLikelihood(task).log_ratio(x.double(), context)[0].double()  # (K, n, 2 P)
    mixed = (task.weights(nodes).double().log().T[:, None] + log_prob).logsumexp(0)
    up, down = mixed.chunk(2, -1)
    return (up - down) / (2 * _STEP)
