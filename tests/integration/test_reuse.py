"""New and reused results of runs: members, equal fits, identities, training data."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from whole_runs import TINY, benchmark, contents, digests, finished, fitted, inline

from bench.experiment.preset import Preset
from bench.experiment.selection import make_spec
from bench.registry.registry import Registry
from bench.storage.store import Store


def test_a_run_that_is_repeated_makes_nothing(tmp_path, simple):
    root = tmp_path / "results"
    first = benchmark(root, [simple])
    assert set(inline(first).values()) == {"done"}
    assert first.reused == 0
    before = digests(root)
    again = benchmark(root, [simple])
    assert again.jobs == []
    assert again.reused == len(first.jobs) == 3 * 5
    inline(again)
    assert contents(digests(root)) == contents(before)
    assert finished(root).items() <= before.items()
    suffixes = {p.suffix for p in root.rglob("*") if p.is_file()}
    assert suffixes <= {".json", ".safetensors", ".lock"}


def test_more_members_train_only_what_is_missing(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    before = finished(root)
    made = inline(benchmark(root, [simple], members=4))
    assert sorted(key.rsplit(" ", 1)[1] for key in made if key.startswith("fit")) == ["2", "3"]
    after = finished(root)
    assert before.items() <= after.items()
    assert [line.split()[-1] for line in fitted(simple)] == ["0", "1", "2", "3"]
    fewer = benchmark(root, [simple], members=1)
    assert fewer.jobs == []


def test_a_member_depends_on_its_number_alone(tmp_path, simple):
    for name, members in (("one", 1), ("three", 3)):
        inline(benchmark(tmp_path / name, [simple], members=members))
    one, three = (contents(digests(tmp_path / n, ".safetensors")) for n in ("one", "three"))
    assert one.items() <= three.items()


def test_equal_configurations_share_one_fit(tmp_path, simple):
    run = benchmark(tmp_path / "results", [simple], methods=("simple:default", "simple:same"))
    inline(run)
    assert len(run.specs) == 2  # including the exact likelihood
    assert len(fitted(simple)) == 2
    assert benchmark(tmp_path / "results", [simple], methods=("simple:same",)).jobs == []


def test_identity(tmp_path, simple):
    def key(configuration="default", budget=600, plugin=simple, method="simple", **changes):
        registry = Registry([plugin])
        preset = Preset.model_validate(TINY | changes)
        task = registry.task("gaussians-far")
        return make_spec(registry, task, method, configuration, preset, budget).key

    assert key() == key("same") == key(members=7) == key(device="cpu") == key(time_limit=7)
    assert key(plans=({"kind": "heldout"},)) == key()
    renamed = shutil.copy(simple, tmp_path / "renamed.py")
    assert key(plugin=renamed) == key()
    edited = tmp_path / "edited.py"
    edited.write_text(Path(simple).read_text() + "\n# a remark\n")
    others = [
        key("wide"),
        key(budget=601),
        key(seed=1),
        key(training_data="shared"),
        key(plugin=edited),
        key(method="histogram"),
    ]
    assert len({key(), *others}) == 1 + len(others)
    exact = {"method": "exact", "configuration": "default"}
    assert key(**exact) == key(**exact, budget=7, seed=7, training_data="shared")


def test_overwrite_makes_everything_anew(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    before = digests(root, ".safetensors", parts=("fits", "predictions"))
    time.sleep(0.01)
    made = inline(benchmark(root, [simple], overwrite=True))
    assert {v for k, v in made.items() if not k.startswith("score")} == {"done"}
    assert len(fitted(simple)) == 4
    after = digests(root, ".safetensors", parts=("fits", "predictions"))
    assert contents(after) == contents(before)
    assert all(after[name][1] > before[name][1] for name in before)
    assert benchmark(root, [simple]).jobs == []


@pytest.mark.parametrize("training_data", ["fresh", "shared", "bootstrap"])
def test_training_data(tmp_path, simple, training_data):
    root = tmp_path / "results"
    run = benchmark(root, [simple], training_data=training_data, plans=TINY["plans"][:1])
    inline(run)
    states = [
        Store.open(root).read(spec.fit_key(member)).arrays["coefficients"]
        for spec in run.specs
        if not spec.oracle
        for member in range(2)
    ]
    assert np.array_equal(*states) == (training_data == "shared")
