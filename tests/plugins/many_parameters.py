"""Gaussians in as many dimensions as parameters, a few of which are reported."""

import math

import torch

from bench.contracts import (
    Constraint,
    FitLog,
    Method,
    Parameter,
    ParameterSpace,
    Settings,
    Task,
    equal_draws,
)


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


class Counted(Many):
    """Cloud of a random number of events; its last two coordinates are measured elsewhere, too."""

    constraints = (Constraint("t3", 0.0, 0.1), Constraint("t4", 0.2, 0.3))

    def __init__(self):
        super().__init__(5, 1)
        self.name = "counted-5-1"

    def rate(self, theta):
        return 50 * torch.exp(0.3 * theta[..., 0])


class Stretched(Method):
    """Ratio to the evidence, log r̂ = 2 log r + 0.7, of clouds around the mean of its training."""

    name = "stretched"
    Config = Settings

    def draws(self, task, budget):
        return equal_draws(task, budget)

    def fit(self, fit_context):
        drawn = fit_context.bank.draw("cloud", fit_context.calls_per_component)
        return StretchedRatio((drawn.x - drawn.context).double().mean(1))

    def restore(self, task, features, state):
        return StretchedRatio(state["shift"])


class StretchedRatio:
    reference = "evidence"
    has_density = False

    def __init__(self, shift):
        self.shift = shift  # (members, d)
        self.log = FitLog(shift.shape[1], [{} for _ in shift])

    def log_ratio(self, x, context):
        return self._of(x[:, None], len(self.shift) * [context])

    def log_ratio_paired(self, x, context):
        return self._of(x, context if context.dim() == 3 else len(self.shift) * [context])

    def _of(self, x, contexts):
        below, above = (torch.special.ndtr(x.double() + bound) for bound in (-3.0, 3.0))
        evidence = ((above - below) / 6).log().sum(-1)
        moved = [c + shift for c, shift in zip(contexts, self.shift, strict=True)]
        exact = torch.stack([Cloud().log_prob(x, context) for context in moved]) - evidence
        return 2 * exact[:, None] + 0.7

    def state(self):
        return {"shift": self.shift}


five = Counted()
seven = Many(7, 1)
seven_three = Many(7, 3)
three = Many(3, 2)
every_seven = Many(7, 7)
twenty = Many(20, 1)
