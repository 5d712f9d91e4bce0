"""Bank: whole seeded chunks, prefixes, storage, and the budget's meter."""

import hashlib
import subprocess
import sys
import textwrap
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.contracts import HasScore, Parameter, ParameterSpace, Task
from bench.errors import BudgetExceeded, NotApplicable
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store


class Normal:
    """Component N(η + shift, 1), with its score."""

    size = None

    def __init__(self, shift):
        self.shift = shift
        self.calls = 0

    def simulate(self, context, generator):
        self.calls += 1
        return context + self.shift + torch.randn(context.shape, generator=generator)

    def score(self, x, context):
        return (x - context - self.shift).double()


class Scoreless(Normal):
    score = None


class Toy(Task):
    name = "toy"
    version = 1
    space = ParameterSpace(
        [Parameter("mu", 0, 1, "interest", (0.2, 0.8)), Parameter("z", 1, 3, "nuisance", (1, 2))],
        context=["z"],
    )
    nominal = torch.tensor([2.0])
    points = torch.tensor([[0.5, 2.0]])
    observations = 10
    event_shape = (1,)
    chunk = 7

    def __init__(self):
        self.parts = {"s": Normal(0.0), "b": Normal(5.0), "none": Scoreless(9.0)}

    def components(self, split):
        return self.parts

    def weights(self, theta):
        return torch.ones(*theta.shape[:-1], 3) / 3

    @property
    def calls(self):
        return sum(part.calls for part in self.parts.values())


@pytest.fixture
def task():
    return Toy()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def bank(task, store, budget=1000, members=(0,), data="fresh", seed=0):
    return SimulationBank(task, store, budget, members, data, seed)


def assert_same(one, other):
    assert torch.equal(one.x, other.x)
    assert torch.equal(one.context, other.context)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["fresh", "shared"]))
def test_a_short_draw_is_a_prefix_of_a_long_one(store, few, many, data):
    few, many = sorted((few, many))
    for draw in (
        lambda b, n: b.draw("s", n, score=True),
        lambda b, n: b.reference(n, "fixed"),
        lambda b, n: b.reference(n, "evidence"),
    ):
        short = draw(bank(Toy(), store, data=data, members=(0, 3)), few)
        long = draw(bank(Toy(), store, 10**6, data=data, members=(0, 3)), many)
        assert len(short) == few
        assert short.x.shape == (2, few, 1)
        assert torch.equal(long.x[:, :few], short.x)
        assert torch.equal(long.context[:, :few], short.context)
        if short.score is not None:
            assert torch.equal(long.score[:, :few], short.score)


def test_ten_thousand_is_a_prefix_of_a_hundred_thousand(store, task):
    task.chunk = Task.chunk
    short = bank(task, store, 10**4).draw("s", 10**4)
    long = bank(task, store, 10**5).draw("s", 10**5)
    assert torch.equal(long.x[:, : 10**4], short.x)
    assert long.x.unique().numel() > 0.97 * 10**5  # no repeated chunk; float32 has ties


def test_simulations_are_made_in_whole_chunks_once(store, task):
    bank(task, store).draw("s", 1)
    assert task.calls == 1
    bank(task, store).draw("s", 7)
    assert task.calls == 1
    bank(task, store).draw("s", 8)
    assert task.calls == 2


def test_the_disk_gives_back_the_same(store, task):
    draws = [
        lambda b: b.draw("s", 20, score=True),
        lambda b: b.draw("s", 20, at=torch.tensor([2.0])),
        lambda b: b.draw("b", 20, split="test"),
        lambda b: b.reference(20, "fixed"),
        lambda b: b.reference(20, "evidence"),
    ]
    made = [draw(bank(task, store)) for draw in draws]
    elsewhere = Toy()
    for draw, first in zip(draws, made, strict=True):
        again = draw(bank(elsewhere, store))
        assert_same(first, again)
        assert (first.score is None) == (again.score is None)
        if first.score is not None:
            assert torch.equal(first.score, again.score)
            assert again.score.dtype == torch.float64
        assert again.x.dtype == again.context.dtype == torch.float32
    assert elsewhere.calls == 0


def test_what_is_handed_out_is_not_what_is_kept(store, task):
    own = bank(task, store).draw("s", 5)
    own.x.zero_()
    assert bank(task, store).draw("s", 5).x.any()


