"""What the tests of commands run: plugins, a preset and a metric; and where results are."""

import sys
from pathlib import Path

PLUGINS = Path(__file__).parents[1] / "plugins"
BENCH = str(Path(sys.executable).with_name("bench"))
TINY = """
description = "tiny"
tasks = ["gaussians-far"]
methods = ["simple:default"]
members = 1
budgets = [600]
plans = [{kind = "independent", uniform = 3, per_point = 0, observations = 50}]
"""
METRIC = """
import numpy as np
from bench.contracts import Metric

def compute(prediction, truth):
    return {"": np.full(len(prediction.datasets), ANSWER)}

answer = Metric("answer", "answer", "The answer.", ("independent",), compute)
"""


def results(folder):
    return folder / "results" / "my preset"
