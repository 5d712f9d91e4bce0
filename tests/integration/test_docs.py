"""Examples on the pages about plugins run as written, and all checks are described."""

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.cli.main import cli
from bench.testing import (
    DIAGNOSTIC_CHECKS,
    METHOD_CHECKS,
    METRIC_CHECKS,
    TASK_CHECKS,
    WRAPPER_CHECKS,
    check_wrapper,
)

ROOT = Path(__file__).parents[2]
PAGES = {
    kind: (ROOT / "docs" / "tutorials" / f"my-{kind}.md").read_text()
    for kind in ("diagnostic", "method", "metric", "task", "wrapper")
}
TINY = """
tasks = ["gaussians-far"]
methods = ["histogram"]
members = 1
budgets = [1000]
plans = [{kind = "independent", uniform = 3, per_point = 0, observations = 20}]
"""


@pytest.fixture(
    params=[
        ("method", "kernel_density"),
        ("metric", "shared_interval"),
        ("task", "line"),
        ("wrapper", "temper"),
    ],
    ids=lambda p: p[0],
)
def example(request, tmp_path, monkeypatch):
    """Return kind and file of an example, in an empty folder."""
    kind, module = request.param
    code = re.search(r"```python\n(.*?)```", PAGES[kind], re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) < 60
    assert f"`{module}.py`" in PAGES[kind]
    (file := tmp_path / f"{module}.py").write_text(code)
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return kind, file


@pytest.mark.slow
def test_the_example_runs(example):
    kind, file = example
    name = {
        "method": "kernel-density",
        "metric": "shared with exact",
        "task": "line",
        "wrapper": "temper(histogram)",
    }[kind]
    command = ["run", "tiny.toml", "--plugin", file.name, "--workers", "1"]
    command += {
        "method": ["--method", name],
        "metric": ["--method", "exact", "--method", "histogram"],
        "task": ["--task", name, "--method", "exact"],
        "wrapper": ["--method", name],
    }[kind]
    result = CliRunner().invoke(cli, [*command, "--quiet"])
    assert result.exit_code == 0, result.output
    assert name in Path("results/tiny/leaderboard.md").read_text()


def test_every_check_is_described():
    every = {
        "diagnostic": DIAGNOSTIC_CHECKS,
        "method": METHOD_CHECKS,
        "metric": METRIC_CHECKS,
        "task": TASK_CHECKS,
        "wrapper": WRAPPER_CHECKS,
    }
    for kind, checks in every.items():
        table = re.findall(r"(?m)^\| (`.*?) \|", PAGES[kind])
        assert {name for row in table for name in re.findall(r"`([\w-]+)`", row)} == set(checks)


def test_the_wrapper_that_learns_passes_its_checks():
    learns = re.findall(r"```python\n(.*?)```", PAGES["wrapper"], re.DOTALL)[2]
    names = {}
    exec(learns, names)
    check_wrapper(names["Clipped"]).raise_for_failures()


@pytest.mark.slow
def test_the_page_on_notebooks_runs(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "guides" / "notebooks.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    for written, small in (("20_000", "500"), ("members=4", "members=1"), ("64", "2")):
        assert written in code
        code = code.replace(written, small)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert len(names["evaluation"].verdicts()) == 2
    assert names["again"].label == "lre:tuned"
    assert (tmp_path / "coverage.png").stat().st_size > 5000


@pytest.mark.slow
def test_the_page_on_simulations_from_a_file_runs(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "guides" / "stored-simulations.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code[0], names)
    commands, _ = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    for line in commands.splitlines()[:2]:  # the third is a run
        result = CliRunner().invoke(cli, line.split()[1:])
        assert result.exit_code == 0, result.output
    small = code[1].replace("10_000", "1_000").replace("64", "8")
    assert small.count("000") == 1
    exec(small, names)
    assert len(names["evaluation"].verdicts()) == 1
    assert names["task"].space.names == ("rate",)


@pytest.mark.slow
def test_the_page_on_trust_runs(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "guides" / "trust.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    for written, small in (("20_000", "500"), ("toys=400", "toys=20"), (":tuned", ":published")):
        assert written in code
        code = code.replace(written, small)
    monkeypatch.chdir(tmp_path)
    names = {"observed": np.full((50, 1), 0.8)}
    exec(code, names)
    assert list(names["judged"].frame()["parameter"]) == ["rate"]
