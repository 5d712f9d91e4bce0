"""Tasks of the kit: densities against torch, and parameters that datasets determine."""

import torch

from bench.seeds import generator
from bench.testing.four_components import four_components


def log_likelihood(task, x, theta):
    """Return the log-likelihood of a dataset (M, *event) from the components' densities."""
    context = task.space.context_of(theta)
    densities = [c.log_prob(x, context[None]) for c in task.components("test").values()]
    return (torch.stack(densities, -1) + task.weights(theta).log()).logsumexp(-1).sum()


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
