"""Causal categorical networks: exact normalisation, shared encodings, training, scores."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from bench.methods.dle_counts import CausalCategorical, DLECounts, DLECountsConfig
from bench.tasks.sis import SIS, Outbreak
from seeded import fit_context
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.registry.registry import Registry
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store
from bench.testing import asymmetric
from bench.testing.toy_tasks import ToyTask

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
    torch.manual_seed(0)
    module = CausalCategorical(categories, 2, 8, 2, tail)().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3)
    return module


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
    method = DLECounts(DLECountsConfig.model_validate({"width": 16, "levels": 1}))
    bank = SimulationBank(task, Store(tmp_path), 4000, [0, 1], "fresh", 1)
    fitted = method.fit(fit_context(task, bank, features_of(task, Store(tmp_path))))
    theta = torch.tensor([[0.6, 0.4], [1.2, 0.3]])
    x = all_series(9, 3)
    exact = task.components("test")["outbreak"].log_prob(x[:, None], theta[None])
    found = fitted.log_ratio(x.float(), theta)
    assert found.shape == (2, 1, len(x), 2)
    torch.testing.assert_close(found.exp().sum(2), torch.ones(2, 1, 2))
    divergence = (exact.exp() * (exact - found[:, 0].double())).nansum(1)
    assert (divergence < 0.04).all()
    state = {name: value[1:] for name, value in (fitted.state() or {}).items()}
    again = method.restore(task, features_of(task, Store(tmp_path)), state)
    torch.testing.assert_close(again.log_ratio(x[:7].float(), theta), found[1:, :, :7])


def test_it_takes_series_of_counts_alone() -> None:
    method = DLECounts(DLECountsConfig())
    for task in (ToyTask("numbers", "series", (9,)), Registry([asymmetric.__file__]).task("gp")):
        with pytest.raises(NotApplicable, match="takes series of counts"):
            method.check(task)
    unbounded = ToyTask("counts", "series", (12,), discrete=True)
    method.check(unbounded)
    assert "categories" in method.settings(unbounded)
    assert "categories" not in method.settings(SIS())
