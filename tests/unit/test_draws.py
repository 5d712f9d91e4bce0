"""Draws from posteriors, against Markov chains, integrals on grids and generating parameters."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from bench.tasks.linear_gaussian import linear_gaussian
from numpy.typing import NDArray
from scipy import stats

from bench.contracts import IndependentPlan, Parameter, ParameterSpace, Task
from bench.inference.draws import (
    IMPORTANCE,
    TEMPERED,
    TRUTH,
    Modes,
    Truncated,
    draw,
    effective_size,
    find_modes,
    log_mean,
    modes_at,
    resample,
    whole,
)
from bench.inference.events import EventLikelihood
from bench.inference.likelihood import ExactLikelihood
from bench.stages.datasets import sets

Array = NDArray[np.float64]


def of_dataset(likelihood: EventLikelihood, row: int = 0) -> Callable[[Array], Array]:
    """Return the log-likelihood of a dataset as a function of points (n, P)."""

    def values(unit: Array) -> Array:
        rows = torch.full((len(unit),), row)
        found: Array = likelihood.values(rows, torch.from_numpy(unit)[None])[0].numpy()
        return found

    return values


def exact(task: Task, n: int, seed: int) -> tuple[EventLikelihood, Array]:
    """Return the exact likelihoods of n datasets, and their parameters in unit coordinates."""
    made = list(sets(task, IndependentPlan(uniform=n, per_point=0), seed))
    x, theta = torch.stack([s.x for s in made]), torch.stack([s.theta for s in made])
    likelihood = EventLikelihood(ExactLikelihood(task), x, task.space, task.weights)
    return likelihood, task.space.to_unit(theta).numpy()


def gibbs(centre: Array, precision: Array, box: Array, rng: np.random.Generator) -> Array:
    """Draw from a normal distribution truncated to a box by many short Markov chains, (n, P)."""
    chains = np.repeat(centre.clip(*box)[None], 500, 0)
    kept = []
    for sweep in range(150):
        for j, width in enumerate(precision.diagonal() ** -0.5):
            rest = (chains - centre) @ precision[j] - (chains[:, j] - centre[j]) * precision[j, j]
            mean = centre[j] - rest / precision[j, j]
            low, high = ((b[j] - mean) / width for b in box)
            chains[:, j] = stats.truncnorm.rvs(low, high, mean, width, random_state=rng)
        if sweep >= 50:
            kept.append(chains.copy())
    return np.concatenate(kept)


@pytest.mark.parametrize("parameters", [1, 7, 20])
def test_truncated_normals_against_markov_chains(parameters: int) -> None:
    task = linear_gaussian(parameters)
    likelihood, truth = exact(task, 3, 5)
    rng = np.random.default_rng(0)
    precision = task.information(likelihood.x[0]).numpy()
    for row in range(3):
        centre = task.space.to_unit(task.maximum(likelihood.x[row])).numpy()
        width = np.linalg.inv(precision).diagonal() ** 0.5
        # One parameter is at the edge of the box, and one is beyond it by a standard deviation.
        box = np.stack([np.full(parameters, 0.25), np.full(parameters, 0.75)])
        box[0, -1] = centre[-1] + width[-1]
        box[0, 0], box[1] = centre[0], np.maximum(box[1], box[0] + 3 * width)
        modes = find_modes(likelihood, torch.from_numpy(box), dataset=row)
        assert len(modes.centre) == 1
        np.testing.assert_allclose(modes.centre[0], centre, atol=1e-3 * width.min())
        found = draw(of_dataset(likelihood, row), modes, box, rng, truth[row], draws=4096)
        assert found.source == IMPORTANCE
        assert found.size >= 400
        assert ((found.unit >= box[0]) & (found.unit <= box[1])).all()
        chain = gibbs(centre, precision, box, rng)
        pull = (found.unit.mean(0) - chain.mean(0)) / chain.std(0) * found.size**0.5
        assert (np.abs(pull) < 4.5).all()
        assert np.square(pull).sum() < stats.chi2.isf(1e-4, parameters)
        below = (found.unit < np.median(chain, 0)).mean(0)
        assert (np.abs(below - 0.5) < 4.5 * 0.5 / found.size**0.5).all()


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("far", [0.0, 3.0, 60.0])
def test_draws_of_a_truncated_normal_have_its_density(side: int, far: float) -> None:
    """Also many standard deviations outside of the box."""
    centre, scale = np.array([0.5 + side * (0.5 + 0.05 * far)]), 1.4
    normal = Truncated(centre, np.array([[400.0]]), np.array([[0.0], [1.0]]))
    unit, _ = normal.draw(4000, scale, np.random.default_rng(0))
    assert ((unit >= 0) & (unit <= 1)).all()
    grid = np.linspace(0, 1, 200_001)
    log_density = normal.log_density(grid[:, None], scale)
    density = -0.5 * ((grid - centre) / (0.05 * scale)) ** 2
    density = np.exp(density - density.max())
    density /= np.trapezoid(density, grid)
    np.testing.assert_allclose(np.exp(log_density), density, rtol=1e-3, atol=1e-9)
    below = np.interp(unit[:, 0], grid, np.append(0, np.cumsum(density[1:]) * (grid[1] - grid[0])))
    assert stats.kstest(below, "uniform").pvalue > 1e-3


class Squares:
    """Unit Gaussian around (a, b², c²): the likelihood has four equal modes, or two, or one."""

    def log_ratio_paired(self, x: Any, context: Any) -> Any:
        a, b, c = context.view(context.shape[-2:]).double().unbind(-1)
        mean = torch.stack([a, 3 * b.square(), 3 * c.square()], -1)
        return -0.5 * (x - mean).square().sum(-1)[None, None]


@pytest.mark.parametrize("mean", [(0.5, 0.6), (0.4, 0.1), (0.05, 0.0)])
def test_all_modes_are_drawn(mean: tuple[float, float]) -> None:
    names = ("a", "b", "c")
    space = ParameterSpace([Parameter(n, -1, 1, "interest", (-0.9, 0.9)) for n in names], names)
    rng = np.random.default_rng(2)
    events = rng.standard_normal((100, 3)) + np.array([0.3, 3 * mean[0] ** 2, 3 * mean[1] ** 2])
    x = torch.from_numpy(events)[None]
    likelihood = EventLikelihood(Squares(), x, space, lambda t: torch.ones_like(t[..., :1]))
    box = space.box.numpy()
    modes = find_modes(likelihood, space.box)
    found = draw(of_dataset(likelihood), modes, box, rng, np.full(3, 0.5), draws=4096)
    assert found.source == IMPORTANCE
    drawn = space.from_unit(torch.from_numpy(found.unit)).numpy()
    grid = np.linspace(-0.9, 0.9, 2001)
    for axis in (1, 2):
        log = -0.5 * len(events) * (events[:, axis].mean() - 3 * grid**2) ** 2
        density = np.exp(log - log.max())
        cumulative = density.cumsum() / density.sum()
        error = np.sqrt(0.25 / found.size)
        for level in (0.1, 0.25, 0.5, 0.75, 0.9):
            at = np.interp(level, cumulative, grid)
            assert abs((drawn[:, axis] < at).mean() - level) < 4.5 * error


def banana(unit: Array) -> Array:
    """Log-density of a curved and narrow ridge in the unit square, for points (n, 2)."""
    across = (unit[:, 1] - 3 * (unit[:, 0] - 0.5) ** 2 - 0.1) / 0.01
    along = (unit[:, 0] - 0.5) / 0.25
    return np.asarray(-0.5 * across**2 - 0.5 * along**2)


def normal_at(centre: Array, width: Array) -> Modes:
    return modes_at(
        torch.from_numpy(centre)[None],
        torch.zeros(1).double(),
        torch.zeros(1, len(centre)).double(),
        torch.from_numpy(np.diag(width**-2.0))[None],
    )


def test_what_proposals_miss_is_found_in_steps() -> None:
    box = np.array([[0.0, 0.0], [1.0, 1.0]])
    modes = normal_at(np.array([0.5, 0.1]), np.array([0.25, 0.1]))
    grid = np.linspace(0, 1, 1001)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    density = np.exp(banana(points))
    density /= density.sum()
    mean = density @ points
    means, sources = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        found = draw(banana, modes, box, rng, np.array([0.5, 0.1]))
        sources.append(found.source)
        means.append(found.unit.mean(0))
        np.testing.assert_array_equal(found.value, banana(found.unit))
    assert sources.count(TEMPERED) >= 4
    assert TRUTH not in sources
    spread = np.std(means, 0, ddof=1) / 8**0.5
    assert (np.abs(np.mean(means, 0) - mean) < 5 * spread).all()


def test_generating_parameters_are_the_last_resort() -> None:
    def spikes(unit: Array) -> Array:
        return np.asarray(1e4 * np.sin(1e7 * unit.sum(-1)))

    truth = np.array([0.4, 0.6])
    modes = normal_at(np.array([0.5, 0.5]), np.array([0.1, 0.1]))
    box = np.array([[0.0, 0.0], [1.0, 1.0]])
    found = draw(spikes, modes, box, np.random.default_rng(0), truth)
    assert found.source == TRUTH
    assert found.unit.shape == (256, 2)
    np.testing.assert_array_equal(found.unit, np.repeat(truth[None], 256, 0))
    np.testing.assert_array_equal(found.value, np.repeat(spikes(truth[None]), 256))


@pytest.mark.slow
def test_generating_parameters_have_uniform_ranks() -> None:
    """Among draws of their posterior, within the box of the prior (Talts et al. 2018)."""
    task = linear_gaussian(3, observations=20)
    likelihood, truth = exact(task, 150, 8)
    box, rng = task.space.box.numpy(), np.random.default_rng(0)
    ranks = []
    for row, theta in enumerate(truth):
        modes = find_modes(likelihood, task.space.box, dataset=row)
        found = draw(of_dataset(likelihood, row), modes, box, rng, theta)
        ranks.append((found.unit < theta).mean(0))
    for rank in np.transpose(ranks):
        assert stats.kstest(rank, "uniform").pvalue > 1e-3


def test_a_prior_multiplies_the_likelihood() -> None:
    task = linear_gaussian(2)
    likelihood, truth = exact(task, 2, 5)
    box, rng = task.space.box.numpy(), np.random.default_rng(0)
    precision = task.information(likelihood.x[0]).numpy()
    added = np.diag([2 * precision[0, 0], 0.0])
    at = truth[0] + 0.05

    def log_prior(unit: Any) -> Any:
        return -0.5 * added[0, 0] * (unit[..., 0] - at[0]) ** 2

    modes = find_modes(likelihood, task.space.box, log_prior=log_prior)
    best = task.space.to_unit(task.maximum(likelihood.x[0])).numpy()
    both = np.linalg.solve(precision + added, precision @ best + added @ at)
    np.testing.assert_allclose(modes.precision[0], precision + added, rtol=1e-5)
    np.testing.assert_allclose(modes.centre[0], both, atol=1e-5)
    of = of_dataset(likelihood)
    found = draw(of, modes, box, rng, truth[0], log_prior=log_prior, draws=4096)
    chain = gibbs(both, precision + added, box, rng)
    pull = (found.unit.mean(0) - chain.mean(0)) / chain.std(0) * found.size**0.5
    assert (np.abs(pull) < 4).all()


def test_weights_and_resampling() -> None:
    rng = np.random.default_rng(0)
    z = 1.3 * rng.standard_normal(20_000)
    weight = stats.norm.logpdf(z) + 3 - stats.norm.logpdf(z, scale=1.3)
    assert log_mean(weight) == pytest.approx(3, abs=4 / effective_size(weight) ** 0.5)
    weight = np.array([np.log(0.5), -np.inf, np.log(0.25), np.log(0.25)])
    assert effective_size(weight) == pytest.approx(1 / 0.375)
    assert effective_size(np.full(3, -np.inf)) == 0
    rows = resample(weight, 1000, rng)
    assert np.bincount(rows, minlength=4).tolist() == [500, 0, 250, 250]


def test_a_likelihood_that_is_zero_at_all_proposals() -> None:
    """The generating parameters are possible."""
    truth, box = np.array([0.4, 0.6]), np.array([[0.0, 0.0], [1.0, 1.0]])

    def needle(unit: Array) -> Array:
        return np.where((unit == truth).all(-1), 3.0, -np.inf)

    modes = whole(torch.from_numpy(box))
    found = draw(needle, modes, box, np.random.default_rng(0), truth)
    assert found.source == TRUTH
    assert found.evidence == -np.inf
    assert found.top == 3
    np.testing.assert_array_equal(found.value, 3.0)


class FourModes:
    """Gaussian with means t1, t2, widths t3² and t4², correlation tanh t5 (Papamakarios 2019)."""

    def log_ratio_paired(self, x: Any, context: Any) -> Any:
        first, second, a, b, c = context.view(context.shape[-2:]).double().unbind(-1)
        rho = torch.tanh(c)
        pulls = (x[:, 0] - first) / a.square(), (x[:, 1] - second) / b.square()
        square = pulls[0].square() - 2 * rho * pulls[0] * pulls[1] + pulls[1].square()
        log_width = a.square().log() + b.square().log() + 0.5 * (1 - rho.square()).log()
        return (-0.5 * square / (1 - rho.square()) - log_width)[None, None]


@pytest.mark.parametrize("observations", [20, 1000])
def test_four_equal_modes_have_equal_shares(observations: int) -> None:
    """Most searches for them start where the likelihood is far too narrow."""
    names = tuple(f"t{i}" for i in range(1, 6))
    space = ParameterSpace([Parameter(n, -3, 3, "interest", (-2.9, 2.9)) for n in names], names)
    rng = np.random.default_rng(0)
    for _ in range(6):
        theta = rng.uniform(-2.9, 2.9, 5)
        rho, z = np.tanh(theta[4]), rng.standard_normal((observations, 2))
        z[:, 1] = rho * z[:, 0] + (1 - rho**2) ** 0.5 * z[:, 1]
        x = torch.from_numpy(theta[:2] + theta[2:4] ** 2 * z)[None]
        likelihood = EventLikelihood(FourModes(), x, space, lambda t: torch.ones_like(t[..., :1]))
        truth = space.to_unit(torch.from_numpy(theta)).numpy()
        modes = find_modes(likelihood, space.box)
        found = draw(of_dataset(likelihood), modes, space.box.numpy(), rng, truth, draws=4096)
        assert found.source == IMPORTANCE
        signs = 2 * (found.unit[:, 2] > 0.5) + (found.unit[:, 3] > 0.5)
        shares = np.bincount(signs, minlength=4) / 4096
        assert (np.abs(shares - 0.25) < 4.5 * (0.1875 / found.size) ** 0.5).all()
