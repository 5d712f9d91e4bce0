"""my-method: a scikit-learn classifier as likelihood ratio. Change it to your own method.

bench check ./my_method.py                                     check that it keeps the contract
bench run quick --plugin ./my_method.py --method my-method     compare it with other methods
"""

import torch

from bench.contracts import ComponentMethod, FitLog, Settings, equal_draws
from bench.errors import NotApplicable


class MyMethodConfig(Settings):
    """Settings of the method; their values are part of the identity of every result."""

    hidden: tuple[int, ...] = (50, 50)
    """Units of each hidden layer."""
    patience: int = 5
    """Epochs without a better validation score after which training stops."""


class MyMethod(ComponentMethod):
    """Method that learns log p(x|context) - log p_reference(x) of each component."""

    name = "my-method"
    version = 1  # raise it when results change; in a plugin file the file's hash is enough
    title = "Classifier of scikit-learn"
    Config = MyMethodConfig
    configurations = {"default": {}, "wide": {"hidden": (200, 200)}}  # the first is the default

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
        from sklearn.neural_network import MLPClassifier

        n = fit_context.calls_per_component
        if n < 100:
            raise NotApplicable(f"my-method needs 100 simulations of {component}, not {n}")
        generators = fit_context.generators(f"{component} network")
        weights = []
        for pairs, label, generator in training_pairs(component, fit_context, generators):
            model = MLPClassifier(
                self.config.hidden,
                activation="tanh",  # smooth: a likelihood with kinks has no reliable intervals
                early_stopping=True,
                n_iter_no_change=self.config.patience,
                max_iter=1000,
                random_state=int(torch.randint(2**31 - 1, (), generator=generator)),
            )
            model.fit(pairs.numpy(), label.numpy())
            weights.append([*model.coefs_, *model.intercepts_])
        state = {  # tensors, because pickled objects are never saved
            str(i): torch.stack([torch.as_tensor(own[i], dtype=torch.float32) for own in weights])
            for i in range(len(weights[0]))
        }
        moved = {name: value.to(fit_context.device) for name, value in state.items()}
        return Classifier(fit_context.features, moved)

    def restore_component(self, component, task, features, state):
        """Return the object that fit_component returned, rebuilt from its saved state."""
        return Classifier(features, state)


def training_pairs(component, fit_context, generators):
    """Yield pairs (x, context), their labels and the generator of each member.

    Pairs labelled 1 are simulated together. In those labelled 0, x is from the reference and the
    context drawn independently, so that the log-odds are log p(x|context) - log p_reference(x).
    """
    task, features = fit_context.task, fit_context.features
    n = fit_context.calls_per_component
    # The bank counts simulations; drawing the same ones again is free.
    drawn = {name: fit_context.bank.draw(name, n) for name in task.component_names}
    together = features(drawn[component].x), features.context(drawn[component].context)
    # Components alternate, so that the first n have all of them in equal parts.
    evidence = torch.stack([features(own.x) for own in drawn.values()], 2).flatten(1, 2)[:, :n]
    apart = features.context(fit_context.draw_contexts(n, generators))
    label = torch.cat([torch.ones(n), torch.zeros(n)])
    for i, generator in enumerate(generators):
        rows = [torch.cat([y[i], eta[i]], 1) for y, eta in (together, (evidence, apart))]
        yield torch.cat(rows), label, generator


class Classifier:
    """Log-odds of one component against the reference."""

    log = FitLog()  # losses and number of parameters; empty here

    def __init__(self, features, values):
        self.features, self.values = features, values

    def log_ratio(self, x, context):
        """Return log-odds for every event and context, (members, events, contexts)."""
        y, eta = self.features(x), self.features.context(context)
        y, eta = y[:, None].expand(-1, len(eta), -1), eta[None].expand(len(y), -1, -1)
        hidden, layers = torch.cat([y, eta], -1).flatten(0, 1), len(self.values) // 2
        for i in range(layers):
            weight, bias = self.values[str(i)], self.values[str(layers + i)]
            hidden = hidden @ weight + bias[:, None]
            hidden = hidden.tanh() if i < layers - 1 else hidden
        return hidden.unflatten(1, y.shape[:2])[..., 0]

    def state(self):
        """Return the tensors to save; the leading axis of each is the members."""
        return self.values
