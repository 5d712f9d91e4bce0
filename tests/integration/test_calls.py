"""Simulator calls: announced numbers agree with those that the simulator counts."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from whole_runs import PLUGINS, benchmark, inline

from bench.boards import FORMATS, Results, build
from bench.cli.main import cli
from bench.contracts import Draw
from bench.experiment.calls import count_calls
from bench.experiment.selection import configure
from bench.registry.registry import Registry
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.simulations import SimulationStore, chunk_sizes
from bench.storage.store import Store
from bench.testing import check_task, method_checks
from bench.testing.density_checks import most_calls

INDEPENDENT = {"kind": "independent", "uniform": 3, "per_point": 1}
BOOTSTRAP = {"kind": "bootstrap", "sets": 1, "multiple": 2, "bootstraps": 5}
HELD_OUT = {"kind": "heldout", "contexts": 2, "events": 6}


@pytest.fixture
def counted(tmp_path, simple):
    """Copy plugins: a method, and a task that counts its calls."""
    return [simple, Path(shutil.copy(PLUGINS / "counted.py", tmp_path))]


def calls(counted):
    """Return the number of calls that the simulator has counted."""
    log = counted[1].with_suffix(".count")
    return sum(map(int, log.read_text().split())) if log.exists() else 0


def cheap(counted):
    """Remove the task's declaration that calls are expensive."""
    text = counted[1].read_text()
    counted[1].write_text(text.replace("expensive = True", "expensive = False"))


