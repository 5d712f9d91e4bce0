"""`bench run`: its output, and commands with odd links, streams and environments."""

import os
import re
import shutil
import subprocess

import pytest
from small_run import BENCH, TINY, on_a_terminal, results


@pytest.fixture
def made(tiny_run):
    """Return a folder with the results of a run, and its output."""
    return tiny_run


# Missing packages

NEEDY = """
from bench.contracts import Method

class Needy(Method):
    name = "needy"
    requires = {"no_such_package": "nlbench[needy]"}

    def check(self, task):
        pass  # does not ask

    def fit(self, fit_context):
        import no_such_package

    def restore(self, task, features, state):
        import no_such_package
"""
MISSING = "needy needs no_such_package: pip install 'nlbench[needy]'"


@pytest.fixture
def needy(tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text(NEEDY)
    (tmp_path / "tiny.toml").write_text(TINY.replace('["simple:default"]', '["exact", "needy"]'))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "wanted", [["needy"], ["exact", "needy:default"], ["ensemble(calibrated(needy),2)", "lre"]]
)
def test_what_is_named_and_not_installed_is_refused_at_once(fails, needy, wanted):
    options = [word for name in wanted for word in ("--method", name)]
    for command in ("run", "plan"):
        status, line = fails(command, "tiny.toml", "--plugin", "needy.py", *options)
        assert (status, line) == (2, MISSING)
    assert fails("tune", "needy", "--plugin", "needy.py") == (2, MISSING)
    assert not (needy / "results").exists()


@pytest.mark.parametrize("options", [[], ["--method", "need*", "--method", "exact"]])
def test_what_a_preset_or_a_pattern_asks_for_is_absent(command, needy, options):
    arguments = ("tiny.toml", "--plugin", "needy.py", *options)
    status, _, err = command("plan", *arguments)
    assert status == 0
    assert err == f"n/a: {MISSING}\n"
    status, out, err = command("run", *arguments, "--workers", 1)
    assert status == 0
    assert err.splitlines()[:2] == [f"n/a: {MISSING}", "3 jobs to do"]
    assert f"needy: n/a, {MISSING}" in out


# A run


def test_what_a_run_says(made):
    folder, ran = made
    said = ran.stderr.splitlines()
    assert said[0] == "6 jobs to do"
    assert re.fullmatch(r"6/6 jobs, \d+ s, about 0 s left; done: score of simple .*", said[-2])
    assert re.fullmatch(r"6 made, 0 reused, 0 failed in \d+ s; results in .*/my preset", said[-1])
    assert all(re.fullmatch(r"\d+/6 jobs, .*", line) for line in said[1:-1])
    assert "\x1b" not in ran.stdout + ran.stderr
    assert "\r" not in ran.stdout + ran.stderr
    assert "gaussians-far · 600 simulator calls" in ran.stdout
    assert {p.name for p in results(folder).iterdir()} == {
        *("run.json", "fits", "plans", "predictions", "scores", "simulations", "locks"),
        *("leaderboard.md", "leaderboard.csv", "leaderboard.json"),
    }


def test_a_run_that_has_nothing_to_do(command, folder):
    status, out, err = command("run", "my preset.toml", "--plugin", "simple.py", "--quiet")
    assert (status, out) == (0, "")
    assert re.fullmatch(r"0 made, 6 reused, 0 failed in 0 s; results in .*/my preset\n", err)


def test_a_plugin_that_does_not_load_fails_the_run_that_asks_for_it(command, folder):
    (folder / "bad.py").write_text("import no_such_module")
    status, out, err = command(
        *("run", "my preset.toml", "--plugin", "simple.py", "--plugin", "bad.py", "--quiet")
    )
    assert (status, out) == (1, "")
    line, end = err.splitlines()
    assert line.startswith(f"failed: plugin {folder}/bad.py on every task: ModuleNotFoundError: ")
    assert end.startswith("0 made, 6 reused, ")
    assert f"failed: plugin {folder}/bad.py on every task: " in command("status")[1]


def test_a_task_that_does_not_load(command, folder):
    (folder / "bad.py").write_text(
        "from bench.contracts import Task\n"
        "class Bad(Task):\n"
        "    name = 'bad'\n"
        "    def components(self, split): return {}\n"
        "    def weights(self, theta): return theta\n"
        "bad = Bad()\n"
    )
    status, _, err = command(
        *("run", "my preset.toml", "--plugin", "simple.py", "--plugin", "bad.py", "--task", "bad")
    )
    assert status == 1
    assert re.match(
        r"failed: every method on bad: task 'bad' from .*bad\.py \(bad\): it lacks version, ", err
    )
    assert err.count("it lacks") == 1


def test_on_a_terminal_there_are_bars(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "work")
    status, seen = on_a_terminal(
        *["run", "my preset.toml", "--plugin", "simple.py", "--seed", "1", "--workers", "1"],
        cwd=tmp_path / "work",
    )
    assert status == 0
    assert "\x1b[" in seen
    assert "━" in seen
    assert " made, " in seen


# Environment


def test_links_and_relative_places(command, folder, monkeypatch):
    (folder / "link").symlink_to(results(folder), target_is_directory=True)
    elsewhere = folder / "else where"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    arguments = ("run", "../my preset.toml", "--plugin", "../simple.py", "--out", "../link")
    status, _, err = command(*arguments, "--quiet")
    assert (status, err.split(" failed")[0]) == (0, "0 made, 6 reused, 0")
    assert command("status", "../link")[0] == 0


def shell(command, cwd, **environment):
    ran = subprocess.run(
        f"{BENCH} {command}",
        shell=True,
        executable="/bin/bash",
        cwd=cwd,
        text=True,
        capture_output=True,
        check=False,
        env=os.environ | environment,
    )
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr
    return ran


def test_standard_output_that_is_full_or_gone(folder):
    ran = shell("leaderboard > /dev/full", folder)
    assert (ran.returncode, ran.stderr) == (1, "bench: No space left on device\n")
    assert shell("leaderboard --format csv | head -1", folder).stderr == ""


def test_a_run_without_standard_streams(folder):
    ran = shell("run 'my preset.toml' --plugin simple.py --seed 2 --workers 1 <&- >&- 2>&-", folder)
    assert ran.returncode == 0
    assert '"seed":2' in (results(folder) / "run.json").read_text()


def test_surroundings_that_are_poor(folder):
    ran = shell("leaderboard", folder, HOME="/proc", PYTHONIOENCODING="ascii", COLUMNS="x")
    assert ran.returncode == 0
    assert "600 simulator calls" in ran.stdout
