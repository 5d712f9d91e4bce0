"""Whole runs: resumed, shared, damaged, killed, hostile; and what they leave alone."""

import csv
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import bench.testing.asymmetric
from bench.errors import BudgetExceeded, NonFiniteError, PluginError, StoreError, UsageError
from bench.leaderboard import FORMATS, Results, build
from bench.leaderboard.status import status_lines
from bench.stages.cells import make_cell
from bench.stages.execute import _record_failure
from bench.stages.executor import Outcome
from bench.stages.preset import Preset
from bench.stages.registry import Registry
from bench.stages.rescore import plan_scores
from bench.stages.run import BenchmarkRun
from bench.stages.score import stand
from bench.stages.store import Store

PLUGINS = Path(__file__).parents[1] / "plugins"
BENCH = str(Path(sys.executable).with_name("bench"))
TINY = {
    "tasks": ("gaussians-far",),
    "methods": ("simple:default",),
    "members": 2,
    "budgets": (600,),
    "memory_limit": 2.0,
    "plans": (
        {"kind": "independent", "uniform": 3, "per_point": 0, "observations": 50},
        {"kind": "heldout", "contexts": 2, "events": 4},
    ),
}
FILE = """
tasks = ["gaussians-far"]
members = 2
budgets = [600]
plans = [
    {kind = "independent", uniform = 3, per_point = 0, observations = 50},
    {kind = "heldout", contexts = 2, events = 4},
]
"""


@pytest.fixture
def simple(tmp_path):
    """The plugin `simple`, which writes beside itself what it fits."""
    return shutil.copy(PLUGINS / "simple.py", tmp_path)


def fitted(plugin):
    log = Path(plugin).with_suffix(".log")
    return log.read_text().splitlines() if log.exists() else []


def benchmark(root, plugins=(), overwrite=False, **changes):
    registry = Registry(plugins)
    return BenchmarkRun(registry, Preset.model_validate(TINY | changes), Store(root), overwrite)


def inline(run):
    """Runs every job in this process, in the planned order; returns what each says."""
    run.record(["bench", "run"])
    return {
        p.job.key: p.job.function(report=lambda **fields: None, **p.job.arguments)
        for p in run.planned
    }