@pytest.mark.parametrize(
    ("data", "budget", "members"),
    [
        ("fresh", 500, 1),
        ("fresh", 2300, 2),
        ("shared", 90, 2),
        ("bootstrap", 90, 1),
    ],
)
def test_a_run_makes_the_calls_that_its_plan_says(tmp_path, counted, data, budget, members):
    plans = (INDEPENDENT, BOOTSTRAP, HELD_OUT) if members > 1 else (INDEPENDENT,)
    run = benchmark(
        tmp_path / "results",
        counted,
        tasks=("counted",),
        methods=("simple:default", "histogram"),
        budgets=(budget,),
        members=members,
        training_data=data,
        plans=plans,
    )
    (found,) = count_calls(run.jobs, run.registry, run.store)
    assert calls(counted) == 0
    inline(run)
    assert calls(counted) == sum(found.made.values())
    assert found.made["standardisation"] == 500
    held_out = 2 * 2 * 6 if members > 1 else 0  # no method has a reference
    boot = 40 if members > 1 else 0
    assert found.made["evaluation"] == 4 * 20 + boot + held_out
    drawn = 2 * (budget // 2) + 34 * (budget // 34)
    assert found.charged == members * drawn
    sets = members if data == "fresh" else 1
    leftovers = 34 * 4 + 0.05 * drawn
    assert sets * drawn <= found.made["training"] <= sets * (drawn + leftovers)
    assert found.unknown == ()
    # Nothing is missing now, and repeated jobs read the simulations.
    again = benchmark(tmp_path / "results", counted, overwrite=True, **run.preset.model_dump())
    assert sum(count_calls(again.jobs, again.registry, again.store)[0].made.values()) == 0
    before = calls(counted)
    inline(again)
    assert calls(counted) == before


def test_workers_make_the_calls_that_the_command_says(tmp_path, counted, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(
        'tasks = ["counted"]\nmethods = ["simple:default", "simple:wide"]\nmembers = 2\n'
        "budgets = [500]\n"
        'plans = [{kind = "independent", uniform = 3, per_point = 0}, '
        '{kind = "heldout", contexts = 2, events = 6}]\n'
    )
    options = ["tiny.toml", "--device", "cpu", "--workers", "2"]
    options += [part for plugin in counted for part in ("--plugin", str(plugin))]
    plan = CliRunner().invoke(cli, ["plan", *options])
    assert plan.exit_code == 0, plan.output
    (row,) = (line.split() for line in plan.output.splitlines() if line.startswith("counted "))
    made = 500 + 2 * 500 + 60 + 24
    assert row == ["counted", f"{made:,}", "500", "1,000", "84", "2,000"]
    assert calls(counted) == 0
    run = CliRunner().invoke(cli, ["run", *options])
    assert run.exit_code == 0, run.output
    assert [line.split() for line in run.output.splitlines() if line.split() == row] == [row]
    assert calls(counted) == made
    assert f"took {made:,} simulator calls" in Path("results/tiny/leaderboard.md").read_text()


@pytest.mark.parametrize("data", ["fresh", "shared"])
def test_toys_are_counted_and_stored(tmp_path, counted, data):
    run = benchmark(
        tmp_path / "results",
        counted,
        tasks=("counted",),
        methods=("neyman(simple:default)", "neyman(simple:default,pool=2)"),
        budgets=(1000,),
        members=2,
        training_data=data,
        plans=(INDEPENDENT,),
    )
    (found,) = count_calls(run.jobs, run.registry, run.store)
    inline(run)
    assert calls(counted) == sum(found.made.values())
    # Both take the same trainings of 500 calls; toys 25 datasets of 20, pools 12 of 40.
    assert found.charged == 2 * (500 + 25 * 20 + 12 * 40)
    again = benchmark(tmp_path / "results", counted, overwrite=True, **run.preset.model_dump())
    assert sum(count_calls(again.jobs, again.registry, again.store)[0].made.values()) == 0
    before = calls(counted)
    inline(again)
    assert calls(counted) == before


def test_references_and_calibrations_are_counted(tmp_path, counted):
    run = benchmark(
        tmp_path / "results",
        counted,
        tasks=("counted",),
        methods=("gradient-boosting:default", "ensemble(calibrated(gradient-boosting:default),2)"),
        budgets=(500,),
        plans=(HELD_OUT,),
    )
    (found,) = count_calls(run.jobs, run.registry, run.store)
    inline(run)
    assert calls(counted) == sum(found.made.values())
    assert found.made["evaluation"] == 2 * 2 * 6 + 15  # 12 of the reference, in chunks of 5
    # 450 of the calibrated fits are the first of 500, whose calibration has 50 of its own.
    assert found.charged == 2 * (500 + 450 + 50)
    assert found.made["training"] == 2 * (2 * 250 + 2 * 25)


def test_without_the_declaration_whole_chunks_are_told_too(tmp_path, counted):
    cheap(counted)
    run = benchmark(
        tmp_path / "results",
        counted,
        tasks=("counted",),
        methods=("simple:default",),
        budgets=(500,),
        members=2,
        plans=(INDEPENDENT, BOOTSTRAP, HELD_OUT),
    )
    (found,) = count_calls(run.jobs, run.registry, run.store)
    inline(run)
    assert calls(counted) == sum(found.made.values())
    each = 4 * 20 + 40 + 24  # each method and member simulates the datasets again
    assert found.made == {
        "standardisation": 10_000,
        "training": 2 * 2 * 5000,
        "evaluation": 3 * each,
    }


def test_tables_show_calls_made_beside_calls_charged(tmp_path, counted):
    run = benchmark(
        tmp_path / "results",
        counted,
        tasks=("counted",),
        methods=("simple:default", "histogram"),
        budgets=(500,),
        plans=(INDEPENDENT, HELD_OUT),
    )
    inline(run)
    metrics = run.registry.metrics()
    boards = build(Results(run.store), metrics)
    costs = {row.label: row.cost for row in boards[0].rows}
    assert {k: (v["calls"], v["calls_made"]) for k, v in costs.items()} == {
        "exact": (0, 0),
        "simple": (500, 500),
        "histogram": (476, 510),  # 14 at each of 17 anchors
    }
    text = FORMATS["md"](boards)
    assert "| method | members | calls | calls made | train s |" in text
    took = f"took {calls(counted):,} simulator calls: standardisation 500, training"
    assert text.count(took) == 2
    assert "cost/calls_made" in FORMATS["csv"](boards)
    shutil.rmtree(run.store.root / "predictions")
    assert FORMATS["md"](build(Results(run.store), metrics)) == text
    for key in run.store.keys("fits"):  # older records lack these fields
        record = run.store.record(key)
        if record.pop("calls_made", None) is not None:
            del record["arrays_sha256" if "arrays_sha256" in record else "finished"]
            run.store.write(key, record)
    older = build(Results(run.store), metrics)
    assert "calls made" not in FORMATS["md"](older)
    assert "calls_made" not in FORMATS["csv"](older)


def test_an_expensive_task_keeps_prefixes_and_its_fits_apart(tmp_path, counted):
    task = Registry(counted).task("counted")
    store = Store(tmp_path / "results")
    long = SimulationBank(task, store, 10**4, [0]).draw("signal", 1000)
    before = calls(counted)
    for n in (1, 5, 6, 199, 401, 999):
        short = SimulationBank(task, store, n, [0]).draw("signal", n)
        assert torch.equal(short.x, long.x[:, :n])
    assert calls(counted) == before == 1000
    assert not torch.equal(long.x[0, :5], long.x[0, 5:10])
    run = benchmark(tmp_path / "results", counted, tasks=("counted",), plans=(INDEPENDENT,))
    key = run.specs[0].key
    cheap(counted)
    other = benchmark(tmp_path / "results", counted, tasks=("counted",), plans=(INDEPENDENT,))
    assert other.specs[0].key != key
    assert "expensive" not in other.specs[0].identity["task"]


@pytest.mark.parametrize("n", [1, 4, 14, 125, 250, 500, 2500, 5000, 25_000, 50_000, 777_777])
def test_little_is_left_over(counted, n):
    task = Registry(counted).task("counted")
    made = sum(chunk_sizes(task, n))
    assert n <= made <= max(1.05 * n, n + 4)
    assert max(chunk_sizes(task, n)) <= task.chunk
    if n in (125, 250, 500, 2500, 5000, 25_000, 50_000):  # round numbers need no additional calls
        assert made == n


def test_scores_do_not_simulate_again(tmp_path, counted):
    task = Registry(counted).task("counted")
    store = Store(tmp_path / "results")
    plain = SimulationBank(task, store, 100, [0]).draw("signal", 100)
    scored = SimulationBank(task, store, 100, [0]).draw("signal", 100, score=True)
    assert torch.equal(scored.x, plain.x)
    assert calls(counted) == 100


def test_what_is_simulated_says_so_to_the_clock(tmp_path, counted):
    task = Registry(counted).task("counted")
    told = []
    for _ in range(2):
        store = SimulationStore(Store(tmp_path / "results"), lambda **fields: told.append(fields))
        features_of(task, store)
    kinds = Counter(name for fields in told for name in fields)
    chunks = len(chunk_sizes(task, 500))
    assert kinds["simulating"] == kinds["simulated"] == chunks  # the second run reads everything
    assert sum(fields.get("simulating", 0) for fields in told) == 500


def test_checks_of_an_expensive_task_say_how_many_calls_they_take(counted):
    task = Registry(counted).task("counted")
    report = check_task(task)
    assert report.ok, str(report)
    assert calls(counted) == most_calls(task) < 2500


def test_draws_that_are_announced_are_those_that_fit_makes(counted):
    registry = Registry(counted)
    method, task = registry.method("simple"), registry.task("counted")
    checks = {check.name: check for check in method_checks(method, task=task)}
    checks["budget"]()
    method.draws = lambda self, task, budget: [Draw("signal", budget)]
    with pytest.raises(AssertionError, match="to announce what fit draws"):
        checks["budget"]()


@pytest.mark.parametrize("budget", [500, 5000, 50_000])
@pytest.mark.parametrize(("name", "configuration"), [("lre", "tuned"), ("histogram", "default")])
def test_the_page_on_tasks_has_these_numbers(tmp_path, counted, budget, name, configuration):
    method = configure(Registry().method(name), configuration)
    label = name if configuration == "default" else f"{name}:{configuration}"
    numbers = []
    for declared in (True, False):
        task = Registry(counted).task("counted")
        bank = SimulationBank(task, Store(tmp_path), 0, [0])
        draws = method.draws(task, budget)
        numbers.append(sum(chunk.calls for draw in draws for chunk in bank.chunks(draw)))
        if declared:
            cheap(counted)
    charged = sum(draw.n for draw in draws)
    row = f"| {budget:,} | `{label}` | {charged:,} | {numbers[0]:,} | {numbers[1]:,} |"
    assert row in (PLUGINS.parents[1] / "docs" / "tutorials/my-task.md").read_text()
