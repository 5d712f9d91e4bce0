"""`bench new` and `bench check`: templates work, and broken plugins are reported."""

import ast
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bench.registry.registry import Registry
from bench.testing import density_checks

PLUGINS = Path(__file__).parents[1] / "plugins"
TINY = """
tasks = ["gaussians-far"]
methods = ["exact"]
members = 1
budgets = [1000]
plans = [{kind = "independent", uniform = 3, per_point = 0, observations = 20}]
"""


@pytest.fixture
def bench(command, monkeypatch, tmp_path):
    """Return a function that runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(density_checks, "SIMULATIONS", {True: 10_000, False: 500})
    return command


@pytest.mark.parametrize("kind", ["method", "metric", "task", "wrapper"])
def test_what_is_written_passes_its_checks_and_runs(bench, kind):
    name = f"my-own-{kind}"
    status, out, err = bench("new", kind, name)
    file = f"my_own_{kind}.py"
    assert (status, err) == (0, f"wrote {file}\n")
    assert out.splitlines()[0] == f"bench check ./{file}"
    status, checked, err = bench(*out.splitlines()[0].split()[1:])
    assert status == 0, checked
    assert f"{kind} {name}: " in checked
    assert "0 failed" in checked
    Path("tiny.toml").write_text(TINY)
    shown = shlex.split(out.splitlines()[1])[3:]  # the second command that it prints
    only = {"metric": (), "wrapper": ("--method", f"{name}(histogram)")}
    assert shown == ["--plugin", f"./{file}", *only.get(kind, (f"--{kind}", name))]
    status, _, err = bench("run", "tiny.toml", *shown, "--workers", 1, "--quiet")
    assert status == 0, err


def test_a_new_diagnostic_passes_its_checks(bench):
    status, out, err = bench("new", "diagnostic", "my-own")
    assert (status, out, err) == (0, "bench check ./my_own.py\n", "wrote my_own.py\n")
    status, checked, _ = bench("check", "./my_own.py")
    assert status == 0, checked
    assert checked.splitlines()[0] == "diagnostic my-own"
    assert "diagnostic my-own: 4 passed, 0 failed" in checked
    status, _, err = bench("new", "diagnostic", "mmd")
    assert (status, "there is a diagnostic 'mmd' already" in err) == (2, True)


@pytest.mark.parametrize("form", ["ratio", "torch"])
def test_templates_of_ratios_pass_their_checks_and_run(bench, form):
    status, out, err = bench("new", "method", "odds", "--kind", form)
    assert (status, err) == (0, "wrote odds.py\n")
    status, out, err = bench("check", "./odds.py")
    assert status == 0, out
    assert " 0 failed" in out
    Path("tiny.toml").write_text(TINY)
    command = ("run", "tiny.toml", "--plugin", "./odds.py", "--method", "odds", "--workers", 1)
    status, _, err = bench(*command, "--quiet")
    assert status == 0, err


@pytest.mark.parametrize("parameters", [1, 3, 7, 20])
def test_a_task_has_as_many_parameters_as_asked(bench, parameters):
    status, out, err = bench("new", "task", "many", "--parameters", parameters)
    assert (status, err) == (0, "wrote many.py\n")
    task = Registry(["./many.py"]).task("many")
    assert len(task.space) == parameters
    assert task.space.names[0] == "mu"
    assert [p.kind for p in task.space.parameters] == ["interest"] + ["nuisance"] * (parameters - 1)
    assert task.reported == ("mu",)
    status, out, _ = bench("check", "./many.py")
    assert status == 0, out
    assert " 0 failed" in out


def test_two_parameters_are_the_default(bench):
    assert bench("new", "task", "plain", "--out", "one")[0] == 0
    assert bench("new", "task", "plain", "--out", "two", "--parameters", 2)[0] == 0
    assert Path("one/plain.py").read_text() == Path("two/plain.py").read_text()
    assert len(Registry(["one/plain.py"]).task("plain").space) == 2


@pytest.mark.parametrize("parameters", [0, -1, 101, "seven"])
def test_an_impossible_number_of_parameters_is_refused(bench, parameters):
    status, out, err = bench("new", "task", "many", f"--parameters={parameters}")
    assert (status, out) == (2, "")
    assert err.startswith("bench: Invalid value for '--parameters'")
    assert err.count("\n") == 1
    assert not Path("many.py").exists()


def write_simulations(file, observations=20, n=120):
    rng = np.random.default_rng(0)
    mass, width = rng.uniform(0.5, 29.5, n), rng.uniform(-0.039, 0.039, n)
    mass[:2], width[:2] = (0.234, 29.87), (-0.03968, 0.03987)
    noise = rng.standard_normal((n, observations))
    x = mass[:, None] + noise * (1 + width[:, None])
    Path(file).parent.mkdir(exist_ok=True)
    if file.endswith(".npz"):
        np.savez(file, theta=np.stack([mass, width], -1), x=x)
    else:
        parquet.write_table(pa.table({"x": list(x), "mass": mass, "width": width}), file)


@pytest.mark.parametrize(
    ("file", "names", "out"),
    [
        ("pairs.npz", ["theta1", "theta2"], "."),
        ("data/pairs.npz", ["mass", "width"], "."),
        ("pairs.parquet", ["mass", "width"], "tasks"),
    ],
)
def test_a_task_of_a_file_has_the_ranges_of_its_rows(bench, file, names, out):
    write_simulations(file)
    said = [] if names[0] == "theta1" else [f"--theta={name}" for name in names]
    status, printed, err = bench(
        "new", "task", "my-pairs", "--simulations", file, *said, "--observations", 20, "--out", out
    )
    assert (status, err) == (0, f"wrote {Path(out) / 'my_pairs.py'}\n")
    checking, running = printed.splitlines()
    task = Registry([Path(out, "my_pairs.py")]).task("my-pairs")
    assert task.observations == 20
    assert [(p.name, p.low, p.high, p.inner) for p in task.space.parameters] == [
        (names[0], 0.2, 29.9, (3.17, 26.93)),
        (names[1], -0.0397, 0.0399, (-0.03174, 0.03194)),
    ]
    status, checked, _ = bench(*checking.split()[1:])
    assert (status, " 0 failed" in checked) == (0, True), checked
    Path("tiny.toml").write_text(TINY.replace("[1000]", "[100]"))
    shown = ["tiny.toml", *running.split()[3:], "--method", "lre:tuned"]
    status, _, err = bench("run", *shown, "--workers", 1, "--quiet")
    assert status == 0, err
    assert "3 with θ as stored" in Path("results/tiny/leaderboard.md").read_text()


def test_a_file_that_is_no_task_is_told(bench):
    write_simulations("pairs.npz")
    write_simulations("pairs.parquet")
    np.savez("constant.npz", theta=np.ones(120), x=np.arange(120.0))
    np.savez("empty.npz", theta=np.full(120, np.nan), x=np.arange(120.0))
    for options, why in {
        ("none.npz",): "none.npz: it does not exist",
        ("pairs.npz", "--theta", "mass"): "theta has shape (120, 2); it must be (n, 1)",
        ("pairs.npz", "--observations", 7): "with observations = 7 its second axis must be 7",
        ("pairs.parquet",): "it has no column of a parameter",
        ("pairs.npz", "--theta", "a/b", "--theta", "a/b"): "are not distinct",
        ("constant.npz",): "theta1 is 1.0 in all rows; a parameter must vary",
        ("empty.npz",): "holds other than finite real numbers",
        ("pairs.npz", "--package"): "--package writes no file of simulations",
    }.items():
        status, out, err = bench("new", "task", "mine", "--simulations", *options)
        assert status != 0
        assert out == ""
        assert err.startswith("bench: ")
        assert why in err
        assert err.count("\n") == 1
    status, _, err = bench("new", "task", "mine", "--theta", "mass")
    assert (status, "add --simulations FILE" in err) == (2, True)
    assert not Path("mine.py").exists()


@pytest.mark.parametrize("kind", ["diagnostic", "method", "metric", "task"])
def test_a_package_has_an_entry_point_and_a_test(bench, kind):
    status, out, _ = bench("new", kind, "wide-net", "--package")
    assert status == 0
    assert out.splitlines()[0] == "pip install -e wide-net"
    project = tomllib.loads(Path("wide-net/pyproject.toml").read_text())
    assert project["project"]["name"] == "wide-net"
    (point,) = project["project"]["entry-points"][f"nlbench.{kind}s"].items()
    variable = "wide_net" if kind in ("diagnostic", "metric") else "WideNet"
    assert point == ("wide-net", f"wide_net:{variable}")
    assert project["tool"]["setuptools"]["py-modules"] == ["wide_net"]
    registry = Registry(["wide-net/wide_net.py"])
    assert registry.get(f"{kind}s", "wide-net").name == "wide-net"
    test = Path("wide-net/test_wide_net.py").read_text()
    ast.parse(test)
    assert f"{kind}_checks({variable}" in test
    for file in filter(Path.is_file, Path("wide-net").iterdir()):
        text = file.read_text()
        assert f"my-{kind}" not in text
        assert f"my_{kind}" not in text
        assert "kind" not in text


def test_nothing_is_overwritten_and_names_are_sensible(bench):
    assert bench("new", "method", "mine")[0] == 0
    before = Path("mine.py").read_text()
    for name, why in {
        "mine": "mine.py exists",
        "lre": "there is a method 'lre' already",
        "Mine!": "name 'Mine!' is not allowed",
        "torch": "must not be called torch.py",
        "class": "must not be called class.py",
    }.items():
        status, out, err = bench("new", "method", name)
        assert (status, out) == (2, "")
        assert err.startswith("bench: ")
        assert why in err
        assert err.count("\n") == 1
    assert Path("mine.py").read_text() == before


def test_a_failed_check_is_explained_and_the_exit_status_is_1(bench):
    status, out, _ = bench("check", "squeezes", "--plugin", PLUGINS / "zoo_methods.py")
    assert status == 1
    lines = out.splitlines()
    assert lines[0] == "method squeezes"
    (row,) = [i for i, line in enumerate(lines) if line.startswith("  shapes ")]
    assert "failed" in lines[row]
    assert lines[row + 1].startswith("      expected  (members, components, events, contexts)")
    assert lines[row + 2].startswith("      came      (3, 2, 7)")
    assert lines[row + 3] == "      look at   the surrogate's log_ratio"
    assert lines[-2] == "method squeezes: 18 passed, 1 failed, 2 skipped"


def test_an_exception_is_told_once_with_the_plugins_line(bench):
    bench("new", "method", "mine")
    file = Path("mine.py")
    code = re.sub(r"(def fit\w*\([^)]*\):\n)", r"\1        1 / 0\n", file.read_text())
    file.write_text(code)
    line = code.splitlines().index("        1 / 0") + 1
    status, out, _ = bench("check", "./mine.py")
    assert status == 1
    assert out.count(f"      at        mine.py:{line}: 1 / 0\n") == 1
    assert out.count("      came      ZeroDivisionError: division by zero\n") == 1
    assert out.count(" for the same reason as ") == int(re.search(r"(\d+) failed", out)[1]) - 1


def test_an_inaccurate_method_is_a_warning_and_the_exit_status_is_0(bench):
    status, out, _ = bench("check", "timid", "--plugin", PLUGINS / "zoo_methods.py")
    assert status == 0, out
    lines = out.splitlines()
    (row,) = [i for i, line in enumerate(lines) if line.startswith("  shared-term ")]
    assert "warned" in lines[row]
    assert lines[row + 1].startswith("      accurate  log-odds of signal against background")
    assert lines[-2].startswith("method timid: 17 passed, 0 failed, 1 warned, 3 skipped")


def test_names_that_are_none_and_files_that_do_not_load(bench):
    status, _, err = bench("check", "lree")
    assert status == 2
    assert "unknown method, task, wrapper, metric or diagnostic 'lree'; did you mean lre" in err
    assert bench("check", "no_such.py")[0] == 2
    Path("broken.py").write_text("import no_such_module")
    status, out, err = bench("check", "broken.py")
    assert (status, out) == (1, "")
    assert "not loaded: plugin" in err
    assert "ModuleNotFoundError" in err
    status, _, err = bench("check", "lre:tund")
    assert status != 0
    assert "tuned" in err


def test_a_new_simulator_is_judged(bench):
    status, out, err = bench("new", "simulator", "households")
    assert (status, out, err) == (0, "bench trust ./households.py\n", "wrote households.py\n")
    np.savetxt("observed.csv", np.full((20, 8), 2), delimiter=",")
    command = ("trust", "./households.py", "--method", "lre:published", "--budget", 500)
    status, out, err = bench(
        *command, "--toys", 20, "--data", "observed.csv", "--workers", 1, "--quiet"
    )
    assert status == 0, err
    assert "households, lre:published" in out
    assert "calibrated_low" in out
    folder = Path("results/trust-households")
    assert {"trust.csv", "intervals.csv", "run.json"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trust", "./none.py"), "none.py does not exist"),
        (("trust", "no-task"), "unknown task 'no-task'"),
        (("trust", "exponential"), "the likelihood of exponential is known"),
        (("trust", "./two.py"), "defines 2 tasks"),
        (("trust", "./none_inside.py"), "defines no task"),
        (("trust", "./broken.py"), "SyntaxError"),
        (("trust", "./one.py", "--data", "none.npz"), "none.npz: this is not a file"),
        (("trust", "./one.py", "--data", "one.py"), "one.py: it holds no array of numbers"),
        (("trust", "./one.py", "--toys", "3"), "20<=x"),
        (("trust", "./one.py", "--method", "lre_tuned"), "did you mean lre?"),
    ],
)
def test_mistakes_of_bench_trust_are_one_line(bench, arguments, message):
    simulator = """
from bench.contracts import Simulator
one = Simulator("one", lambda theta, rng: rng.normal(theta), {"mean": (0.0, 1.0)}, batch=True)
"""
    Path("one.py").write_text(simulator)
    Path("two.py").write_text(simulator + simulator.splitlines()[-1].replace("one", "other"))
    Path("none_inside.py").write_text("x = 1\n")
    Path("broken.py").write_text("def\n")
    status, _, err = bench(*arguments)
    assert status in (1, 2)
    assert message in err
    assert "Traceback" not in err
    assert not Path("results").exists()
