"""Fixtures for the stress tests: the number of cases, and the small run that they disturb.

`--hypothesis-profile fire` tries 10,000 options and presets in all, the default a tenth of them.
"""

import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
from hypothesis import HealthCheck, settings

from bench.experiment.preset import Preset
from bench.experiment.schedule import schedule
from bench.registry.registry import Registry
from bench.storage.store import Store

_LENIENT = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
    "database": None,
}
settings.register_profile("ci", max_examples=250, **_LENIENT)
settings.register_profile("fire", max_examples=2500, **_LENIENT)
settings.load_profile("ci")

HERE = Path(__file__).parent
BENCH = str(Path(sys.executable).with_name("bench"))
PRESET = """
tasks = ["gaussians-far"]
methods = ["histogram", "simple:default", "simple:wide"]
members = 2
budgets = [600]
time_limit = 600
memory_limit = 2
plans = [
    {kind = "independent", uniform = 3, per_point = 1, observations = 50},
    {kind = "bootstrap", sets = 1, multiple = 2, bootstraps = 5, observations = 50},
    {kind = "heldout", contexts = 2, events = 4},
]
"""


def pytest_collection_modifyitems(items):
    for item in items:
        if "fire" in item.path.parts:
            item.add_marker(pytest.mark.slow)


def finished(root):
    """Return the digest and time of every file of finished work."""
    if not root.exists():
        return {}
    store = Store.open(root)
    found = {}
    for part in ("fits", "predictions", "scores", "simulations"):
        for key in store.keys(part):
            entry = store.read(key)
            done = part == "simulations" or (entry and entry.record.get("status") == "done")
            if entry is None or not done:
                continue
            for suffix in ("json", "safetensors"):
                path = root / f"{key}.{suffix}"
                if path.exists():
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
                    found[f"{key}.{suffix}"] = digest, path.stat().st_mtime_ns
    return found


class JobContext:
    """Folder with a small preset `tiny.toml` and a plugin, and runs of it.

    Every command must end within ten minutes, without a traceback and without a remaining process.
    """

    def __init__(self, folder, root=None):
        self.folder = folder
        self.root = root or folder / "results"
        folder.mkdir(exist_ok=True)
        shutil.copy(HERE.parent / "plugins" / "simple.py", folder)
        (folder / "tiny.toml").write_text(PRESET)

    def start(self, *arguments, sabotage="", command="run", **options):
        """Start `bench run` in a process group of its own."""
        what = [command, "tiny.toml", "--plugin", "simple.py", "--quiet", "--out", str(self.root)]
        if command != "run":
            what = [command, str(self.root)]
        # Python must not write byte code too.
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        if sabotage:
            environment |= {"SABOTAGE": sabotage, "PYTHONPATH": str(HERE / "sabotage")}
        return subprocess.Popen(
            [BENCH, *what, *map(str, arguments)],
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            **options,
        )

    def finish(self, process):
        """Wait for the process; return exit status, output and error."""
        out, err = process.communicate(timeout=600)
        assert "Traceback" not in err, err
        assert self.deserted(), self.alive()
        return process.returncode, out, err

    def run(self, *arguments, **options):
        """Start a run, and wait for it."""
        return self.finish(self.start(*arguments, **options))

    def alive(self):
        """Return the command lines of processes in the folder."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.cwd() == str(self.folder) and process.status() != "zombie":
                    found.append(process.cmdline())
        return found

    def deserted(self, seconds=60.0):
        """Return whether all processes in the folder end in time."""
        end = time.monotonic() + seconds
        while found := self.alive():
            if time.monotonic() > end:
                return not found
            time.sleep(0.05)
        return True

    def finished(self):
        """Return the digest and time of every file of finished work."""
        return finished(self.root)

    def arrays(self):
        """Return the digests of all arrays."""
        return {k: d for k, (d, _) in self.finished().items() if k.endswith(".safetensors")}

    def table(self):
        """Return the leaderboards without times."""
        rows = csv.DictReader(io.StringIO((self.root / "leaderboard.csv").read_text()))
        return [row for row in rows if "seconds" not in row["quantity"]]

    def litter(self):
        """Return the files that are neither results nor locks."""
        return [p for p in self.root.rglob(".*") if p.is_file()]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Return the context of a run without disturbance."""
    place = JobContext(tmp_path_factory.mktemp("undisturbed"))
    status, _, err = place.run()
    assert status == 0, err
    return place


@pytest.fixture
def place(undisturbed, tmp_path):
    """Return the context of a run to be disturbed."""
    return JobContext(tmp_path / "place")


@pytest.fixture
def same(undisturbed):
    """Return a function that asserts equality with the undisturbed run."""

    def check(place):
        assert place.arrays() == undisturbed.arrays()
        assert place.table() == undisturbed.table()

    return check


class Inline:
    """Smaller run, with jobs in this process, one after the other."""

    PRESET: ClassVar = {
        "tasks": ("gaussians-far",),
        "methods": ("simple:default",),
        "members": 2,
        "budgets": (600,),
        "plans": (
            {"kind": "independent", "uniform": 3, "per_point": 0, "observations": 50},
            {"kind": "heldout", "contexts": 2, "events": 4},
        ),
    }

    def __init__(self, folder):
        self.plugin = Path(shutil.copy(HERE.parent / "plugins" / "simple.py", folder))
        self.root = folder / "results"
        self.run(self.root)
        self.expected = self.arrays(self.root)

    def benchmark(self, root):
        preset = Preset.model_validate(self.PRESET)
        return schedule(Registry([self.plugin]), preset, Store(root))

    def planned(self, root):
        """Return the keys of the jobs of a run."""
        return [p.key for p in self.benchmark(root).jobs]

    def run(self, root):
        """Run all missing jobs."""
        benchmark = self.benchmark(root)
        benchmark.record(["bench", "run"])
        for p in benchmark.jobs:
            p.perform(lambda **fields: None)

    def finished(self, root):
        return finished(root)

    def arrays(self, root):
        return {k: d for k, (d, _) in finished(root).items() if k.endswith(".safetensors")}


@pytest.fixture(scope="session")
def inline(tmp_path_factory):
    return Inline(tmp_path_factory.mktemp("inline"))
