"""Tuning: tried and surviving combinations, shared work, and no repeated runs."""

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
from bench.methods.lre import LRE
from click.testing import CliRunner

from bench.boards.render import csv_of
from bench.cli.tune import as_markdown, table
from bench.cli.tune import tune as command
from bench.errors import PluginError, UsageError
from bench.registry.registry import Registry
from bench.storage.store import Store
from bench.tuning.search import Trial, combinations, configured, make_search
from bench.tuning.tune import FIRST_MEMBER, train_one, tune

FAR = ("gaussians-far",)


class Few(LRE):
    search: ClassVar = {"training.learning_rate": (1e-9, 3e-3), "activation": ("relu", "silu")}


def search(**changes: Any):
    settings = {"budget": 1200, "members": 2, "epochs": 3, "rungs": 2, "seed": 0} | changes
    return make_search(Registry(), "lre", FAR, **settings)


def test_every_combination_of_declared_values() -> None:
    assert len(combinations(search().values)) == 32
    assert combinations(Few.search)[0] == {"training.learning_rate": 1e-9, "activation": "relu"}
    config = configured(LRE, LRE.configurations["published"], combinations(Few.search)[1], 7)
    assert config.training.learning_rate == 1e-9
    assert (config.training.epochs, config.training.steps) == (7, 0)
    assert (config.activation, config.redraw) == ("silu", False)


@pytest.mark.parametrize("name", ["training.momentum", "nothing.at.all", "hiden"])
def test_values_of_settings_that_do_not_exist(name: str) -> None:
    with pytest.raises(PluginError, match=rf"would try {name}, which it does not have"):
        configured(LRE, {}, {name: 1}, 1)
    with pytest.raises(PluginError, match=r"activation = \"tanh\" is not allowed"):
        configured(LRE, {}, {"activation": "tanh"}, 1)


def test_what_cannot_be_searched() -> None:
    with pytest.raises(UsageError, match="declares no values to try"):
        make_search(Registry(), "exact", FAR, 1000, 1, 9, 3, 0)
    with pytest.raises(UsageError, match="3 rungs need at least 9 epochs"):
        search(rungs=3)


def test_settings_without_effect_on_the_tasks_are_not_tried() -> None:
    """Classifiers have other settings for vectors than for series and fields."""
    vectors = {"activation", *(name for name in LRE.search if name.startswith("training."))}
    processes = {"activation", "variogram", "encoded.learning_rate", "encoded.batch_size"}
    assert set(search().values) == vectors
    arguments = (1200, 2, 3, 2, 0)
    found = make_search(Registry(), "lre", ("sis", "gp"), *arguments)
    assert set(found.values) == processes
    config = configured(LRE, {}, {"encoded.batch_size": 64, "variogram": False}, 5)
    assert (config.encoded.epochs, config.encoded.steps, config.encoded.batch_size) == (5, 0, 64)
    with pytest.raises(UsageError, match="other settings on some of sis, gaussians-far than on"):
        make_search(Registry(), "lre", ("sis", *FAR), *arguments)


def test_a_part_of_the_search() -> None:
    chosen = (
        "learning_rate=3e-3",
        "training.learning_rate=0.01",
        "activation=silu",
        "activation=silu",
    )
    values = search(only=chosen).values
    assert values["training.learning_rate"] == [0.003, 0.01]
    assert values["activation"] == ["silu"]
    assert len(combinations(values)) == 2 * len(LRE.search["training.batch_size"]) * 2
    for text in ("momentum=1", "learning_rate", "=", ""):
        with pytest.raises(UsageError, match=r"no SETTING=VALUE of what 'lre' tries: |not try ''"):
            search(only=(text,))
    with pytest.raises(
        UsageError, match=r"'lre' does not try '5' as learning_rate; it tries 0.001,"
    ):
        search(only=("learning_rate=5",))


