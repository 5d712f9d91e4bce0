"""Fixtures for all tests: one thread, commands, and results with Gaussian likelihoods."""

import signal
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.cli import main
from bench.contracts import Datasets, LatticeWindow, LikelihoodPrediction, ProfileSummary
from bench.inference.intervals import NODES
from bench.registry.registry import Registry
from bench.stages.score import score
from bench.storage.store import Store

# Helpers shared by files of a folder are imported by name, as `from surfaces import …`.
sys.path += [
    str(Path(__file__).parent / folder) for folder in ("cli", "fire", "integration", "unit")
]

# Threads do not speed up small networks, and slow them down beside other work.
torch.set_num_threads(1)

LONG = {Path(__file__).parent / folder for folder in ("benchmarks", "fire", "statistics")}
ASKED_FOR = {"fire", "statistics"}  # take minutes: `tox -e fire`, `tox -e statistics`


@pytest.fixture(autouse=True)
def interruptible():
    """Enable Ctrl-C in tests of a background job, which ignores it by default."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def command(monkeypatch, capsys):
    """Return a function that runs a command in this process.

    It returns exit status, standard output and error.
    """

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as error:
            status = error.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return run


@dataclass
class Made:
    """Results folder made without training, with Gaussian likelihoods in unit coordinates.

    Estimates scatter by `spread` around the truth, and exact likelihoods have this width. A
    method's likelihoods are `width` times as wide, and its estimates are shifted by `shift`
    standard deviations per member.
    """

    root: object
    uniform: int = 60
    per_point: int = 2
    budget: int = 1000
    spread: float = 0.04
    registry: Registry = field(default_factory=Registry)

    def __post_init__(self):
        self.store = Store(self.root)
        self.metrics = [m for m in self.registry.metrics() if "independent" in m.plans]
        self.plan = {
            "kind": "independent",
            "uniform": self.uniform,
            "per_point": self.per_point,
            "observations": None,
        }
        self.store.write("plans/independent-made", {"plan": self.plan, "seed": 0})
        self.run(absent=[])

    def run(self, **said):
        preset = {"members": 1, "budgets": [self.budget]}
        record = {"command": ["bench", "run", "made"], "preset": preset, "cells": []}
        self.store.write("run", record | {"plugins": []} | said)

    def truth(self, task):
        """Return generating parameters and exact estimates in unit coordinates, (D, P) each."""
        rng = np.random.default_rng(1)
        points = task.space.to_unit(task.points).numpy()
        uniform = rng.uniform(0.35, 0.65, (self.uniform, len(task.space)))
        theta = np.concatenate([uniform, np.repeat(points, self.per_point, 0)])
        return theta, theta + self.spread * rng.standard_normal(theta.shape)

    def prediction(self, task, width=1.0, shift=0.0, seed=0):
        theta, exact = self.truth(task)
        sigma = width * self.spread
        noise = np.random.default_rng(seed).standard_normal(exact.shape)
        mle = np.clip(exact + shift * self.spread * noise, 0.01, 0.99)
        reach = np.sqrt(12) * sigma
        nodes = np.linspace(-reach, reach, NODES)
        profile = np.broadcast_to(-0.5 * (nodes / sigma) ** 2, (*mle.shape, NODES))
        own = lambda unit: task.space.from_unit(torch.from_numpy(unit)).numpy()  # noqa: E731
        no = np.zeros(mle.shape, dtype=bool)
        point = [-1] * self.uniform + list(np.repeat(np.arange(len(task.points)), self.per_point))
        number = np.arange(len(mle))
        chosen = list(task.reported_index)
        curves = ProfileSummary.from_arrays(
            {
                "mle": own(mle),
                "lower": own(mle - sigma)[:, chosen],
                "upper": own(mle + sigma)[:, chosen],
                "cut_lower": no[:, chosen],
                "cut_upper": no[:, chosen],
                "disconnected": no[:, chosen],
                "log_ratio_truth": -0.5 * (((theta - mle) / sigma) ** 2).sum(-1),
                "unresolved": no[:, 0],
            }
        )
        window = None
        if len(task.space) == 2:
            window = LatticeWindow(
                area=np.full(len(mle), 5.99 * np.pi * sigma**2),
                region_cut=no[:, 0],
                origin=mle - reach,
                spacing=np.full(mle.shape, 2 * reach / (NODES - 1)),
                profile=profile.astype(np.float32),
                marginal=np.exp(profile).astype(np.float32),
                joint=(profile[:, 0, :, None] + profile[:, 1, None, :]).astype(np.float32),
            )
        bounds = task.space.parameters
        return LikelihoodPrediction(
            task.space.names,
            np.array([p.low for p in bounds]),
            np.array([p.high for p in bounds]),
            np.array([p.scale == "log" for p in bounds]),
            task.reported_index,
            Datasets(own(theta), np.array(point, dtype=np.int64), number, number),
            curves,
            window,
        )

    def statistics(self, prediction):
        """Return the statistics that scores keep; predictions have no likelihood in the box."""
        data, curves = prediction.datasets, prediction.curves
        sigma = (curves.upper - curves.lower) / 2
        pull = (data.theta - curves.mle)[:, list(prediction.reported)] / sigma
        names = prediction.reported_names
        found = {f"statistic/{name}": pull[:, i] ** 2 for i, name in enumerate(names)}
        found |= {f"generating/{n}": data.theta[:, i] for i, n in enumerate(prediction.names)}
        return found | {"statistic/joint": -2 * curves.log_ratio_truth}

    def fit(
        self, task, method, configuration="default", members=3, *, width=1.0, shift=0.0, failed=(),
        distinct=None, predictions=True,
    ):  # fmt: skip
        """Write a fit; members from `distinct` on repeat the predictions of the first ones."""
        known = self.registry.task(task) if isinstance(task, str) else task
        oracle = method == "exact"
        folder = f"{known.name}/{method}-{configuration}"
        identity = {
            "task": {"name": known.name, "version": known.version, "settings": {}, "plugin": ""},
            "budget": 0 if oracle else self.budget,
            "training_data": "none" if oracle else "fresh",
            "seed": 0,
        }
        what = {"task": known.name, "method": method, "configuration": configuration}
        self.store.write(f"fits/{folder}/fit", what | {"oracle": oracle, "identity": identity})
        truth = None if oracle else self.prediction(known)
        made = {}
        for member in range(1 if oracle else members):
            key = f"{folder}/member-{member:03d}"
            if member in failed:
                self.store.write(f"fits/{key}", {"status": "failed", "error": "the loss is <NaN>"})
                continue
            self.store.write(f"fits/{key}", self.record(member, oracle))
            which = member % (distinct or members)
            if which not in made:
                own = self.prediction(known, width, shift, 10 + which)
                made[which] = own, score(self.metrics, own, truth)
            prediction, (arrays, undefined) = made[which]
            arrays |= self.statistics(prediction)
            key = f"{folder}/independent-made/member-{member:03d}"
            self.store.write(f"scores/{key}", {"status": "done", "undefined": undefined}, arrays)
            if predictions:
                saved = prediction.datasets.arrays("datasets.")
                saved |= prediction.curves.arrays("curves.")
                if prediction.window is not None:
                    saved |= prediction.window.arrays("curves.")
                self.store.write(f"predictions/{key}", {"status": "done"}, saved)

    def record(self, member, oracle):
        curve = {
            "train_loss": [0.7, 0.6, 0.5],
            "validation_loss": [0.71, 0.64, 0.62 + 0.001 * member],
            "best_epoch": 3,
            "steps": 30,
            "seconds": 6.0,
            "seconds_to_best": 6.0,
        }
        return {
            "status": "done",
            "calls": 0 if oracle else self.budget,
            "seconds": 8.0 + member,
            "parameters": 0 if oracle else 123,
            "stack": 1,
            "curves": {} if oracle else {"background": curve, "signal": curve},
            "environment": {
                "cores": "2",
                "device": "cpu",
                "machine": "x86_64",
                "nlbench": "0.1.0",
                "python": "3.11.7",
                "torch": "2.13.0",
            },
        }


@pytest.fixture
def made(tmp_path):
    """Return a function `made(**settings)` or `made(root, …)` that makes a results folder."""

    return partial(_make, tmp_path)


@pytest.fixture(scope="module")
def module_made(tmp_path_factory):
    """Return a function that makes results folders shared by a module's tests."""
    return partial(_make, tmp_path_factory.mktemp("made"))


def _make(folder, root="results", **settings):
    return Made(folder / root, **settings)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent in LONG or item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(1800))


def pytest_ignore_collect(collection_path, config):
    """Skip folders that were not requested by name."""
    asked = {part for argument in config.args for part in Path(argument).parts}
    return True if collection_path.name in ASKED_FOR - asked else None
