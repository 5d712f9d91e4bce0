"""Wrappers of tests: one that only maps, and one that learns."""

import torch

from bench.contracts import Settings, Wrapped, Wrapper


class TemperConfig(Settings):
    power: float = 0.5


class Temper(Wrapper):
    name = "temper"
    title = "Log-ratios times a power"
    Config = TemperConfig

    def restore(self, surrogates, state):
        return Wrapped(surrogates, lambda log_ratio: self.config.power * log_ratio)


class Centre(Wrapper):
    """Subtract the mean log-ratio of fresh simulations."""

    name = "centre"

    def calls(self, budget):
        return budget // 4

    def fit(self, surrogates, fit_context):
        (name, *_), bank = fit_context.task.component_names, fit_context.bank
        drawn = bank.draw(name, bank.budget, split="calibration")
        with torch.no_grad():
            found = surrogates[0].log_ratio(drawn.x[0], drawn.context[0, :1])
        return {"mean": found.double().mean((-1, -2))[..., None, None]}

    def restore(self, surrogates, state):
        mean = state["mean"]

        def centred(log_ratio):
            return log_ratio - mean.view(*mean.shape[:2], *[1] * (log_ratio.dim() - 2))

        return Wrapped(surrogates, centred, state)
