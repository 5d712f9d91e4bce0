"""Methods of docs/tutorials/my-method.md, as written there."""

import re
from pathlib import Path

import pytest
import torch
from seeded import fit_context

from bench.experiment.selection import configure
from bench.registry.registry import Registry
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store

BUDGET = 20_000
PAGE = Path(__file__).parents[2] / "docs" / "tutorials/my-method.md"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("kernel-density", 60), ("wide-ratio", 40)])
def test_a_documented_method_learns_and_is_restored(name, most, tmp_path):
    (code,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if f'name = "{name}"' in block
    ]
    assert len(code.splitlines()) <= most
    plugin = tmp_path / "documented.py"
    plugin.write_text(code)
    registry, store = Registry([plugin]), Store(tmp_path / "results")
    task, method = registry.task("gaussians-near"), configure(registry.method(name), "default")
    method.check(task)
    bank, features = SimulationBank(task, store, BUDGET, [0, 1]), features_of(task, store)
    surrogate = method.fit(fit_context(task, bank, features))
    assert bank.spent <= BUDGET
    contexts = task.space.draw_context(64, torch.Generator().manual_seed(0))
    low, high = contexts.min(0).values, contexts.max(0).values
    right, wrong = [], []
    for k, component in enumerate(task.components("test").values()):
        x = component.simulate(low.expand(500, -1), torch.Generator().manual_seed(k)).float()
        ratio = surrogate.log_ratio(x, torch.stack([low, high])).double()
        right.append(ratio[:, k, :, 0].mean())
        wrong.append(ratio[:, k, :, 1].mean())
    assert all(own > other for own, other in zip(right, wrong, strict=True))
    restored = method.restore(task, features, surrogate.state())
    probe = torch.randn(5, *task.event_shape), torch.stack([low, high])
    assert torch.equal(restored.log_ratio(*probe), surrogate.log_ratio(*probe))