def test_a_damaged_chunk_is_simulated_anew(store, task):
    first = bank(task, store).draw("s", 5)
    (path,) = store.root.rglob("simulations/**/*.safetensors")
    path.write_bytes(path.read_bytes()[:-4])
    assert_same(first, bank(task, store).draw("s", 5))
    assert task.calls == 2
    assert_same(first, bank(task, store).draw("s", 5))
    assert task.calls == 2


def test_every_stream_is_its_own(store, task):
    b = bank(task, store)
    drawn = [
        b.draw("s", 7),
        b.draw("b", 7),
        b.draw("s", 7, split="test"),
        b.draw("s", 7, at=torch.tensor([1.0])),
        b.draw("s", 7, at=torch.tensor([2.0])),
        b.reference(7, "fixed"),
        b.reference(7, "evidence"),
        b.reference(7, "evidence", split="heldout"),
        bank(task, store, seed=1).draw("s", 7),
        bank(task, store, members=(1,)).draw("s", 7),
        bank(task, store, data="shared").draw("s", 7),
    ]
    noise = [d.x - d.context - 5.0 * (d.x - d.context > 2.5) for d in drawn]
    for i, one in enumerate(noise):
        for other in noise[:i]:
            assert not torch.isclose(one, other, atol=1e-4).any()


def test_version_and_settings_change_the_simulations(store, monkeypatch):
    plain = bank(Toy(), store).draw("s", 7)
    newer = Toy()
    newer.version = 2
    assert not torch.equal(bank(newer, store).draw("s", 7).x, plain.x)
    monkeypatch.setattr(Toy, "settings", {"r": 1})
    assert not torch.equal(bank(Toy(), store).draw("s", 7).x, plain.x)


@pytest.mark.slow
def test_an_edited_plugin_does_not_get_what_the_old_one_simulated(store):
    plain = bank(Toy(), store).draw("s", 7)
    edited = Toy()
    edited.plugin_hash = "another"
    edited.parts["s"].shift = 1.0
    moved = bank(edited, store).draw("s", 7)
    torch.testing.assert_close(moved.x, plain.x + 1.0)


def test_contexts(store, task):
    b = bank(task, store)
    prior = b.draw("s", 300).context
    assert prior.min() >= 1.0
    assert prior.max() <= 3.0
    assert prior.std() > 0.4
    fixed = b.draw("s", 10, at=torch.tensor([1.25]))
    assert fixed.context.shape == (1, 10, 1)
    assert (fixed.context == 1.25).all()
    assert (b.reference(10, "fixed").context == 2.0).all()
    assert b.reference(10, "evidence").context.unique().numel() > 5
    for wrong in (torch.tensor(1.0), torch.tensor([1.0, 2.0]), torch.ones(1, 1)):
        with pytest.raises(ValueError, match=r"at has shape .*; a context of toy has \(1,\)"):
            b.draw("s", 1, at=wrong)


@pytest.mark.slow
def test_a_reference_is_an_equal_mixture(store, task):
    x = bank(task, store, 10**5).reference(3000, "fixed").x
    for shift in (0.0, 5.0, 9.0):
        assert 900 < int(((x - 2.0 - shift).abs() < 2).sum()) < 1200


def test_scores_are_those_of_the_component(store, task):
    plain = bank(task, store).draw("s", 20)
    drawn = bank(task, store).draw("s", 20, score=True)
    assert_same(plain, drawn)  # stored scores change nothing else
    assert isinstance(task.parts["s"], HasScore)
    assert torch.equal(drawn.score, task.parts["s"].score(drawn.x, drawn.context))
    assert plain.score is None


def test_scores_are_asked_of_who_has_them(store, task):
    with pytest.raises(NotApplicable, match="component 'none' of toy has no score"):
        bank(task, store).draw("none", 5, score=True)


def test_members(store, task):
    both = bank(task, store, members=(2, 5)).draw("s", 20)
    assert not torch.equal(both.x[0], both.x[1])
    for row, member in enumerate((2, 5)):
        alone = bank(task, store, members=(member,)).draw("s", 20)
        assert torch.equal(alone.x[0], both.x[row])


def test_shared_simulations_are_the_same_for_all(store, task):
    shared = bank(task, store, members=(2, 5), data="shared").draw("s", 20, score=True)
    for part in (shared.x, shared.context, shared.score):
        assert len(part) == 2
        assert torch.equal(part[0], part[1])
    other = bank(task, store, members=(7,), data="shared").draw("s", 20)
    assert torch.equal(other.x[0], shared.x[0])


