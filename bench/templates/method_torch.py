"""my-method: a PyTorch network with a training loop of its own. Change it to your own method.

bench check ./my_method.py                                     check that it keeps the contract
bench run quick --plugin ./my_method.py --method my-method     compare it with other methods
"""

from functools import partial

import torch
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils import skip_init

from bench.contracts import ComponentMethod, FitLog, Settings, equal_draws
from bench.errors import NotApplicable


class MyMethodConfig(Settings):
    """Settings of the method; their values are part of the identity of every result."""

    width: int = 64
    epochs: int = 20
    batch: int = 256
    learning_rate: float = 3e-3


class MyMethod(ComponentMethod):
    """Method that learns log p(x|context) - log p_reference(x) of each component."""

    name = "my-method"
    version = 1  # raise it when results change; in a plugin file the file's hash is enough
    title = "Ratio network with a loop of its own"
    Config = MyMethodConfig
    configurations = {"default": {}, "long": {"epochs": 60}}  # the first one is the default

    def check(self, task):
        """Raise NotApplicable for tasks that the method cannot learn."""
        if task.observation != "vector":
            raise NotApplicable("my-method takes vectors only")

    def reference_kind(self, task):
        """Return the denominator of the ratio, the same for all components and contexts."""
        return "evidence"  # all components in equal parts, at contexts of the training range

    def draws(self, task, budget):
        """Return the simulations that a fit will draw, for the estimates of `bench plan`."""
        return equal_draws(task, budget)

    def fit_component(self, component, fit_context):
        """Train one component for all members; members are the leading axis of all arrays."""
        task, features = fit_context.task, fit_context.features
        device, n = fit_context.device, fit_context.calls_per_component
        if n < 100:
            raise NotApplicable(f"my-method needs 100 simulations of {component}, not {n}")
        # The bank counts simulations; drawing the same ones again is free.
        drawn = {name: fit_context.bank.draw(name, n) for name in task.component_names}
        eta = features.context(drawn[component].context)
        together = torch.cat([features(drawn[component].x), eta], -1).to(device)
        # Components alternate, so that the first n have all of them in equal parts.
        evidence = torch.stack([features(own.x) for own in drawn.values()], 2).flatten(1, 2)
        evidence = evidence[:, :n].to(device)
        # Random numbers are drawn on the CPU, from one generator for each member.
        generators = fit_context.generators(f"{component} network")
        networks = []
        for i, generator in enumerate(generators):
            net = with_random_weights(network(together.shape[-1], self.config.width), generator)
            net = net.to(device)
            self.train(net, together[i], evidence[i], task, features, generator, fit_context.report)
            networks.append(net)
        weights, _ = stack_module_state(networks)  # by name; the leading axis is the members
        return RatioNetworks(features, {name: own.detach() for name, own in weights.items()})

    def train(self, net, together, evidence, task, features, generator, report):
        """Separate pairs simulated together from pairs of the reference and another context."""
        config = self.config
        optimizer = torch.optim.Adam(net.parameters(), config.learning_rate)
        steps = config.epochs * -(-len(together) // config.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for epoch in range(config.epochs):
            for rows in torch.randperm(len(together), generator=generator).split(config.batch):
                eta = features.context(task.space.draw_context(len(rows), generator))
                others = torch.cat([evidence[rows], eta.to(evidence.device)], -1)
                # The log-odds of this loss are log p(x|context) - log p_reference(x).
                loss = torch.nn.functional.softplus(-net(together[rows])).mean()
                loss = loss + torch.nn.functional.softplus(net(others)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            report(loss=loss.item(), epoch=epoch + 1, epochs=config.epochs)

    def restore_component(self, component, task, features, state):
        """Return the object that fit_component returned, rebuilt from its saved state."""
        return RatioNetworks(features, state)


def network(inputs, width):
    """Return a network without weights; SiLU is smooth, as reliable intervals require."""
    linear = partial(skip_init, torch.nn.Linear)
    return torch.nn.Sequential(
        linear(inputs, width),
        torch.nn.SiLU(),
        linear(width, width),
        torch.nn.SiLU(),
        linear(width, 1),
    )


def with_random_weights(net, generator):
    """Draw the weights of a network; PyTorch's own are drawn from global random numbers."""
    with torch.no_grad():
        for layer in net[::2]:
            scale = layer.in_features**-0.5
            layer.weight.uniform_(-scale, scale, generator=generator)
            layer.bias.zero_()
    return net


class RatioNetworks:
    """Log-odds of one component against the reference."""

    log = FitLog()  # losses and number of parameters; empty here

    def __init__(self, features, values):
        self.features, self.values = features, values
        width, inputs = values["0.weight"].shape[1:]
        self.net = network(inputs, width).to("meta")  # its parameters are those in `values`

    def log_ratio(self, x, context):
        """Return log-odds for every event and context, (members, events, contexts)."""
        y, eta = self.features(x), self.features.context(context)
        y, eta = y[:, None].expand(-1, len(eta), -1), eta[None].expand(len(y), -1, -1)
        return self.log_odds(torch.cat([y, eta], -1)[None])

    def log_ratio_paired(self, x, context):
        """Return log-odds of event i at context i, (members, events), with gradients."""
        y, eta = self.features(x), self.features.context(context)
        eta = eta.expand(len(self.values["0.weight"]), -1, -1)  # contexts may differ by member
        return self.log_odds(torch.cat([y.expand(len(eta), -1, -1), eta], -1))

    def log_odds(self, pairs):
        """Evaluate every member on its pairs, (1 or members, ..., inputs)."""
        members = len(self.values["0.weight"])
        pairs = pairs.expand(members, *pairs.shape[1:])
        return vmap(lambda own, rows: functional_call(self.net, own, (rows,))[..., 0])(
            self.values, pairs
        )

    def state(self):
        """Return the tensors to save; the leading axis of each is the members."""
        return self.values
