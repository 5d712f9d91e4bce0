"""Store: atomic writes, checksums, and validation of all reads."""

import hashlib
import json
import os
import threading
import time
from unittest.mock import ANY

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import StoreError
from bench.seeds import digest
from bench.storage.store import Store

ARRAYS = {
    "float": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
    "double": np.array([np.nan, np.inf, -0.0]),
    "whole": np.array([-1, 2**62]),
    "flag": np.array(True),
    "empty": np.zeros((0, 3)),
    "strided": np.arange(12.0).reshape(3, 4).T,
}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def test_what_is_written_is_read(store):
    record = {"status": "done", "μ": [1, 2.5, None, {"a": True}]}
    store.write("a/b/c", record, ARRAYS)
    entry = Store.open(store.root).read("a/b/c")
    assert record.items() <= entry.record.items()
    assert set(entry.arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert entry.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(entry.arrays[name], array)
    assert store.read("a/b/c") is not None
    assert store.keys("a") == ["a/b/c"]
    assert store.keys("nothing") == []


def test_a_record_alone(store):
    store.write("run", {"x": 1})
    assert store.read("run").arrays == {}
    assert store.record("run") == {"x": 1}
    assert store.read("walk") is None
    assert store.record("walk") is None


def test_files_are_json_and_safetensors_and_readable_by_others(store):
    store.write("a", {}, ARRAYS)
    assert sorted(p.name for p in store.root.iterdir()) == ["a.json", "a.safetensors"]
    assert {p.stat().st_mode & 0o777 for p in store.root.iterdir()} == {0o644}


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1] if content.endswith(b"}") else content[: len(content) // 2],
        lambda content: content + b"x",
        lambda content: bytes(len(content)),
        lambda content: content.replace(b"1", b"2", 1),
        lambda content: b"[]",
        lambda content: b'{"record_sha256": 3}',
        lambda content: b'{"a": NaN, "record_sha256": "x"}',
        lambda content: b'{"a": 1e999, "record_sha256": "x"}',
        lambda content: b"[" * 100_000,
        lambda content: b"\xff\xfe{}",
    ],
)
@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_damage_is_found(store, damage, suffix):
    store.write("a", {"one": 1}, {"w": np.full(3, 1.0), "text": np.frombuffer(b"1", np.uint8)})
    path = store.root / f"a.{suffix}"
    path.write_bytes(damage(path.read_bytes()))
    assert store.read("a") is None
    assert store.read("a") is None
    store.write("a", {"one": 1}, {"w": np.ones(3)})
    assert store.read("a") is not None


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(which=st.sampled_from(["json", "safetensors"]), data=st.data())
def test_no_byte_can_change_unnoticed(store, which, data):
    store.write("a", {"one": 1}, {"w": np.arange(3.0)})
    original = store.read("a")
    path = store.root / f"a.{which}"
    content = bytearray(path.read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    content[where] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    entry = store.read("a")
    if entry is not None:  # the newline at the end of a record may become another space
        assert where == len(content) - 1
        assert entry.record == original.record


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_part_that_is_missing_or_a_folder_is_no_entry(store, suffix):
    store.write("a", {}, ARRAYS)
    path = store.root / f"a.{suffix}"
    path.unlink()
    assert store.read("a") is None
    path.mkdir()
    assert store.read("a") is None
    with pytest.raises(StoreError, match=r"cannot write .*a\.\w+: Is a directory"):
        store.write("a", {}, ARRAYS)


def test_arrays_of_another_entry_are_refused(store):
    store.write("a", {}, {"w": np.ones(3)})
    store.write("b", {}, {"w": np.zeros(3)})
    os.replace(store.root / "b.safetensors", store.root / "a.safetensors")
    assert store.read("a") is None


def test_an_entry_of_another_key_is_refused(store):
    store.write("a", {"member": 0}, {"w": np.ones(3)})
    for suffix in ("json", "safetensors"):
        (store.root / f"b.{suffix}").write_bytes((store.root / f"a.{suffix}").read_bytes())
    assert store.record("a") == {"member": 0} | {"arrays_sha256": ANY}
    assert store.record("b") is None


def test_records_from_before_keys_were_noted_are_read(store):
    body = {"status": "done"}
    body["record_sha256"] = digest(body)
    (store.root / "a.json").write_text(json.dumps(body))
    assert store.record("a") == {"status": "done"}


@pytest.mark.parametrize("lure", ["link", "folder", "pipe", "device", "sparse", "loop"])
def test_only_regular_files_inside_the_folder_are_read(store, tmp_path, lure):
    other = Store(tmp_path / "other")
    other.write("fits/a", {"one": 1}, {"w": np.ones(3)})
    fits = store.root / "fits"
    fits.mkdir()
    path = fits / "a.json"
    if lure == "link":
        path.symlink_to(other.root / "fits" / "a.json")
    elif lure == "folder":
        fits.rmdir()
        fits.symlink_to(other.root / "fits")
        with pytest.raises(StoreError, match=r"cannot write .*fits: it leads out of .*results"):
            store.write("fits/b", {})
        assert not (other.root / "fits" / "b.json").exists()
    elif lure == "pipe":
        os.mkfifo(path)
    elif lure == "device":
        path.symlink_to("/dev/zero")
    elif lure == "sparse":
        with path.open("wb") as file:
            file.truncate(2**40)
    else:
        path.symlink_to(path)
    assert store.record("fits/a") is None
    assert store.read("fits/a") is None
    assert store.keys("fits") == ([] if lure == "folder" else ["fits/a"])


@pytest.mark.parametrize("key", ["../other/fits/a", "fits/../../other/fits/a", "/etc/x"])
def test_keys_do_not_lead_out(store, tmp_path, key):
    Store(tmp_path / "other").write("fits/a", {"one": 1})
    assert store.record(key) is None
    with pytest.raises(StoreError, match="it leads out of"):
        store.write(key, {})


def test_what_could_not_be_read_is_not_written(store, monkeypatch):
    monkeypatch.setattr("bench.storage.store._LARGEST", {"json": 100, "safetensors": 1000})
    with pytest.raises(StoreError, match=r"cannot write .*a\.safetensors: it would be larger than"):
        store.write("a", {}, {"w": np.ones(1000)})
    with pytest.raises(StoreError, match=r"cannot write .*a\.json: it would be larger than 100 by"):
        store.write("a", {"text": "x" * 100})
    store.write_bytes("leaderboard.json", b"x" * 101)  # tables are not read again
    assert (store.root / "leaderboard.json").stat().st_size == 101


@pytest.mark.parametrize(
    "header",
    [
        b'{"w": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}',
        b'{"w": {"dtype": "F64", "shape": [4611686018427387904, 4], "data_offsets": [0, 8]}}',
        b'{"w": {"dtype": "F64", "shape": [2], "data_offsets": [0, 8]}}',
        b"[" * 10_000,
    ],
)
@pytest.mark.parametrize("length", [None, 2**63, 2**31])
def test_hostile_headers(store, header, length):
    payload = (length or len(header)).to_bytes(8, "little") + header + bytes(8)
    store.write_bytes("a.safetensors", payload)
    store.write("a", {"arrays_sha256": hashlib.sha256(payload).hexdigest()})
    assert store.read("a") is None


def test_stale_parts_are_swept_away(store):
    store.write("fits/a", {})
    old, new = (store.root / "fits" / f".nlbench-part-{name}" for name in ("old", "new"))
    others = store.root / ".part-of-another-program"
    for path in (old, new, others):
        path.write_text("")
    for path in (old, others):
        os.utime(path, (0, 0))
    Store(store.root)
    assert new.exists()
    assert others.exists()
    assert not old.exists()
    assert store.record("fits/a") == {}


def test_a_write_that_fails_leaves_the_old_entry_and_no_litter(store, monkeypatch):
    store.write("a", {"version": 1}, {"w": np.ones(3)})

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, refuse)
            with pytest.raises(StoreError, match=r"cannot write .*a\..*: No space left on device"):
                store.write("a", {"version": 2}, {"w": np.zeros(3)})
        assert store.read("a").record["version"] == 1
    assert sorted(p.name for p in store.root.iterdir()) == ["a.json", "a.safetensors"]


