"""Output of plugins is harmless to a terminal and to a page, in every command."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from small_run import BENCH, PLUGINS

PRESET = """
description = "rude"
tasks = ["rude", "absent", "rude-name"]
methods = ["exact", "rude-*"]
members = 1
budgets = [600]
plans = [{kind = "independent", uniform = 4, per_point = 0, observations = 50}]
"""
WIDE = {"COLUMNS": "2000"}  # wide, because wrapped notes look like lines of their own


def harmless(text):
    """Check that a text neither controls a terminal nor forges a line."""
    lines = text.split("\n")
    odd = [line for line in lines if not line.isprintable()]
    # A cell of a table that wraps may begin with any word, far from the left.
    forged = [line for line in lines if line[:20].lstrip().startswith("forged")]
    assert not odd, odd
    assert not forged, forged
    return True


def run(folder, *arguments):
    return subprocess.run(
        [BENCH, *arguments],
        cwd=folder, text=True, capture_output=True, check=False, env=os.environ | WIDE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def rude_run(tmp_path_factory):
    """Make a folder with the plugin and the results of a run; return it with the output."""
    folder = tmp_path_factory.mktemp("rude")
    shutil.copy(PLUGINS / "rude.py", folder)
    (folder / "rude.toml").write_text(PRESET)
    command = ("run", "rude.toml", "--plugin", "rude.py", "--workers", "1")
    return folder, run(folder, *command)


@pytest.fixture
def folder(rude_run, monkeypatch):
    monkeypatch.chdir(rude_run[0])
    monkeypatch.setenv("COLUMNS", WIDE["COLUMNS"])
    return rude_run[0]


def test_run(rude_run):
    _, ran = rude_run
    assert ran.returncode == 1
    assert harmless(ran.stdout)
    assert harmless(ran.stderr)
    for said in (
        r"failed: fit of rude-method on rude, member 0: ValueError: an exception \x1b[31mred\x9b3",
        "failed: metric rude_failure on rude: metric 'rude_failure' fails: ValueError: an exc",
        r"n/a: absent, every method: no data \x1b[31mred",
        r"its parameter name 'mu\x1b[31mred\x9b31m\x07\u202egnp.exe\nforged line",
    ):
        assert said in ran.stderr
    assert "rude-fine" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ("list --plugin rude.py", 0, "A title "),
        ("list --format md --plugin rude.py", 0, r"μ\x1b[31mred"),
        ("check rude --plugin rude.py", None, "task rude: "),
        ("check rude-method --plugin rude.py", 1, r"ValueError: an exception \x1b[31mred"),
        ("check rude-declines --plugin rude.py", 0, r"it would rather not \x1b[31mred"),
        ("plan rude.toml --overwrite --plugin rude.py", 0, r"it would rather not \x1b[31mred"),
        ("status results/rude", 0, r"ValueError: an exception \x1b[31mred"),
        ("leaderboard results/rude --plugin rude.py", 0, r"it would rather not \x1b[31mred"),
        ("leaderboard results/rude --format md", 0, r"it would rather not \x1b[31mred"),
        ("leaderboard results/rude --format csv", 0, r"it would rather not \x1b[31mred"),
        ("leaderboard results/rude --format json", 0, r"it would rather not \\x1b[31mred"),
        ("list --plugin \x1b[31mnone.py", 2, r"\x1b[31mnone.py does not exist"),
        ("run smoke --task \x1b[31m\x9b\u202e", 2, r"unknown task '\x1b[31m\x9b\u202e'"),
    ],
)
def test_what_is_printed(folder, command, arguments, status, said):
    found, out, err = command(*arguments.split(" "))
    assert harmless(out)
    assert harmless(err)
    assert said in out + err
    assert found == status or status is None


def test_a_terminal_gets_our_own_styles_alone(folder, command, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, out, _ = command("leaderboard", "results/rude")
    for style in ("\x1b[1m", "\x1b[2m", "\x1b[3m", "\x1b[2;3m", "\x1b[1;3m", "\x1b[0m"):
        out = out.replace(style, "")
    assert harmless(out)


def test_debug(rude_run):
    # The run repeats what failed.
    for command in ("list", "check rude-method", "run rude.toml --workers 1"):
        ran = run(rude_run[0], "--debug", *command.split(), "--plugin", "rude.py")
        assert harmless(ran.stdout)
        lines = [line for line in ran.stderr.split("\n") if not line.isprintable()]
        assert not lines, lines


def test_a_report(folder, command, monkeypatch):
    status, out, err = command("report", "results/rude", "--plugin", "rude.py")
    assert status == 0
    assert harmless(out)
    assert harmless(err)
    (page,) = (path.read_text() for path in Path("reports/rude").glob("task-*.html"))
    assert r"A title \x1b[31mred\x9b31m\x07\u202egnp.exe" in page
    texts = [p for p in Path("reports/rude").rglob("*") if p.suffix in (".html", ".md", ".tex")]
    texts += [*Path("reports/rude").rglob("*.csv"), *Path("reports/rude").rglob("*.svg")]
    texts += [*Path("reports/rude").rglob("*.bib"), *Path("results/rude").glob("leaderboard.*")]
    for path in texts:
        odd = {c for c in path.read_text() if not c.isprintable()} - {"\n", "\t"}
        assert not odd, (path, odd)


def test_data(command, monkeypatch, tmp_path):
    (tmp_path / "more.py").write_text(
        "from types import SimpleNamespace\nfrom rude import RUDE, RudeTask\n\n\n"
        "class WithData(RudeTask):\n    name = 'with-data'\n    data = SimpleNamespace(\n"
        "        title=RUDE, licence=RUDE, citation=RUDE, status=lambda: [f'here {RUDE}'],\n"
        "        fetch=lambda _, report, skip: report(stage=f'get {RUDE}', done=1, total=None)\n"
        "    )\n\n\n"
        "with_data = WithData()\n"
    )
    monkeypatch.syspath_prepend(PLUGINS)
    for words in (("status",), ("fetch", "with-data")):
        _, out, err = command("data", *words, "--plugin", tmp_path / "more.py")
        assert harmless(out)
        assert harmless(err)
        assert r"here \x1b[31mred" in out
