"""Refinement against a dense scan; windows of surfaces; independence of members and datasets."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from seeded import fit_context
from surfaces import (
    DEFAULT,
    REGISTRY,
    Array,
    LogRatio,
    bootstraps,
    exact_log_ratio,
    normal_set,
    square,
)
from torch import Tensor

from bench.contracts import LatticeWindow, Task
from bench.inference.intervals import DEPTH, NODES, summarise
from bench.inference.lattice import Lattice, refine
from bench.inference.likelihood import MixtureLikelihood
from bench.stages.datasets import events as simulate_events
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store


class Dense:
    """The same definitions computed independently: root finding on float64 mixtures.

    Args:
        log_ratio: the surrogate of two components, one member.
        x: events.
        counts: of one dataset, (n,).
        nodes: dense nodes of z.
    """

    def __init__(self, log_ratio: LogRatio, x: Tensor, counts: Tensor, nodes: Array) -> None:
        held = counts > 0
        self.counts = counts[held].double().numpy()
        contexts = torch.tensor(nodes, dtype=torch.float32)[:, None]
        parts = [log_ratio(x[held], c)[0].double().numpy() for c in contexts.split(256)]
        surface = np.concatenate(parts, -1)
        top = surface.max(0)
        self.constant = self.counts @ top
        self.densities = np.exp(surface - top)
        self.nodes = nodes

    def value(self, mu: float) -> Array:
        """Return log L(μ, z_j), (J,)."""
        signal, background = self.densities
        out: Array = self.counts @ np.log((mu * signal + background) / (1 + mu)) + self.constant
        return out

    def profile(self) -> Array:
        """Return max over μ of log L(μ, z_j), (J,), by bisection in f = μ/(1 + μ)."""
        signal, background = self.densities
        low, high = np.zeros(len(self.nodes)), np.full(len(self.nodes), 0.7 / 1.7)
        for _ in range(30):
            f = 0.5 * (low + high)
            rising = self.counts @ ((signal - background) / (f * signal + (1 - f) * background)) > 0
            low, high = np.where(rising, f, low), np.where(rising, high, f)
        f = 0.5 * (low + high)
        out: Array = self.counts @ np.log(f * signal + (1 - f) * background) + self.constant
        return out

    def z_interval(self) -> tuple[float, float, float]:
        """Return the maximum and the connected interval in z."""
        profile = self.profile()
        top = int(profile.argmax())
        root = np.sqrt(2 * (profile[top] - profile))
        ends = []
        for step in (-1, 1):
            j = top
            while root[j + step] <= 1:
                j += step
            share = (1 - root[j]) / (root[j + step] - root[j])
            ends.append(float(self.nodes[j] + share * (self.nodes[j + step] - self.nodes[j])))
        return float(profile[top]), ends[0], ends[1]

    def mu_interval(self) -> tuple[float, float]:
        """Return the interval in μ, profiled over the dense nodes of z."""
        found = optimize.minimize_scalar(
            lambda mu: -float(self.value(mu).max()), bounds=(0, 0.7), method="bounded"
        )
        best, top = float(found.x), -float(found.fun)

        def fallen(mu: float) -> float:
            return 2 * (top - float(self.value(mu).max())) - 1

        lower, upper = (
            optimize.brentq(fallen, *sorted((best, bound)), xtol=1e-5) for bound in (0, 0.7)
        )
        return float(lower), float(upper)


def compare(
    task: Task, log_ratio: LogRatio, n: int, datasets: int, seed: int
) -> tuple[Array, Array]:
    """Compare refinement with a dense scan, without datasets cut at a bound.

    Returns:
        Errors of the four ends in units of the half-width (D, 4), and of the truth's log-ratio
        in nats (D,).
    """
    truth = task.points[(4 + seed) % 9]
    x = simulate_events(task, truth, n, torch.Generator().manual_seed(seed), stratified=False)
    counts = torch.ones(1, n) if datasets == 1 else bootstraps(n, n, datasets, seed)
    events = MixtureLikelihood(log_ratio, x, counts, task.space, task.weights, truth)
    curves, _ = summarise(refine(events, task.resolution), task.space)
    assert not curves.unresolved.any()
    half = 0.5 * (curves.upper - curves.lower)
    uncut = ~(curves.cut_lower | curves.cut_upper).any(1)
    low = (curves.lower[uncut, 1] - 1.2 * half[uncut, 1]).min()
    high = (curves.upper[uncut, 1] + 1.2 * half[uncut, 1]).max()
    spacing = 0.01 * np.median(half[uncut, 1])
    nodes = np.arange(low, high + spacing, spacing)
    ends, truths = [], []
    for d in np.flatnonzero(uncut):
        dense = Dense(log_ratio, x, counts[d], nodes)
        top, *z = dense.z_interval()
        mu = dense.mu_interval()
        got = np.stack([curves.lower[d], curves.upper[d]], -1)
        ends.append(((got - np.array([mu, z])) / half[d, :, None]).flatten())
        at_truth = Dense(log_ratio, x, counts[d], truth[1:].numpy()).value(float(truth[0]))
        truths.append(curves.log_ratio_truth[d] - (float(at_truth[0]) - top))
    return np.array(ends), np.array(truths)


def check(found: list[tuple[Array, Array]], most: float, median: float, truth: float) -> None:
    """Check errors of interval ends (half-widths) and of the truth (nats)."""
    ends = np.abs(np.concatenate([e for e, _ in found]))
    truths = np.abs(np.concatenate([t for _, t in found]))
    assert len(ends) > 1
    assert ends.max() < most
    assert np.median(ends) < median
    assert truths.max() < truth


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussians-far", "gaussians-near", "asymmetric", "higgs"])
def test_zoom_against_a_dense_scan_of_exact_likelihoods(name: str) -> None:
    """Errors of ends over 30 datasets each are at most 0.0012 half-widths, median 0.0003."""
    task = REGISTRY.task(name)
    found = [compare(task, exact_log_ratio(task), 1000, 1, seed) for seed in range(3)]
    check(found, most=0.005, median=0.001, truth=2e-3)


def relu_network(task: Task, seed: int, scale: float, width: int = 64) -> LogRatio:
    """Return exact log-ratios plus an untrained ReLU network of (x, z) that is rugged in z."""
    rng = torch.Generator().manual_seed(seed)
    exact = exact_log_ratio(task)
    sizes = [(3, width), (width, width), (width, 2)]
    weights = [math.sqrt(2 / a) * torch.randn(a, b, generator=rng) for a, b in sizes]
    biases = [0.3 * torch.randn(b, generator=rng) for _, b in sizes]
    parameter = task.space.parameters[1]

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        y = task.transform(x.float())
        eta = 2 * (context.float() - parameter.low) / (parameter.high - parameter.low) - 1
        pairs = (y[:, None].expand(-1, len(eta), -1), 8 * eta[None].expand(len(y), -1, -1))
        hidden = torch.cat(pairs, -1)
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            hidden = (hidden @ weight + bias).relu()
        out = hidden @ weights[-1] + biases[-1]
        return exact(x, context) + scale * out.movedim(-1, 0)[None]

    return log_ratio


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), [("gaussians-far", 0.05), ("asymmetric", 0.02)])
def test_zoom_against_a_dense_scan_of_rugged_networks(name: str, scale: float) -> None:
    """Errors of ends over 32 datasets each are at most 0.0036 half-widths, median 0.0003."""
    task = REGISTRY.task(name)
    found = [compare(task, relu_network(task, seed, scale), 1000, 3, seed) for seed in range(1)]
    check(found, most=0.01, median=0.002, truth=0.01)


@pytest.mark.slow
def test_zoom_against_a_dense_scan_of_a_trained_network(tmp_path: Path) -> None:
    """Errors with 3 × 120 networks, 30 datasets a task, are at most 0.0057, median 0.0007."""
    task = REGISTRY.task("gaussians-far")
    store = Store(tmp_path)
    method = REGISTRY.method("lre")
    training = {"epochs": 1, "steps": 250, "batch_size": 512}
    config = method.Config(hidden=(64, 64), activation="relu", training=training)
    bank = SimulationBank(task, store, 20_000, [0])
    surrogate = method(config).fit(
        fit_context(task, bank, features_of(task, store), what="surface")
    )
    check([compare(task, surrogate.log_ratio, 1000, 6, 0)], most=0.01, median=0.002, truth=0.01)


# --- members and datasets ----------------------------------------------------------------------


def test_members_do_not_touch_each_other() -> None:
    """Two members together agree with each alone, within the tolerance of the ends."""
    task = REGISTRY.task("gaussians-far")
    members = [relu_network(task, seed, 0.05) for seed in (0, 1)]

    def both(x: Tensor, context: Tensor) -> Tensor:
        return torch.cat([m(x, context) for m in members])

    truth = task.points[4]
    x = simulate_events(task, truth, 600, torch.Generator().manual_seed(0), stratified=False)
    counts = bootstraps(600, 600, 3, 0)
    arguments = (x, counts, task.space, task.weights, truth)
    together = MixtureLikelihood(both, *arguments, members=2)
    axes = (
        torch.linspace(0.1, 0.5, 30, dtype=torch.float64),
        torch.linspace(0.3, 0.7, 40, dtype=torch.float64),
    )
    values, at_truth = together.log_likelihood(axes)
    curves, window = summarise(refine(together, task.resolution), task.space)
    for m, member in enumerate(members):
        alone = MixtureLikelihood(member, *arguments)
        rows = slice(3 * m, 3 * m + 3)
        own, own_truth = alone.log_likelihood(axes)
        torch.testing.assert_close(values[rows], own, rtol=1e-6, atol=1e-4)
        torch.testing.assert_close(at_truth[rows], own_truth, rtol=1e-6, atol=1e-6)
        expected, expected_window = summarise(refine(alone, task.resolution), task.space)
        half = 0.5 * (expected.upper - expected.lower)
        assert not (expected.cut_lower | expected.cut_upper).any()
        for end in ("lower", "upper"):
            moved = getattr(curves, end)[rows] - getattr(expected, end)
            assert np.abs(moved / half).max() < 0.01
        np.testing.assert_allclose(
            curves.log_ratio_truth[rows], expected.log_ratio_truth, atol=0.01
        )
        np.testing.assert_allclose(window.area[rows], expected_window.area, rtol=0.01)


def test_datasets_do_not_touch_each_other() -> None:
    """A dataset's interval does not depend on other datasets of its set."""
    sigma = (0.05, 0.03)
    estimates = [(0.5, 0.5), (0.2, 0.8), (0.8, 0.3), (0.47, 0.52)]
    together, together_window = summarise(
        refine(normal_set(sigma, 0.7, estimates), DEFAULT), square()
    )
    for d, estimate in enumerate(estimates):
        alone, alone_window = summarise(
            refine(normal_set(sigma, 0.7, [estimate]), DEFAULT), square()
        )
        for name in ("mle", "lower", "upper"):
            moved = getattr(together, name)[d] - getattr(alone, name)[0]
            assert (np.abs(moved) < 0.01 * np.array(sigma)).all(), name
        assert together_window.area[d] == pytest.approx(alone_window.area[0], rel=0.01)


