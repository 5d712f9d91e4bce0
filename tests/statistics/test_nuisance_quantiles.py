"""Critical values at profiled nuisance parameters against those at the true ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.contracts import IndependentPlan, Task
from bench.inference.critical import LEVELS, CriticalValues, position_in
from bench.inference.datasets import likelihood_of
from bench.inference.gradient import profile
from bench.inference.likelihood import ExactLikelihood
from bench.inference.quantiles import fit_quantile
from bench.registry.registry import Registry
from bench.stages.datasets import sets

DATASETS = 800
AT_ONCE = 32
LARGEST = 0.03
"""Largest difference in coverage that is not noticed."""


def statistics(task: Task, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return statistics (D, I) of toys, the points of their profiles (D, I, P) and truth (D, P)."""
    plan = IndependentPlan(uniform=DATASETS, per_point=0)
    every, exact = list(sets(task, plan, seed)), ExactLikelihood(task)
    parts = []
    for first in range(0, DATASETS, AT_ONCE):
        some = every[first : first + AT_ONCE]
        truth = task.space.to_unit(torch.stack([events.theta for events in some]))
        likelihood = likelihood_of(task, exact, plan, some, torch.device("cpu"))
        found = profile(likelihood, task.reported_index, truth, task.space.box)
        parts.append((found.statistic[0], found.fixed[0], truth))
    statistic, fixed, truth = (torch.cat(own) for own in zip(*parts, strict=True))
    return statistic, fixed, truth


@pytest.mark.parametrize("name", ["ornstein-uhlenbeck", "linear-gaussian-5"])
def test_profiled_nuisance_parameters_cost_no_coverage(name: str) -> None:
    """Intervals with quantiles at profiled values cover as those with quantiles at the truth."""
    task = Registry().task(name)
    learned, _, at = statistics(task, 0)
    statistic, fixed, truth = statistics(task, 1)
    position = position_in(task.space.box, at).numpy()
    for i, parameter in enumerate(task.reported_index):
        root = learned[:, i].clamp_min(0).sqrt().numpy()
        quantiles = [fit_quantile(position, root, level, "quadratic") for level in LEVELS]
        critical = CriticalValues(task.space.box, {parameter: quantiles}, quantiles[-1])
        profiled = critical.of_profile(statistic[:, i], fixed[:, i], parameter) <= 1
        known = critical.of_profile(statistic[:, i], truth, parameter) <= 1
        difference = profiled.double() - known.double()
        error = float(difference.std()) / DATASETS**0.5
        print(f"{name} {task.space.names[parameter]}: {difference.mean():+.4f} ± {error:.4f}")
        assert abs(float(difference.mean())) < LARGEST - 2 * error