def test_readers_never_see_half_an_entry(store):
    stop = threading.Event()

    def write():
        value = 0
        while not stop.is_set():
            value += 1
            store.write("a", {"value": value}, {"w": np.full(1000, value)})

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = set()
        end = time.monotonic() + 60
        while len(seen) < 20 and time.monotonic() < end:
            entry = store.read("a")
            if entry is not None:  # between the two files there is no valid entry
                assert set(entry.arrays["w"]) == {entry.record["value"]}
                seen.add(entry.record["value"])
    finally:
        stop.set()
        thread.join()
    assert len(seen) == 20


def test_a_lock_keeps_others_out_and_is_freed_by_an_error(store):
    order = []

    def enter(name):
        with store.lock("key"):
            order.append(name)
            time.sleep(0.05)
            order.append(name)

    threads = [threading.Thread(target=enter, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == [name for name in order[::2] for _ in range(2)]
    with pytest.raises(KeyError), store.lock("key"):
        raise KeyError
    with store.lock("key"), store.lock("another"):
        pass


def test_places_that_cannot_be_written(tmp_path):
    (file := tmp_path / "file").write_text("")
    for place in (file, file / "below", "/proc/nlbench", tmp_path / ("x" * 300)):
        with pytest.raises(StoreError) as caught:
            Store(place)
        message = str(caught.value)
        assert message.startswith(f"cannot write to {place}: ")
        assert message.endswith("; choose another folder with --out")
        assert "\n" not in message
    with pytest.raises(StoreError, match=r"cannot lock .*locks/\w+\.lock: Not a directory"):
        Store.open(file).lock("key").__enter__()
    with pytest.raises(StoreError, match=r"cannot write .*: File exists"):
        Store.open(file).write("key", {})


def test_a_folder_is_left_as_it_was(tmp_path):
    Store(tmp_path / "deep" / "er")
    assert not any((tmp_path / "deep" / "er").iterdir())


def test_records_are_canonical(store):
    store.write("a", {"b": 1, "a": 2})
    first = (store.root / "a.json").read_bytes()
    store.write("a", {"a": 2, "b": 1})
    assert (store.root / "a.json").read_bytes() == first
    assert json.loads((store.root / "a.json").read_text())["a"] == 2
    with pytest.raises(ValueError, match="Out of range float"):
        store.write("c", {"value": float("nan")})
    assert store.read("c") is None


def test_the_same_record_is_left_alone(store):
    store.write("a", {"x": [1, 2], "y": 0.1})
    before = (store.root / "a.json").stat().st_mtime_ns
    store.write("a", {"y": 0.1, "x": (1, 2)})
    assert (store.root / "a.json").stat().st_mtime_ns == before
    store.write("a", {"y": 0.2, "x": (1, 2)})
    assert store.record("a") == {"x": [1, 2], "y": 0.2}
