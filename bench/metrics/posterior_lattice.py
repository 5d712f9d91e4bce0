"""Expectations over exact posteriors of one or two parameters, by sums over a lattice."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bench.contracts import BoxWindow, LikelihoodPrediction
from bench.inference.intervals import region_threshold
from bench.inference.lattice import BOX_DEPTH
from bench.inference.profile import cubic, on_product, per_dataset, summed, total, trapezoid
from bench.metrics.intervals import Array
from bench.metrics.likelihood import axes, others, windows

_NODES = 193  # nodes per parameter of the grids of integrals
_BLOCK = 16  # datasets per iteration, which limits memory
_SATURATED = 1e-3  # posterior probability where a likelihood has fallen beyond the saved depth


@dataclass(frozen=True)
class Likelihood:
    """Likelihoods of D datasets in the box, normalised in unit coordinates.

    Args:
        low, high: ends of the windows, (D, P); the likelihood is 0 outside.
        joint: log-likelihoods at evenly spaced nodes, (D, G) or (D, G, G).
    """

    low: Tensor
    high: Tensor
    joint: Tensor

    def _between(self, grid: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Return the interpolation matrix (D, T, G) to grids (D, T), and what is outside."""
        low, high = self.low[:, axis, None], self.high[:, axis, None]
        nodes = self.joint.shape[1 + axis]
        position = (grid - low) / (high - low) * (nodes - 1)
        slack = 1e-6  # a common bound may differ by rounding
        outside = (position < -slack) | (position > nodes - 1 + slack)
        return cubic(position, nodes), outside

    def _across(self, grid: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return matrices to the product of grids (D, P, T), and what is outside, (D, *T)."""
        found = [self._between(grid[:, axis], axis) for axis in range(grid.shape[1])]
        outside = found[0][1]
        for _, beside in found[1:]:
            outside = outside.unsqueeze(2) | beside.unsqueeze(1)
        return [matrix for matrix, _ in found], outside

    def log_joint(self, grid: Tensor) -> Tensor:
        """Return log-densities on grids (D, P, T), (D, *T); at the floor outside the window."""
        across, outside = self._across(grid)
        # Log-likelihoods are interpolated, because the logarithm of a Gaussian is a parabola.
        values = on_product(self.joint, across).clamp_min(-BOX_DEPTH)
        values = values.masked_fill(outside, -BOX_DEPTH)
        return values - per_dataset(self._log_total, values)

    def log_marginal(self, grid: Tensor, axis: int) -> Tensor:
        """Return the log-density of one parameter on grids (D, T), (D, T)."""
        across, outside = self._between(grid, axis)
        at_nodes = self._marginals[axis]
        top = at_nodes.amax(-1, keepdim=True)
        values = (across @ at_nodes.unsqueeze(-1)).squeeze(-1)
        return torch.where(outside, top - BOX_DEPTH, torch.maximum(values, top - BOX_DEPTH))

    @cached_property
    def grid(self) -> Tensor:
        """Evenly spaced nodes of the windows, (D, P, T)."""
        share = torch.linspace(0, 1, _NODES, dtype=torch.float64)
        return self.low.unsqueeze(-1) + (self.high - self.low).unsqueeze(-1) * share

    @cached_property
    def step(self) -> Tensor:
        """Distances of the grids' nodes, (D, P)."""
        return (self.high - self.low) / (_NODES - 1)

    @cached_property
    def _fine(self) -> Tensor:
        return on_product(self.joint, self._across(self.grid)[0]).exp()

    @cached_property
    def _log_total(self) -> Tensor:
        return (total(self._fine, trapezoid(_NODES)) * self.step.prod(-1)).log()

    @cached_property
    def _marginals(self) -> list[Tensor]:
        """Log-densities of each parameter at the nodes of `joint`, (D, G) each."""
        every = (_NODES - 1) // (self.joint.shape[1] - 1)
        floor = torch.finfo(torch.float64).tiny
        return [
            (sums[:, ::every] * others(self.step, axis)).clamp_min(floor).log()
            - self._log_total[:, None]
            for axis, sums in enumerate(summed(self._fine, trapezoid(_NODES)))
        ]


@dataclass(frozen=True)
class _Posterior:
    """Distribution of one parameter of D datasets, tabulated on its grid.

    Args:
        theta: nodes, in the parameter's unit, (D, T).
        below: probability below each node, (D, T).
        shortfall: E[(node − θ)₊] = ∫ below dθ, (D, T).
    """

    theta: Array
    below: Array
    shortfall: Array

    @classmethod
    def of(cls, exact: Likelihood, axis: int, own: LikelihoodPrediction) -> "_Posterior":
        unit = exact.grid[:, axis]
        density = exact.log_marginal(unit, axis).exp().numpy()
        below = _integral(density, unit.numpy())
        below /= below[:, -1:]
        low, high = own.low[axis], own.high[axis]
        theta = low + (high - low) * unit.numpy()
        if own.log_scale[axis]:
            theta = low * (high / low) ** unit.numpy()
        return cls(theta, below, _integral(below, theta))

    def probability(self, lower: Array, upper: Array) -> Array:
        """Return the probability of intervals (D, T)."""
        return self._at(self.below, upper) - self._at(self.below, lower)

    def distance(self, lower: Array, upper: Array) -> Array:
        """Return the expected distance from θ to intervals (D, T)."""
        first, last = self.theta[:, :1], self.theta[:, -1:]
        under = self._at(self.shortfall, lower) + np.maximum(lower - last, 0)
        over = (
            np.maximum(last - np.maximum(upper, first), 0)
            + np.maximum(first - upper, 0)
            - (self.shortfall[:, -1:] - self._at(self.shortfall, upper))
        )
        return np.asarray(under + np.maximum(over, 0))

    def _at(self, table: Array, theta: Array) -> Array:
        rows = zip(theta, self.theta, table, strict=True)
        return np.stack([np.interp(at, nodes, values) for at, nodes, values in rows])


def _integral(values: Array, at: Array) -> Array:
    """Integrate along the last axis by the trapezoidal rule, from the first node to each."""
    pieces = 0.5 * (values[:, 1:] + values[:, :-1]) * np.diff(at)
    return np.concatenate([np.zeros((len(values), 1)), pieces.cumsum(-1)], -1)


def _blocks(own: LikelihoodPrediction) -> list[slice]:
    count = len(own.datasets)
    return [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]


def _both(
    own: LikelihoodPrediction, truth: LikelihoodPrediction
) -> list[tuple[slice, BoxWindow, BoxWindow]]:
    assert own.box_window is not None
    assert truth.box_window is not None
    return [(rows, own.box_window, truth.box_window) for rows in _blocks(own)]


def of_intervals(
    own: LikelihoodPrediction, truth: LikelihoodPrediction, quantity: str
) -> dict[str, Array]:
    """Return the probability of intervals, or the expected distance to them, (D, T) by name."""
    parts: dict[str, list[Array]] = {name: [] for name in own.reported_names}
    for rows, _, reference in _both(own, truth):
        assert own.box is not None
        exact = Likelihood(*windows(reference, rows))
        for i, (name, axis) in enumerate(axes(own).items()):
            posterior = _Posterior.of(exact, axis, own)
            ends = own.box.lower[rows, i], own.box.upper[rows, i]
            parts[name].append(getattr(posterior, quantity)(*ends))
    return {name: np.concatenate(found) for name, found in parts.items() if found}


def region(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> Array:
    """Return the probability of 95 % regions, (D,)."""
    assert own.box is not None
    parts, factor = [], torch.from_numpy(own.box.region_factor)
    weights, threshold = trapezoid(_NODES), region_threshold(len(own.names))
    for rows, box, reference in _both(own, truth):
        exact, surrogate = Likelihood(*windows(reference, rows)), Likelihood(*windows(box, rows))
        density = exact.log_joint(exact.grid).exp()
        logs = surrogate.log_joint(exact.grid)
        statistic = -2 * (per_dataset(surrogate._log_total, logs) + logs)
        statistic = statistic * per_dataset(factor[rows], statistic)
        low = torch.minimum(statistic[..., 1:], statistic[..., :-1])
        high = torch.maximum(statistic[..., 1:], statistic[..., :-1])
        share = ((threshold - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
        cells = 0.5 * (density[..., 1:] + density[..., :-1]) * share
        parts.append((total(cells.sum(-1), weights) * exact.step.prod(-1)).numpy())
    return np.concatenate(parts)


def divergences(
    own: LikelihoodPrediction, truth: LikelihoodPrediction
) -> dict[str, tuple[Array, Array]]:
    """Return Kullback–Leibler divergences, and whether they are lower limits, (D,) each by key."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    weights = trapezoid(_NODES)
    for rows, box, reference in _both(own, truth):
        exact, surrogate = Likelihood(*windows(reference, rows)), Likelihood(*windows(box, rows))
        logs = exact.log_joint(exact.grid), surrogate.log_joint(exact.grid)
        nodes = weights if len(own.names) == 1 else weights[:, None] * weights
        probability = logs[0].exp() * nodes * per_dataset(exact.step.prod(-1), logs[0])
        lowest = -BOX_DEPTH - surrogate._log_total
        found.setdefault("joint", []).append(_kl(probability, logs[0], logs[1], lowest))
        for name, axis in axes(own).items():
            one = [d.log_marginal(exact.grid[:, axis], axis) for d in (exact, surrogate)]
            probability = one[0].exp() * weights
            lowest = surrogate._marginals[axis].amax(-1) - BOX_DEPTH
            found.setdefault(name, []).append(_kl(probability, one[0], one[1], lowest))
    return {
        key: (
            torch.cat([divergence for divergence, _ in parts]).numpy(),
            torch.cat([floored for _, floored in parts]).double().numpy(),
        )
        for key, parts in found.items()
    }


def _kl(
    probability: Tensor, exact: Tensor, surrogate: Tensor, lowest: Tensor
) -> tuple[Tensor, Tensor]:
    """Return divergences (D,), and whether much probability is where the surrogate is floored.

    Args:
        probability: of each node under the exact likelihood, up to a factor, (D, …).
        exact: the exact log-density, (D, …).
        surrogate: the surrogate's, (D, …).
        lowest: the surrogate's floor, (D,).
    """
    probability, exact, surrogate = (t.flatten(1) for t in (probability, exact, surrogate))
    probability = probability / probability.sum(-1, keepdim=True)
    divergence = (probability * (exact - surrogate)).sum(-1)
    floored = (probability * (surrogate <= lowest[:, None] + 1e-6)).sum(-1)
    return divergence, floored > _SATURATED


def overlaps(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> dict[str, Array]:
    """Return overlaps, (D,) by key."""
    found: dict[str, list[Array]] = {}
    weights = trapezoid(_NODES)
    share = torch.linspace(0, 1, _NODES, dtype=torch.float64)
    for rows, box, reference in _both(own, truth):
        both = Likelihood(*windows(reference, rows)), Likelihood(*windows(box, rows))
        low = torch.maximum(both[0].low, both[1].low)
        length = (torch.minimum(both[0].high, both[1].high) - low).clamp_min(0)
        grid = low.unsqueeze(-1) + length.unsqueeze(-1) * share
        step = length / (_NODES - 1)
        smaller = torch.minimum(*(d.log_joint(grid) for d in both)).exp()
        joint = total(smaller, weights) * step.prod(-1)
        found.setdefault("joint", []).append(joint.numpy())
        for name, axis in axes(own).items():
            one = torch.minimum(*(d.log_marginal(grid[:, axis], axis) for d in both)).exp()
            found.setdefault(name, []).append((one @ weights * step[:, axis]).numpy())
    return {key: np.concatenate(parts) for key, parts in found.items()}


def quantiles(
    own: LikelihoodPrediction, truth: LikelihoodPrediction, levels: Array
) -> dict[str, Array]:
    """Return quantiles of each reported parameter, (D, L) by name."""
    found: dict[str, list[Array]] = {name: [] for name in own.reported_names}
    for rows, _, reference in _both(own, truth):
        exact = Likelihood(*windows(reference, rows))
        for name, axis in axes(own).items():
            posterior = _Posterior.of(exact, axis, own)
            each = zip(posterior.below, posterior.theta, strict=True)
            found[name].append(np.stack([np.interp(levels, below, at) for below, at in each]))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def ranks(own: LikelihoodPrediction) -> dict[str, Array]:
    """Return the probability below the true values under the surrogate's own posterior, (D,)."""
    assert own.box_window is not None
    found: dict[str, list[Array]] = {name: [] for name in own.reported_names}
    for rows in _blocks(own):
        surrogate = Likelihood(*windows(own.box_window, rows))
        for name, axis in axes(own).items():
            posterior = _Posterior.of(surrogate, axis, own)
            theta = own.datasets.theta[rows, axis, None]
            found[name].append(posterior.probability(np.full_like(theta, -np.inf), theta)[:, 0])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def nearer(own: LikelihoodPrediction, share: Array) -> Array:
    """Return the own posterior's probability of points nearer to others than the true parameters.

    Args:
        own: the prediction.
        share: position of the other point between the least and greatest true parameters of all
            datasets, (D, P); distances are in these units.

    Returns:
        (D,).
    """
    assert own.box_window is not None
    truth = _unit(own)
    least, length = truth.amin(0), (truth.amax(0) - truth.amin(0)).clamp_min(1e-12)
    other = least + length * torch.from_numpy(share)
    far = (((truth - other) / length) ** 2).sum(-1)
    found = []
    for rows in _blocks(own):
        surrogate = Likelihood(*windows(own.box_window, rows))
        offset = (surrogate.grid - other[rows, :, None]) / length[:, None]  # (D, P, T)
        square = offset[:, 0] ** 2
        weights = trapezoid(_NODES)
        for axis in range(1, offset.shape[1]):
            square = square.unsqueeze(-1) + offset[:, axis].unsqueeze(1) ** 2
            weights = weights.unsqueeze(-1) * trapezoid(_NODES)
        mass = (surrogate.log_joint(surrogate.grid).exp() * weights).flatten(1)
        near = square.flatten(1) < far[rows, None]
        found.append(((mass * near).sum(-1) / mass.sum(-1)).numpy())
    return np.concatenate(found)


def _unit(own: LikelihoodPrediction) -> Tensor:
    """Return the true parameters in unit coordinates, (D, P)."""
    theta, low, high = own.datasets.theta, own.low, own.high
    linear = (theta - low) / (high - low)
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithmic = np.log(theta / low) / np.log(high / low)
    return torch.from_numpy(np.where(own.log_scale, logarithmic, linear))


def is_truth(own: LikelihoodPrediction, truth: LikelihoodPrediction) -> bool:
    """Return whether a prediction is that of the exact likelihood."""
    assert own.box_window is not None
    assert truth.box_window is not None
    return np.array_equal(own.box_window.joint, truth.box_window.joint)
