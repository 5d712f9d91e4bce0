"""Tasks of a function or a command that simulates, and their defects."""

import random
import sys

import numpy as np
import pytest
import torch

from bench.contracts import Constraint, Parameter, Simulator, from_command
from bench.errors import NonFiniteError, PluginError
from bench.library.examination import examine
from bench.seeds import generator

RANGES = {"mean": (-2.0, 2.0), "sigma": (0.5, 2.0)}


def normal(theta, rng):
    return rng.normal(theta[:, :1], theta[:, 1:], (len(theta), 3))


def one(theta, rng):
    mean, sigma = theta
    return rng.normal(mean, sigma, 3)


def drawn(task, seed=0, n=5):
    (component,) = task.components("train").values()
    context = task.space.draw_context(n, generator("contexts"))
    return component.simulate(context, generator("x", seed))


def test_a_function_of_many_or_of_one_parameter_set_is_a_task():
    for function, batch in ((normal, True), (one, False)):
        task = Simulator("mine", function, RANGES, observations=10, batch=batch)
        assert task.event_shape == (3,)
        assert task.space.names == ("mean", "sigma")
        assert task.reported == ("mean", "sigma")
        assert not task.has_exact
        x = drawn(task)
        assert x.shape == (5, 3)
        assert x.dtype == torch.float32
        assert torch.equal(x, drawn(task))
        assert not torch.equal(x, drawn(task, 1))
        assert examine(task) == 384


def test_simulations_follow_the_function():
    task = Simulator("mine", normal, RANGES, batch=True)
    (component,) = task.components("train").values()
    context = torch.tensor([[1.0, 0.5]]).expand(20_000, -1)
    x = component.simulate(context, generator("many")).double()
    assert abs(x.mean() - 1.0) < 5 * 0.5 / 60_000**0.5
    assert abs(x.std() - 0.5) < 5 * 0.5 / 120_000**0.5
    assert component.simulate(context.view(100, 200, 2), generator("many")).shape == (100, 200, 3)


def test_numbers_of_other_types_and_shapes():
    for function, shape in (
        (lambda theta, rng: rng.poisson(np.exp(theta[:, 0])), (1,)),
        (lambda theta, rng: torch.as_tensor(normal(theta, rng)), (3,)),
        (lambda theta, rng: normal(theta, rng)[:, None, :].tolist(), (1, 3)),
    ):
        assert Simulator("mine", function, RANGES, batch=True).event_shape == shape


def test_parameters_may_have_roles_scales_and_constraints():
    task = Simulator(
        "mine",
        normal,
        {"mean": (0.0, 10.0), "sigma": Parameter("sigma", 0.1, 10.0, "nuisance", (0.5, 2), "log")},
        constraints=[Constraint("mean", 5.0, 1.0)],
        event_shape=(3,),
        batch=True,
    )
    assert task.space.parameters[0].inner == (2.0, 8.0)
    assert task.reported == ("mean",)
    assert task.has_auxiliary
    for nuisances in (["sigma"], "sigma"):
        assert Simulator("m", normal, RANGES, nuisances=nuisances).reported == ("mean",)
    with pytest.raises(ValueError, match=r"nuisances \['scale'\] are not among"):
        Simulator("mine", normal, RANGES, nuisances=["scale"])


def global_numpy(theta, rng):
    return np.random.normal(size=(len(theta), 2))  # noqa: NPY002


def global_python(theta, rng):
    return np.array([[random.random()] for _ in theta])


def global_torch(theta, rng):
    return torch.randn(len(theta), 1)


def raising(theta, rng):
    if theta[0] > 0:
        raise ZeroDivisionError("no population")
    return [1.0]


