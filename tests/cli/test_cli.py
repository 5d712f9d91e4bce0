"""The command line: what it prints where, its exit status, and one line for every mistake."""

import csv
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.stages.store import Store

PLUGINS = Path(__file__).parents[1] / "plugins"
BENCH = str(Path(sys.executable).with_name("bench"))
TINY = """
description = "tiny"
tasks = ["gaussians-far"]
methods = ["simple:default"]
members = 1
budgets = [600]
plans = [{kind = "independent", uniform = 3, per_point = 0, observations = 50}]
"""
METRIC = """
import numpy as np
from bench.contracts import Metric

def compute(prediction, truth):
    return {"": np.full(len(prediction.datasets), ANSWER)}

answer = Metric("answer", "answer", "The answer.", ("independent",), compute)
"""


@pytest.fixture
def fails(command):
    """Runs a command that must fail with one line; returns status and line."""

    def run(*arguments):
        status, out, err = command(*arguments)
        assert out == ""
        assert err.startswith("bench: ")
        assert err.count("\n") == 1
        return status, err.removeprefix("bench: ").rstrip("\n")

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a preset, a plugin and the results of a run, with what it said."""
    folder = tmp_path_factory.mktemp("a folder, ü")
    shutil.copy(PLUGINS / "simple.py", folder)
    (folder / "my preset.toml").write_text(TINY)
    (folder / "metric.py").write_text(METRIC.replace("ANSWER", "42.0"))
    (folder / "broken.py").write_text(METRIC.replace("ANSWER", "1 / 0"))
    (folder / "results").mkdir()
    ran = subprocess.run(
        [BENCH, "run", "my preset.toml", "--plugin", "simple.py", "--workers", "1"],
        cwd=folder,
        text=True,
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return folder, ran


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    copy = tmp_path / "work"
    shutil.copytree(made[0], copy)
    monkeypatch.chdir(copy)
    return copy


def results(folder):
    return folder / "results" / "my preset"


# Help


def test_help_and_version(command):
    status, out, _ = command()
    assert (status, out) == command("--help")[:2]
    for name in ("run", "status", "score", "leaderboard", "list"):
        assert re.search(rf"^  {name} ", out, re.MULTILINE)
        status, text, _ = command(name, "-h")
        assert status == 0
        assert text.startswith(f"Usage: bench {name} ")
    assert command("--version")[1].startswith("nlbench, version ")


def test_help_needs_no_torch():
    code = "import sys, bench.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_both_names_are_installed():
    assert Path(BENCH).with_name("nlbench").exists()


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("rnu", "No such command 'rnu'."),
        ("--nope", "No such option"),
        ("run", "Missing argument 'PRESET|FILE'."),
        ("run smoke more", "Got unexpected extra argument (more)"),
        ("run smoke --memebrs 3", "No such option"),
        ("run smok", "unknown preset 'smok'; did you mean smoke?; a file's name ends in .toml"),
        ("run missing.toml", "cannot read preset missing.toml: No such file or directory"),
        ("run folder.toml", "cannot read preset folder.toml: Is a directory"),
        ("run latin.toml", "cannot read preset latin.toml: byte 1 is not UTF-8"),
        ("run broken.toml", "preset broken.toml is not valid TOML: "),
        ("run none.toml", "preset none.toml: plans = [] is not allowed: it must be a list of at"),
        ("run key.toml", "preset key.toml: unknown key 'unifrom'; did you mean uniform? (in pl"),
        ("run smoke --task gausian-far", "unknown task 'gausian-far'; did you mean gaussians-far"),
        (
            "run smoke --task nothing-*",
            "unknown task 'nothing-*'; known: gaussians-far, gaussians-n",
        ),
        ("run smoke --method lrx", "unknown method 'lrx'; did you mean lre?"),
        ("run smoke --method lre:tund", "unknown configuration of lre 'tund'; did you mean tuned?"),
        ("run smoke --method lre:", "unknown configuration of lre ''; known: tuned, published"),
        ("run smoke --members 0", "option --members = 0 is not allowed: it must be greater than"),
        ("run smoke --members x", "Invalid value for '--members': 'x' is not a valid integer"),
        ("run smoke --members", "Option '--members' requires an argument."),
        ("run smoke --budget -5", "option --budget = -5 is not allowed: it must be greater than"),
        ("run smoke --workers 0", "Invalid value for '--workers': 0 is not in the range 1<=x"),
        ("run smoke --seed -1", "option --seed = -1 is not allowed: it must be greater than or eq"),
        ("run smoke --device tpu", "option --device = \"tpu\" is not allowed: it must be 'auto', "),
        ("run smoke --plugin missing.py", "plugin {}/missing.py does not exist"),
        ("run smoke --plugin folder.toml", "plugin {}/folder.toml is not a file"),
        ("list taks", "unknown kind 'taks'; did you mean tasks?"),
        ("leaderboard made --format cvs", "unknown format 'cvs'; did you mean csv?"),
        ("leaderboard made --format XML", "unknown format 'XML'; known: table, csv, md, json"),
        ("leaderboard made --task gp", "unknown task 'gp'; known: none"),
        ("status", "there are no results under results/; name a folder or `bench run`"),
        ("status missing", "missing is not a results folder: it does not exist"),
        ("status latin.toml", "latin.toml is not a results folder: it has no run.json"),
        ("score folder.toml", "folder.toml is not a results folder: it has no run.json"),
        ("leaderboard folder.toml", "folder.toml is not a results folder: it has no run.json"),
        ("status a b", "Got unexpected extra argument (b)"),
    ],
)
def test_usage_errors_are_one_line_and_leave_no_folder(
    fails, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "latin.toml").write_bytes(b"#\xe4")
    (tmp_path / "broken.toml").write_text("members = = 2")
    (tmp_path / "none.toml").write_text("plans = []")
    (tmp_path / "key.toml").write_text("[[plans]]\nkind = 'independent'\nunifrom = 2")
    Store(tmp_path / "made").write("run", {"command": ["bench"], "preset": {}})
    before = sorted(tmp_path.rglob("*"))
    status, line = fails(*arguments.split())
    assert line.startswith(message.format(tmp_path))
    assert status == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_cuda_where_there_is_none(fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    status, line = fails("run", "smoke", "--device", "cuda")
    assert status == 2
    assert line.startswith("device = 'cuda' was asked for, and PyTorch finds no CUDA device here")


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere", "x" * 300])
def test_results_that_cannot_be_written(fails, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    status, line = fails("run", "smoke", "--out", place)
    assert status == 1
    assert re.fullmatch(rf"cannot write to {place}: .+; choose another folder with --out", line)


def test_names_that_clash(fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(METRIC.replace('"answer", "answer"', '"coverage", "c"'))
    for command in ("list", "run smoke"):
        status, line = fails(*command.split(), "--plugin", "mine.py")
        assert status == 1
        assert line == (
            "metric 'coverage' is defined twice: in nlbench (bench.metrics.intervals:coverage) "
            f"and in {tmp_path}/mine.py (answer); rename one"
        )


def test_debug_shows_tracebacks(tmp_path):
    (tmp_path / "bad.py").write_text("def broken():\n    1 / 0\nbroken()")
    for command, status, shown, last in (
        (
            "--debug list methods --plugin bad.py",
            0,
            'bad.py", line 2, in broken',
            "division by zer",
        ),
        ("run smok --debug", 2, "Traceback (most recent call last)", "a file's name ends in .toml"),
    ):
        ran = subprocess.run(
            [BENCH, *command.split()], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ran.returncode == status
        assert shown in ran.stderr
        assert last in ran.stderr.splitlines()[-1]


def test_what_nobody_expected_is_one_line_too(fails, monkeypatch):
    def boom(*arguments):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("bench.stages.registry.Registry", boom)
    assert fails("list") == (1, "unexpected RuntimeError: two lines; --debug shows where")


# Lists


def test_list(command):
    status, out, err = command("list")
    assert (status, err) == (0, "")
    assert [line for line in out.splitlines() if not line.startswith(" ") and line] == [
        *("tasks", "methods", "metrics", "presets")
    ]
    for name in ("gaussians-far", "lre", "coverage", "smoke"):
        assert re.search(rf"^  {name}  .*\[.+\]$", out, re.MULTILINE)
    assert command("list", "tasks")[1] == out.split("\n\n")[0] + "\n"


def test_a_plugin_that_fails_is_listed(command, tmp_path):
    (tmp_path / "bad.py").write_text("print('chatter')\nraise ValueError('two\\nlines')")
    status, out, err = command(
        "list", "methods", "--plugin", tmp_path / "bad.py", "--plugin", PLUGINS / "hostile.py"
    )
    assert status == 0
    lines = err.splitlines()
    assert f"not loaded: plugin {tmp_path}/bad.py: ValueError: two lines" in lines
    where = f"{PLUGINS}/hostile.py (Abstract)"
    assert f"not loaded: method 'abstract' from {where}: it does not define restore" in lines
    assert re.search(rf"^  abstract +does not load +\[{re.escape(where)}\]$", out, re.MULTILINE)
    assert re.search(r"^  lre +Likelihood-ratio", out, re.MULTILINE)
    assert "chatter" not in out


def test_a_name_that_is_not_known_may_be_in_a_plugin_that_does_not_load(fails, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("import no_such_module")
    why = f"; not loaded: plugin {plugin}: ModuleNotFoundError: No module named 'no_such_module'"
    for option, what in (("--method", "method"), ("--task", "task")):
        status, err = fails("run", "smoke", "--plugin", plugin, option, "mine")
        assert status == 2
        assert err.startswith(f"unknown {what} 'mine'; known: ")
        assert err.endswith(why)


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
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [BENCH, "run", "my preset.toml", "--plugin", "simple.py", "--seed", "1", "--workers", "1"],
        cwd=tmp_path / "work",
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait() == 0
    assert b"\x1b[" in seen
    assert "━" in seen.decode()
    assert b" made, " in seen


# Results


def test_status(command, folder):
    status, out, err = command("status", results(folder))
    assert (status, err) == (0, "")
    assert command("status") == (status, out, err)  # the newest under results/
    assert out.splitlines() == [
        "last run: bench run my preset.toml --plugin simple.py --workers 1",
        "gaussians-far  exact  budget 0  seed 0  fits 1/1  independent 1/1",
        "gaussians-far  simple  budget 600  seed 0  fits 1/1  independent 1/1",
    ]


def test_leaderboards_parse_back(command, folder):
    _, text, err = command("leaderboard", "--format", "csv")
    assert err == ""
    rows = list(csv.DictReader(io.StringIO(text)))
    records = json.loads(command("leaderboard", "--format", "json")[1])
    assert len(rows) == len(records) > 20
    for row, record in zip(rows, records, strict=True):
        assert list(row) == list(record)
        for key, value in record.items():
            assert row[key] == ("" if value is None else str(value))
    assert {r["method"] for r in records} == {"exact", "simple"}
    table = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in command("leaderboard", "--format", "md")[1].splitlines()
        if line.startswith("|")
    ]
    assert table[0][:2] == ["rank", "method"]
    widths = [len(row) for row in table]
    starts = [i for i, row in enumerate(table) if set(row) == {"---"}]
    assert starts
    assert all(widths[i - 1] == widths[i] == widths[i + 1] == widths[i + 2] for i in starts)
    for form in ("csv", "md", "json"):
        written = (results(folder) / f"leaderboard.{form}").read_text()
        assert command("leaderboard", "--format", form)[1] == written
    assert "simple" in command("leaderboard")[1]
    assert command("leaderboard", "--task", "gaussians-*")[1] == command("leaderboard")[1]


def test_score_computes_a_new_metric_and_trains_nothing(command, folder):
    root = results(folder)

    def stamps(*parts):
        return {p: p.stat().st_mtime_ns for part in parts for p in (root / part).rglob("*.*")}

    before = stamps("fits", "predictions", "simulations")
    status, out, err = command("score", "--plugin", "metric.py", "--workers", "1")
    assert (status, out) == (0, "")
    assert re.search(r"^2 made, 0 reused, 0 failed in ", err, re.MULTILINE)
    assert stamps("fits", "predictions", "simulations") == before
    records = json.loads(command("leaderboard", "--format", "json", "--plugin", "metric.py")[1])
    assert [r["value"] for r in records if r["quantity"] == "answer/"] == [42.0, 42.0]

    # A metric that breaks costs the others nothing, and is tried again.
    shutil.move("broken.py", "metric.py")
    status, out, err = command("score", "--plugin", "metric.py", "--workers", "1")
    assert (status, out) == (1, "")
    assert err.count("ZeroDivisionError: float division by zero") <= 1
    assert err.count("metric 'answer' fails: ZeroDivisionError") == 1
    records = json.loads(command("leaderboard", "--format", "json", "--plugin", "metric.py")[1])
    assert not [r for r in records if r["quantity"] == "answer/"]
    assert [r for r in records if r["quantity"] == "coverage/mu"]
    assert stamps("fits", "predictions", "simulations") == before


@pytest.mark.parametrize("which", ["run", "plans/*", "fits/*/simple-*/fit"])
@pytest.mark.parametrize("content", [b"", b'{"a": NaN, "record_sha256": ""}', b"\xff\0", b"[]"])
def test_damaged_records_are_named_and_the_rest_is_shown(command, folder, which, content):
    root = results(folder)
    (path,) = root.glob(f"{which}.json")
    path.write_bytes(content)
    for name in ("status", "leaderboard"):
        status, out, err = command(name, root)
        assert status == 1
        lines = err.splitlines()
        assert lines[0] == f"damaged: {path}; `bench run` makes it anew"
        if name == "leaderboard" and which == "plans/*":  # the only plan
            assert lines[1] == (
                f"bench: {root} has no scores to compare; `bench status` says what it has"
            )
            assert (len(lines), out) == (2, "")
        else:
            assert len(lines) == 1
            assert "exact" in out
    status, _, err = command("run", "my preset.toml", "--plugin", "simple.py", "--quiet")
    assert (status, err.count("\n")) == (0, 1)
    assert command("status", root)[::2] == (0, "")


def test_score_of_a_damaged_folder(command, folder):
    (results(folder) / "run.json").write_text("")
    status, _, err = command("score", "--workers", "1")
    assert status == 1
    assert err.startswith("damaged: results/my preset/run.json; `bench run` makes it anew\n")
    assert "0 made, 2 reused, 0 failed" in err


def test_results_without_scores(command, fails, folder):
    shutil.rmtree(results(folder) / "scores")
    status, line = fails("leaderboard")
    assert status == 1
    assert line == "results/my preset has no scores to compare; `bench status` says what it has"
    assert command("status")[1].splitlines()[-1].endswith("fits 1/1  independent 0/1")


# Surroundings


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