def digests(root, *suffixes, parts=("fits", "predictions", "scores", "simulations")):
    """SHA-256 and modification time of the files under a results folder."""
    return {
        str(path.relative_to(root)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for part in parts
        for path in sorted((root / part).rglob("*"))
        if path.is_file() and path.suffix in (suffixes or (".json", ".safetensors"))
    }


def finished(root):
    """Those files that belong to finished work."""
    store = Store.open(root)
    done = {
        key
        for part in ("fits", "predictions", "scores")
        for key in store.keys(part)
        if (store.record(key) or {}).get("status") == "done" and store.read(key) is not None
    }
    return {
        name: value
        for name, value in digests(root, parts=("fits", "predictions", "scores")).items()
        if name.rpartition(".")[0] in done
    }


def numbers(root):
    """The leaderboard without what a clock has measured."""
    rows = csv.DictReader(io.StringIO((root / "leaderboard.csv").read_text()))
    return [r for r in rows if "seconds" not in r["quantity"]]


def contents(found):
    return {name: digest for name, (digest, _) in found.items()}


def start(*arguments, cwd, **options):
    return subprocess.Popen(
        [BENCH, *map(str, arguments)],
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def finish(process, status=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert "Traceback" not in err
    return out, err


def survivors(folder):
    """Command lines of the processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(folder):
                found.append(process.cmdline())
    return found


# What is made, and what is reused


def test_a_run_that_is_repeated_makes_nothing(tmp_path, simple):
    root = tmp_path / "results"
    first = benchmark(root, [simple])
    assert set(inline(first).values()) == {"done"}
    assert first.reused == 0
    before = digests(root)
    again = benchmark(root, [simple])
    assert again.planned == []
    assert again.reused == len(first.planned) == 3 * 5
    inline(again)
    assert contents(digests(root)) == contents(before)
    assert finished(root).items() <= before.items()
    suffixes = {p.suffix for p in root.rglob("*") if p.is_file()}
    assert suffixes <= {".json", ".safetensors", ".lock"}


def test_more_members_train_only_what_is_missing(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    before = finished(root)
    made = inline(benchmark(root, [simple], members=4))
    assert sorted(key.rsplit(" ", 1)[1] for key in made if key.startswith("fit")) == ["2", "3"]
    after = finished(root)
    assert before.items() <= after.items()
    assert [line.split()[-1] for line in fitted(simple)] == ["0", "1", "2", "3"]
    fewer = benchmark(root, [simple], members=1)
    assert fewer.planned == []


def pruned(root):
    """Takes away what results are kept without: weights, predictions, simulations."""
    for path in (root / "fits").rglob("*.safetensors"):
        path.unlink()
    for part in ("predictions", "simulations"):
        shutil.rmtree(root / part)


def test_scores_stand_without_weights_and_predictions(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    pruned(root)
    before = digests(root)
    again = benchmark(root, [simple])
    assert again.planned == []
    assert again.reused == 3 * 5
    made = inline(benchmark(root, [simple], members=3))
    kinds = [key.split()[0] for key in made]
    assert sorted(kinds) == ["fit"] + ["predict"] * 4 + ["score"] * 4  # exact's predictions too
    assert [line.split()[-1] for line in fitted(simple)] == ["0", "1", "2"]
    assert all(
        digests(root)[name] == value
        for name, value in before.items()
        if "/simple" in name and "member" in name
    )
    assert benchmark(root, [simple], members=3).planned == []


def test_an_ensemble_of_fits_without_weights_trains_them_again(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    pruned(root)
    wanted = {"methods": ("simple:default", "ensemble(simple:default,2)")}
    run = benchmark(root, [simple], **wanted)
    made = [p.job.key for p in run.planned if p.kind == "predict" and not p.cell.oracle]
    assert len(made) == 2
    assert all("ensemble" in key for key in made)
    trained = {p.job.key for p in run.planned if p.kind == "fit"}
    assert all(set(p.job.after) == trained for p in run.planned if p.job.key in made)
    says = inline(run)
    assert {
        key for key, said in says.items() if said != "done"
    } <= {  # the same prediction as before
        p.job.key for p in run.planned if p.kind == "score" and p.cell.oracle
    }
    assert [line.split()[-1] for line in fitted(simple)] == ["0", "1", "0", "1"]
    assert benchmark(root, [simple], **wanted).planned == []


def test_fits_without_weights_are_trained_for_what_calibrates_them(tmp_path, simple):
    root = tmp_path / "results"
    calibrated = "calibrated(lre:unnormalised)"
    wanted = {"methods": (calibrated, f"ensemble({calibrated},2)")}
    run = benchmark(root, [simple], **wanted)
    inline(run)
    pruned(root)
    (ensemble,) = [cell for cell in run.cells if cell.size == 2]
    (root / f"{ensemble.fit_key(0)}.json").unlink()
    again = benchmark(root, [simple], **wanted)
    kinds = [p.job.function.__name__ for p in again.planned]
    assert sorted(kinds) == ["average"] + ["calibrate_fits"] * 2 + ["fit"] * 2
    assert set(inline(again).values()) == {"done"}
    assert benchmark(root, [simple], **wanted).planned == []


def test_scores_do_not_lose_the_truth(tmp_path, simple):
    root = tmp_path / "results"
    run = benchmark(root, [simple])
    inline(run)
    exact = next(cell for cell in run.cells if cell.oracle)
    shutil.rmtree(root / "predictions" / exact.folder)
    assert [p.cell.oracle for p in plan_scores(Store.open(root), Registry([simple]))] == []
    assert benchmark(root, [simple]).planned == []
    member = next((root / "predictions").rglob("*independent*/member-000.safetensors"))
    member.write_bytes(b"")
    kinds = inline(benchmark(root, [simple]))
    assert sorted(key.split()[0] for key in kinds) == ["predict"] * 2 + ["score"] * 3
    assert benchmark(root, [simple]).planned == []
    kept = json.loads(next((root / "scores").rglob("simple*/indep*/member-000.json")).read_text())
    assert kept["inputs"]["truth"] is not None
    assert "overlap_M" not in kept["undefined"]


def test_a_failed_training_leaves_the_record_that_scores_need(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    pruned(root)
    wanted = {"methods": ("simple:default", "ensemble(simple:default,2)")}
    fits = [p for p in benchmark(root, [simple], **wanted).planned if p.kind == "fit"]
    for planned in fits:
        failure = Outcome(planned.job.key, "failed", error="no luck", error_type="RuntimeError")
        _record_failure(Store.open(root), planned, failure)
    statuses = [Store.open(root).record(key)["status"] for p in fits for key in p.keys]
    assert sorted(statuses) == ["done", "done", "failed"]  # the ensemble had none


def test_which_scores_stand():
    inputs = {"prediction": "a", "truth": "t", "metrics": "m"}
    gone = {"prediction": None}
    assert stand({"inputs": inputs}, inputs)
    assert stand({"inputs": inputs}, inputs | gone)
    assert stand({"inputs": inputs}, inputs | gone | {"truth": "another machine's"})
    assert stand({"inputs": inputs}, inputs | {"truth": None})
    assert not stand({"inputs": inputs}, inputs | {"truth": "another"})
    assert not stand({"inputs": inputs}, inputs | {"prediction": "another"})
    assert not stand({"inputs": inputs}, inputs | gone | {"metrics": "another"})
    assert not stand({"inputs": inputs | {"truth": None}}, inputs)
    assert not stand({"inputs": inputs | {"truth": None}}, inputs | gone)
    assert stand({"inputs": inputs | {"truth": None}}, inputs | gone | {"truth": None})
    for record in (None, {}, {"inputs": None}, {"inputs": "a digest of all"}):
        assert not stand(record, inputs)


def test_a_member_depends_on_its_number_alone(tmp_path, simple):
    for name, members in (("one", 1), ("three", 3)):
        inline(benchmark(tmp_path / name, [simple], members=members))
    one, three = (contents(digests(tmp_path / n, ".safetensors")) for n in ("one", "three"))
    assert one.items() <= three.items()


def test_equal_configurations_share_one_fit(tmp_path, simple):
    run = benchmark(tmp_path / "results", [simple], methods=("simple:default", "simple:same"))
    inline(run)
    assert len(run.cells) == 2  # with the exact likelihood
    assert len(fitted(simple)) == 2
    assert benchmark(tmp_path / "results", [simple], methods=("simple:same",)).planned == []


def test_identity(tmp_path, simple):
    def key(configuration="default", budget=600, plugin=simple, method="simple", **changes):
        registry = Registry([plugin])
        preset = Preset.model_validate(TINY | changes)
        task = registry.task("gaussians-far")
        return make_cell(registry, task, method, configuration, preset, budget).key

    assert key() == key("same") == key(members=7) == key(device="cpu") == key(time_limit=7)
    assert key(plans=({"kind": "heldout"},)) == key()
    renamed = shutil.copy(simple, tmp_path / "renamed.py")
    assert key(plugin=renamed) == key()
    edited = tmp_path / "edited.py"
    edited.write_text(Path(simple).read_text() + "\n# a remark\n")
    others = [
        key("wide"),
        key(budget=601),
        key(seed=1),
        key(training_data="shared"),
        key(plugin=edited),
        key(method="histogram"),
    ]
    assert len({key(), *others}) == 1 + len(others)
    exact = {"method": "exact", "configuration": "default"}
    assert key(**exact) == key(**exact, budget=7, seed=7, training_data="shared")


def test_overwrite_makes_everything_anew(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    before = digests(root, ".safetensors", parts=("fits", "predictions"))
    time.sleep(0.01)
    made = inline(benchmark(root, [simple], overwrite=True))
    assert {v for k, v in made.items() if not k.startswith("score")} == {"done"}
    assert len(fitted(simple)) == 4
    after = digests(root, ".safetensors", parts=("fits", "predictions"))
    assert contents(after) == contents(before)
    assert all(after[name][1] > before[name][1] for name in before)
    assert benchmark(root, [simple]).planned == []


@pytest.mark.parametrize("training_data", ["fresh", "shared", "bootstrap"])
def test_training_data(tmp_path, simple, training_data):
    root = tmp_path / "results"
    run = benchmark(root, [simple], training_data=training_data, plans=TINY["plans"][:1])
    inline(run)
    states = [
        Store.open(root).read(cell.fit_key(member)).arrays["coefficients"]
        for cell in run.cells
        if not cell.oracle
        for member in range(2)
    ]
    assert np.array_equal(*states) == (training_data == "shared")


# Damage


def test_damage_is_repaired_and_nothing_else_is_touched(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    before = digests(root)

    def of(part, suffix):
        return next(
            n for n in before if n.startswith(f"{part}/gaussians-far/simple") and suffix in n
        )

    def truncate(path):
        path.write_bytes(path.read_bytes()[:-8])

    def tamper(path):
        path.write_text(path.read_text().replace('"status":"done"', '"status":"Done"'))

    harmed = {
        of("fits", "member-000.safetensors"): truncate,
        of("fits", "member-001.json"): tamper,
        of("predictions", "member-000.json"): truncate,
        of("predictions", "member-001.safetensors"): Path.unlink,
        of("scores", "member-000.safetensors"): truncate,
    }
    for name, harm in harmed.items():
        harm(root / name)
    made = inline(benchmark(root, [simple]))
    assert sorted(key.split()[0] for key in made) == ["fit"] * 2 + ["predict"] * 2 + ["score"] * 2
    after = digests(root)
    arrays = {name for name in before if name.endswith(".safetensors")}
    assert {n: after[n][0] for n in arrays} == {n: before[n][0] for n in arrays}
    changed = {name.rpartition(".")[0] for name in before if before[name] != after[name]}
    assert {name.rpartition(".")[0] for name in harmed} <= changed
    changed -= {name.rpartition(".")[0] for name in harmed}
    assert all(name.startswith("scores/") or name.endswith("/fit") for name in changed)
    assert benchmark(root, [simple]).planned == []


def test_damaged_simulations_are_made_anew(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    before = digests(root, ".safetensors")
    for path in (root / "simulations").rglob("*.safetensors"):
        path.write_bytes(b"")
    shutil.rmtree(root / "fits")
    inline(benchmark(root, [simple]))
    after = contents(digests(root, ".safetensors"))
    needed = {n: d for n, (d, _) in before.items() if not after[n].startswith("e3b0c4")}
    assert needed.items() <= after.items()
    assert any(name.startswith("simulations") for name in needed)


def test_a_prediction_of_a_fit_that_is_gone_says_so(tmp_path, simple):
    root = tmp_path / "results"
    run = benchmark(root, [simple])
    jobs = {p.job.key.split()[0]: p.job for p in run.planned}
    with pytest.raises(StoreError, match=r"member-001 is missing or damaged; run again to make it"):
        jobs["predict"].function(report=print, **jobs["predict"].arguments)


# Plugins


def test_a_plugin_that_is_edited_meanwhile_is_not_mixed_up(tmp_path, simple):
    run = benchmark(tmp_path / "results", [simple])
    Path(simple).write_text(Path(simple).read_text() + "\n# edited\n")
    (job, *_) = [p.job for p in run.planned if p.kind == "fit" and not p.cell.oracle]
    with pytest.raises(PluginError, match=r"simple\.py \(Simple\) was edited while the run was"):
        job.function(report=print, **job.arguments)
    assert fitted(simple) == []
    inline(benchmark(tmp_path / "results", [simple]))
    assert len(fitted(simple)) == 2


def test_one_bad_member_of_a_stack_fails_alone(tmp_path):
    plugin = tmp_path / "partly.py"
    plugin.write_text(
        "import math, torch\n"
        "from bench.contracts import FitLog, Method, TrainingCurve\n"
        "class Surrogate:\n"
        "    reference, has_density = None, False\n"
        "    def __init__(self, w, bad):\n"
        "        self.w = w\n"
        "        curve = TrainingCurve([math.inf, 1.0], [math.nan, 1.0], 2, 2, 0.1, 0.1)\n"
        "        self.log = FitLog(1, [{'net': curve} for _ in w])\n"
        "    def log_ratio(self, x, context):\n"
        "        return torch.zeros(len(self.w), 2, len(x), len(context))\n"
        "    def state(self):\n"
        "        return {'w': self.w}\n"
        "class Partly(Method):\n"
        "    name = 'partly'\n"
        "    def fit(self, task, bank, features, members, run):\n"
        "        nan = math.nan\n"
        "        return Surrogate(torch.tensor([[nan if m == 1 else m] for m in members]), 1)\n"
        "    def restore(self, task, features, state):\n"
        "        return Surrogate(state['w'], 0)\n"
    )
    root = tmp_path / "results"
    run = benchmark(root, [plugin], methods=("partly",), members=3)
    jobs = {p.job.key.rsplit(" ", 1)[1]: p.job for p in run.planned if p.kind == "fit"}
    arguments = jobs["0"].arguments | {"members": [0, 1, 2]}
    cell = arguments["cell"]
    if cell.oracle:
        cell = next(c for c in run.cells if not c.oracle)
        arguments["cell"] = cell
    assert jobs["0"].function(report=print, **arguments) == "done"
    store = Store.open(root)
    assert [store.record(cell.fit_key(m))["status"] for m in range(3)] == ["done", "failed", "done"]
    assert store.read(cell.fit_key(2)).arrays["w"].tolist() == [[2.0]]
    assert store.record(cell.fit_key(0))["curves"]["net"]["train_loss"] == [None, 1.0]
    again = benchmark(root, [plugin], methods=("partly",), members=3)
    fits = [p for p in again.planned if p.kind == "fit" and not p.cell.oracle]
    assert [p.members for p in fits] == [(1,)]
    with pytest.raises(NonFiniteError, match=r"state 'w' of partly holds NaN or infinite numbers"):
        fits[0].job.function(report=print, **fits[0].job.arguments)
    predict = next(p.job for p in again.planned if p.kind == "predict" and p.members == (1,))
    with pytest.raises(StoreError, match="member-001 failed: state 'w' of partly holds NaN"):
        predict.function(report=print, **predict.arguments)


def test_a_method_cannot_spend_more_than_its_budget(tmp_path):
    run = benchmark(
        tmp_path / "results", [PLUGINS / "hostile.py"], methods=("overspends",), members=1
    )
    (job,) = [p.job for p in run.planned if p.kind == "fit" and not p.cell.oracle]
    with pytest.raises(
        BudgetExceeded, match="600 simulations cost 600 calls, and of the budget of"
    ):
        job.function(report=print, **job.arguments)


def test_a_task_plugin_takes_part(tmp_path, simple):
    asymmetric = Path(bench.testing.asymmetric.__file__)
    run = benchmark(
        tmp_path / "results", [asymmetric, simple], tasks=("asymmetric",), plans=TINY["plans"][:1]
    )
    assert set(inline(run).values()) == {"done"}
    assert {cell.identity["task"]["plugin"] for cell in run.cells} == {
        hashlib.sha256(asymmetric.read_bytes()).hexdigest()
    }
    assert [line.split()[0] for line in fitted(simple)] == ["asymmetric"] * 2


def test_a_new_metric_needs_no_training(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    before = digests(root, parts=("fits", "predictions"))
    metric = tmp_path / "metric.py"
    metric.write_text(
        "import numpy as np\n"
        "from bench.contracts import Metric\n"
        "def compute(prediction, truth):\n"
        "    return {'': np.full(len(prediction.datasets), 42.0)}\n"
        "answer = Metric('answer', 'answer', 'The answer.', ('independent',), compute)\n"
    )
    registry = Registry([metric])
    planned = plan_scores(Store(root), registry)
    assert len(planned) == 6
    for p in planned:
        made = p.job.function(report=print, **p.job.arguments)
        assert made == ("done" if p.job.arguments["plan"]["kind"] == "independent" else "reused")
    assert digests(root, parts=("fits", "predictions")) == before
    (board, _) = build(Results(Store(root)), registry.metrics())
    assert {row.quantities["answer/"].estimate.value for row in board.rows} == {42.0}
    without = build(Results(Store(root)), Registry().metrics())
    assert "answer/" not in without[0].rows[1].quantities
    assert "answer" in FORMATS["csv"]([board])


def test_a_stray_file_is_no_member(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    (record, *_) = (root / "predictions").rglob("member-000.json")
    for name in ("member-000 copy.json", "notes.json", "member-.json"):
        shutil.copy(record, record.with_name(name))
    assert len(plan_scores(Store(root), Registry())) == 6


def test_wrong_names_are_found_before_anything_is_made(tmp_path):
    for wrong, message in {
        "tasks": "unknown task 'x'; known: gaussians-far, gaussians-near, gp, ",
        "methods": "unknown method 'x'; known: dle, dle-nflows, exact, ",
    }.items():
        with pytest.raises(UsageError, match=message):
            benchmark(tmp_path / "results", **{wrong: ("x",)})
    with pytest.raises(UsageError, match="unknown configuration of lre 'tund'; did you mean tuned"):
        benchmark(tmp_path / "results", methods=("lre:tund",))


# With workers


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run with two workers, to compare others with."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(PLUGINS / "simple.py", folder)
    (folder / "tiny.toml").write_text(FILE + 'methods = ["histogram", "simple:slow"]')
    finish(start("run", "tiny.toml", "--plugin", "simple.py", "--workers", "2", cwd=folder))
    return folder


def folder_like(undisturbed, tmp_path):
    for name in ("simple.py", "tiny.toml"):
        shutil.copy(undisturbed / name, tmp_path)
    return tmp_path / "results" / "tiny"


def test_one_worker_and_two_give_the_same_bits(tmp_path):
    (tmp_path / "tiny.toml").write_text(FILE + 'methods = ["histogram", "lre:published"]')
    for name in ("signal", "random", "tasks", "methods"):  # as people call their files
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not this one')")
    runs = [
        start("run", "tiny.toml", "--workers", n, "--out", f"with {n}", "--quiet", cwd=tmp_path)
        for n in (1, 2)
    ]
    for process in runs:
        out, err = finish(process)
        assert out == ""
        assert len(err.splitlines()) == 1
    one, two = tmp_path / "with 1", tmp_path / "with 2"
    made = contents(digests(one, ".safetensors"))
    assert made == contents(digests(two, ".safetensors"))
    assert {name.split("/")[2].partition("-")[0] for name in made if name.startswith("scores")} == {
        "exact",
        "histogram",
        "lre",
    }
    assert numbers(one) == numbers(two)


def test_killed_and_interrupted_runs_resume(undisturbed, tmp_path):
    root = folder_like(undisturbed, tmp_path)
    command = ("run", "tiny.toml", "--plugin", "simple.py", "--quiet", "--workers")
    for number, workers, at_least in (
        (signal.SIGKILL, 1, 1),
        (signal.SIGKILL, 2, 9),
        (signal.SIGINT, 1, 21),
    ):
        before = finished(root) if root.exists() else {}
        process = start(*command, workers, cwd=tmp_path, start_new_session=True)
        end = time.monotonic() + 60
        while (len(finished(root)) if root.exists() else 0) < at_least:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.02)
        children = psutil.Process(process.pid).children()
        assert children
        if number == signal.SIGINT:  # as a terminal does, to the whole group
            os.killpg(process.pid, number)
            _, err = finish(process, 130)
            assert err.split("\n") == [
                *["", "bench: interrupted; the same command resumes, finished work is kept", ""]
            ]
        else:
            process.send_signal(number)
            finish(process, -number)
        assert not psutil.wait_procs(children, timeout=5)[1]
        assert before.items() <= finished(root).items()
    before = finished(root)
    finish(start(*command, 1, cwd=tmp_path))
    assert before.items() <= finished(root).items()
    assert contents(digests(root, ".safetensors")) == contents(
        digests(undisturbed / "results" / "tiny", ".safetensors")
    )
    assert numbers(root) == numbers(undisturbed / "results" / "tiny")


def test_two_runs_at_once(undisturbed, tmp_path):
    root = folder_like(undisturbed, tmp_path)
    command = ("run", "tiny.toml", "--plugin", "simple.py", "--workers", "1", "--quiet")
    for process in [start(*command, cwd=tmp_path) for _ in range(2)]:
        finish(process)
    assert contents(digests(root, ".safetensors")) == contents(
        digests(undisturbed / "results" / "tiny", ".safetensors")
    )
    assert numbers(root) == numbers(undisturbed / "results" / "tiny")
    assert sorted(fitted(tmp_path / "simple.py")) == sorted(fitted(undisturbed / "simple.py"))


REASONS = {
    "hangs": "ran past its time limit of 8 s",
    "hogs": r"used 1\.\d GiB, over its memory limit of 1\.2 GiB",
    "raises": r"KeyError: 'two\\nlines'",
    "exits": "its worker process exited with code 0",
    "leaves": "SystemExit: 3",
    "nan-state": "state 'w' of nan-state holds NaN or infinite numbers",
    "nan-ratio": r"log_ratio returned NaN or \+inf for \d+ of \d+",
    "wrong-shape": r"log_ratio returned \(1, \d+, \d+\); the contract is \(members, components, ",
    "wrong-axis": r"state 'w' of wrong-axis has shape \(7, 2\); its first axis must be the members",
    "overspends": "600 simulations cost 600 calls, and of the budget of 600 only 0 are left",
}
ABSENT = {
    "abstract": "it does not define restore",
    "wrong-signature": r"fit\(self, task, bank\) has a wrong signature",
    "bad-check": "AttributeError: 'RotatedGaussians' object has no attribute 'no_such_thing'",
    "bad-init": r"TypeError: BadInit\.__init__\(\) takes 1 positional argument but 2 were given",
}


def test_everything_that_a_plugin_can_do_wrong(undisturbed, tmp_path):
    shutil.copy(PLUGINS / "hostile.py", tmp_path)
    (tmp_path / "unimportable.py").write_text("import no_such_module")
    (tmp_path / "tiny.toml").write_text(
        FILE.replace("members = 2", "members = 1\ntime_limit = 8\nmemory_limit = 1.2").replace(
            '    {kind = "heldout", contexts = 2, events = 4},\n', ""
        )
    )
    good = ("histogram", "prints", "changes-globals", "declines", "declines-late")
    process = start(
        *("run", "tiny.toml", "--plugin", "hostile.py", "--plugin", "unimportable.py"),
        *(word for name in (*REASONS, *ABSENT, *good) for word in ("--method", name)),
        cwd=tmp_path,
    )
    out, err = finish(process, 1)
    lines = err.splitlines()

    def told(pattern):
        return len([line for line in lines if re.search(pattern, line)])

    for name, reason in REASONS.items():
        assert told(rf"^failed: \w+ of {name} on gaussians-far, member 0: {reason}") >= 1, name
        assert told(reason) == told(rf" of {name} on ") - told(rf"^\d.* of {name} on "), name
    for name, reason in ABSENT.items():
        assert told(rf"^failed: {name} on gaussians-far: method '{name}' from .*: {reason}") == 1
        assert told(reason) == 1
    assert told("^failed: plugin .*unimportable.py on every task: ModuleNotFoundError: No mod") == 1
    assert (
        told("^failed: metric broken on gaussians-far: metric 'broken' fails: ZeroDivisionE") == 1
    )
    assert told("declines") == 0
    assert lines[-1].endswith("results in results/tiny")
    assert "noise on standard output" in err  # not a line of its own: workers write at once
    assert "noise" not in out
    assert not survivors(tmp_path)

    store = Store.open(tmp_path / "results" / "tiny")
    status = list(status_lines(Results(store)))
    for name, reason in {**REASONS, **ABSENT}.items():
        assert any(re.search(reason, line) for line in status), name
    for line in (
        "n/a: declines on gaussians-far: it would rather not",
        "n/a: declines-late on gaussians-far: it would rather not, on second thoughts",
        "failed: metric broken on gaussians-far: metric 'broken' fails: ZeroDivisionError: "
        "in plugin",
    ):
        assert line in status
    assert any("unimportable.py on every task: ModuleNotFoundError" in line for line in status)
    assert sum("histogram" in line and "fits 1/1" in line for line in status) == 1

    # The rest went on, with all metrics but the broken one; and the next run tries again.
    (board,) = [
        b for b in build(Results(store), Registry().metrics()) if b.plan["kind"] == "independent"
    ]
    scored = {row.label for row in board.rows if row.quantities}
    assert scored == {"exact", "histogram", "prints", "changes-globals"}
    arrays = contents(digests(undisturbed / "results" / "tiny", ".safetensors"))
    theirs = contents(digests(store.root, ".safetensors", parts=("fits", "predictions")))
    common = {name for name in theirs if "histogram" in name}
    assert len(common) == 2
    assert {n: theirs[n] for n in common} == {n: arrays[n] for n in common}
    (tmp_path / "mended").touch()
    before = finished(store.root)
    process = start(
        *("run", "tiny.toml", "--plugin", "hostile.py", "--method", "raises", "--quiet"),
        cwd=tmp_path,
    )
    _, err = finish(process, 1)  # the metric is still broken
    assert err.splitlines()[0].startswith("failed: metric broken on gaussians-far: ")
    assert re.match(r"4 made, \d+ reused, 1 failed in \d+ s; ", err.splitlines()[1]), err
    unscored = {n: v for n, v in before.items() if not n.startswith("scores/")}
    assert unscored.items() <= finished(store.root).items()


def test_the_caller_is_left_alone(tmp_path, simple):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global state is the point
    torch.manual_seed(1)
    state = {
        "environment": dict(os.environ),
        "handlers": {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)},
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "folder": os.getcwd(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "random": random.getstate(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "errors": np.geterr(),
        "streams": (sys.stdout, sys.stderr),
        "path": list(sys.path),
    }

    run = benchmark(tmp_path / "results", [simple], members=1, plans=TINY["plans"][:1])
    run.record(["test"])
    events, outcomes = [], []
    report = run.execute(2, events.append, lambda planned, outcome: outcomes.append(outcome))
    assert report.ok
    assert report.done == len(outcomes) == 6
    FORMATS["table"](build(Results(run.store), run.registry.metrics()))

    assert state == {
        "environment": dict(os.environ),
        "handlers": {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)},
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "folder": os.getcwd(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "random": random.getstate(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "errors": np.geterr(),
        "streams": (sys.stdout, sys.stderr),
        "path": list(sys.path),
    }
    assert not psutil.Process().children() or all(
        "resource_tracker" in " ".join(child.cmdline()) for child in psutil.Process().children()
    )
