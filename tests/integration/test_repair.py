"""Damaged, missing or unexpected results: repaired, reported or skipped; others unchanged."""

import shutil
from pathlib import Path

import pytest
from whole_runs import benchmark, contents, digests, inline

from bench.errors import StoreError
from bench.experiment.rescore import plan_scores
from bench.registry.registry import Registry
from bench.storage.store import Store


def test_damage_is_repaired_and_nothing_else_is_touched(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    before = digests(root)

    def of(part, suffix):
        return next(
            n for n in before if n.startswith(f"{part}/gaussians-far/simple") and suffix in n
        )

    def truncate(path):
        path.write_bytes(path.read_bytes()[:-8])

    def tamper(path):
        path.write_text(path.read_text().replace('"status":"done"', '"status":"Done"'))

    harmed = {
        of("fits", "member-000.safetensors"): truncate,
        of("fits", "member-001.json"): tamper,
        of("predictions", "member-000.json"): truncate,
        of("predictions", "member-001.safetensors"): Path.unlink,
        of("scores", "member-000.safetensors"): truncate,
    }
    for name, harm in harmed.items():
        harm(root / name)
    made = inline(benchmark(root, [simple]))
    assert sorted(key.split()[0] for key in made) == ["fit"] * 2 + ["predict"] * 2 + ["score"] * 2
    after = digests(root)
    arrays = {name for name in before if name.endswith(".safetensors")}
    assert {n: after[n][0] for n in arrays} == {n: before[n][0] for n in arrays}
    changed = {name.rpartition(".")[0] for name in before if before[name] != after[name]}
    assert {name.rpartition(".")[0] for name in harmed} <= changed
    changed -= {name.rpartition(".")[0] for name in harmed}
    assert all(name.startswith("scores/") or name.endswith("/fit") for name in changed)
    assert benchmark(root, [simple]).jobs == []


def test_damaged_simulations_are_made_anew(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    before = digests(root, ".safetensors")
    for path in (root / "simulations").rglob("*.safetensors"):
        path.write_bytes(b"")
    shutil.rmtree(root / "fits")
    inline(benchmark(root, [simple]))
    after = contents(digests(root, ".safetensors"))
    needed = {n: d for n, (d, _) in before.items() if not after[n].startswith("e3b0c4")}
    assert needed.items() <= after.items()
    assert any(name.startswith("simulations") for name in needed)


def test_a_prediction_of_a_fit_that_is_gone_says_so(tmp_path, simple):
    root = tmp_path / "results"
    run = benchmark(root, [simple])
    jobs = {p.key.split()[0]: p for p in run.jobs}
    with pytest.raises(StoreError, match=r"member-001 is missing or damaged; run again to make it"):
        jobs["predict"].perform(dict)


def test_a_stray_file_is_no_member(tmp_path, simple):
    root = tmp_path / "results"
    inline(benchmark(root, [simple]))
    (record, *_) = (root / "predictions").rglob("member-000.json")
    for name in ("member-000 copy.json", "notes.json", "member-.json"):
        shutil.copy(record, record.with_name(name))
    assert len(plan_scores(Store(root), Registry())) == 6