def nodes_of(window: LatticeWindow) -> Array:
    """Return unit coordinates of the windows' nodes, (D, 2, W)."""
    nodes: Array = window.origin[..., None] + window.spacing[..., None] * np.arange(NODES)
    return nodes


@pytest.mark.parametrize("rho", [0.0, 0.8, 0.97])
def test_windows_hold_the_likelihood(rho: float) -> None:
    sigma = (0.05, 0.03)
    estimates = [(0.5, 0.5), (0.45, 0.52), (0.9, 0.5), (0.5, 0.97), (1.05, 0.5)]
    events = normal_set(sigma, rho, estimates)
    _, window = summarise(refine(events, DEFAULT), square())
    nodes = nodes_of(window)
    assert (nodes > -1e-9).all()
    assert (nodes < 1 + 1e-9).all()
    assert window.joint.max() < 1e-3
    assert window.profile.max() < 1e-3
    # The maximum of the last, cut, dataset is at μ = 1.
    tops = [0.0, 0.0, 0.0, 0.0, -0.5]
    for d, (estimate, top) in enumerate(zip(estimates, tops, strict=True)):
        u, v = ((nodes[d, a] - estimate[a]) / sigma[a] for a in range(2))
        statistic = (u[:, None] ** 2 - 2 * rho * u[:, None] * v + v**2) / (1 - rho**2)
        expected = -0.5 * statistic - top
        near = expected > -8
        np.testing.assert_allclose(window.joint[d][near], expected[near], atol=0.02)
        assert (window.joint[d][~near] < -7.5).all()
        # The window extends down to DEPTH nats, or to the parameter space's bound.
        for a in range(2):
            for end, bound in ((0, 0.0), (-1, 1.0)):
                at_bound = abs(nodes[d, a, end] - bound) < 1e-9
                assert at_bound or window.profile[d, a, end] <= -DEPTH + 1e-6


