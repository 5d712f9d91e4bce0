"""For the tests of commands: one that must fail, and the folder of a small run."""

import shutil
import subprocess

import pytest
from small_run import BENCH, METRIC, PLUGINS, TINY


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


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
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
def folder(tiny_run, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    copy = tmp_path / "work"
    shutil.copytree(tiny_run[0], copy)
    monkeypatch.chdir(copy)
    return copy
