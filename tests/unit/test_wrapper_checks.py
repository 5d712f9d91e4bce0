"""Conformance kit of wrappers: sound ones pass, and every planted defect is caught."""

import numpy as np
import pytest
import torch

from bench.contracts import Settings, Wrapped, Wrapper
from bench.errors import PluginError
from bench.registry.registry import Registry
from bench.testing import WRAPPER_CHECKS, check_wrapper

REGISTRY = Registry()


@pytest.mark.parametrize("name", REGISTRY.names("wrappers"))
def test_built_in_wrappers_pass(name):
    report = check_wrapper(REGISTRY.wrapper(name))
    report.raise_for_failures()
    assert [result.check for result in report] == list(WRAPPER_CHECKS)


class Sound(Wrapper):
    name = "sound"

    def restore(self, surrogates, state):
        return Wrapped(surrogates, self.function)

    def function(self, log_ratio):
        return 0.5 * log_ratio


class Learned(Sound):
    def calls(self, budget):
        return budget // 4

    def fit(self, surrogates, fit_context):
        names, bank = fit_context.task.component_names, fit_context.bank
        drawn = [bank.draw(n, bank.budget // len(names), split="calibration") for n in names]
        return {"scale": torch.stack([own.x[0].std() for own in drawn])[None]}


def test_sound_ones_pass():
    for wrapper in (Sound, Learned):
        check_wrapper(wrapper).raise_for_failures()


class Greedy(Learned):
    def calls(self, budget):
        return budget + 1


class Lonely(Sound):
    members = 0


class NoAxis(Learned):
    def fit(self, surrogates, fit_context):
        return {"scale": super().fit(surrogates, fit_context)["scale"][0].sum()}


class NotFinite(Learned):
    def fit(self, surrogates, fit_context):
        return {"scale": super().fit(surrogates, fit_context)["scale"] * torch.nan}


class Listed(Learned):
    def fit(self, surrogates, fit_context):
        return {"scale": super().fit(surrogates, fit_context)["scale"].tolist()}


class Peeking(Learned):
    def fit(self, surrogates, fit_context):
        names, bank = fit_context.task.component_names, fit_context.bank
        drawn = [bank.draw(n, bank.budget // len(names)) for n in names]
        return {"scale": torch.stack([own.x[0].std() for own in drawn])[None]}


class Frugal(Learned):
    def fit(self, surrogates, fit_context):
        drawn = fit_context.bank.draw(fit_context.task.component_names[0], 5, split="calibration")
        return {"scale": drawn.x.std().view(1)}


class Random(Learned):
    def fit(self, surrogates, fit_context):
        scale = super().fit(surrogates, fit_context)["scale"]
        rng = torch.Generator()
        rng.seed()
        return {"scale": scale + torch.rand(1, generator=rng)}

    def restore(self, surrogates, state):
        scale = state["scale"].mean()
        return Wrapped(surrogates, lambda log_ratio: scale * log_ratio)


class Summed(Sound):
    def function(self, log_ratio):
        return log_ratio.sum(1)


class Infinite(Sound):
    def function(self, log_ratio):
        return log_ratio - log_ratio.amax(-1, keepdim=True).log()


class Mixing(Sound):
    def function(self, log_ratio):
        return log_ratio - log_ratio.mean(0, keepdim=True)


class Ranked(Sound):
    def function(self, log_ratio):
        return log_ratio - log_ratio.mean(2, keepdim=True)


class Detached(Sound):
    def function(self, log_ratio):
        return log_ratio.detach()


class Halved(Sound):
    def function(self, log_ratio):
        return 0.5 * log_ratio + 0.5 * log_ratio.detach()


class Seeding(Sound):
    def function(self, log_ratio):
        np.random.seed(3)  # noqa: NPY002
        return log_ratio


class Writing(Sound):
    def restore(self, surrogates, state):
        surrogates[0].factors *= 2
        return super().restore(surrogates, state)


@pytest.mark.parametrize(
    ("wrapper", "check", "said"),
    [
        (Greedy, "numbers", "from 0 to 1"),
        (Lonely, "numbers", "1 or more"),
        (NoAxis, "state", "leading axis"),
        (NotFinite, "state", "finite"),
        (Listed, "state", "a tensor for every name"),
        (Peeking, "budget", "split="),
        (Frugal, "budget", "draws announces"),
        (Random, "deterministic", "fit_context.generator"),
        (Summed, "shape", "log_ratio"),
        (Infinite, "shape", "infinity"),
        (Mixing, "members", "with and without others"),
        (Ranked, "pairs", "of the table"),
        (Detached, "pairs", "differentiable"),
        (Halved, "pairs", "finite differences"),
        (Seeding, "inputs", "global state"),
        (Writing, "inputs", "unchanged"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_planted_defects_are_caught(wrapper, check, said):
    report = check_wrapper(wrapper)
    failed = {result.check: result for result in report.failures}
    assert check in failed, report
    assert said in f"{failed[check].expected} {failed[check].came} {failed[check].where}"


def test_settings_without_a_default_need_an_example():
    class Needs(Sound):
        class Config(Settings):
            power: float

    with pytest.raises(PluginError, match="need values in `example`"):
        check_wrapper(Needs)
    check_wrapper(Needs, {"power": 1.0}).raise_for_failures()
