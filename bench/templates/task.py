"""my-task: a peak on a falling background, at an uncertain energy scale. Change it to your model.

bench check ./my_task.py                                  are simulator, density and score right?
bench run smoke --plugin ./my_task.py --task my-task      run the methods on it
"""

import math

import torch

from bench.contracts import Parameter, ParameterSpace, Task


class Peak:
    """A Gaussian at the energy scale z, a tenth as wide; context (z,), events (1,)."""

    size = None  # a simulator: it makes as many observations as are wanted

    def simulate(self, context, generator):
        """One observation per context, (*B, 1) to (*B, 1)."""
        noise = torch.randn(context.shape, generator=generator)
        return context * (1 + 0.1 * noise)

    def log_prob(self, x, context):
        """Returns log p(x|z), where it is known: (*B, 1) and (*B, 1) broadcast to (*B)."""
        x, z = x[..., 0].double(), context[..., 0].double()
        pull = (x / z - 1) / 0.1
        return -0.5 * pull.square() - (0.1 * math.sqrt(2 * math.pi) * z).log()

    def score(self, x, context):
        """Returns d log p / dz, where it is known, (*B, 1)."""
        x, z = x.double(), context.double()
        pull = (x / z - 1) / 0.1
        return (pull * x / z / 0.1 - 1) / z


class Falling:
    """An exponential of mean z; context (z,), events (1,)."""

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
    """Datasets of 500 events, a fraction mu / (1 + mu) of them signal."""

    name = "my-task"
    version = 1  # raise it when numbers change
    title = "Peak on a falling background"
    observations = 500  # events in a dataset
    event_shape = (1,)
    expensive = False  # True where a call of simulate takes so long that none may be wasted
    feature_names = ("x",)
    space = ParameterSpace(
        [
            # Name, training range, what it is, and the inner box where datasets are drawn.
            Parameter("mu", 0.0, 0.7, "interest", (0.08, 0.35)),
            Parameter("z", 0.8, 1.25, "nuisance", (0.9, 1.1), scale="log"),
        ],
        context=["z"],  # what the components depend on; the rest only mixes them
    )
    nominal = torch.tensor([1.0])  # the context of the fixed reference
    points = torch.tensor(
        [[mu, z] for mu in (0.1, 0.2, 0.3) for z in (0.9, 1.0, 1.1)], dtype=torch.float64
    )  # where coverage is looked at

    def components(self, split):
        """What is mixed; the splits differ for recorded data only."""
        return {"signal": Peak(), "background": Falling()}

    def weights(self, theta):
        """How much of each component, (*B, parameters) to (*B, components)."""
        mu = theta[..., 0]
        return torch.stack([mu, torch.ones_like(mu)], -1) / (1 + mu).unsqueeze(-1)


my_task = MyTask()  # an instance: this is what a plugin file registers
