"""Closure on single observations: exact likelihoods close, planted defects are measured."""

import math

import numpy as np
import pytest
import torch

import bench
from bench.contracts import FitLog, Parameter, StoredTask
from bench.inference.likelihood import ExactLikelihood
from bench.stages.closure import event_closure
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store

TASK = bench.task("exponential")


class Planted:
    """The exact likelihood ratio to a fixed reference, raised to a power and shifted."""

    reference = "fixed"
    has_density = False
    log = FitLog()

    def __init__(self, power=1.0, shift=0.0):
        self.power, self.shift = power, shift

    def log_ratio(self, x, context):
        exact = ExactLikelihood(TASK)
        ratio = exact.log_ratio(x, context) - exact.log_ratio(x, TASK.nominal[None])
        return self.power * ratio + self.shift


def close(surrogate, folder, events=40_000):
    store = SimulationStore(Store.open(folder))
    return event_closure(TASK, surrogate, events, 0, store, torch.device("cpu"))


def test_exact_densities_close_and_need_no_normalisation(tmp_path):
    found = close(ExactLikelihood(TASK), tmp_path)
    assert (found.events, found.calls) == (40_000, 40_000)
    assert found.deviation < 0.006
    assert abs(found.deviation_noise - math.sqrt(10 / 40_000)) < 1e-4
    assert found.normalisation is None


def test_exact_ratios_are_normalised_and_close(tmp_path):
    found = close(Planted(), tmp_path)
    assert found.deviation < 0.006
    assert found.normalisation < 3 * found.normalisation_noise


@pytest.mark.parametrize("shift", [-0.2, 0.1])
def test_a_factor_is_found_by_the_normalisation_alone(shift, tmp_path):
    found = close(Planted(shift=shift), tmp_path)
    assert abs(found.normalisation - abs(shift)) < 3 * found.normalisation_noise
    assert found.deviation < 0.006


def test_too_steep_ratios_do_not_close(tmp_path):
    """The deviation of a power is known from its own bins in a larger sample."""
    few, many = (close(Planted(1.3), tmp_path, n) for n in (20_000, 80_000))
    assert many.deviation > 0.03
    assert abs(few.deviation - many.deviation) < 0.02


def test_few_observations_say_nothing(tmp_path):
    found = close(Planted(), tmp_path, events=100)
    assert (found.deviation, found.normalisation) == (None, None)


def test_stored_datasets_of_many_observations_are_mixed(tmp_path):
    """A group of one dataset alone would have one context, and close for any surrogate."""
    rng = np.random.default_rng(0)
    theta = rng.uniform(-4, 4, (1500, 1))
    np.savez(tmp_path / "pairs.npz", theta=theta, x=rng.normal(theta, 1.0, (1500, 20)))
    mean = Parameter("mean", -4.0, 4.0, "interest", (-2.4, 2.4))
    task = StoredTask("stored", tmp_path / "pairs.npz", [mean], observations=20)
    store = SimulationStore(Store.open(tmp_path / "store"))

    class Normal(Planted):
        reference = None

        def log_ratio(self, x, context):
            return (-0.5 * self.power * (x[:, None, 0] - context[None, :, 0]).square())[None, None]

    right, steep = (
        event_closure(task, Normal(power), 6000, 0, store, torch.device("cpu"))
        for power in (1.0, 1.5)
    )
    assert (right.events, right.calls) == (6000, 0)
    assert right.deviation < 0.04
    assert steep.deviation > 0.08
