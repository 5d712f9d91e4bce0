"""Cost estimates of runs, and the utilisation of workers by the paper's plan."""

import heapq
from pathlib import Path

import numpy as np
import pytest
from bench.tasks.linear_gaussian import linear_gaussian
from click.testing import CliRunner

from bench.cli.main import cli
from bench.contracts import BootstrapPlan, HeldOutPlan, IndependentPlan
from bench.execution.executor import Executor, Outcome
from bench.experiment import cost
from bench.experiment.cost import Cost, CostEstimate, estimate
from bench.experiment.preset import read_preset
from bench.experiment.schedule import schedule
from bench.nn.flops import operations
from bench.registry.registry import Registry
from bench.stages.posterior import AT_DRAWS
from bench.storage.simulations import PURPOSES
from bench.storage.store import Store

PLUGINS = Path(__file__).parents[1] / "plugins"


class Simulated(Executor):
    """Cluster with simulated time: jobs take their estimated time plus a latency.

    The graph, the order and the assignment of jobs are the suite's.
    """

    def __init__(self, workers, here, seconds, latency):
        super().__init__()
        self.free = {True: workers, False: here}
        self.seconds = seconds
        self.latency = latency
        self.clock = 0.0
        self.ends = []
        self.last = 0.0

    @property
    def busy(self):
        return bool(self.ends)

    def take(self, ready):
        taken = []
        for job in ready:
            away = job.io is not None
            if self.free[away]:
                self.free[away] -= 1
                end = self.clock + self.latency + self.seconds[job.key]
                heapq.heappush(self.ends, (end, job.key, away))
                taken.append(job.key)
        return taken

    def collect(self):
        if not self.ends:
            return []
        self.clock, key, away = heapq.heappop(self.ends)
        self.free[away] += 1
        self.last = self.clock if away else self.last
        return [Outcome(key, "done")]

    def halt(self):
        self.ends.clear()


def planned(preset, root, **options):
    registry = Registry(options.pop("plugins", ()))
    settings = read_preset(registry, preset, {"device": "cpu"} | options)
    return schedule(registry, settings, Store.open(root), scheduler="local:2")


def test_256_workers_are_kept_busy_by_the_papers_plan(tmp_path):
    run = planned("paper", tmp_path)
    found = run.cost
    assert not found.unknown
    rng = np.random.default_rng(0)
    # Scatter of job durations around their estimates.
    scatter = rng.lognormal(0.0, 0.3, len(run.jobs))
    seconds = {
        p.key: found.own[p.key] * factor for p, factor in zip(run.jobs, scatter, strict=True)
    }
    cluster = Simulated(256, 8, seconds, latency=0.5)
    outcomes = list(cluster.run(run.jobs))
    assert len(outcomes) == len(run.jobs) > 2000
    working = sum(seconds[p.key] for p in run.jobs if p.io is not None)
    busy = working / (256 * cluster.last)
    print(f"{len(outcomes)} jobs, {working / 3600:.0f} h of work, {cluster.last / 60:.0f} min, "
          f"{busy:.3f} busy, scores end after {cluster.clock / cluster.last:.2f}")  # fmt: skip
    assert busy > 0.9
    assert cluster.clock < 1.25 * cluster.last  # scores end soon after


def test_jobs_with_most_to_come_start_first_but_after_exacts_for_which_scores_wait(tmp_path):
    run = planned("smoke", tmp_path, tasks=("gaussians-far",), members=2)
    found = run.cost
    order = [(not p.spec.oracle, -found.seconds[p.key]) for p in run.jobs]
    assert order == sorted(order)
    assert next(p.stage for p in run.jobs if p.spec.oracle) == "fit"
    for p in run.jobs:
        for before in p.after:
            assert found.seconds[before] >= found.seconds[p.key]


