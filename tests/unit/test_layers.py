"""Test of the architecture: allowed imports between packages."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest
from importlinter import cli

ROOT = Path(__file__).parents[2]


def imported(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    return modules


def starts_with(module: str, *packages: str) -> bool:
    return any(module == p or module.startswith(f"{p}.") for p in packages)


def test_dependencies_point_one_way(monkeypatch):
    monkeypatch.chdir(ROOT)
    # import-linter puts the working directory first, where spawned workers would find part of the
    # suite.
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert cli.lint_imports(config_filename="pyproject.toml") == cli.EXIT_STATUS_SUCCESS


@pytest.mark.parametrize("path", sorted((ROOT / "bench").rglob("*.py")), ids=lambda p: p.name)
def test_the_suite_knows_no_task_and_no_method(path):
    assert not [m for m in imported(path) if starts_with(m, "bench.tasks", "bench.methods")]


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "tasks").glob("*.py"), *(ROOT / "methods").glob("*.py")]),
    ids=lambda p: p.name,
)
def test_tasks_and_methods_build_on_contracts_and_numerics(path):
    own = [m for m in imported(path) if starts_with(m, "bench")]
    assert all(
        starts_with(
            m,
            "bench.contracts",
            "bench.inference",
            "bench.nn",
            "bench.seeds",
            "bench.stats",
            "bench.errors",
        )
        for m in own
    )


def test_nothing_is_unpickled_from_disk():
    for folder in ("bench", "tasks", "methods"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.is_relative_to(ROOT / "bench" / "execution"):
                continue  # pipes between the suite's own processes
            assert not imported(path) & {"pickle", "dill", "joblib", "shelve", "cloudpickle"}, path
            assert "torch.load" not in path.read_text(), path


def test_every_package_is_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "bench").rglob("__init__.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == found | {
        "bench.tasks",
        "bench.methods",
    }
