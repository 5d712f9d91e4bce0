"""Task of one parameter: the weight of two components without context."""

import math

import torch

from bench.contracts import Parameter, ParameterSpace, Task


class Bell:
    """Gaussian of width 1 around a constant, whatever the context."""

    size = None

    def __init__(self, centre):
        self.centre = centre

    def simulate(self, context, generator):
        shape = (*context.shape[:-1], 1)
        return self.centre + torch.randn(shape, generator=generator)

    def log_prob(self, x, context):
        density = -0.5 * (x[..., 0].double() - self.centre).square() - 0.5 * math.log(2 * math.pi)
        return density.expand(torch.broadcast_shapes(density.shape, context.shape[:-1]))

    def score(self, x, context):
        shape = torch.broadcast_shapes(x.shape[:-1], context.shape[:-1])
        return x.new_zeros(*shape, 0, dtype=torch.float64)


class Share(Task):
    """Share of one of two known densities."""

    name = "share"
    version = 1
    observations = 200
    event_shape = (1,)
    space = ParameterSpace([Parameter("share", 0.0, 1.0, "interest", (0.1, 0.9))], context=[])
    nominal = torch.zeros(0)
    points = torch.tensor([[0.3], [0.6]], dtype=torch.float64)

    def components(self, split):
        return {"first": Bell(0.0), "second": Bell(2.0)}

    def weights(self, theta):
        return torch.cat([theta, 1 - theta], -1)


share = Share()
