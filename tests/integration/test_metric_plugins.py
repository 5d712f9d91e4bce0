"""Scores by metrics of plugins that a later command does not load are kept."""

import bench

METRIC = """
from bench.contracts import Metric

{name} = Metric("{name}", "{name}", "A number.", ("independent",), lambda own, _: {{
    "": {value} + 0 * own.curves.log_ratio_truth
}})
"""
PRESET = """
tasks = ["gaussians-near"]
methods = ["exact"]
members = 1
budgets = [1000]
plans = [{kind = "independent", uniform = 3, per_point = 0, observations = 20}]
"""


def test_scores_of_another_plugin_are_kept(tmp_path, command):
    for name, value in (("first", 1.0), ("second", 2.0)):
        (tmp_path / f"{name}.py").write_text(METRIC.format(name=name, value=value))
    (tmp_path / "tiny.toml").write_text(PRESET)
    out, plugins = tmp_path / "made", [tmp_path / "first.py", tmp_path / "second.py"]
    run = ("run", tmp_path / "tiny.toml", "--out", out, "--workers", 1, "--quiet")
    assert command(*run, "--plugin", plugins[0])[0] == 0
    assert command("score", out, "--workers", 1, "--plugin", plugins[1])[0] == 0

    def found():
        frame = bench.load(out, plugins=plugins).quantities
        means = frame[frame["metric"].isin(["first", "second"])].set_index("metric")["value"]
        return means.to_dict()

    assert found() == {"first": 1.0, "second": 2.0}
    assert command("score", out, "--workers", 1)[0] == 0
    assert found() == {"first": 1.0, "second": 2.0}
    # An edited metric is computed again.
    plugins[0].write_text(METRIC.format(name="first", value=3.0))
    assert command("score", out, "--workers", 1, "--plugin", plugins[0])[0] == 0
    assert found() == {"first": 3.0, "second": 2.0}
