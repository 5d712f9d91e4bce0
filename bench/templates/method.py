"""my-method: a Gaussian whose mean is quadratic in the context. Change it to what you want.

bench check ./my_method.py                                     is the contract kept?
bench run quick --plugin ./my_method.py --method my-method     compare it with the others
"""

import torch

from bench.contracts import ComponentMethod, FitLog, Settings, equal_draws
from bench.errors import NotApplicable


class MyMethodConfig(Settings):
    """What can be set; the values enter the identity of every result."""

    degree: int = 2
    """Degree of the mean as a polynomial in the context."""


class MyMethod(ComponentMethod):
    """Learns each component p(x|context) by itself, from simulations of it."""

    name = "my-method"
    version = 1  # raise it when results change; in a plugin file the file's hash does that
    title = "Gaussian with a moving mean"
    Config = MyMethodConfig
    configurations = {"default": {}, "linear": {"degree": 1}}  # the first is the default
    has_density = True  # log_ratio is log p(x|context), not merely up to a term in x

    def check(self, task):
        """Says on which tasks it cannot run."""
        if task.observation != "vector":
            raise NotApplicable("my-method takes vectors only")

    def draws(self, task, budget):
        """Says beforehand what is drawn, for `bench plan`."""
        return equal_draws(task, budget)

    def fit_component(self, component, fit_context):
        """Trains one component for all members at once; members are the leading axis.

        The bank counts simulations: all components together may draw fit_context.bank.budget of
        them. Draw random numbers from fit_context.generators("what for"), one per member, on the
        CPU; compute on fit_context.device.
        """
        features = fit_context.features
        data = fit_context.bank.draw(component, fit_context.calls_per_component)
        if len(data) < 20:
            raise NotApplicable(f"my-method needs 20 simulations of {component}, not {len(data)}")
        # Features are the declared transform, standardised; contexts are scaled to [-1, 1].
        y = features(data.x).double().to(fit_context.device)  # (members, n, numbers)
        basis = powers(features.context(data.context), self.config.degree).to(fit_context.device)
        weights = torch.linalg.solve(basis.mT @ basis, basis.mT @ y)  # least squares
        residual = y - basis @ weights
        covariance = residual.mT @ residual / len(data)
        return MovingGaussian(features, {"weights": weights, "covariance": covariance})

    def restore_component(self, component, task, features, state):
        """Makes from a saved state what fit_component returned."""
        return MovingGaussian(features, state)


def powers(context, degree):
    """Powers of contexts (..., d), (..., 1 + degree d)."""
    context = context.double()
    ones = torch.ones_like(context[..., :1])
    return torch.cat([ones, *(context**k for k in range(1, degree + 1))], -1)


class MovingGaussian:
    """What was learned of one component."""

    log = FitLog()  # losses and parameters, where there are any

    def __init__(self, features, values):
        self.features, self.values = features, values

    def log_ratio(self, x, context):
        """Returns log p(x|context) of every event at every context, (members, events, contexts)."""
        weights, covariance = self.values["weights"], self.values["covariance"]
        degree = (weights.shape[-2] - 1) // context.shape[-1]
        mean = powers(self.features.context(context), degree) @ weights
        normal = torch.distributions.MultivariateNormal(mean[:, None], covariance[:, None, None])
        # A density of features becomes one of x: without the Jacobian components cannot be mixed.
        jacobian = self.features.log_jacobian(x)[None, :, None]
        return normal.log_prob(self.features(x).double()[None, :, None]) + jacobian

    def state(self):
        """Tensors that are saved; each leads with the members."""
        return self.values
