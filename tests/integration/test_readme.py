"""Lists, links and claims of the README and of the pages it names first are right."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli.main import cli
from bench.registry.registry import Registry

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LISTS = (ROOT / "docs" / "reference/registry.md").read_text()
METHODS = (ROOT / "docs" / "tutorials" / "my-method.md").read_text()


@pytest.mark.parametrize("kind", ["tasks", "methods", "wrappers", "diagnostics"])
def test_its_lists_are_the_registry(kind):
    """If this fails, replace the list by the output of the command in the comment."""
    listed = re.search(
        rf"<!-- bench list {kind} --format md -->\n(.*?)<!-- end -->", LISTS, re.DOTALL
    )
    assert listed is not None
    result = CliRunner().invoke(cli, ["list", kind, "--format", "md"])
    assert result.exit_code == 0, result.output
    assert listed.group(1) == result.output
    assert len(result.output.splitlines()) == 2 + len(Registry().names(kind))


def test_a_notebook_in_the_checkout_finds_tasks_and_methods():
    """In the checkout Python imports `bench/`, wherever nlbench is installed."""
    code = "import bench.methods.lre, bench.tasks.gaussians as found; print(found.__file__)"
    # Some environments omit the working directory from the path.
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert made.stdout.strip() == str(ROOT / "tasks" / "gaussians.py"), made.stderr


def test_it_is_short_and_its_links_lead_somewhere():
    assert len(README.split()) <= 600
    for target in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / target).exists(), target


def test_its_clone_line_has_the_address_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"git clone {project['urls']['Repository']} && cd nlbench\n" in README


def test_the_constraints_pin_torch_and_the_ranges_are_honest():
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    assert "torch>=2.6" in project["dependencies"]


@pytest.mark.slow
def test_ones_own_method_joins_a_committed_board(tmp_path, monkeypatch):
    """The page's commands, with one fit; the networks that are there are not retrained."""
    block = next(
        b for b in re.findall(r"```sh\n(.*?)```", METHODS, re.S) if "results/mine" in b[:99]
    )
    copied, ran, shown = (line.split() for line in block.splitlines() if line)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / copied[2], tmp_path / copied[3])
    (preset,) = (argument for argument in ran if argument.endswith(".toml"))
    shutil.copy(ROOT / preset, tmp_path / preset)
    runner = CliRunner()
    before = json.loads(runner.invoke(cli, [*shown[1:], "--format", "json"]).output)
    packed = (tmp_path / copied[3] / "pack.parquet").read_bytes()
    assert runner.invoke(cli, ["new", "method", "my-method"]).exit_code == 0
    assert ran[-2:] == ["--method", "my-method"]
    one = [*ran[1:-1], "my-method:default", "--members", "1", "--workers", "1"]
    done = runner.invoke(cli, [*one, "--quiet"])
    assert done.exit_code == 0, done.output
    assert re.search(r"\b0 failed", done.output)
    assert not list((tmp_path / copied[3] / "fits").rglob("lre*"))
    assert (tmp_path / copied[3] / "pack.parquet").read_bytes() == packed
    after = json.loads(runner.invoke(cli, [*shown[1:], "--format", "json"]).output)
    names = {row["method"] for row in after} - {row["method"] for row in before}
    assert names == {"my-method"}
