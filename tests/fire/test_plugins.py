"""Further misbehaviour of plugins: recorded and isolated, and other jobs continue."""

import re
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LIMIT = 30  # seconds of a job; the work takes one, starting a worker a few
REASONS = {
    "cannot-be-told": r"Unspeakable: \(its message cannot be shown\)",
    "no-exception": "Baser: bare",
    "recurses": "RecursionError: maximum recursion depth exceeded",
    "spins": f"ran past its time limit of {LIMIT} s",
    "crashes": "its worker process was killed by SIGSEGV",
    "daemon": "its worker process exited with code 5",
    "nothing": "AttributeError: 'NoneType' object has no attribute 'state'",
    "odd-state": "AttributeError: ",
    "odd-ratio": "log_ratio returned ndarray; the contract is",
    "infinite-ratio": r"log_ratio returned NaN or \+inf",
}
METRICS = {
    "a_leaves": "fails: SystemExit: 3",
    "a_none": "fails: TypeError: ",
    "a_list": "fails: TypeError: ",
    "a_shape": r"returned shape \(1,\) for ''",
    "a_text": "returned values of type <U1 for ''; they must be real numbers",
    "a_told": r"fails: Unspeakable: \(its message cannot be shown\)",
}


@pytest.fixture
def small(place):
    """Return the context of a run with one member of everything."""
    rewrite(place, "members = 2", "members = 1")
    return place


def rewrite(place, old, new):
    preset = (place.folder / "tiny.toml").read_text()
    assert old in preset
    (place.folder / "tiny.toml").write_text(preset.replace(old, new))


def ours(place):
    """Return leaderboards of well-behaved methods, without metrics of plugins."""
    return [
        r
        for r in place.table()
        if r["method"] in ("exact", "histogram", "simple")
        and not r["quantity"].startswith(("a_", "absent", "bad"))
        and not r["rank_low"]
    ]


def test_crimes(small):
    assert small.run()[0] == 0
    undisturbed, arrays = ours(small), small.arrays()
    shutil.rmtree(small.root)
    shutil.copy(HERE / "crimes.py", small.folder)
    rewrite(small, "time_limit = 600", f"time_limit = {LIMIT}")
    methods = [*REASONS, "closes-files", "chatters", "spoils", "histogram"]
    methods += ["simple:default", "simple:wide"]
    process = small.start(
        *("--plugin", "crimes.py", "--workers", 1),
        *(word for name in methods for word in ("--method", name)),
    )
    out, err = process.communicate(timeout=900)
    assert process.returncode == 1
    assert "Traceback" not in out
    status = small.run(command="status")[1]
    for name, reason in REASONS.items():
        assert re.search(rf" {name} .*\n(  failed: .*\n)*  failed: .*{reason}", status), name
    # Its fit is finished and kept. The closed files end the job and what depends on it.
    assert re.search(r"failed: .*closes-files.*: its worker process ", err)
    for name, reason in METRICS.items():
        assert re.search(f"failed: metric {name} on gaussians-far: metric '{name}' {reason}", err)
    assert re.search(r"failed: .*metric 'a_plan'.*: its plans are \('always',\)", err)
    # Results of the other methods are unchanged.
    made = small.arrays()
    unscored = {k: v for k, v in arrays.items() if not k.startswith("scores/")}
    assert unscored.items() <= made.items()
    assert ours(small) == undisturbed
    # The detached process holds no lock.
    status, _, err = small.run("--method", "daemon", "--plugin", "crimes.py")
    assert status == 1
    assert "its worker process exited with code 5" in small.run(command="status")[1]


METRIC = """
import os, time
from bench.contracts import Metric

def compute(prediction, truth):
    {deed}

bad = Metric("bad", "bad", "Does not return.", ("independent",), compute)
"""


@pytest.mark.parametrize("deed", ["time.sleep(999)", "os._exit(4)"])
def test_metrics_that_do_not_return_cost_the_others_nothing(small, deed):
    assert small.run("--method", "simple:default")[0] == 0
    undisturbed = ours(small)
    (small.folder / "bad.py").write_text(METRIC.format(deed=deed))
    rewrite(small, "time_limit = 600", f"time_limit = {LIMIT}")
    status, _, _ = small.run("--method", "simple:default", "--plugin", "bad.py")
    assert status == 1
    assert ours(small) == undisturbed
    assert small.run("--method", "simple:default")[0] == 0
    assert ours(small) == undisturbed


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("torch.full_like(x, math.nan)", "NonFiniteError|simulated NaN or infinite numbers"),
        ("x[:, :1]", r"simulated \(\d+, 1\); the contract is \(\d+, 2\)"),
        ("x[:-1]", r"simulated \(\d+, 2\); the contract is"),
        ("x.tolist()", "simulated list; the contract is"),
        ("exec('while True: pass')", f"ran past its time limit of {LIMIT} s"),
    ],
)
def test_tasks_whose_simulator_is_broken(small, body, reason):
    rewrite(small, "time_limit = 600", f"time_limit = {LIMIT}")
    (small.folder / "bad.py").write_text(
        "import math, torch\n"
        "from bench.tasks.gaussians import far\n"
        "bad = far()\n"
        "bad.name = 'bad'\n"
        "genuine = bad.components\n"
        "class Broken:\n"
        "    size = None\n"
        "    def __init__(self, inner): self.inner = inner\n"
        "    def log_prob(self, x, context): return self.inner.log_prob(x, context)\n"
        "    def simulate(self, context, generator):\n"
        "        x = self.inner.simulate(context, generator)\n"
        f"        return {body}\n"
        "bad.components = lambda split='train': {k: Broken(c) for k, c in genuine(split).items()}\n"
    )
    status, _, _ = small.run(
        *("--plugin", "bad.py", "--task", "bad", "--task", "gaussians-far"),
        *("--method", "simple:default"),
    )
    assert status == 1
    said = small.run(command="status")[1]
    assert re.search(rf"bad  simple .*\n(  failed: .*\n)*  failed: .*({reason})", said), said
    assert re.search("gaussians-far  simple  .* fits 1/1  .*1/1", said)


@pytest.mark.parametrize("what", ["raise Baser", "raise Unspeakable", "raise SystemExit(0)"])
def test_plugins_that_cannot_be_imported(small, what):
    (small.folder / "bad.py").write_text(
        "class Baser(BaseException): pass\n"
        "class Unspeakable(Exception):\n"
        "    def __str__(self): raise RuntimeError\n"
        f"{what}\n"
    )
    status, _, err = small.run("--plugin", "bad.py", "--method", "simple:default")
    assert status == 1
    assert re.match("failed: plugin .*bad.py on every task: ", err)
    assert small.table()
