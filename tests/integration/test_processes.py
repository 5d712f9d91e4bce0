"""Process tasks from simulations to a leaderboard, and predictions of their methods."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from bench.contracts import FitContext
from bench.registry.registry import Registry
from bench.seeds import generator
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store

REGISTRY = Registry(())
BUDGET = 3000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store with simulations shared by all methods."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("sis", "histogram:default"),
        ("sis", "lre:tuned"),
        ("sis", "dle:tuned"),
        ("sis", "dle-nflows:tuned"),
        ("gp", "lre:tuned"),
        ("gp", "dle:tuned"),
        ("student-t", "dle:tuned"),
    ],
)
def test_methods_learn_and_are_restored(name: str, label: str, store: Store) -> None:
    task = REGISTRY.task(name)
    found = REGISTRY.method(label.split(":")[0])
    config = found.Config.model_validate(found.configurations[label.split(":")[1]])
    if hasattr(config, "encoded"):  # half of the steps is enough to learn
        fewer = config.encoded.model_copy(update={"steps": config.encoded.steps // 2})
        config = config.model_copy(update={"encoded": fewer})
    method = found(config)
    method.check(task)
    bank = SimulationBank(task, store, BUDGET, [0], "fresh")
    features = features_of(task, store)
    surrogate = method.fit(
        FitContext(
            task, bank, features, torch.device("cpu"), partial(generator, "test"), lambda **_: None
        )
    )
    assert bank.spent <= BUDGET
    source = next(iter(task.components("test").values()))
    contexts = torch.stack([task.points[0], task.points[8]]).float()
    rng = torch.Generator().manual_seed(1)
    drawn = [source.simulate(c.expand(300, 2), rng) for c in contexts]
    ratios = torch.stack([surrogate.log_ratio(x, contexts)[0, 0] for x in drawn])
    assert ratios.shape == (2, 300, 2)
    # Observations are, on average, more likely under their generating parameters.
    own, other = ratios.diagonal(dim1=0, dim2=2), ratios.flip(2).diagonal(dim1=0, dim2=2)
    assert float((own - other).mean()) > 0.2
    state = surrogate.state()
    assert state is not None
    restored = method.restore(task, features, state)
    assert torch.equal(restored.log_ratio(drawn[0], contexts)[0, 0], ratios[0])
