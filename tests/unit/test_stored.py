"""Tasks of stored simulations: splits, training sets, datasets, and what is not applicable."""

import numpy as np
import pytest
import torch
from seeded import fit_context, seeds

from bench.contracts import BootstrapPlan, HeldOutPlan, IndependentPlan, Parameter, StoredTask
from bench.contracts.plan import fit_to, number_of_blocks
from bench.errors import BudgetExceeded, NotApplicable
from bench.experiment.preset import make_preset
from bench.experiment.schedule import schedule
from bench.registry.registry import Registry
from bench.stages.datasets import sets
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store
from bench.testing import check_task

N, M = 400, 3
MASS = Parameter("mass", 0.0, 10.0, "interest", (1.0, 9.0))
PLAN = IndependentPlan(uniform=4, per_point=0)


def write(path, m=M, n=N):
    """Write n rows of m observations, row i and observation j of the value i + j/8."""
    theta = np.random.default_rng(0).permutation(10 * (np.arange(n) + 0.5) / n)[:, None]
    x = np.arange(n)[:, None, None] + np.arange(m)[:, None] / 8
    np.savez(path, theta=theta, x=x.astype(np.float32))
    return path


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    file = write(tmp_path_factory.mktemp("stored") / "rows.npz")
    return StoredTask("mine", file, [MASS], observations=M)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def bank(task, store, budget=60, members=(0, 1, 2), data="fresh", seed=0):
    return SimulationBank(task, store, budget, members, data, seed)


def rows_of(simulations):
    """Return the numbers of the rows, (members, n), and check their contexts."""
    return simulations.x[..., 0].floor().long()


def assert_pairs(task, simulations):
    """Check that every observation has the context of its row."""
    expected = task.stored.theta[rows_of(simulations)].float()
    assert torch.equal(simulations.context, expected)


def test_members_standardisation_and_tests_never_overlap(task, store):
    theirs = bank(task, store, 300, members=(0, 1))
    calibrating = bank(task, store, 150, members=(0, 1))
    own = rows_of(theirs.draw("simulations", 300))
    used = [
        *own,
        *rows_of(calibrating.draw("simulations", 150, split="calibration")),
        rows_of(bank(task, store, members=(0,)).reference(60, "evidence", split="features"))[0],
        task.datasets(0).x[..., 0].floor().long().flatten(),
    ]
    found = [set(rows.tolist()) for rows in used]
    assert [len(rows) for rows in found[:5]] == [100, 100, 50, 50, 20]
    assert sum(map(len, found)) == len(set.union(*found))
    assert len(found[5]) > 50
    assert features_of(task, store).mean.shape == (1,)


def test_the_split_depends_on_the_numbers_alone(task, tmp_path):
    one = StoredTask("other", write(tmp_path / "again.npz"), [MASS], observations=M)
    assert one.settings == task.settings
    for seed in (0, 1):
        assert torch.equal(one.datasets(seed).x, task.datasets(seed).x)
    assert not torch.equal(task.datasets(0).x, task.datasets(1).x)
    first, second = (set(task.datasets(s).x.flatten().tolist()) for s in (0, 1))
    assert first == second
    changed = StoredTask("other", write(tmp_path / "less.npz", n=N - 1), [MASS], observations=M)
    assert changed.settings != task.settings


def test_draws_are_pairs_and_prefixes_and_references_are_others(task, store):
    own = bank(task, store)
    long = own.draw("simulations", 40)
    short = bank(task, store).draw("simulations", 10)
    assert torch.equal(long.x[:, :10], short.x)
    reference = own.reference(20, "evidence")
    assert torch.equal(own.reference(10, "evidence").x, reference.x[:, :10])
    for drawn in (long, short, reference):
        assert_pairs(task, drawn)
    for of_one, against in zip(long.x, reference.x, strict=True):
        assert not {*of_one.flatten().tolist()} & {*against.flatten().tolist()}
    assert own.spent == 60
    assert own.made is None
    with pytest.raises(BudgetExceeded, match="only 0 are left"):
        own.draw("simulations", 41)


def test_a_seed_is_another_order(task, store):
    one, other = (
        bank(task, store, seed=seed, members=(0,)).draw("simulations", 60).x for seed in (0, 1)
    )
    assert not torch.equal(one, other)


@pytest.mark.parametrize("data", ["shared", "bootstrap"])
def test_members_may_share_a_training_set(task, store, data):
    x = bank(task, store, data=data).draw("simulations", 60).x
    alone = bank(task, store, members=(0,)).draw("simulations", 60).x[0]
    assert all({*own.flatten().tolist()} <= {*alone.flatten().tolist()} for own in x)
    assert torch.equal(x[0], x[1]) == (data == "shared")