@pytest.mark.parametrize(
    ("function", "batch", "error", "message"),
    [
        (global_numpy, True, PluginError, "global random generator"),
        (global_python, True, PluginError, "global random generator"),
        (global_torch, True, PluginError, "global random generator"),
        (
            lambda theta, rng: np.ones((len(theta), 2)),
            True,
            PluginError,
            r"returns \(1, 1\) at all",
        ),
        (raising, False, PluginError, "raised ZeroDivisionError: no population at mean = "),
        (lambda theta, rng: normal(theta, rng)[1:], True, PluginError, "it must be"),
        (lambda theta, rng: 3.0, True, PluginError, "it must be"),
        (lambda theta, rng: rng.normal(size=rng.integers(1, 9)), False, PluginError, "one shape"),
        (lambda theta, rng: "text", False, PluginError, "array of numbers"),
        (lambda theta, rng: (theta, theta[:1]), True, PluginError, "array of numbers"),
        (lambda theta, rng: np.random.default_rng().normal(theta), True, PluginError, "its own"),
        (lambda theta, rng: rng.normal(theta[:, :1]), True, PluginError, "not depend on sigma"),
        (lambda theta, rng: np.zeros((len(theta), 0)), True, PluginError, "no number"),
        (
            lambda theta, rng: np.where(theta > 0, np.nan, 1.0),
            True,
            NonFiniteError,
            "NaN or infinite numbers at mean = ",
        ),
    ],
)
def test_defects_give_one_line(function, batch, error, message):
    task = Simulator("mine", function, RANGES, batch=batch)
    with pytest.raises(error, match=message) as caught:
        examine(task)
    assert "\n" not in str(caught.value)


PROGRAM = """
import csv, random, sys
with open(sys.argv[1]) as file, open(sys.argv[2], "w") as out:
    rows = csv.DictReader(file)
    for row in rows:
        rng = random.Random(int(row["seed"]))
        print(rng.gauss(float(row["0"]), float(row["1"])), rng.random(), sep=",", file=out)
"""


def test_a_command_in_another_language(tmp_path):
    program = tmp_path / "model.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), "{parameters}", "{observations}"]
    task = Simulator("mine", from_command(command), RANGES, batch=True)
    assert task.event_shape == (2,)
    assert torch.equal(drawn(task), drawn(task))
    examine(task)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("raise SystemExit('no licence')", "exit status 1: no licence"),
        ("pass", "it wrote no file of observations"),
        ("import sys; open(sys.argv[2], 'w').write('a,b')", "are no numbers"),
        ("import time; time.sleep(60)", "no result after 1 s"),
    ],
)
def test_failing_commands_give_one_line(tmp_path, program, message):
    (path := tmp_path / "model.py").write_text(program)
    command = [sys.executable, str(path), "{parameters}", "{observations}"]
    task = Simulator("mine", from_command(command, seconds=1.0), RANGES, batch=True)
    with pytest.raises(PluginError, match=message):
        _ = task.event_shape
    missing = from_command(["no-such-program", "{parameters}", "{observations}"])
    with pytest.raises(PluginError, match="there is no program 'no-such-program'"):
        _ = Simulator("mine", missing, RANGES, batch=True).event_shape
    with pytest.raises(ValueError, match="must contain"):
        from_command(["model", "{parameters}"])


def test_an_edited_program_of_a_command_is_another_simulator(tmp_path):
    program = tmp_path / "model.py"
    digests = []
    for content in ("print(1)", "print(1)", "print(2)"):
        program.write_text(content)
        words = [sys.executable, str(program), "{parameters}", "{observations}"]
        task = Simulator("mine", from_command(words), RANGES, batch=True)
        digests.append(task.settings["command"])
    assert digests[0] == digests[1] != digests[2]
    assert Simulator("mine", normal, RANGES, batch=True).settings == {}


def test_wrong_definitions_give_one_line():
    for parameters in ({}, {"a": 3}, {"a": (0, 1, 2)}, {"a": "no"}, [("a", (0, 1))]):
        with pytest.raises(ValueError, match="range"):
            Simulator("mine", normal, parameters)
    with pytest.raises(ValueError, match="observation = 'image' is not allowed; known: vector"):
        Simulator("mine", normal, RANGES, observation="image")


@pytest.mark.parametrize("shift", [-10, 0.5])
def test_a_discrete_simulator_returns_counts(shift):
    task = Simulator(
        "mine",
        lambda theta, rng: rng.poisson(theta[:, :1] + 3) + shift,
        {"mean": (0.0, 9.0)},
        batch=True,
        discrete=True,
    )
    with pytest.raises(PluginError, match="is discrete, and returns other numbers"):
        examine(task)
