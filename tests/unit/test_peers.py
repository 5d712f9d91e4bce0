"""sbi's trainers as methods of the suite: training, side effects and state."""

import inspect
import math
from dataclasses import replace

import pytest
import torch
from seeded import fit_context

from bench.errors import BudgetExceeded, NotApplicable
from bench.registry.registry import Registry
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store
from bench.testing import asymmetric

pytest.importorskip("sbi")
from bench.methods import sbi_training

REGISTRY = Registry([asymmetric.__file__])
CPU = torch.device("cpu")
FAST = {"epochs": 2, "training_batch_size": 64}
CASES = {
    "sbi-nre": [{}, {"loss": "NRE_A", "hidden": (16, 16)}],
    "sbi-nle": [{}, {"ours": True}],
}
EVERY = [(name, config) for name, configs in CASES.items() for config in configs]


def fitted(tmp_path, name, task, budget, members, seen=None, **config):
    found = REGISTRY.method(name)
    method = found(found.Config.model_validate({"training": FAST} | config))
    method.check(task)
    store = Store(tmp_path)
    bank = SimulationBank(task, store, budget, members)
    features = features_of(task, store)
    given = fit_context(task, bank, features, what="test peers")
    if seen is not None:
        given = replace(given, report=lambda **fields: seen.append(fields))
    return method, bank, features, method.fit(given)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "config"), EVERY)
