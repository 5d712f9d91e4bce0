"""my-task: a measured mu with uncertain disturbances. Change it to your model.

bench check ./my_task.py                                  check simulator, density and score
bench run smoke --plugin ./my_task.py --task my-task      run the methods on it
"""

import math

import torch

from bench.contracts import Parameter, ParameterSpace, Task

NUISANCES = [f"nuisance_{j}" for j in range(1, 7)]
PARAMETERS = ["mu", *NUISANCES]
DISTURBANCE = 0.3  # effect of a nuisance parameter on the reading of mu


class Readings:
    """A reading of every parameter with unit noise; that of mu is disturbed by all nuisances.

    The context is (mu, nuisances), in the order of PARAMETERS; events are the readings.
    """

    size = None  # None: a simulator, which makes any number of observations

    def mean(self, context):
        """Return the mean readings at contexts, (*B, parameters) to the same shape."""
        mu, nuisances = context[..., :1], context[..., 1:]
        return torch.cat([mu + DISTURBANCE * nuisances.sum(-1, keepdim=True), nuisances], -1)

    def simulate(self, context, generator):
        """Draw one observation per context, (*B, parameters) to (*B, readings)."""
        return self.mean(context) + torch.randn(context.shape, generator=generator)

    def log_prob(self, x, context):
        """Return log p(x|context): x (*B, readings) and context broadcast to (*B); optional."""
        pull = x.double() - self.mean(context.double())
        return -0.5 * pull.square().sum(-1) - 0.5 * x.shape[-1] * math.log(2 * math.pi)

    def score(self, x, context):
        """Return the gradient of log_prob in the context, (*B, parameters); optional."""
        pull = x.double() - self.mean(context.double())
        return torch.cat([pull[..., :1], pull[..., 1:] + DISTURBANCE * pull[..., :1]], -1)


class MyTask(Task):
    """Datasets of 100 observations; mu is reported, and the nuisances are profiled."""

    name = "my-task"
    version = 1  # raise it when the simulations change
    title = "Readings with disturbances"
    observations = 100  # observations per dataset
    event_shape = (len(PARAMETERS),)
    reference = "evidence"  # denominator of ratios: an average over contexts
    expensive = False  # True if simulate is so slow that no call may be wasted
    reported = ("mu",)  # parameters that intervals and ranks are about
    space = ParameterSpace(
        [
            # Name, training range, role, and the inner range in which datasets are drawn.
            Parameter("mu", -4.0, 4.0, "interest", (-1.0, 1.0)),
            *(Parameter(name, -2.0, 2.0, "nuisance", (-1.0, 1.0)) for name in NUISANCES),
        ],
        context=PARAMETERS,  # parameters on which components depend
    )
    nominal = torch.zeros(len(PARAMETERS))  # one context
    points = torch.tensor(
        [[mu, *(0.0 for _ in NUISANCES)] for mu in (-0.5, 0.5)], dtype=torch.float64
    )  # parameter points at which coverage is measured

    def components(self, split):
        """Return the components by name; `split` matters for recorded data only."""
        return {"readings": Readings()}

    def weights(self, theta):
        """Return the weight of each component, (*B, parameters) to (*B, components)."""
        return torch.ones_like(theta[..., :1])


my_task = MyTask()  # an instance: this is what a plugin file registers
