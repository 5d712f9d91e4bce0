"""Packed results folders: reading, resuming, extending, and one line about damage."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from small_run import METRIC, results

import bench
from bench.errors import StoreError
from bench.storage.pack import PACK, Pack, packed
from bench.storage.store import Store

TASK = "gaussians-far"
FRAMES = ("fits", "curves", "quantities", "members", "calibration", "contours", "maxima")


@pytest.fixture
def root(command, folder):
    """Make a packed folder without weights and predictions, like committed results."""
    found = results(folder)
    for part in ("predictions", "simulations", "locks"):
        shutil.rmtree(found / part, ignore_errors=True)
    for weights in found.glob("fits/**/*.safetensors"):
        weights.unlink()
    return found


def texts(command, root):
    forms = ("md", "csv", "json")
    return [command("leaderboard", root, "--format", form) for form in forms]


def test_a_packed_folder_is_read_as_before(command, root):
    before = texts(command, root), command("status", root)
    status, out, err = command("results", "pack", root)
    assert (status, err) == (0, "")
    assert out.startswith("7 records in ")
    assert (texts(command, root), command("status", root)) == before
    left = {path.relative_to(root).parts[0] for path in root.rglob("*") if path.is_file()}
    assert left - {"locks"} == {
        PACK,
        "run.json",
        "leaderboard.md",
        "leaderboard.csv",
        "leaderboard.json",
    }
    # Packing again without new results gives the same file.
    content = (root / PACK).read_bytes()
    assert command("results", "pack", root)[1].endswith("0 files removed\n")
    assert (root / PACK).read_bytes() == content


def test_a_run_resumes_on_a_pack_and_what_it_adds_lies_beside_it(command, root):
    command("results", "pack", root)
    run = ("run", "my preset.toml", "--plugin", "simple.py", "--workers", "1", "--quiet")
    status, _, err = command(*run)
    assert (status, err.splitlines()[-1].split(" failed")[0]) == (0, "0 made, 6 reused, 0")
    content = (root / PACK).read_bytes()
    status, _, err = command(*run, "--method", "simple:wide", "--method", "exact")
    assert status == 0, err
    assert (root / PACK).read_bytes() == content
    rows = json.loads(texts(command, root)[2][1])
    shown = {(row["method"], row["configuration"]) for row in rows}
    assert shown == {("exact", "default"), ("simple", "default"), ("simple", "wide")}
    boards = texts(command, root)
    assert command("results", "pack", root)[0] == 0
    assert texts(command, root) == boards
    # Weights and predictions are not packed. Their records stay as files.
    assert list(root.glob("fits/**/member-000.safetensors"))
    assert list(root.glob("predictions/**/member-000.safetensors"))
    assert not list(root.glob("scores/**/*"))


def test_a_new_metric_is_not_defined_and_nothing_is_trained_for_it(command, root):
    command("results", "pack", root)
    Path("metric.py").write_text(METRIC.replace("ANSWER", "42.0"))
    run = ("run", "my preset.toml", "--plugin", "simple.py", "--workers", "1", "--quiet")
    status, _, err = command(*run, "--plugin", "metric.py")
    assert (status, err.splitlines()[-1].split(" failed")[0]) == (0, "0 made, 6 reused, 0")


def test_values_of_another_version_of_a_metric_are_not_shown(command, root):
    command("results", "pack", root)
    store = Store.open(root)
    for key in store.keys("scores"):
        entry = store.read(key)
        entry.record["inputs"]["metrics"]["coverage"][0] = 0
        record = {k: v for k, v in entry.record.items() if k != "arrays_sha256"}
        store.write(key, record, entry.arrays)
    rows = json.loads(texts(command, root)[2][1])
    shown = {row["quantity"] for row in rows if row["value"] is not None}
    assert "width/mu" in shown
    assert "coverage/mu" not in shown


def test_values_are_kept_to_the_bit_and_absence_is_not_nan(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(50)
    values[3] = np.nan
    sets = {"point": np.full(50, -1), "set": np.arange(50), "block": np.arange(50)}
    entries = [
        ("scores/a/b/member-000", {"arrays_sha256": "x", "n": 1}, sets | {"m/mu": values}),
        ("scores/a/b/member-001", {"arrays_sha256": "y"}, sets | {"m/z": -values}),
        ("plans/p", {"plan": {"kind": "independent"}, "text": "λ"}, {}),
    ]
    (tmp_path / PACK).write_bytes(packed(entries))
    pack = Pack(tmp_path / PACK)
    assert sorted(pack.keys()) == sorted(key for key, _, _ in entries)
    for key, record, arrays in entries:
        assert pack.record(key) == record
        found = pack.arrays(key) if arrays else {}
        assert found.keys() == arrays.keys()
        for name, expected in arrays.items():
            assert found[name].dtype == expected.dtype
            assert found[name].tobytes() == expected.tobytes()


@pytest.fixture
def alone(made, command):
    """Make a folder of a run that is nothing but a pack; return it with the frames of the run."""
    run = made(uniform=20)
    run.fit(TASK, "exact")
    run.fit(TASK, "lre", "tuned", 2, width=1.2, shift=0.3)
    before = bench.load(run.root)
    frames = {name: getattr(before, name) for name in FRAMES}
    assert command("results", "pack", run.root)[0] == 0
    for part in ("predictions", "simulations", "locks"):
        shutil.rmtree(run.root / part, ignore_errors=True)
    assert {path.name for path in run.root.iterdir()} == {"run.json", PACK}
    return run.root, frames


def entries_of(root):
    """Return the entries of a folder's pack."""
    pack = Pack(root / PACK)
    keys = pack.keys()
    return [(k, pack.record(k), pack.arrays(k) if pack.has_arrays(k) else {}) for k in keys]


