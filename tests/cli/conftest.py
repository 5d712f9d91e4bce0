"""Fixtures for tests of commands: a failing command, and the folder of a small run."""

import shutil
import subprocess

import pytest
from small_run import BENCH, METRIC, PLUGINS, TINY


@pytest.fixture
def fails(command):
    """Return a function that runs a command that must fail with one line.

    It returns status and line.
    """

    def run(*arguments):
        status, out, err = command(*arguments)
        assert out == ""
        assert err.startswith("bench: ")
        assert err.count("\n") == 1
        return status, err.removeprefix("bench: ").rstrip("\n")

    return run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """Make a folder with a preset, a plugin and the results of a run; return it with the output."""
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
def folder(tiny_run, tmp_path, monkeypatch):
    """Make a copy of the folder, as the current folder."""
    copy = tmp_path / "work"
    shutil.copytree(tiny_run[0], copy)
    monkeypatch.chdir(copy)
    return copy
