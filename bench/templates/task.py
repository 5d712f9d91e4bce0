"""my-task: a peak on a falling background with uncertain energy scale. Change it to your model.

bench check ./my_task.py                                  check simulator, density and score
bench run smoke --plugin ./my_task.py --task my-task      run the methods on it
"""

import math

import torch

from bench.contracts import Parameter, ParameterSpace, Task


class Peak:
    """Gaussian peak at the energy scale z with width z / 10; context (z,), events (1,)."""

    size = None  # None: a simulator, which makes any number of observations

    def simulate(self, context, generator):
        """Draw one observation per context, (*B, 1) to (*B, 1)."""
        noise = torch.randn(context.shape, generator=generator)
        return context * (1 + 0.1 * noise)

    def log_prob(self, x, context):
        """Return log p(x|z): x (*B, 1) and context (*B, 1) broadcast to (*B); optional."""
        x, z = x[..., 0].double(), context[..., 0].double()
        pull = (x / z - 1) / 0.1
        return -0.5 * pull.square() - (0.1 * math.sqrt(2 * math.pi) * z).log()

    def score(self, x, context):
        """Return d log p / dz, (*B, 1); optional."""
        x, z = x.double(), context.double()
        pull = (x / z - 1) / 0.1
        return (pull * x / z / 0.1 - 1) / z


class Falling:
    """Exponential distribution with mean z; context (z,), events (1,)."""

    size = None

    def simulate(self, context, generator):
        return context * torch.empty(context.shape).exponential_(generator=generator)

    def log_prob(self, x, context):
        x, z = x[..., 0].double(), context[..., 0].double()
        return torch.where(x >= 0, -x / z - z.log(), -math.inf)  # -inf where x is impossible

    def score(self, x, context):
        x, z = x.double(), context.double()
        return (x / z - 1) / z


class MyTask(Task):
    """Datasets of 500 events, a fraction mu / (1 + mu) of which is signal."""

    name = "my-task"
    version = 1  # raise it when the simulations change
    title = "Peak on a falling background"
    observations = 500  # events per dataset
    event_shape = (1,)
    expensive = False  # True if simulate is so slow that no call may be wasted
    feature_names = ("x",)
    space = ParameterSpace(
        [
            # Name, training range, role, and the inner range in which datasets are drawn.
            Parameter("mu", 0.0, 0.7, "interest", (0.08, 0.35)),
            Parameter("z", 0.8, 1.25, "nuisance", (0.9, 1.1), scale="log"),
        ],
        context=["z"],  # parameters on which components depend; the others only mix components
    )
    nominal = torch.tensor([1.0])  # context of the fixed reference
    points = torch.tensor(
        [[mu, z] for mu in (0.1, 0.2, 0.3) for z in (0.9, 1.0, 1.1)], dtype=torch.float64
    )  # parameter points at which coverage is measured

    def components(self, split):
        """Return the components by name; `split` matters for recorded data only."""
        return {"signal": Peak(), "background": Falling()}

    def weights(self, theta):
        """Return the weight of each component, (*B, parameters) to (*B, components)."""
        mu = theta[..., 0]
        return torch.stack([mu, torch.ones_like(mu)], -1) / (1 + mu).unsqueeze(-1)


my_task = MyTask()  # an instance: this is what a plugin file registers