def test_estimates_count_shapes(tmp_path):
    run = planned("smoke", tmp_path, tasks=("gaussians-far",), methods=("lre:published",))
    model = cost.CostModel(run.registry, run.store, "cpu")
    jobs = [p for p in run.jobs if p.spec.method == "lre"]
    fit = model(next(p for p in jobs if p.stage == "fit"))
    # Two components with 500 own simulations and 1000 of the reference each, a tenth held out,
    # batches of 64, at least 500 steps; three inputs, three layers of 120.
    steps_per_epoch = (450 + 900) // 64
    epochs = max(10, -(-500 // steps_per_epoch))
    rows = 2 * epochs * (450 + 900)
    weights = 3 * 120 + 2 * 120 * 120 + 120
    assert fit.events == rows
    assert fit.operations == rows * 3 * 2 * weights
    held_out = next(p for p in jobs if p.stage == "predict" and "heldout" in p.key)
    assert model(held_out).events == 8 * 64 * (2 * 3 + 1)
    independent = next(p for p in jobs if p.stage == "predict" and "independent" in p.key)
    sets = 6 + 9
    assert model(independent).events == sets * 100 * cost.NODES[1][0]


def test_plans_that_are_larger_cost_more():
    task = Registry().task("gaussians-near")
    events = [
        cost.evaluated(task, plan)[0]
        for plan in (
            HeldOutPlan(contexts=2, events=10),
            IndependentPlan(uniform=10, per_point=1),
            BootstrapPlan(sets=1, multiple=9, bootstraps=10),
        )
    ]
    assert events == [2 * 10 * 3, 19 * 1000, 9 * 9 * 1000]


@pytest.mark.parametrize(
    ("parameters", "exact", "trained"), [(2, 136, 238), (7, 240, 400), (20, 440, 760)]
)
def test_passes_of_the_gradient_evaluator(parameters, exact, trained):
    """They are within a factor of two of those that were measured, rounded."""
    task = linear_gaussian(parameters, 1000)
    plan = IndependentPlan(uniform=3, per_point=0, evaluator="gradient")
    events, pairs, seconds = cost.evaluated(task, plan)
    assert events == 3000
    passes = pairs / events - AT_DRAWS
    assert max(exact, trained) / 2 < passes < 2 * min(exact, trained)
    assert seconds == pytest.approx(pairs * 2e-7 + cost._CALLS[0])


def test_the_exact_likelihood_makes_the_draws(tmp_path):
    """Draws are counted once for all methods, for uniform datasets of the gradient evaluator."""
    run = planned("smoke", tmp_path, tasks=("linear-gaussian-5",), methods=("lre:tuned",))
    model = cost.CostModel(run.registry, run.store, "cpu")
    events = {
        job.spec.method: model(job).events
        for job in run.jobs
        if job.stage == "predict" and job.plan.kind == "independent"
    }
    assert events["exact"] - events["lre"] == 6 * 100 * cost._DRAWS


def test_operations_of_a_product():
    import torch

    assert operations(lambda: torch.zeros(2, 3) @ torch.zeros(3, 5)) == 2 * 2 * 3 * 5


@pytest.mark.parametrize(("task", "method"), [("gp", "dle"), ("gp", "dle-fields")])
def test_operations_of_a_row_leave_out_the_construction_of_its_network(task, method):
    # An affine flow of 256 coefficients has 1.7e5 parameters; conditionals of fields share theirs.
    registry = Registry()
    found = registry.method(method)
    work = found(found.Config()).work(registry.task(task), 100_000)
    assert 1e5 < work.training < 5e6


def test_a_simulator_is_timed_where_its_cost_grows_with_its_calls(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(cost.time, "process_time", lambda: now[0])

    def prepares_much(n: int) -> None:
        now[0] += 0.25 + 1e-4 * n

    assert cost._seconds_each(prepares_much, 100_000) < 1.5e-4


def test_a_method_that_does_not_count_is_named_and_then_taken_from_its_records(tmp_path):
    plugins = [str(PLUGINS / "simple.py")]
    options = {"tasks": ("gaussians-far",), "methods": ("simple:default",), "plugins": plugins}
    run = planned("smoke", tmp_path, **options)
    found = estimate(run.jobs, run.registry, run.store, "cpu")
    assert found.unknown == ("simple",)
    assert {stage for stage, method in found.parts if method == "simple"} == {"score"}
    fit = next(p for p in run.jobs if p.stage == "fit" and p.spec.method == "simple")
    other = fit.keys[0].replace("member-000", "member-007")
    run.store.write(other, {"status": "done", "seconds": 12.0})
    model = cost.CostModel(run.registry, run.store, "cpu")
    assert model(fit) == Cost(core_seconds=12.0)
    assert cost.CostModel(run.registry, run.store, "cuda")(fit) == Cost(gpu_seconds=12.0)


def test_duration_is_bounded_by_the_longest_chain_and_by_one_gpu():
    found = CostEstimate(
        {("fit", "a"): (4, Cost(core_seconds=40.0))}, (), {}, {"a": 15.0, "b": 10.0}
    )
    assert (found.jobs, found.longest) == (4, 15.0)
    assert (found.duration(1), found.duration(2), found.duration(100)) == (40.0, 20.0, 15.0)
    gpu = CostEstimate({("fit", "a"): (4, Cost(gpu_seconds=40.0))}, (), {}, {"a": 10.0})
    assert gpu.duration(8) == 40.0


def test_the_command_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        cli, ["plan", "smoke", "--task", "gaussians-far", "--device", "cpu", "--workers", "3"]
    )
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if line]
    assert rows[0] == ["stage", "method", "jobs", "events", "operations", "core-hours", "GPU-hours"]
    assert [row[:2] for row in rows if row[0] == "fit"] == [
        ["fit", name] for name in ("exact", "dle:tuned", "histogram", "lre:tuned")
    ]
    assert sum(row[:1] == ["total"] for row in rows) == 1
    assert "with 3 workers" in result.output
    assert rows[-2] == ["simulator", "calls", "made", *PURPOSES, "charged"]
    made, *parts, charged = (int(number.replace(",", "")) for number in rows[-1][1:])
    assert rows[-1][0] == "gaussians-far"
    assert made == sum(parts)
    assert parts[0] == 10_000
    assert 0 < charged < parts[1]
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_costs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(
        'tasks = ["gaussians-far"]\nmethods = ["exact"]\nmembers = 1\nbudgets = [1000]\n'
        'plans = [{kind = "heldout", contexts = 2, events = 4}]\n'
    )
    for command in ("run", "plan"):
        result = CliRunner().invoke(cli, [command, "tiny.toml", "--device", "cpu"])
        assert result.exit_code == 0, result.output
    assert result.output == "nothing is missing in results/tiny\n"
