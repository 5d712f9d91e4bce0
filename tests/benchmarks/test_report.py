"""Time and size of a report of 10 tasks × 10 methods × 30 members."""

import pytest

import bench
from bench.registry.registry import Registry
from bench.report.write import contents

TASKS = """\
from bench.tasks.gaussians import RotatedGaussians

for number in range(10):
    globals()[f"task_{number}"] = RotatedGaussians(f"task-{number}", f"Task {number}", 1.0)
"""
METHODS = (
    ("lre", "tuned"),
    ("lre", "published"),
    ("lre", "unnormalised"),
    ("dle", "tuned"),
    ("dle", "published"),
    ("dle-nflows", "tuned"),
    ("nler", "tuned"),
    ("nler-sa", "tuned"),
    ("histogram", "default"),
)


@pytest.fixture
def plugin(tmp_path):
    """Write a plugin of ten tasks with different names."""
    path = tmp_path / "ten_tasks.py"
    path.write_text(TASKS, encoding="utf-8")
    return path


@pytest.fixture
def large(made, plugin):
    """Make results with predictions of 78 datasets; members repeat the first three."""
    results = made(registry=Registry([plugin]))
    for task in (name for name in results.registry.names("tasks") if name.startswith("task-")):
        results.fit(task, "exact")
        for number, (method, configuration) in enumerate(METHODS):
            width, shift = 0.8 + 0.05 * number, 0.1 * number
            results.fit(task, method, configuration, 30, width=width, shift=shift, distinct=3)
    return results.root


def test_a_large_report(benchmark, large, plugin, tmp_path):
    def build():
        loaded = bench.load(large, plugins=[plugin])
        return contents(loaded, tmp_path / "report", ["bench", "report"])

    files = benchmark.pedantic(build, rounds=1)
    benchmark.extra_info["figures"] = sum(name.endswith(".png") for name in files)
    benchmark.extra_info["page_mib"] = len(files["index.html"]) / 2**20
    benchmark.extra_info["all_mib"] = sum(map(len, files.values())) / 2**20
