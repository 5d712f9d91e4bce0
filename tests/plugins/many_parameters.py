"""Gaussians in as many dimensions as parameters, a few of which are reported."""

import math

import torch

from bench.contracts import Parameter, ParameterSpace, Task


class Cloud:
    """Gaussian of unit covariance around its context."""

    size = None

    def simulate(self, context, generator):
        return context.float() + torch.randn(context.shape, generator=generator)

    def log_prob(self, x, context):
        pull = x.double() - context.double()
        return -0.5 * (pull.square() + math.log(2 * math.pi)).sum(-1)

    def score(self, x, context):
        return x.double() - context.double()


class Many(Task):
    """Position of a cloud of events."""

    version = 1
    observations = 50
    reference = "evidence"

    def __init__(self, parameters, reported):
        self.name = f"cloud-{parameters}-{reported}"
        kinds = ["interest"] * reported + ["nuisance"] * (parameters - reported)
        names = [f"t{i}" for i in range(parameters)]
        self.space = ParameterSpace(
            [Parameter(n, -3.0, 3.0, k, (-1.0, 1.0)) for n, k in zip(names, kinds, strict=True)],
            context=names,
        )
        self.nominal = torch.zeros(parameters)
        self.event_shape = (parameters,)
        self.points = torch.linspace(-0.5, 0.5, 9, dtype=torch.float64)[:, None].repeat(
            1, parameters
        )

    def components(self, split):
        return {"cloud": Cloud()}

    def weights(self, theta):
        return torch.ones_like(theta[..., :1])


seven = Many(7, 1)
seven_three = Many(7, 3)
three = Many(3, 2)
every_seven = Many(7, 7)
twenty = Many(20, 1)