def test_a_pack_alone_gives_every_frame(alone, command):
    root, frames = alone
    loaded = bench.load(root)
    for name, expected in frames.items():
        assert len(expected), name
        pd.testing.assert_frame_equal(getattr(loaded, name), expected)
    # The windows of predictions that were removed are packed again.
    content = (root / PACK).read_bytes()
    assert command("results", "pack", root)[0] == 0
    assert (root / PACK).read_bytes() == content


def test_windows_are_those_of_predictions_to_a_hundredth_of_a_standard_deviation(made):
    run = made(uniform=20)
    run.fit(TASK, "lre", "tuned", 1, width=1.2)
    (key,) = run.store.keys("predictions")
    joint = run.store.read(key).arrays["curves.joint"].astype(float)
    for dataset, window in bench.load(run.root).contours.groupby("dataset"):
        expected = np.sqrt(-2 * joint[dataset].ravel()).clip(max=5.1)
        assert np.sqrt(-2 * window.fall.to_numpy()) == pytest.approx(expected, abs=0.01 + 1e-9)


def test_only_packs_with_windows_have_another_format(alone, tmp_path):
    root, _ = alone
    kept = [entry for entry in entries_of(root) if not entry[0].startswith("windows/")]
    (tmp_path / PACK).write_bytes(packed(kept))
    formats = [parquet.read_schema(folder / PACK).metadata for folder in (root, tmp_path)]
    assert [found[b"nlbench-pack"] for found in formats] == [b"2", b"1"]
    shutil.copy(tmp_path / PACK, root)
    assert bench.load(root).contours.empty


WINDOWS = {
    "a window of another size": lambda window: {"root": [window["root"][0][:-2]] * 4},
    "no bytes": lambda window: {"root": ["zz" + window["root"][0][2:]] * 4},
    "more windows than datasets": lambda window: {"root": window["root"] * 2},
    "too many": lambda window: {name: values * 1000 for name, values in window.items()},
    "none": lambda window: {name: [] for name in window},
    "nodes at one place": lambda window: {"spacing": [[0.0, 0.0]] * 4},
    "nodes far outside": lambda window: {"origin": [[1e300, 0.0]] * 4},
    "a number beyond all": lambda window: {"theta": [[10**400, 0.0]] * 4},
    "one parameter": lambda window: {"mle": [[0.1]] * 4},
    "a text": lambda window: {"theta": "\x1b[2J"},
    "a missing list": lambda window: {"dataset": None},
}


@pytest.mark.parametrize("damage", WINDOWS)
def test_a_hostile_window_is_damage_and_is_not_shown(alone, damage):
    root, frames = alone
    bad = f"windows/{TASK}/lre-tuned/independent-made/member-001"
    entries = entries_of(root)
    for key, record, _ in entries:
        if key == bad:
            record |= WINDOWS[damage](record)
    (root / PACK).write_bytes(packed(entries))
    loaded = bench.load(root)
    assert len(loaded.maxima) == len(frames["maxima"]) - 4
    assert set(loaded.maxima.query("label == 'lre:tuned'").member) == {0}
    assert loaded.results.damaged == {bad: f"{bad}.json: it is no record of what belongs there"}


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def emptied(path):
    path.write_bytes(b"")


