"""Densities that follow a process: normalisation, order of conditionals, training, scores."""

from __future__ import annotations

from itertools import product
from math import pi
from pathlib import Path
from typing import Any

import pytest
import torch
from bench.methods.dle_counts import CausalCategorical, DLECounts, DLECountsConfig
from bench.methods.dle_fields import (
    CosineConditionals,
    DLEFields,
    DLEFieldsConfig,
    log_gamma_step,
)
from bench.tasks.gaussian_process import Fields, StudentField, student_t
from bench.tasks.grid import Grid
from bench.tasks.sis import SIS, Outbreak
from scipy.special import gammaln
from seeded import fit_context
from torch import Tensor, nn

from bench.contracts import ComponentMethod, Surrogate, Task
from bench.errors import NotApplicable
from bench.nn.coordinates import frequencies
from bench.registry.registry import Registry
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store
from bench.testing import asymmetric
from bench.testing.toy_tasks import ToyTask

SHORT = {"epochs": 10, "steps": 500, "learning_rate": 1e-2, "batch_size": 128}
ETA = torch.tensor([[0.3, -0.8], [-0.5, 0.9]], dtype=torch.float64)


class SmallOutbreak(SIS):
    """Task with three counts in a population of eight."""

    event_shape = (3,)

    def __init__(self) -> None:
        super().__init__("small-outbreak")
        self._outbreak = Outbreak(population=8, infected=3, times=3)
        self.largest_count = 8


def shaken(categories: int, *, tail: bool) -> nn.Module:
    """Return a module in float64 whose probabilities are far from uniform."""
    return enlarged(CausalCategorical(categories, 2, 8, 2, tail), 3)


def enlarged(shape: CausalCategorical | CosineConditionals, factor: float) -> nn.Module:
    torch.manual_seed(0)
    module = shape().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(factor)
    return module


def fitted(method: ComponentMethod, task: Task, calls: int, root: Path) -> Surrogate:
    bank = SimulationBank(task, Store(root), calls, [0, 1], "fresh", 1)
    return method.fit(fit_context(task, bank, features_of(task, Store(root))))


def all_series(counts: int, length: int) -> Tensor:
    return torch.tensor(list(product(range(counts), repeat=length)), dtype=torch.float64)


def test_probabilities_of_all_series_add_up_to_one() -> None:
    x = all_series(4, 5)
    probability = shaken(4, tail=False)(x[:, None], ETA[None]).exp()
    assert probability.max() > 10 / len(x)
    torch.testing.assert_close(probability.sum(0), torch.ones(2, dtype=torch.float64))


def test_greater_counts_share_the_last_category() -> None:
    module = shaken(4, tail=True)
    probability = module(all_series(40, 2)[:, None], ETA[None]).exp()
    torch.testing.assert_close(probability.sum(0), torch.ones(2, dtype=torch.float64))
    beyond = module(torch.tensor([[3.0], [4.0], [5.0]]).double(), ETA[:1].expand(3, -1)).exp()
    torch.testing.assert_close(beyond, beyond[0] * torch.tensor([1, 0.5, 0.25]).double())


def test_a_step_sees_earlier_counts_alone() -> None:
    module = shaken(6, tail=False)
    x = torch.tensor([[2.0, 0.0, 5.0, 1.0, 3.0]], dtype=torch.float64)
    encoded = module.encode(x)
    for step in range(5):
        changed = x.clone()
        changed[0, step] = 4.0
        same = (module.encode(changed) == encoded).all(-1)[0]
        assert same.tolist() == [t <= step for t in range(step + 1)] + [False] * (4 - step)


@pytest.mark.slow
def test_training_finds_the_probabilities_of_an_outbreak(tmp_path: Path) -> None:
    task = SmallOutbreak()
    method = DLECounts(
        DLECountsConfig.model_validate({"width": 16, "levels": 1, "training": SHORT})
    )
    trained = fitted(method, task, 4000, tmp_path)
    theta = torch.tensor([[0.6, 0.4], [1.2, 0.3]])
    x = all_series(9, 3)
    exact = task.components("test")["outbreak"].log_prob(x[:, None], theta[None])
    found = trained.log_ratio(x.float(), theta)
    assert found.shape == (2, 1, len(x), 2)
    torch.testing.assert_close(found.exp().sum(2), torch.ones(2, 1, 2))
    divergence = (exact.exp() * (exact - found[:, 0].double())).nansum(1)
    assert (divergence < 0.04).all()
    state = {name: value[1:] for name, value in (trained.state() or {}).items()}
    again = method.restore(task, features_of(task, Store(tmp_path)), state)
    torch.testing.assert_close(again.log_ratio(x[:7].float(), theta), found[1:, :, :7])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["counts", "fields"])
