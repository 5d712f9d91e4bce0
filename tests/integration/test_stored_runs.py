"""Stored simulations from the file to intervals, which agree with those of a simulator."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from bench.tasks.exponential import Exponential
from bench.tasks.linear_gaussian import two
from click.testing import CliRunner

import bench
from bench.cli.main import cli
from bench.contracts import Log, StoredTask
from bench.errors import NotApplicable
from bench.stages.evaluators import observed
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store

PLUGIN = """
from pathlib import Path

from bench.contracts import Log, Parameter, StoredTask


class Lifetimes(StoredTask):
    transform = Log()


lifetimes = Lifetimes(
    "lifetimes",
    Path(__file__).parent / "lifetimes.npz",
    [Parameter("rate", 0.2, 5.0, "interest", (0.5, 2.0), "log")],
    observations=100,
)
"""
PRESET = """
tasks = ["lifetimes"]
methods = ["lre:tuned", "dle:tuned", "histogram", "lre:scores"]
members = 2
budgets = [2_000]
plans = [
    {kind = "independent", uniform = 20, per_point = 2, theta = "sobol"},
    {kind = "heldout"},
]
"""
DATASETS = 8


class Lifetimes(StoredTask):
    """Stored simulations of positive numbers."""

    transform = Log()


def write(task, rows, observations, path, seed=3):
    """Write rows of a task's simulations, with parameters of its training range."""
    rng = torch.Generator().manual_seed(seed)
    theta = task.space.draw_context(rows, rng)
    (component,) = task.components("train").values()
    x = component.simulate(theta.repeat_interleave(observations, 0), rng)
    x = x.view(rows, observations, *task.event_shape)
    np.savez(path, theta=theta.numpy(), x=x.numpy())
    return path


def intervals(task, surrogate, data, store):
    """Return estimates and half-widths of datasets, (2, members, datasets, parameters)."""
    found = []
    for x in data:
        nothing, cpu = torch.zeros(0, dtype=torch.float64), torch.device("cpu")
        profiles = observed(task, surrogate, x, nothing, cpu, SimulationStore(store))
        found.append([(p.mle[0], (p.upper[0] - p.lower[0]) / 2) for p in profiles])
    return np.array(found).transpose(2, 1, 0, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("simulator", "stored_type", "observations", "method"),
    [
        (Exponential, Lifetimes, 1, "lre:tuned"),
        (Exponential, Lifetimes, 100, "dle:tuned"),
        (two, StoredTask, 100, "lre:tuned"),
    ],
)
def test_intervals_agree_with_those_of_the_simulator(
    tmp_path, simulator, stored_type, observations, method
):
    simulated = simulator()
    file = write(simulated, 100_000 // observations, observations, tmp_path / "pairs.npz")
    stored = stored_type("mine", file, simulated.space.parameters, observations=observations)
    simulated.reported = stored.reported = simulated.space.names
    theta = simulated.draw_parameters(DATASETS, torch.Generator().manual_seed(8)).float()
    (component,) = simulated.components("test").values()
    rng = torch.Generator().manual_seed(9)
    data = [component.simulate(one.expand(100, -1), rng) for one in theta]
    if simulator is Exponential:
        exact = np.array([1 / float(x.double().mean()) for x in data])[:, None]
        width = exact / 10
    else:
        exact = np.array([simulated.maximum(x).numpy() for x in data])
        width = simulated.standard_deviation(data[0]).numpy()
    shifts, lengths = {}, {}
    for task in (stored, simulated):
        surrogate = bench.fit(task, method, budget=5_000, members=4, quiet=True)
        estimate, half = intervals(task, surrogate, data, Store(tmp_path))
        # A member shifts all datasets together: errors are over members.
        shifts[task.name] = ((estimate - exact) / width).mean(1)
        lengths[task.name] = np.log(half / width).mean(1)
    for own, others in (found.values() for found in (shifts, lengths)):
        error = np.sqrt(own.var(0, ddof=1) / 4 + others.var(0, ddof=1) / 4)
        assert (np.abs(own.mean(0) - others.mean(0)) < 4 * error + 0.05).all()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make the current folder one with a file of simulations, a plugin and a preset."""
    monkeypatch.chdir(tmp_path)
    write(Exponential(), 400, 100, "lifetimes.npz")
    Path("lifetimes.py").write_text(PLUGIN)
    Path("tiny.toml").write_text(PRESET)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli, [*arguments])


@pytest.mark.slow
def test_a_file_is_run_and_judged_without_an_exact_likelihood(folder):
    shown = "run", "tiny.toml", "--plugin", "lifetimes.py", "--workers", "1", "--quiet"
    result = run(*shown)
    assert result.exit_code == 0, result.output
    board = Path("results/tiny/leaderboard.md").read_text()
    assert "independent datasets: 20 with θ as stored" in board
    asked = "20 with θ a Sobol sequence, 2 at each point"
    assert f"Stored simulations took the place of independent datasets: {asked}" in board
    for label, why in {
        "exact": "lifetimes has no exact likelihood",
        "histogram": "histogram simulates at chosen contexts: use lre",
        "lre:scores": "component 'simulations' of lifetimes has no score",
        "every method under the heldout plan": "a heldout plan simulates at parameters",
    }.items():
        assert f"{label}: n/a, {why}" in board
    for label in ("lre:tuned", "dle:tuned"):
        assert re.search(rf"\| *{label} ", board)
    loaded = bench.load("results/tiny", plugins=["lifetimes.py"])
    assert set(loaded.leaderboard()["label"]) == {"lre:tuned", "dle:tuned"}
    again = run(*shown)
    assert again.exit_code == 0
    report = run("report", "results/tiny", "--plugin", "lifetimes.py")
    assert report.exit_code == 0, report.output


def test_a_run_for_which_the_file_is_too_small_is_told(folder):
    shown = "run", "tiny.toml", "--plugin", "lifetimes.py", "--workers", "1", "--quiet"
    result = run(*shown, "--members", "20")
    assert (
        "n/a: lifetimes, every method with a budget of 2,000: 20 disjoint sets of 2,000 "
        "observations need 400 rows; lifetimes.npz has 300 for this, of 400\n"
    ) in result.output


@pytest.mark.slow
def test_results_of_a_changed_file_are_others(folder):
    shown = "run", "tiny.toml", "--plugin", "lifetimes.py", "--workers", "1", "--quiet"
    shown = *shown, "--method", "lre:tuned", "--members", "1"
    assert run(*shown).exit_code == 0
    before = {path.name for path in Path("results/tiny/fits/lifetimes").iterdir()}
    write(Exponential(), 400, 100, "lifetimes.npz", seed=4)
    # A new program would read the new file, as this changed plugin does.
    Path("lifetimes.py").write_text(PLUGIN + "\n")
    assert run(*shown).exit_code == 0
    assert before < {path.name for path in Path("results/tiny/fits/lifetimes").iterdir()}


def test_the_default_budget_is_told_to_be_too_large(folder):
    with pytest.raises(NotApplicable, match="lifetimes: 1 disjoint set of 100,000 "):
        bench.fit("lifetimes", "lre:tuned", plugins="lifetimes.py", quiet=True)