@pytest.mark.parametrize("data", ["fresh", "shared"])
def test_contexts_drawn_anew_are_those_of_the_members_own_set(task, store, data):
    own = bank(task, store, data=data)
    contexts = fit_context(task, own, None).draw_contexts(500, seeds(own.members))
    trained = own.draw("simulations", 60).context
    assert contexts.dtype == torch.float32
    for drawn, allowed in zip(contexts, trained, strict=True):
        assert {*drawn.flatten().tolist()} == {*allowed.flatten().tolist()}


def test_too_few_rows_are_told_with_their_number(task, store):
    with pytest.raises(NotApplicable) as error:
        bank(task, store, 301, members=(2,)).draw("simulations", 1)
    assert str(error.value) == (
        "3 disjoint sets of 301 observations need 303 rows; rows.npz has 300 for this, of 400"
    )
    bank(task, store, 300, members=(2,)).draw("simulations", 1)


def test_what_needs_a_simulator_is_not_applicable(task, store):
    own = bank(task, store)
    for draw in (
        lambda: own.draw("simulations", 1, at=task.nominal),
        lambda: own.reference(1, "fixed"),
        lambda: task.components("test")["simulations"].simulate(task.nominal[None], None),
    ):
        with pytest.raises(NotApplicable, match="there are no stored simulations "):
            draw()
    with pytest.raises(NotApplicable, match="'simulations' of mine has no score"):
        own.draw("simulations", 1, score=True)
    assert own.spent == 0
    for plan in (BootstrapPlan(), HeldOutPlan()):
        with pytest.raises(NotApplicable, match=f"a {plan.kind} plan simulates at parameters"):
            fit_to(task, plan)
    with pytest.raises(NotApplicable, match="has a simulator"):
        fit_to(Registry().task("exponential"), IndependentPlan(theta="stored"))


def test_plans_shrink_to_what_is_stored(task):
    everything = len(task.datasets(0))
    wanted = IndependentPlan(uniform=1000, per_point=5, theta="sobol", observations=100)
    assert fit_to(task, wanted) == IndependentPlan(uniform=everything, per_point=0, theta="stored")
    fewer = fit_to(task, IndependentPlan(uniform=4, observations=1, multiple=9))
    assert (fewer.uniform, fewer.observations, fewer.multiple) == (4, 1, 3)
    assert number_of_blocks(task, fewer) is None
    narrow = StoredTask("narrow", task.file, [Parameter("mass", 0, 10, "interest", (5, 5.01))])
    with pytest.raises(NotApplicable, match="narrow has 0 test datasets in the inner box"):
        fit_to(narrow, wanted)


def test_datasets_are_test_rows_in_the_inner_box(task):
    plan = fit_to(task, IndependentPlan(uniform=1000))
    found = list(sets(task, plan, 0))
    assert len(found) == plan.uniform
    for number, events in enumerate(found):
        row = int(events.x[0, 0])
        assert torch.equal(events.x, task.stored.x[row])
        assert torch.equal(events.theta, task.stored.theta[row])
        assert 1 <= events.theta <= 9
        assert (events.number, events.block, events.point) == (number, number, -1)
        assert torch.equal(events.counts, torch.ones(1, M))
    (first, *_) = sets(task, fit_to(task, IndependentPlan(uniform=2, observations=2)), 0)
    assert torch.equal(first.x, found[0].x[:2])


def test_checks_pass_or_say_what_needs_a_simulator(task):
    report = check_task(task)
    assert report, str(report)
    passed = {result.check for result in report if result.status == "passed"}
    assert passed == {"contract", "bounds", "weights", "rate", "transform"}


def test_fits_that_need_more_rows_are_absent_before_anything_is_trained(task, store):
    preset = make_preset(
        tasks=("mine",), methods=("lre:tuned", "histogram"), members=3, budgets=(300, 301),
        plans=(PLAN,),
    )  # fmt: skip
    planned = schedule(Registry(objects=[task]), preset, store)
    assert [spec.identity["budget"] for spec in planned.specs] == [300]
    reasons = {absent.label: absent.reason for absent in planned.absent}
    short = reasons["every method with a budget of 301"]
    assert short.startswith("3 disjoint sets of 301 observations need 303 rows; rows.npz has 300")
    assert reasons["histogram"] == "histogram simulates at chosen contexts: use lre"
    shared = preset.model_copy(update={"training_data": "shared"})
    planned = schedule(Registry(objects=[task]), shared, store)
    assert [spec.identity["budget"] for spec in planned.specs] == [300, 301]
