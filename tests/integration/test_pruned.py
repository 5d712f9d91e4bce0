"""Results without weights and predictions: which scores remain valid, what is trained again."""

import json
import shutil

from whole_runs import benchmark, digests, fitted, inline

from bench.execution.executor import Outcome
from bench.experiment.rescore import plan_scores
from bench.experiment.run import record_failure
from bench.registry.registry import Registry
from bench.stages.score import is_current
from bench.storage.store import Store


def pruned(root):
    """Remove weights, predictions and simulations."""
    for path in (root / "fits").rglob("*.safetensors"):
        path.unlink()
    for part in ("predictions", "simulations"):
        shutil.rmtree(root / part)


def test_scores_stand_without_weights_and_predictions(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    pruned(root)
    before = digests(root)
    again = benchmark(root, [simple])
    assert again.jobs == []
    assert again.reused == 3 * 5
    made = inline(benchmark(root, [simple], members=3))
    kinds = [key.split()[0] for key in made]
    assert sorted(kinds) == ["fit"] + ["predict"] * 4 + ["score"] * 4  # with those of exact
    assert [line.split()[-1] for line in fitted(simple)] == ["0", "1", "2"]
    assert all(
        digests(root)[name] == value
        for name, value in before.items()
        if "/simple" in name and "member" in name
    )
    assert benchmark(root, [simple], members=3).jobs == []


def test_an_ensemble_of_fits_without_weights_trains_them_again(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    pruned(root)
    wanted = {"methods": ("simple:default", "ensemble(simple:default,2)")}
    run = benchmark(root, [simple], **wanted)
    made = [p.key for p in run.jobs if p.stage == "predict" and not p.spec.oracle]
    assert len(made) == 2
    assert all("ensemble" in key for key in made)
    trained = {p.key for p in run.jobs if p.stage == "fit"}
    assert all(set(p.after) == trained for p in run.jobs if p.key in made)
    says = inline(run)
    assert {
        key for key, said in says.items() if said != "done"
    } <= {  # the same prediction as before
        p.key for p in run.jobs if p.stage == "score" and p.spec.oracle
    }
    assert [line.split()[-1] for line in fitted(simple)] == ["0", "1", "0", "1"]
    assert benchmark(root, [simple], **wanted).jobs == []


def test_fits_without_weights_are_trained_for_what_calibrates_them(tmp_path, simple):
    root = tmp_path / "results"
    calibrated = "calibrated(lre:unnormalised)"
    wanted = {"methods": (calibrated, f"ensemble({calibrated},2)")}
    run = benchmark(root, [simple], **wanted)
    inline(run)
    pruned(root)
    (ensemble,) = [spec for spec in run.specs if spec.size == 2]
    (root / f"{ensemble.fit_key(0)}.json").unlink()
    again = benchmark(root, [simple], **wanted)
    trained = ["lre:unnormalised"] * 2 + [calibrated] * 2 + [f"ensemble({calibrated},2)"]
    assert sorted(p.spec.label for p in again.jobs) == sorted(trained)
    assert set(inline(again).values()) == {"done"}
    assert benchmark(root, [simple], **wanted).jobs == []


def test_scores_do_not_lose_the_truth(tmp_path, simple):
    root = tmp_path / "results"
    run = benchmark(root, [simple])
    inline(run)
    exact = next(spec for spec in run.specs if spec.oracle)
    shutil.rmtree(root / "predictions" / exact.folder)
    assert [p.spec.oracle for p in plan_scores(Store.open(root), Registry([simple]))] == []
    assert benchmark(root, [simple]).jobs == []
    member = next((root / "predictions").rglob("*independent*/member-000.safetensors"))
    member.write_bytes(b"")
    kinds = inline(benchmark(root, [simple]))
    assert sorted(key.split()[0] for key in kinds) == ["predict"] * 2 + ["score"] * 3
    assert benchmark(root, [simple]).jobs == []
    kept = json.loads(next((root / "scores").rglob("simple*/indep*/member-000.json")).read_text())
    assert kept["inputs"]["truth"] is not None
    assert "overlap_M" not in kept["undefined"]


def test_a_failed_training_leaves_the_record_that_scores_need(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    pruned(root)
    wanted = {"methods": ("simple:default", "ensemble(simple:default,2)")}
    fits = [p for p in benchmark(root, [simple], **wanted).jobs if p.stage == "fit"]
    for planned in fits:
        failure = Outcome(planned.key, "failed", error="no luck", error_type="RuntimeError")
        record_failure(Store.open(root), planned, failure)
    statuses = [Store.open(root).record(key)["status"] for p in fits for key in p.keys]
    assert sorted(statuses) == ["done", "done", "failed"]  # the ensemble had no weights


def test_which_scores_stand():
    inputs = {"prediction": "a", "truth": "t", "metrics": {"m": [1, ""]}}
    gone = {"prediction": None}
    assert is_current({"inputs": inputs}, inputs)
    assert is_current({"inputs": inputs}, inputs | gone)
    assert is_current({"inputs": inputs}, inputs | gone | {"truth": "another machine's"})
    assert is_current({"inputs": inputs}, inputs | {"truth": None})
    assert not is_current({"inputs": inputs}, inputs | {"truth": "another"})
    assert not is_current({"inputs": inputs}, inputs | {"prediction": "another"})
    newer = {"metrics": {"m": [1, ""], "another": [1, ""]}}
    assert not is_current({"inputs": inputs}, inputs | newer)
    assert not is_current({"inputs": inputs}, inputs | {"metrics": {"m": [2, ""]}})
    assert is_current({"inputs": inputs | newer}, inputs)
    # Without the prediction a new metric is undefined, and nothing is trained for it.
    assert is_current({"inputs": inputs}, inputs | gone | newer)
    assert not is_current({"inputs": inputs | {"truth": None}}, inputs)
    assert not is_current({"inputs": inputs | {"truth": None}}, inputs | gone)
    assert is_current({"inputs": inputs | {"truth": None}}, inputs | gone | {"truth": None})
    for record in (None, {}, {"inputs": None}, {"inputs": "a digest of all"}):
        assert not is_current(record, inputs)