def test_successive_halving(tmp_path, monkeypatch) -> None:
    """The best third continues; a repeated search trains nothing; failures are reported."""
    monkeypatch.setattr(LRE, "search", Few.search | {"training.batch_size": (64, 128)})
    ran: list[str] = []

    class Inline:
        """Workers with a known loss, which grows with the combination's distance."""

        def __init__(self, *arguments: Any) -> None: ...

        def __enter__(self) -> "Inline":
            return self

        def __exit__(self, *exception: object) -> None: ...

        def run(self, jobs):
            from bench.execution.executor import Outcome

            for job in jobs:
                identity = job.arguments["identity"]
                config = identity["config"]
                ran.append(job.key)
                if config["training"]["batch_size"] == 128 and config["activation"] == "relu":
                    yield Outcome(job.key, "failed", error="it broke", seconds=1.0)
                    continue
                loss = (
                    1.0
                    + (config["training"]["learning_rate"] < 1e-6)
                    + 0.1 * (config["activation"] == "relu")
                    + 0.01 * (identity["member"] - FIRST_MEMBER)
                )
                record = identity | {"losses": {"signal": loss, "background": 0.0}, "seconds": 1.0}
                Store.open(tmp_path).write(job.key, record)
                yield Outcome(job.key, "done", value=record)

    monkeypatch.setattr("bench.tuning.tune.Workers", Inline)
    monkeypatch.setattr("bench.tuning.tune.FEWEST", 1)
    seen: list[tuple[int, int]] = []

    def run_it() -> list[Trial]:
        return tune(
            search(),
            Registry(),
            Store(tmp_path),
            1,
            (60, 1),
            lambda t, n, of: seen.append((n, of)),
        )

    trials = run_it()
    first, last = ([t for t in trials if t.rung == r] for r in (0, 1))
    assert [t.kept for t in first] == [True] * 2 + [False] * 6  # a third of 8
    assert [t.epochs for t in (first[0], last[0])] == [1, 3]
    assert [len(t.losses[0]) for t in (first[0], last[0])] == [1, 2]
    assert [t.kept for t in last] == [True, False]
    assert dict(last[0].values) | {"training.batch_size": 0} == {
        "training.learning_rate": 3e-3,
        "activation": "silu",
        "training.batch_size": 0,
    }
    broken = [t for t in first if t.problem]
    assert {t.problem for t in broken} == {"it broke"}
    assert all(math.isinf(t.loss) and not t.kept for t in broken)
    assert seen[:8] == [(n, 8) for n in range(1, 9)]
    ran.clear()
    assert [t.loss for t in run_it()] == [t.loss for t in trials]
    assert len(ran) == len(broken)  # only failed combinations are repeated

    rows = table(search(), trials)
    assert [row["outcome"] for row in rows[:3]] == ["best", "", "went on"]
    assert rows[0]["behind"] == "0.00000"
    assert rows[1]["error"] != ""
    assert csv_of(rows).count("\n") == len(rows) + 1
    assert as_markdown(search(), rows).count("\n| ") == len(rows) + 2
    assert "nan" not in csv_of(rows)


def test_trials_share_simulations_and_seeds(tmp_path) -> None:
    """Combinations that differ only in settings without effect train alike, bit by bit."""
    registry, store = Registry(), Store(tmp_path)

    def losses(member: int, **changes: Any) -> dict[str, float]:
        identity = {
            "task": "gaussians-far",
            "method": "lre",
            "config": configured(LRE, {}, {"hidden": (8,), **changes}, 1).model_dump(mode="json"),
            "budget": 1200,
            "seed": 0,
            "device": "cpu",
            "member": member,
        }
        key = f"trials/{len(store.keys('trials'))}"
        record = train_one(
            report=lambda **fields: None,
            root=str(tmp_path),
            plugins=registry.plugins,
            identity=identity,
            key=key,
        )
        assert store.record(key)["losses"] == record["losses"]
        return record["losses"]

    one = losses(FIRST_MEMBER)
    assert set(one) == {"signal", "background"}
    assert losses(FIRST_MEMBER, **{"training.clip": 1e9}) == pytest.approx(one, rel=1e-6)
    assert losses(FIRST_MEMBER + 1) != one


@pytest.mark.slow
def test_command(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # workers find the suite where it is installed
    arguments = "lre --task gaussians-far --budget 400 --epochs 1 --rungs 1 --members 1 --workers 1"
    arguments += " --only activation=silu --only schedule=constant --only batch_size=1024"
    arguments += " --only learning_rate=1e-3 --only learning_rate=1e-2"
    bad = CliRunner().invoke(command, ["exact", "--task", "gaussians-far"])
    assert isinstance(bad.exception, UsageError)
    unknown = CliRunner().invoke(command, [*arguments.split()[:2], "gausians-far"])
    assert "did you mean gaussians-far" in str(unknown.exception)
    done = CliRunner().invoke(command, [*arguments.split(), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "| best |" in done.output
    assert len((tmp_path / "lre.csv").read_text().splitlines()) == 1 + 2  # learning rates
    assert (tmp_path / "lre.md").read_text() in done.output
    assert Path(tmp_path / "trials" / "lre").is_dir()
