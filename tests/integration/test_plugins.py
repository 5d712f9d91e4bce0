"""Plugins in runs: edited files, failing parts, overspent budgets; custom tasks and metrics."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from whole_runs import PLUGINS, TINY, benchmark, digests, fitted, inline

import bench.testing.asymmetric
from bench.boards import FORMATS, Results, build
from bench.errors import BudgetExceeded, NonFiniteError, PluginError, StoreError, UsageError
from bench.experiment.rescore import plan_scores
from bench.registry.registry import Registry
from bench.storage.store import Store


def test_a_plugin_that_is_edited_meanwhile_is_not_mixed_up(tmp_path, simple):
    run = benchmark(tmp_path / "results", [simple])
    Path(simple).write_text(Path(simple).read_text() + "\n# edited\n")
    (job, *_) = [p for p in run.jobs if p.stage == "fit" and not p.spec.oracle]
    with pytest.raises(PluginError, match=r"simple\.py \(Simple\) was edited while the run was"):
        job.perform(dict)
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
        "    def fit(self, fit_context):\n"
        "        nan = math.nan\n"
        "        values = [[nan if m == 1 else m] for m in fit_context.members]\n"
        "        return Surrogate(torch.tensor(values), 1)\n"
        "    def restore(self, task, features, state):\n"
        "        return Surrogate(state['w'], 0)\n"
    )
    root = tmp_path / "results"
    run = benchmark(root, [plugin], methods=("partly",), members=3)
    jobs = {p.key.rsplit(" ", 1)[1]: p for p in run.jobs if p.stage == "fit"}
    spec = next(c for c in run.specs if not c.oracle)
    assert replace(jobs["0"], spec=spec, members=(0, 1, 2)).perform(dict) == "done"
    store = Store.open(root)
    assert [store.record(spec.fit_key(m))["status"] for m in range(3)] == ["done", "failed", "done"]
    assert store.read(spec.fit_key(2)).arrays["w"].tolist() == [[2.0]]
    assert store.record(spec.fit_key(0))["curves"]["net"]["train_loss"] == [None, 1.0]
    again = benchmark(root, [plugin], methods=("partly",), members=3)
    fits = [p for p in again.jobs if p.stage == "fit" and not p.spec.oracle]
    assert [p.members for p in fits] == [(1,)]
    with pytest.raises(NonFiniteError, match=r"state 'w' of partly holds NaN or infinite numbers"):
        fits[0].perform(dict)
    predict = next(p for p in again.jobs if p.stage == "predict" and p.members == (1,))
    with pytest.raises(StoreError, match="member-001 failed: state 'w' of partly holds NaN"):
        predict.perform(dict)


def test_a_method_cannot_spend_more_than_its_budget(tmp_path):
    run = benchmark(
        tmp_path / "results", [PLUGINS / "hostile.py"], methods=("overspends",), members=1
    )
    (job,) = [p for p in run.jobs if p.stage == "fit" and not p.spec.oracle]
    with pytest.raises(
        BudgetExceeded, match="600 simulations cost 600 calls, and of the budget of"
    ):
        job.perform(dict)


def test_a_task_plugin_takes_part(tmp_path, simple):
    asymmetric = Path(bench.testing.asymmetric.__file__)
    run = benchmark(
        tmp_path / "results", [asymmetric, simple], tasks=("asymmetric",), plans=TINY["plans"][:1]
    )
    assert set(inline(run).values()) == {"done"}
    assert {spec.identity["task"]["plugin"] for spec in run.specs} == {
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
        made = p.perform(dict)
        assert made == ("done" if p.plan.kind == "independent" else "reused")
    assert digests(root, parts=("fits", "predictions")) == before
    (board, _) = build(Results(Store(root)), registry.metrics())
    assert {row.quantities["answer/"].estimate.value for row in board.rows} == {42.0}
    without = build(Results(Store(root)), Registry().metrics())
    assert "answer/" not in without[0].rows[1].quantities
    assert "answer" in FORMATS["csv"]([board])


def test_wrong_names_are_found_before_anything_is_made(tmp_path):
    for wrong, message in {
        "tasks": "unknown task 'x'; known: exponential, gaussians-far, gaussians-near, gp, ",
        "methods": "unknown method 'x'; known: dle, dle-counts, dle-fields, ",
    }.items():
        with pytest.raises(UsageError, match=message):
            benchmark(tmp_path / "results", **{wrong: ("x",)})
    with pytest.raises(UsageError, match="unknown configuration of lre 'tund'; did you mean tuned"):
        benchmark(tmp_path / "results", methods=("lre:tund",))