def test_scores_bring_slopes_closer(kind: str, tmp_path: Path) -> None:
    task: Task = SmallOutbreak() if kind == "counts" else small_field()
    errors = []
    for scores in (None, {}):
        values: dict[str, Any] = {"scores": scores, "training": {"epochs": 10, "steps": 300}}
        method = (
            DLECounts(DLECountsConfig.model_validate(values))
            if kind == "counts"
            else DLEFields(DLEFieldsConfig.model_validate(values))
        )
        trained = fitted(method, task, 600, tmp_path)
        (component,) = task.components("test").values()
        context = task.space.draw_context(100, torch.Generator().manual_seed(5))
        x = component.simulate(context, torch.Generator().manual_seed(6))
        step = 0.02 * context * torch.tensor([1.0, 0.0])
        ends = [
            torch.stack(
                [
                    trained.log_ratio(x[i : i + 1], (context + sign * step)[i : i + 1])[..., 0, 0]
                    for i in range(len(x))
                ]
            )
            for sign in (-1, 1)
        ]
        slope = (ends[1] - ends[0]).mean(1) / (2 * step[:, :1])
        exact = component.score(x, context)[:, :1]
        errors.append(float((slope - exact).square().mean() / exact.square().mean()))
    assert errors[1] < 0.8 * errors[0], errors


def test_it_takes_series_of_counts_alone() -> None:
    method = DLECounts(DLECountsConfig())
    for task in (ToyTask("numbers", "series", (9,)), Registry([asymmetric.__file__]).task("gp")):
        with pytest.raises(NotApplicable, match="takes series of counts"):
            method.check(task)
    unbounded = ToyTask("counts", "series", (12,), discrete=True)
    method.check(unbounded)
    assert "categories" in method.settings(unbounded)
    assert "categories" not in method.settings(SIS())


def small_field() -> Fields:
    """Return a Student-t process on 4 × 4 sites."""
    full = student_t()
    lengths, seconds = ((0.1, 0.2, 0.3), (4.0, 6.0, 9.0))
    freedom = full.space.parameters[1]
    return Fields("small", "small", StudentField(Grid(4), 0.05), freedom, lengths, seconds, 25)


def test_the_density_of_cosines_integrates_to_one() -> None:
    module = enlarged(CosineConditionals(1, 3, 2, 8, 4), 1.5)
    share = (torch.arange(160, dtype=torch.float64) + 0.5) / 160
    node, weight = torch.tan(pi * (share - 0.5)), pi / torch.cos(pi * (share - 0.5)).square() / 160
    z = torch.cartesian_prod(node, node, node)
    with torch.no_grad():
        density = torch.cat([module(part[:, None], ETA[None]).exp() for part in z.split(100_000)])
    total = torch.einsum("ijkc,i,j,k->c", density.view(160, 160, 160, 2), weight, weight, weight)
    torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64), atol=1e-4, rtol=0)


def test_means_see_lower_frequencies_of_a_row_or_column() -> None:
    place = frequencies(5, 4)
    index, there = CosineConditionals(5, 4, 2, 8, 4).earlier
    for k, (numbers, known) in enumerate(zip(index, there, strict=True)):
        own, others = place[k], place[numbers[known.bool()]]
        assert (numbers[known.bool()] < k).all()
        assert ((others == own).any(1) & ((others - own) % 2 == 0).all(1)).all()
    assert there.sum() == 4 * (3 + 1) + 5 * (1 + 1)  # pairs of equal parity in columns and rows


def test_steps_of_the_logarithm_of_gamma() -> None:
    x = torch.logspace(-2, 7, 200, dtype=torch.float64)
    exact = torch.from_numpy(gammaln(x.numpy() + 0.5) - gammaln(x.numpy()))
    torch.testing.assert_close(log_gamma_step(x[x < 1e3]), exact[x < 1e3], atol=1e-7, rtol=0)
    torch.testing.assert_close(log_gamma_step(x.float()), exact.float(), atol=1e-6, rtol=1e-6)


@pytest.mark.slow
def test_training_finds_a_student_t_process(tmp_path: Path) -> None:
    task = small_field()
    method = DLEFields(DLEFieldsConfig.model_validate({"training": SHORT}))
    trained = fitted(method, task, 2000, tmp_path)
    context = task.space.draw_context(400, torch.Generator().manual_seed(5))
    (component,) = task.components("test").values()
    x = component.simulate(context, torch.Generator().manual_seed(6))
    found = torch.stack(
        [trained.log_ratio(x[i : i + 1], context[i : i + 1])[:, 0, 0, 0] for i in range(len(x))], 1
    )
    loss = component.log_prob(x, context) - found.double()
    assert (loss.mean(1) < 0.1).all(), loss.mean(1)
    state = {name: value[1:] for name, value in (trained.state() or {}).items()}
    again = method.restore(task, features_of(task, Store(tmp_path)), state)
    pairs = x[:40], context[:3]
    torch.testing.assert_close(again.log_ratio(*pairs), trained.log_ratio(*pairs)[1:])


def test_it_takes_fields_alone() -> None:
    method = DLEFields(DLEFieldsConfig())
    for task in (SIS(), ToyTask("numbers", "vector", (9,))):
        with pytest.raises(NotApplicable, match="takes fields of real numbers"):
            method.check(task)