def test_the_contract(tmp_path, monkeypatch, capsys, name, config):
    """Budget, members, seeds and state follow the contract; nothing global changes."""
    monkeypatch.chdir(tmp_path)
    task, seen = REGISTRY.task("gaussians-far"), []
    before = torch.get_rng_state()
    method, bank, features, surrogate = fitted(
        tmp_path / "store", name, task, 600, [0, 1], seen, **config
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert bank.spent == 600
    assert capsys.readouterr().out == ""
    assert [p.name for p in tmp_path.iterdir()] == ["store"]
    assert seen
    assert all(math.isfinite(fields["loss"]) for fields in seen)

    state = surrogate.state()
    assert all(len(tensor) == 2 and bool(tensor.isfinite().all()) for tensor in state.values())
    x, context = torch.randn(11, 2), task.space.draw_context(3, torch.Generator())
    expected = surrogate.log_ratio(x, context)
    assert expected.shape == (2, 2, 11, 3)
    assert not torch.equal(expected[0], expected[1])
    restored = method.restore(task, features, state)
    assert torch.equal(restored.log_ratio(x, context), expected)
    assert (restored.reference, restored.has_density) == (surrogate.reference, name == "sbi-nle")
    assert restored.log.parameters == surrogate.log.parameters > 100
    # Pairs agree with single evaluations.
    one = surrogate.log_ratio(x[4:5], context[1:2])
    torch.testing.assert_close(one, expected[:, :, 4:5, 1:2], atol=1e-5, rtol=1e-5)

    torch.rand(3)  # changes the global generator
    *_, again = fitted(tmp_path / "store", name, task, 600, [1], **config)
    assert torch.equal(again.log_ratio(x, context)[0], expected[1])

    for curves in surrogate.log.curves:
        for curve in curves.values():
            assert len(curve.train_loss) == len(curve.validation_loss) == FAST["epochs"]
            assert curve.best_epoch == 1 + min(
                range(FAST["epochs"]), key=curve.validation_loss.__getitem__
            )
            assert curve.seconds >= curve.seconds_to_best > 0
            rows = 540 if name == "sbi-nre" else 270
            assert curve.steps == FAST["epochs"] * (rows // 64)


def test_losses_are_those_of_a_row(tmp_path):
    """sbi divides a batch's mean by its rows again; a cross-entropy begins near log 2."""
    task = REGISTRY.task("gaussians-near")
    *_, surrogate = fitted(tmp_path, "sbi-nre", task, 2000, [0], loss="NRE_A", hidden=(16,))
    (curve,) = surrogate.log.curves[0].values()
    assert curve.train_loss[0] == pytest.approx(math.log(2), abs=0.03)
    assert curve.validation_loss[0] == pytest.approx(math.log(2), abs=0.03)
    *_, atoms = fitted(tmp_path, "sbi-nre", task, 2000, [0])
    (curve,) = atoms.log.curves[0].values()
    assert curve.train_loss[0] == pytest.approx(math.log(10), abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["NRE_A", "NRE_B"])
def test_components_share_the_denominator(tmp_path, loss):
    """With separate denominators each component has a different function of x."""
    task = REGISTRY.task("asymmetric")
    training = {"epochs": 6, "training_batch_size": 128, "learning_rate": 5e-3}
    *_, surrogate = fitted(
        tmp_path, "sbi-nre", task, 10_000, [0], loss=loss, hidden=(48, 48), training=training
    )
    rng = torch.Generator().manual_seed(9)
    parts = list(task.components("test").values())
    context, nodes = torch.tensor([[0.8], [1.0], [1.25]]), task.space.draw_context(400, rng)
    x = torch.cat([part.simulate(context[1].expand(1500, -1), rng) for part in parts])
    exact = torch.stack([part.log_prob(x[:, None], context[None]) for part in parts])
    error = surrogate.log_ratio(x, context)[0] - exact
    own = error[0] - error[1]  # without the shared term
    each = torch.stack([part.log_prob(x[:, None], nodes[None]) for part in parts])
    evidence = each.logsumexp(2) - math.log(len(nodes))  # a separate denominator of each component
    wrong = (evidence[0] - evidence[1])[:, None].expand(-1, len(context))
    likely = (exact[0] - exact[1]).abs() < 3
    assert float(own[likely].abs().median()) < 0.4 * float(wrong[likely].abs().median())
    assert surrogate.reference == ("evidence" if loss == "NRE_A" else None)
    if loss == "NRE_A":
        x0, x1 = slice(1500), slice(1500, None)
        mixture = evidence.logsumexp(0) - math.log(2)
        ratio_error = error + mixture[:, None]
        typical = [ratio_error[k, own_x].median() for k, own_x in enumerate((x0, x1))]
        assert max(abs(float(t)) for t in typical) < 0.3


@pytest.mark.slow
def test_a_density_has_its_jacobian(tmp_path):
    """The density integrates to one over raw observations; features are logarithms."""
    task = REGISTRY.task("asymmetric")
    training = {"epochs": 6, "training_batch_size": 128, "learning_rate": 5e-3}
    *_, surrogate = fitted(tmp_path, "sbi-nle", task, 6_000, [0], ours=True, training=training)
    rng = torch.Generator().manual_seed(4)
    context = torch.tensor([[1.1]])
    for k, part in enumerate(task.components("test").values()):
        x = part.simulate(context.expand(2000, -1), rng)
        log_weight = surrogate.log_ratio(x, context)[0, k, :, 0] - part.log_prob(x, context)
        assert float(log_weight.exp().mean()) == pytest.approx(1.0, abs=0.06)
        assert abs(float(log_weight.mean())) < 0.15


@pytest.mark.slow
def test_series_fields_and_counts(tmp_path):
    sis, field = REGISTRY.task("sis"), REGISTRY.task("gp")
    for config in ({}, {"hidden": (8,), "loss": "NRE_A"}):
        *_, surrogate = fitted(tmp_path, "sbi-nre", sis, 200, [0], **config)
        rng = torch.Generator().manual_seed(0)
        context = sis.space.draw_context(3, rng)
        (part,) = sis.components("test").values()
        x = part.simulate(context, rng).float()
        values = surrogate.log_ratio(x, context)
        assert values.shape == (1, 1, 3, 3)
        assert bool(values.isfinite().all())
    with pytest.raises(NotApplicable, match="counts"):
        fitted(tmp_path, "sbi-nle", sis, 200, [0])
    with pytest.raises(NotApplicable, match="vectors"):
        fitted(tmp_path, "sbi-nle", field, 200, [0], ours=True)


def test_too_few_simulations(tmp_path):
    task = REGISTRY.task("gaussians-far")
    with pytest.raises(BudgetExceeded, match="20 simulations"):
        fitted(tmp_path, "sbi-nre", task, 18, [0])
    *_, surrogate = fitted(tmp_path, "sbi-nre", task, 20, [0])
    assert bool(surrogate.log_ratio(torch.randn(2, 2), torch.ones(1, 1)).isfinite().all())


@pytest.mark.parametrize("name", CASES)
def test_without_the_extra(monkeypatch, name):
    monkeypatch.setattr("bench.contracts.method.find_spec", lambda name: None)
    found = REGISTRY.method(name)
    with pytest.raises(NotApplicable, match=r"pip install 'nlbench\[peers\]'"):
        found(found.Config()).check(REGISTRY.task("gaussians-far"))


def test_the_configurations_are_valid_and_differ():
    for name in CASES:
        found = REGISTRY.method(name)
        configs = [found.Config.model_validate(c) for c in found.configurations.values()]
        assert list(found.configurations) == ["default", "matched"]
        assert configs[0] == found.Config() != configs[1]
    defaults = sbi_training.SbiTraining()
    with sbi_training.quiet(torch.Generator()):
        from sbi.inference import NLE_A, NRE_B
    for trainer in (NLE_A, NRE_B):
        own = inspect.signature(trainer.train).parameters
        for name, value in defaults.model_dump(exclude={"epochs"}).items():
            assert own[name].default == value, (trainer, name)
