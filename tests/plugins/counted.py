"""Task whose simulator counts its calls, in all processes, in a file next to this one."""

import math
from pathlib import Path

import torch

from bench.contracts import Parameter, ParameterSpace, Task

COUNT = Path(__file__).with_suffix(".count")


class Shifted:
    """Component N(η + shift, 1); context (z,), events (1,)."""

    size = None

    def __init__(self, shift):
        self.shift = shift

    def simulate(self, context, generator):
        with COUNT.open("a") as file:  # one write, which is atomic
            file.write(f"{context[..., 0].numel()}\n")
        return context + self.shift + torch.randn(context.shape, generator=generator)

    def log_prob(self, x, context):
        pull = x[..., 0].double() - context[..., 0].double() - self.shift
        return -0.5 * pull.square() - 0.5 * math.log(2 * math.pi)

    def score(self, x, context):
        return x.double() - context.double() - self.shift


class Counted(Task):
    name = "counted"
    version = 1
    title = "Two Gaussians, counted"
    observations = 20
    event_shape = (1,)
    expensive = True
    space = ParameterSpace(
        [
            Parameter("mu", 0.0, 1.0, "interest", (0.2, 0.8)),
            Parameter("z", 1.0, 3.0, "nuisance", (1.5, 2.5)),
        ],
        context=["z"],
    )
    nominal = torch.tensor([2.0])
    points = torch.tensor([[0.5, 2.0]], dtype=torch.float64)

    def components(self, split):
        return {"signal": Shifted(0.0), "background": Shifted(2.0)}

    def weights(self, theta):
        mu = theta[..., 0]
        return torch.stack([mu, 1 - mu], -1)


counted = Counted()