def test_bootstraps_resample_the_shared_simulations(store, task):
    shared = bank(task, store, data="shared").draw("s", 50, score=True)
    pool = {tuple(row) for row in torch.cat([shared.x, shared.context], -1)[0].tolist()}
    drawn = bank(task, store, members=(2, 5), data="bootstrap").draw("s", 50, score=True)
    again = bank(task, store, members=(5,), data="bootstrap").draw("s", 50, score=True)
    assert torch.equal(drawn.x[1], again.x[0])
    assert not torch.equal(drawn.x[0], drawn.x[1])
    for member in range(2):
        rows = [tuple(row) for row in torch.cat([drawn.x, drawn.context], -1)[member].tolist()]
        assert set(rows) <= pool
        assert 20 < len(set(rows)) < 45  # the expectation is 50 (1 − 1/e) = 32
    assert torch.equal(drawn.score, task.parts["s"].score(drawn.x, drawn.context))


def test_the_meter(store, task):
    b = bank(task, store, 100)
    b.draw("s", 30)
    assert b.spent == 30
    b.draw("s", 30)  # again, fewer, or with scores: free
    b.draw("s", 10, score=True)
    assert b.spent == 30
    b.draw("s", 40)  # longer: the difference
    assert b.spent == 40
    b.draw("s", 20, at=torch.tensor([2.0]))
    b.draw("b", 10)
    b.reference(10, "fixed")
    b.reference(10, "evidence")
    assert b.spent == 90
    with pytest.raises(
        BudgetExceeded,
        match=r"^51 simulations cost 11 calls, and of the budget of 100 only 10 are left$",
    ):
        b.draw("s", 51)
    assert b.spent == 90
    b.draw("s", 50)
    assert b.spent == b.budget == 100
    with pytest.raises(BudgetExceeded, match="only 0 are left"):
        b.reference(11, "fixed")


def test_the_meter_is_per_member_and_counts_what_is_asked_not_chunks(store, task):
    b = bank(task, store, 10, members=(0, 1, 2))
    b.draw("s", 10)
    assert b.spent == 10
    assert task.calls == 6  # two chunks of seven each


@pytest.mark.parametrize("n", [0, -3])
def test_nothing_cannot_be_drawn(store, task, n):
    b = bank(task, store)
    with pytest.raises(BudgetExceeded, match="at least one simulation"):
        b.draw("s", n)
    assert b.spent == 0


def test_features_are_the_same_for_all(store, tmp_path):
    task = Toy()
    task.chunk = Task.chunk
    one = features_of(task, store)
    other = features_of(task, Store(tmp_path / "elsewhere"))
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(one.scale, other.scale)


@pytest.mark.slow
def test_two_processes_at_once(tmp_path):
    (tmp_path / "toy.py").write_text(
        textwrap.dedent(
            """\
            import hashlib, sys, time
            from pathlib import Path
            import torch
            from bench.stages.simulate import SimulationBank
            from bench.registry.registry import Registry
            from bench.storage.store import Store

            task = Registry().task("gaussians-far")
            task.chunk = 200
            simulate = type(task.components("train")["signal"]).simulate

            def counted(self, context, generator):
                with open("calls", "a") as file:
                    file.write("x")
                return simulate(self, context, generator)

            type(task.components("train")["signal"]).simulate = counted
            Path(sys.argv[1]).touch()
            end = time.monotonic() + 240
            while not (Path("a").exists() and Path("b").exists()):
                assert time.monotonic() < end
                time.sleep(0.01)
            bank = SimulationBank(task, Store(Path("results")), 10**6, [0, 1])
            drawn = bank.draw("signal", 2000, score=True)
            parts = (drawn.x, drawn.context, drawn.score)
            print(hashlib.sha256(b"".join(p.numpy().tobytes() for p in parts)).hexdigest())
            """
        )
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "toy.py", name], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    printed = {process.communicate(timeout=300)[0].strip() for process in processes}
    assert len(printed) == 1
    assert len(printed.pop()) == len(hashlib.sha256().hexdigest())
    assert len((tmp_path / "calls").read_text()) == 20  # every chunk is simulated once
    store = Store(tmp_path / "results")
    keys = store.keys("simulations")
    assert len(keys) == 20
    assert all(store.read(key) is not None for key in keys)
    assert all(a < b for a, b in pairwise(keys))
