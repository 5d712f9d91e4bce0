"""Command line: help, lists, and one line and an exit status for every mistake."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from small_run import BENCH, METRIC, PLUGINS

from bench.cli.main import cli
from bench.storage.store import Store

# Help


def test_help_and_version(command):
    status, out, _ = command()
    assert (status, out) == command("--help")[:2]
    for name in ("run", "status", "score", "leaderboard", "list"):
        assert re.search(rf"^  {name} ", out, re.MULTILINE)
        status, text, _ = command(name, "-h")
        assert status == 0
        assert text.startswith(f"Usage: bench {name} ")
    for group in ("data", "study"):
        status, out, err = command(group)
        assert (status, out) == (2, "")
        assert err == command(group, "-h")[1]
    assert command("--version")[1].startswith("nlbench, version ")


def test_help_needs_no_torch():
    code = "import sys, bench.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_both_names_are_installed():
    assert Path(BENCH).with_name("nlbench").exists()


def test_the_package_runs_as_a_module():
    ran = subprocess.run(
        [sys.executable, "-m", "bench", "--version"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("nlbench, version ")


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
            "unknown task 'nothing-*'; known: exponential, gaussians-far, g",
        ),
        ("run smoke --method lrx", "unknown method 'lrx'; did you mean lre?"),
        ("run smoke --method lre-tuned", "unknown method 'lre-tuned'; did you mean lre:tuned?"),
        ("run smoke --method LRE_tuned", "unknown method 'LRE_tuned'; did you mean lre:tuned?"),
        ("run smoke --method LRE:Tuned", "unknown method 'LRE:Tuned'; did you mean lre:tuned?"),
        ("run smoke --method Lre", "unknown method 'Lre'; did you mean lre?"),
        ("run smoke --method nler_sa", "unknown method 'nler_sa'; did you mean nler-sa?"),
        (
            "run smoke --method ensemble(lre-tuned,5)",
            "unknown method 'lre-tuned'; did you mean lre:tuned?",
        ),
        (
            "check lre-tuned",
            "unknown method, task, wrapper, metric or diagnostic 'lre-tuned'; did you mean lre:t",
        ),
        ("tune lre:tuned", "unknown method 'lre:tuned'; did you mean lre?"),
        ("run smoke --task Higgs_Fair", "unknown task 'Higgs_Fair'; did you mean higgs-fair?"),
        ("plan QUICK", "unknown preset 'QUICK'; did you mean quick?"),
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


def test_what_nobody_expected_is_one_line_too(fails, monkeypatch, tmp_path):
    def boom(*arguments):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("bench.registry.registry.Registry", boom)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fails("list") == (1, "unexpected RuntimeError: two lines; --debug shows where")


# Lists


def test_list(command):
    status, out, err = command("list")
    assert (status, err) == (0, "")
    assert all(len(line) <= 80 for line in out.splitlines())
    tables = [table.splitlines() for table in out.split("\n\n")]
    assert [table[0].split()[0] for table in tables] == [
        "task",
        "method",
        "wrapper",
        "metric",
        "diagnostic",
        "preset",
    ]
    for name in ("gaussians-far", "lre", "coverage", "smoke"):
        assert re.search(rf"^{name}  +\S", out, re.MULTILINE)
    assert command("list", "tasks")[1] == out.split("\n\n")[0] + "\n"
    found = command("list", "diagnostics")[1]
    assert found == out.split("\n\n")[4] + "\n"
    assert re.search(r"^mmd  +.* event +permutation$", found, re.MULTILINE)
    assert re.search(r"^member-spread  +.* training +none$", found, re.MULTILINE)
    assert "rows; Kansal" in " ".join(command("list", "diagnostics", "--long")[1].split())
    assert "arXiv:1506.02169" in command("list", "methods", "--long")[1]


def test_lists_are_cached_while_nothing_changes(command, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (kept,) = (tmp_path / "nlbench" / name for name in ("descriptions.json",))
    first = [command("list", *form) for form in ((), ("--format", "md"))]
    content = json.loads(kept.read_text())
    content["entries"][0]["title"] = "from the cache"
    kept.write_text(json.dumps(content))
    assert "from the cache" in command("list")[1]
    for damage in (json.dumps(content | {"state": "of other packages"}), "[]", "{", "{}"):
        kept.write_text(damage)
        assert [command("list", *form) for form in ((), ("--format", "md"))] == first
    # A plugin is read anew, and does not enter the cache.
    before = kept.read_bytes()
    shutil.copy(PLUGINS / "simple.py", tmp_path)
    out = command("list", "methods", "--plugin", tmp_path / "simple.py")[1]
    assert "[simple.py (Simple)]" in " ".join(out.split())
    assert kept.read_bytes() == before


def test_cached_lists_import_no_torch(tmp_path):
    code = "import sys; from bench.cli import main\nmain()\nprint('torch' in sys.modules)"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    for imported in (True, False):
        ran = subprocess.run(
            [sys.executable, "-c", code, "list"],
            capture_output=True, text=True, check=True, env=environment, cwd=tmp_path,
        )  # fmt: skip
        assert ran.stdout.splitlines()[-1] == str(imported)


def commands(group, path=()):
    """Yield every command with its path."""
    yield path, group
    for name, inner in getattr(group, "commands", {}).items():
        yield from commands(inner, (*path, name))


@pytest.mark.parametrize(
    ("path", "inner"), [pytest.param(*found, id=" ".join(found[0])) for found in commands(cli)]
)
def test_help_fits_and_is_whole(command, path, inner):
    status, out, err = command(*path, "--help")
    assert (status, err) == (0, "")
    assert all(len(line) <= 80 for line in out.splitlines())
    assert not any(line.endswith("...") for line in out.splitlines()[1:])  # a summary cut short
    for option in inner.params:
        if isinstance(option, click.Option):
            assert (option.help or "").partition("  [")[0].endswith("."), option.name


def test_a_plugin_that_fails_is_listed(command, tmp_path):
    (tmp_path / "bad.py").write_text("print('chatter')\nraise ValueError('two\\n  lines')")
    status, out, err = command(
        "list", "methods", "--plugin", tmp_path / "bad.py", "--plugin", PLUGINS / "hostile.py"
    )
    assert status == 0
    lines = err.splitlines()
    told = r"ValueError: two lines [bad.py:2: raise ValueError('two\n lines')]"
    assert f"not loaded: plugin {tmp_path}/bad.py: {told}" in lines
    where = f"{PLUGINS}/hostile.py (Abstract)"
    assert f"not loaded: method 'abstract' from {where}: it does not define restore" in lines
    assert re.search(r"^abstract +does not load \[", out, re.MULTILINE)
    assert re.search(r"^lre +Likelihood-ratio", out, re.MULTILINE)
    assert "chatter" not in out


def test_a_name_that_is_not_known_may_be_in_a_plugin_that_does_not_load(fails, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("import no_such_module")
    why = f"; not loaded: plugin {plugin}: ModuleNotFoundError: No module named 'no_such_module'"
    why += " [mine.py:1: import no_such_module]"
    for option, what in (("--method", "method"), ("--task", "task")):
        status, err = fails("run", "smoke", "--plugin", plugin, option, "mine")
        assert status == 2
        assert err.startswith(f"unknown {what} 'mine'; known: ")
        assert err.endswith(why)