def another(path):
    parquet.write_table(pa.table({"a": [1]}), path)


def newer(path):
    table = parquet.read_table(path)
    parquet.write_table(table.replace_schema_metadata({b"nlbench-pack": b"99"}), path)


@pytest.mark.parametrize("damage", [cut, emptied, another, newer])
@pytest.mark.parametrize("line", ["status", "leaderboard", "results pack"])
def test_damage_is_one_line(command, root, damage, line):
    command("results", "pack", root)
    damage(root / PACK)
    status, out, err = command(*line.split(), root)
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(f"bench: pack {root / PACK} is damaged: ")
    assert err.endswith("; restore it, or remove it to make all anew\n")
    assert (root / PACK).exists()


def test_a_damaged_record_is_not_packed_and_nothing_is_removed(command, root):
    path = next(root.glob("scores/**/member-000.safetensors"))
    path.write_bytes(b"")
    files = sorted(p for p in root.rglob("*") if "locks" not in p.parts)
    status, out, err = command("results", "pack", root)
    assert (status, out) == (1, "")
    assert "is damaged; `bench run` makes it anew, then pack again" in err
    assert sorted(p for p in root.rglob("*") if "locks" not in p.parts) == files


def test_a_byte_that_flips_changes_no_number(command, root, tmp_path):
    """Bytes without a checksum, such as column statistics, are not used."""
    command("results", "pack", root)
    content = (root / PACK).read_bytes()
    whole = Pack(root / PACK)
    found = 0
    for i, place in enumerate(range(0, len(content), len(content) // 150)):
        path = tmp_path / f"{i}.parquet"
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        try:
            pack = Pack(path)
        except StoreError:
            found += 1
            continue
        keys = whole.keys()
        assert pack.keys() == keys
        for key in keys:
            assert pack.record(key) == whole.record(key)
            if whole.has_arrays(key):
                expected, got = whole.arrays(key), pack.arrays(key)
                assert got.keys() == expected.keys()
                assert all(got[n].tobytes() == expected[n].tobytes() for n in got)
    assert found > 50


@pytest.mark.parametrize(
    ("key", "record"),
    [
        ("scores/../../victim/precious", {"a": 1}),
        ("scores//x", {"a": 1}),
        ("/scores/x", {"a": 1}),
        ("elsewhere/x", {"a": 1}),
        ("fits/x/" + "9" * 300, {"a": 1}),
    ],
)
def test_a_pack_with_other_keys_is_damaged_and_removes_nothing(fails, folder, key, record):
    root = results(folder)
    precious = folder / "victim" / "precious.safetensors"
    precious.parent.mkdir()
    precious.write_text("of the user")
    (root / PACK).write_bytes(packed([(key, record, {})]))
    for command in (("results", "pack"), ("leaderboard",)):
        status, line = fails(*command, root)
        assert status == 1
        assert "its keys or records are not those of a pack" in line
    assert precious.read_text() == "of the user"


def test_only_results_are_packed(fails, tmp_path):
    (tmp_path / "plans" / "empty").mkdir(parents=True)
    assert fails("results", "pack", tmp_path)[0] in (1, 2)
    assert fails("results", "pack", "")[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["plans"]
    assert (tmp_path / "plans" / "empty").is_dir()


def test_a_file_that_changes_while_it_is_packed_stays(command, root, monkeypatch):
    store = Store.open(root)
    key = store.keys("scores")[0]

    def written_meanwhile(entries):
        made = packed(entries)
        store.write(key, store.record(key) | {"finished": 1.0}, store.read(key).arrays)
        return made

    monkeypatch.setattr("bench.storage.store.packed", written_meanwhile)
    assert command("results", "pack", root)[0] == 0
    assert (root / f"{key}.json").is_file()
    assert store.record(key)["finished"] == 1.0


def test_links_are_not_followed_out_of_the_folder(command, fails, root):
    outside = root.parent / "outside"
    (outside / "empty").mkdir(parents=True)
    (root / "bootstrap-k").symlink_to(outside)
    assert command("results", "pack", root)[0] == 0
    assert (outside / "empty").is_dir()
    (root / PACK).rename(outside / PACK)
    (root / PACK).symlink_to(outside / PACK)
    assert "no regular file" in fails("status", root)[1]
