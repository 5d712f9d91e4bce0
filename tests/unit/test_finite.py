"""Finite observations: drawn without replacement, in disjoint blocks, with matching errors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from bench.tasks.fair_universe import FairUniverse
from bench.tasks.higgs_fair import HiggsFair, TauEvents

from bench.boards.units import FEWEST_BLOCKS, ResamplingUnits
from bench.contracts import BootstrapPlan, HeldOutPlan, IndependentPlan
from bench.contracts.plan import fit_to, number_of_blocks
from bench.errors import BudgetExceeded, NotApplicable, PluginError
from bench.experiment.preset import Preset
from bench.experiment.selection import make_spec
from bench.registry.registry import Registry
from bench.stages.datasets import sets
from bench.stages.members import open_fit
from bench.stages.predict import predict
from bench.stages.simulate import SimulationBank, features_of
from bench.stats.clustering import mean
from bench.storage.entries import JobContext
from bench.storage.fit_spec import plan_folder
from bench.storage.store import Store

SIZES = {
    ("signal", "train"): 300,
    ("background", "train"): 200,
    ("signal", "validation"): 90,
    ("background", "validation"): 70,
    ("signal", "test"): 900,
    ("background", "test"): 650,
}


STEP = 1.002
OPENING = 1.5


def recorded(n: int, first: int = 0) -> np.ndarray:
    """Return events (n, 3), numbered from `first` by their leptons at any energy scale."""
    rng = np.random.default_rng(first)
    lepton, hadron = 20 * STEP ** (first + rng.permutation(n)), 26 + rng.exponential(15, n)
    return np.stack([lepton, hadron, np.full(n, OPENING)], -1).astype(np.float32)


def which(x: torch.Tensor) -> list[int]:
    """Return the numbers of events.

    m_vis² × ratio is 2 × lepton² × opening, independent of the energy scale.
    """
    lepton = (x[..., 0].double().square() * x[..., 1].double() / (2 * OPENING)).sqrt()
    number: list[int] = ((lepton / 20).log() / math.log(STEP)).round().long().tolist()
    return number


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> HiggsFair:
    held = {key: recorded(n, 1000 * i) for i, (key, n) in enumerate(SIZES.items())}
    monkeypatch.setattr(FairUniverse, "digest", "a" * 64)
    monkeypatch.setattr(FairUniverse, "read", lambda self, *key: held[key])
    return HiggsFair()


def test_features_move_with_the_energy_scale_as_the_tractable_task_says() -> None:
    held = recorded(400)
    source = TauEvents(held)
    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    nominal, scaled = (
        source.simulate(torch.full((400, 1), z), rng).double()
        for z, rng in zip((1.0, 1.07), seeds, strict=True)
    )
    torch.testing.assert_close(scaled[:, 0], nominal[:, 0] * 1.07**0.5, rtol=2e-7, atol=0)
    torch.testing.assert_close(scaled[:, 1], nominal[:, 1] / 1.07, rtol=2e-7, atol=0)
    mass = np.sqrt(2 * held[:, 0].astype(float) * held[:, 1] * held[:, 2])
    np.testing.assert_allclose(np.sort(nominal[:, 0]), np.sort(mass), rtol=1e-6)


@pytest.mark.parametrize("n", [50, 100, 250, 1000])
def test_events_are_used_equally_often_and_repeats_stand_together(n: int) -> None:
    context = 0.9 + 0.2 * torch.rand(n, 1, generator=torch.Generator().manual_seed(0))
    x = TauEvents(recorded(100)).simulate(context, torch.Generator().manual_seed(n))
    seen = which(x)
    counts = np.unique(seen, return_counts=True)[1]
    assert len(counts) == min(n, 100)
    assert counts.max() - counts.min() <= 1
    assert np.sum(np.diff(seen) != 0) == len(counts) - 1
    again = TauEvents(recorded(100)).simulate(context, torch.Generator().manual_seed(n))
    assert torch.equal(x, again)


def test_blocks_are_disjoint_and_complete() -> None:
    source, nominal = TauEvents(recorded(101)), torch.ones(101, 1)
    everything = source.simulate(nominal, torch.Generator().manual_seed(0))
    parts = [
        source.block(i, 4).simulate(
            nominal[: source.block(i, 4).size], torch.Generator().manual_seed(i)
        )
        for i in range(4)
    ]
    assert [len(p) for p in parts] == [26, 25, 25, 25]
    assert torch.equal(torch.cat(parts).sort(0).values, everything.sort(0).values)


def test_the_selection_is_applied_after_scaling() -> None:
    held = recorded(4000)
    source = TauEvents(held, had_pt_min=32.0)
    assert source.size == np.sum(held[:, 1] * 0.9 >= 32)
    context = torch.where(torch.arange(3000)[:, None] % 2 == 0, 0.92, 1.08)
    x = source.simulate(context, torch.Generator().manual_seed(0))
    number = np.round(np.log(held[:, 0].astype(float) / 20) / math.log(STEP)).astype(int)
    hadron = dict(zip(number.tolist(), held[:, 1].tolist(), strict=True))
    for z in (0.92, 1.08):
        seen = which(x[torch.isclose(context[:, 0], torch.tensor(z))])
        momenta = np.array([hadron[event] for event in seen]) * z
        assert momenta.min() >= 32 - 1e-4
        # No passing event is preferred: the mean is that of all passing events.
        passing = held[held[:, 1] * z >= 32, 1].astype(float) * z
        error = passing.std() / len(seen) ** 0.5
        assert momenta.mean() == pytest.approx(passing.mean(), abs=4 * error)
    evaluation = source.simulate(torch.full((1000, 1), 0.93), torch.Generator().manual_seed(1))
    assert len(set(which(evaluation))) == 1000
    for wrong in (-1, 0, math.nan, math.inf, "26", True):
        with pytest.raises(ValueError, match=f"had_pt_min = {wrong!r} is not allowed"):
            HiggsFair(had_pt_min=wrong)  # type: ignore[arg-type]
    assert isinstance(HiggsFair(had_pt_min=np.float32(26)).had_pt_min, float)


def test_plans_shrink_to_what_there_is(task: HiggsFair) -> None:
    wide = IndependentPlan(uniform=300, per_point=20, observations=100)
    assert fit_to(task, wide) == wide.model_copy(update={"per_point": 6})
    assert number_of_blocks(task, fit_to(task, wide)) == 6
    few = fit_to(task, IndependentPlan(uniform=4, per_point=0, observations=100))
    assert number_of_blocks(task, few) == 4
    deep = BootstrapPlan(sets=5, multiple=3, observations=100)
    assert fit_to(task, deep) == deep.model_copy(update={"sets": 2})
    deeper = fit_to(task, BootstrapPlan(sets=5, multiple=9, observations=100))
    assert (deeper.sets, deeper.multiple) == (1, 6)
    assert fit_to(task, HeldOutPlan(contexts=10, events=256)).events == 7
    with pytest.raises(NotApplicable, match="650 test observations of a component, and a dataset"):
        fit_to(task, IndependentPlan())
    with pytest.raises(NotApplicable, match="70 held-out observations"):
        fit_to(task, HeldOutPlan())
    simulated = Registry(()).task("higgs")
    for plan in (wide, deep, HeldOutPlan()):
        assert fit_to(simulated, plan) == plan
        assert number_of_blocks(simulated, plan) is None
    assert plan_folder(task, few, 0) != plan_folder(simulated, few, 0)


@pytest.mark.parametrize(
    "plan",
    [
        IndependentPlan(uniform=20, per_point=3, observations=100),
        BootstrapPlan(sets=2, multiple=3, bootstraps=4, observations=100),
    ],
)
def test_datasets_of_a_block_share_events_and_others_do_not(
    task: HiggsFair, plan: IndependentPlan | BootstrapPlan
) -> None:
    of = number_of_blocks(task, plan)
    assert of is not None
    used: dict[int, set[int]] = {}
    points: dict[int, list[int]] = {}
    for one in sets(task, plan, seed=0):
        seen = which(one.x)
        assert len(set(seen)) == len(one.x)  # no repeated event in a set
        used.setdefault(one.block, set()).update(seen)
        points.setdefault(one.point, []).append(one.block)
    assert sorted(used) == list(range(of))
    for a in used:
        for b in used:
            assert a == b or not used[a] & used[b]
    for point, blocks in points.items():
        if point >= 0:
            assert len(set(blocks)) == len(blocks)
    first = next(iter(sets(task, plan, seed=0)))
    other = next(iter(sets(task, plan, seed=1)))
    assert not torch.equal(first.theta, other.theta) or not torch.equal(first.x, other.x)


def test_the_bank_repeats_events_at_other_contexts(task: HiggsFair, tmp_path: Path) -> None:
    store = Store(tmp_path)
    bank = SimulationBank(task, store, 1500, [0, 1], "fresh")
    drawn = bank.draw("background", 600)
    assert drawn.x.shape == (2, 600, 2)
    assert torch.equal(bank.draw("background", 600).x, drawn.x)
    assert bank.spent == 600
    assert len(drawn.context[0].unique()) > 590
    order = [which(drawn.x[m]) for m in range(2)]
    assert len(set(order[0])) <= 200
    assert order[0] != order[1]
    validation, training = order[0][:60], order[0][60:]
    assert not set(validation) & set(training)
    assert bank.reference(400, "fixed").x.shape == (2, 400, 2)
    with pytest.raises(BudgetExceeded):
        bank.draw("signal", 501)
    boot = SimulationBank(task, store, 600, [0], "bootstrap").draw("background", 150)
    assert boot.x.shape == (1, 150, 2)
    assert features_of(task, store).mean.shape == (2,)
    assert not list(tmp_path.rglob("*.safetensors"))  # observations are not stored again


def test_every_draw_has_the_same_events_first(task: HiggsFair, tmp_path: Path) -> None:
    """Events held out of one draw are not training events of another."""
    bank = SimulationBank(task, Store(tmp_path), 3000, [0], "fresh")
    own = which(bank.draw("background", 400).x[0])
    reference = which(bank.reference(1200, "fixed").x[0])
    background = [event for event in reference if 1000 <= event < 2000]
    held_out = set(own[:40]) | set(background[: len(background) // 10])
    trained = set(own[44:]) | set(background[len(background) // 10 + 30 :])
    assert not held_out & trained
    assert which(bank.draw("background", 150).x[0]) == list(dict.fromkeys(own))[:150]


def test_data_that_change_end_a_run(
    task: HiggsFair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(())
    spec = make_spec(registry, task, "histogram", "default", Preset(), 1000)
    place = JobContext(str(tmp_path), (), "cpu", 0.0)
    assert open_fit(place, spec).task.name == "higgs-fair"
    monkeypatch.setattr(FairUniverse, "digest", "b" * 64)
    with pytest.raises(PluginError, match="data of higgs-fair changed while the run"):
        open_fit(place, spec)


class Flat:
    """Surrogate with constant log-ratios."""

    reference = "evidence"
    has_density = False

    def log_ratio(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 2, len(x), len(context))


def test_held_out_events_are_not_shared_between_contexts(task: HiggsFair, tmp_path: Path) -> None:
    plan = fit_to(task, HeldOutPlan(contexts=8, events=256))
    seen: list[torch.Tensor] = []

    class Spy(Flat):
        def log_ratio(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
            if len(context) == 3:
                seen.append(x)
            return super().log_ratio(x, context)

    predict(task, Spy(), plan, 0, Store(tmp_path), torch.device("cpu"), lambda **_: None)
    background = [which(x) for x in seen[1::2]]
    assert len(background) == 8
    assert len({e for part in background for e in part}) == sum(len(p) for p in background)


def test_errors_cluster_by_block() -> None:
    """Datasets of a block are correlated; errors that assume independence are too small."""
    rng = np.random.default_rng(0)
    blocks, repeats, members = 6, 9, 3
    units = ResamplingUnits(
        np.repeat(np.arange(repeats), blocks), np.tile(np.arange(blocks), repeats), finite=True
    )
    assert units.shared
    assert units.enough
    pulls, naive = [], []
    for _ in range(400):
        effect = rng.normal(size=blocks)[units.block]
        values = effect + 0.3 * rng.normal(size=(members, blocks * repeats))
        estimate = mean(units.average(values), units.strata)
        assert estimate.value == pytest.approx(values.mean())
        pulls.append(estimate.value / estimate.error)
        naive.append(estimate.value / mean(values, units.point).error)
    inside = np.mean(np.abs(pulls) < 2.57)  # 95 % of Student's t with 5 degrees of freedom
    assert 0.92 < inside < 0.98
    assert np.mean(np.abs(naive) < 2.57) < 0.8


def test_few_blocks_give_no_error() -> None:
    four, five = (
        ResamplingUnits(np.full(n, -1), np.arange(n), finite=True) for n in (4, FEWEST_BLOCKS)
    )
    assert not four.enough
    assert five.enough
    assert ResamplingUnits(np.full(4, -1), np.arange(4)).enough
    assert five[np.array([True] * 4 + [False])].enough is False
