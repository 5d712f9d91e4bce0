"""Commands and lists of the README work as written."""

import re
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


@pytest.mark.parametrize("kind", ["tasks", "methods"])
def test_its_lists_are_the_registry(kind):
    """If this fails, replace the list by the output of the command in the comment."""
    listed = re.search(
        rf"<!-- bench list {kind} --format md -->\n(.*?)<!-- end -->", README, re.DOTALL
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


def test_commands_name_what_exists():
    known = Registry().names("presets")
    for preset in re.findall(r"bench (?:run|plan) ([\w./-]+)", README):
        assert preset in known or (ROOT / preset).is_file() or preset == "./my.toml"


def test_its_clone_line_has_the_address_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"git clone {project['urls']['Repository']} && cd nlbench\n" in README


def test_the_constraints_pin_torch_and_the_ranges_are_honest():
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    assert "torch>=2.6" in project["dependencies"]
