"""Linear Gaussian tasks: closed forms against numerical maximisation and scipy."""

import numpy as np
import pytest
import torch
from bench.tasks.linear_gaussian import linear_gaussian
from scipy import optimize, stats

from bench.registry.registry import Registry
from bench.seeds import generator


def log_likelihood(task, x, theta):
    """Return the log-likelihood of a dataset (M, P)."""
    (part,) = task.components("test").values()
    return part.log_prob(x, theta).sum()


def profile(task, x, fixed, value):
    """Return the maximum of the log-likelihood with one parameter fixed, by scipy's BFGS."""
    free = [j for j in range(len(task.space)) if j != fixed]

    def loss(values):
        theta = torch.zeros(len(task.space), dtype=torch.float64)
        theta[free] = torch.as_tensor(values)
        if fixed is not None:
            theta[fixed] = value
        theta.requires_grad_()
        negative = -log_likelihood(task, x, theta)
        (slope,) = torch.autograd.grad(negative, theta)
        return float(negative.detach()), slope[free].numpy()

    found = optimize.minimize(loss, np.zeros(len(free)), jac=True, method="BFGS")
    return -found.fun, found.x


@pytest.mark.parametrize("parameters", [1, 2, 7, 20])
def test_closed_forms_are_those_of_a_numerical_maximisation(parameters):
    names = tuple(f"theta{j + 1}" for j in range(parameters))
    task = linear_gaussian(parameters, reported=names)
    assert task.reported == names
    truth = task.draw_parameters(1, generator("closed", parameters))[0]
    (part,) = task.components("test").values()
    x = part.simulate(truth.expand(task.observations, -1), generator("x", parameters))
    top, at = profile(task, x, None, 0.0)
    assert np.allclose(at, task.maximum(x), atol=1e-5)
    lower, upper = task.profile_interval(x)
    far, _ = task.profile_interval(x, 9.0)
    for j in {0, parameters // 2, parameters - 1} if parameters > 1 else ():
        for end, fall in ((lower, 0.5), (upper, 0.5), (far, 4.5)):
            assert abs(top - profile(task, x, j, end[j])[0] - fall) < 1e-5
        statistic = 2 * (top - profile(task, x, j, truth[j])[0])
        assert abs(statistic - task.profile_statistic(x, truth)[j]) < 1e-4
    fall = float(log_likelihood(task, x, truth)) - top
    assert abs(fall - task.log_likelihood_ratio(x, truth)) < 1e-5

    unit = task.space.to_unit(task.maximum(x))
    hessian = torch.autograd.functional.hessian(
        lambda u: -log_likelihood(task, x, task.space.from_unit(u)), unit
    )
    assert torch.allclose(hessian, task.information(x), rtol=1e-9)


def test_neighbours_are_correlated_and_bounds_are_far_from_the_inner_box():
    task = linear_gaussian(7, observations=400)
    x = torch.zeros(400, 7)
    covariance = torch.linalg.inv(task.information(x))
    correlation = covariance / covariance[0, 0]
    assert torch.allclose(correlation.diagonal(), torch.ones(7, dtype=torch.float64))
    neighbours = correlation.diagonal(1)
    assert 0.29 < neighbours.min() < neighbours.max() < 0.71
    assert torch.allclose(task.standard_deviation(x), torch.tensor(0.05, dtype=torch.float64))
    for p in task.space.parameters:
        assert p.high == -p.low == 2 * p.inner[1] == pytest.approx(0.5)


@pytest.mark.parametrize("parameters", [1, 2, 7, 20])
def test_linear_tasks_have_consistent_shapes(parameters):
    task = linear_gaussian(parameters)
    assert task.nominal.shape == (parameters,)
    assert task.points.shape[1] == parameters
    x = torch.zeros(3, 50, parameters)
    assert task.maximum(x).shape == (3, parameters)
    assert task.log_likelihood_ratio(x, torch.zeros(3, parameters)).shape == (3,)


@pytest.mark.parametrize("parameters", [2, 5, 10, 20])
def test_registered_tasks(parameters):
    task = Registry().task(f"linear-gaussian-{parameters}")
    assert len(task.space) == parameters
    assert task.reported == ("theta1",)
    assert task.space.parameters[-1].symbol == {2: "θ₂", 5: "θ₅", 10: "θ₁₀", 20: "θ₂₀"}[parameters]
    (part,) = task.components("test").values()
    theta = task.draw_parameters(3, generator("density", parameters))
    x = part.simulate(theta, generator("event", parameters))
    for event, row, density in zip(x, theta, part.log_prob(x, theta), strict=True):
        known = stats.multivariate_normal(task.matrix @ row, np.eye(parameters))
        np.testing.assert_allclose(density, known.logpdf(event), rtol=1e-12)