def test_marginals_are_densities() -> None:
    sigma = (0.05, 0.03)
    events = normal_set(sigma, 0.6, [(0.5, 0.5), (0.45, 0.52)])
    _, window = summarise(refine(events, DEFAULT), square())
    nodes = nodes_of(window)
    for d, estimate in enumerate([(0.5, 0.5), (0.45, 0.52)]):
        for a in range(2):
            density = stats.norm(estimate[a], sigma[a]).pdf(nodes[d, a])
            np.testing.assert_allclose(window.marginal[d, a], density, atol=0.01 * density.max())


@pytest.mark.parametrize("axis", [0, 1])
def test_marginals_of_cut_likelihoods_are_densities(axis: int) -> None:
    """For half a Gaussian, the node at the bound has half a cell."""
    sigma = 0.05
    estimate = [0.5, 0.5]
    estimate[axis] = 0.0
    events = normal_set((sigma, sigma), 0.0, [(estimate[0], estimate[1])])
    _, window = summarise(refine(events, DEFAULT), square())
    density = 2 * stats.norm(0, sigma).pdf(nodes_of(window)[0, axis])
    np.testing.assert_allclose(window.marginal[0, axis], density, atol=0.02 * density.max())


@pytest.mark.parametrize("nodes", range(34, 66, 3))
@pytest.mark.parametrize("end", [0, 1])
def test_windows_of_cut_likelihoods_reach_the_bound(nodes: int, end: int) -> None:
    """Windows end at the bound for any number of nodes between it and DEPTH nats."""
    sigma = 0.1
    fine = torch.arange(2 * nodes, dtype=torch.float64) * (math.sqrt(2 * DEPTH) * sigma / nodes)
    axis = fine if end == 0 else (1 - fine).flip(0)
    other = torch.linspace(0, 1, 33, dtype=torch.float64)
    values = -0.5 * ((axis - end) / sigma) ** 2
    lattice = values[:, None] - 0.5 * ((other - 0.5) / 0.12) ** 2
    curves, window = summarise(
        Lattice((axis, other), lattice[None], torch.zeros(1, dtype=torch.float64), False), square()
    )
    assert curves.cut_lower[0, 0] == (end == 0)
    assert curves.cut_upper[0, 0] == (end == 1)
    assert nodes_of(window)[0, 0, -end] == pytest.approx(end, abs=1e-9)


@pytest.mark.parametrize("nodes", [33, 40, 64, 65, 100])
def test_windows_of_wide_likelihoods_reach_both_bounds(nodes: int) -> None:
    axis = torch.linspace(0, 1, nodes, dtype=torch.float64)
    fall = -0.5 * (axis - 0.5).square()
    lattice = Lattice(
        (axis, axis),
        (fall[:, None] + fall)[None],
        torch.zeros(1, dtype=torch.float64),
        False,
    )
    _, window = summarise(lattice, square())
    np.testing.assert_allclose(nodes_of(window)[0, :, [0, -1]], [[0, 0], [1, 1]], atol=1e-9)
