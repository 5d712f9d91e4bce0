"""Tasks of the kit with any number of parameters: closed forms against numerical maximisation."""

import numpy as np
import pytest
import torch
from scipy import optimize

from bench.seeds import generator
from bench.testing.four_components import four_components
from bench.testing.linear_gaussian import linear_gaussian


def log_likelihood(task, x, theta):
    """Return the log-likelihood of a dataset (M, *event) from the components' densities."""
    context = task.space.context_of(theta)
    densities = [c.log_prob(x, context[None]) for c in task.components("test").values()]
    return (torch.stack(densities, -1) + task.weights(theta).log()).logsumexp(-1).sum()


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
    truth = task.space.draw_inner(1, generator("closed", parameters))[0]
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


def test_densities_and_scores_of_the_four_components_are_those_of_torch():
    task = four_components()
    random = generator("four")
    context = task.space.draw_context(50, random).double()
    for name, part in task.components("test").items():
        x = part.simulate(context, random)
        leaf = context.clone().requires_grad_()
        mean = part.mean + leaf @ part.shift
        root = (leaf @ part.growth).exp()[..., None] * part.root
        known = torch.distributions.MultivariateNormal(mean, scale_tril=root)
        (slope,) = torch.autograd.grad(known.log_prob(x).sum(), leaf)
        assert torch.allclose(part.log_prob(x, context), known.log_prob(x)), name
        assert torch.allclose(part.score(x, context), slope), name


def test_the_four_components_determine_all_parameters_well_within_the_bounds():
    task = four_components()
    for corner in task.space.box:
        theta = task.space.from_unit(corner)
        random = generator("identifiable")
        numbers = (task.observations * task.weights(theta)).round().long().tolist()
        parts = task.components("test").values()
        context = task.space.context_of(theta)
        pairs = zip(parts, numbers, strict=True)
        x = torch.cat([p.simulate(context.expand(n, -1), random) for p, n in pairs])
        hessian = torch.autograd.functional.hessian(
            lambda u, x=x: -log_likelihood(task, x, task.space.from_unit(u)), corner
        )
        deviation = torch.linalg.inv(hessian).diagonal().sqrt()
        assert (torch.minimum(corner, 1 - corner) > 5 * deviation).all()
