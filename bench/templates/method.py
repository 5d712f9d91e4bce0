"""my-method: a Gaussian whose mean is a polynomial in the context. Change it to your own method.

bench check ./my_method.py                                     check that it keeps the contract
bench run quick --plugin ./my_method.py --method my-method     compare it with other methods
"""

import torch

from bench.contracts import ComponentMethod, FitLog, Settings, equal_draws
from bench.errors import NotApplicable


class MyMethodConfig(Settings):
    """Settings of the method; their values are part of the identity of every result."""

    degree: int = 2
    """Degree of the mean as a polynomial in the context."""


class MyMethod(ComponentMethod):
    """Method that learns each component p(x|context) separately from its simulations."""

    name = "my-method"
    version = 1  # raise it when results change; in a plugin file the file's hash is enough
    title = "Gaussian with a moving mean"
    Config = MyMethodConfig
    configurations = {"default": {}, "linear": {"degree": 1}}  # the first one is the default
    has_density = True  # log_ratio is a normalised log p(x|context), not only up to a term in x

    def check(self, task):
        """Raise NotApplicable for tasks that the method cannot learn."""
        if task.observation != "vector":
            raise NotApplicable("my-method takes vectors only")

    def draws(self, task, budget):
        """Return the simulations that a fit will draw, for the estimates of `bench plan`."""
        return equal_draws(task, budget)

    def fit_component(self, component, fit_context):
        """Train one component for all members at once; members are the leading axis of all arrays.

        The components together may draw fit_context.bank.budget simulations; the bank counts them.
        Draw random numbers on the CPU from fit_context.generators("purpose"), one generator per
        member. Compute on fit_context.device.
        """
        features = fit_context.features
        data = fit_context.bank.draw(component, fit_context.calls_per_component)
        if len(data) < 20:
            raise NotApplicable(f"my-method needs 20 simulations of {component}, not {len(data)}")
        # Features are transformed and standardised observations; contexts are scaled to [-1, 1].
        y = features(data.x).double().to(fit_context.device)  # (members, n, features)
        basis = powers(features.context(data.context), self.config.degree).to(fit_context.device)
        weights = torch.linalg.solve(basis.mT @ basis, basis.mT @ y)  # least squares
        residual = y - basis @ weights
        covariance = residual.mT @ residual / len(data)
        return MovingGaussian(features, {"weights": weights, "covariance": covariance})

    def restore_component(self, component, task, features, state):
        """Return the object that fit_component returned, rebuilt from its saved state."""
        return MovingGaussian(features, state)


def powers(context, degree):
    """Return the powers 1 to degree of contexts, and 1: (..., d) to (..., 1 + degree d)."""
    context = context.double()
    ones = torch.ones_like(context[..., :1])
    return torch.cat([ones, *(context**k for k in range(1, degree + 1))], -1)


class MovingGaussian:
    """Learned density of one component."""

    log = FitLog()  # losses and number of parameters; empty here

    def __init__(self, features, values):
        self.features, self.values = features, values

    def log_ratio(self, x, context):
        """Return log p(x|context) for every event and context, (members, events, contexts)."""
        weights, covariance = self.values["weights"], self.values["covariance"]
        degree = (weights.shape[-2] - 1) // context.shape[-1]
        mean = powers(self.features.context(context), degree) @ weights
        normal = torch.distributions.MultivariateNormal(mean[:, None], covariance[:, None, None])
        # The Jacobian turns a density of features into one of x; mixing components requires it.
        jacobian = self.features.log_jacobian(x)[None, :, None]
        return normal.log_prob(self.features(x).double()[None, :, None]) + jacobian

    def state(self):
        """Return the tensors to save; the leading axis of each is the members."""
        return self.values
