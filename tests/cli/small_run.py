"""Inputs of the tests of commands: plugins, a preset and a metric; and the results' location."""

import os
import pty
import subprocess
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


def on_a_terminal(*arguments, cwd=None, question=None, answer=None):
    """Run a command with a terminal as its standard error; return status and output.

    A question is answered once.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [BENCH, *arguments],
        cwd=cwd,
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if question is not None and question.encode() in seen:
            os.write(ours, f"{answer}\n".encode())
            question = None
    os.close(ours)
    return process.wait(), seen.decode()
