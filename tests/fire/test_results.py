"""Malicious results folders: rejected in one line, or shown without harm."""

import copy
import json
import os
import random
import re
import shutil

import pytest

import bench
from bench.errors import StoreError
from bench.storage.pack import PACK, Pack, packed
from bench.storage.store import Store

CASES = 150
SHOWN = [("status",), *(("leaderboard", "--format", f) for f in ("table", "csv", "md", "json"))]
EVIL = [
    *(None, True, -1, 0, 10**18, 10**400, 1e308, -1e308, "", [], {}, [[]], {"": {}}),
    *("../../../../tmp/evil", "/tmp/evil", "..", ".", "a/b", "\0", "x" * 100_000, "-", "#"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "](javascript:alert(1))"),
    *("\x1b]0;evil\x07", "\x1b[2J", "\x9b2J", "two\nlines", "\rover", "\u202eevil", "|a|b|"),
    *("=cmd|' /C calc'!A0", "%s%n", "{0.__class__}", "nan", "exact", "independent", "done"),
]


def places(value, path=()):
    """Yield every path in a record."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items if isinstance(value, dict | list) else ():
        yield from places(inner, (*path, key)) if isinstance(inner, dict | list) else [(*path, key)]


def spoil(record, draw):
    """Set, remove or add a random value in a record."""
    record = copy.deepcopy(record)
    *path, last = draw.choice([p for p in places(record) if p])
    inner = record
    for key in path:
        inner = inner[key]
    how = draw.choice(["set", "set", "set", "remove", "rename"])
    evil = draw.choice(EVIL)
    if how == "set":
        inner[last] = evil
    elif how == "remove":
        del inner[last]
    elif isinstance(inner, dict):
        inner[str(evil)] = inner.pop(last)
    return record


def harmless(out, err):
    for text in (out, err):
        assert "\x1b" not in text
        assert all(c.isprintable() or c == "\n" for c in text)
    for line in err.splitlines():
        assert re.match(r"(bench|damaged|failed|n/a): |\d+ files in ", line), err
    assert "bench: unexpected" not in err


def show_all(command, root, folder, report=False):
    """Run every command that shows results, check its output, and return the outputs.

    A report takes seconds, so it is written only on request.
    """
    said = {}
    page = root / "page" / "index.html"
    before = sorted(p for p in folder.rglob("*") if root not in p.parents)
    for name, *more in [*SHOWN, *([("report", "--out", page.parent)] if report else [])]:
        status, out, err = command(name, root, *more)
        assert status in (0, 1, 2)
        assert status == 0 or err
        harmless(out, err)
        said[(name, *more)] = out, err
    assert sorted(p for p in folder.rglob("*") if root not in p.parents) == before
    if page.exists():
        text = page.read_text()
        assert not any(evil in text for evil in EVIL if str(evil).startswith(("<", "\x1b")))
    return said


@pytest.fixture
def root(inline, tmp_path):
    return shutil.copytree(inline.root, tmp_path / "results")


@pytest.mark.parametrize("case", range(CASES))
def test_records_that_are_sound_and_senseless(command, root, tmp_path, case):
    draw = random.Random(case)
    store = Store.open(root)
    keys = [k for part in ("fits", "plans", "scores") for k in store.keys(part)] + ["run"] * 3
    for _ in range(draw.choice([1, 1, 3])):
        key = draw.choice(keys)
        entry = store.read(key)
        if entry is None:
            continue
        record = spoil(entry.record, draw)
        try:
            store.write(key, record, entry.arrays)
        except (TypeError, ValueError):  # not JSON
            continue
    show_all(command, root, tmp_path, report=case % 4 == 0)


@pytest.mark.parametrize("case", range(CASES // 3))
def test_scores_that_are_sound_and_senseless(command, root, tmp_path, case):
    draw = random.Random(case)
    store = Store.open(root)
    key = draw.choice(store.keys("scores"))
    entry = store.read(key)
    arrays = {k: v.copy() for k, v in entry.arrays.items()}
    name = draw.choice(sorted(arrays))
    old = arrays.pop(name)
    change = draw.choice(
        [
            lambda: {},
            lambda: {name: old[:0]},
            lambda: {name: old[:-1]},
            lambda: {name: old[None]},
            lambda: {name: old.astype("float32")},
            lambda: {name: old.astype("int64") * 0 - 7},
            lambda: {name: old * 0 + 1},
            lambda: {name: (old * float("nan"))},
            lambda: {f"{name}/<b>\x1b[2J": old},
            lambda: {"x" * 10_000: old, name: old},
        ]
    )
    store.write(key, entry.record, arrays | change())
    show_all(command, root, tmp_path, report=case % 4 == 0)


@pytest.mark.parametrize("case", range(CASES // 3))
def test_packed_windows_that_are_sound_and_senseless(command, root, tmp_path, case):
    draw = random.Random(case)
    assert command("results", "pack", root)[0] == 0
    shutil.rmtree(root / "predictions")
    pack = Pack(root / PACK)
    bad = draw.choice([key for key in pack.keys() if key.startswith("windows/")])  # noqa: SIM118
    entries = [
        (key, pack.record(key), pack.arrays(key) if pack.has_arrays(key) else {})
        for key in pack.keys()  # noqa: SIM118
    ]
    entries = [(k, spoil(r, draw) if k == bad else r, arrays) for k, r, arrays in entries]
    (root / PACK).write_bytes(packed(entries))
    loaded = bench.load(root)
    assert loaded.maxima.notna().all(axis=None)
    assert len(loaded.contours) == 33 * 33 * len(loaded.maxima)
    show_all(command, root, tmp_path, report=case % 10 == 0)


def folder_of(root, method="simple"):
    (path,) = (root / "fits" / "gaussians-far").glob(f"{method}-*")
    return path


@pytest.mark.parametrize("name", ["../../../../escaped", "/escaped", "a/../../../b", "x" * 300])
def test_names_do_not_lead_out_of_the_folder(command, root, tmp_path, name):
    store = Store.open(root)
    key = folder_of(root).relative_to(root).as_posix() + "/fit"
    record = store.record(key)
    record["task"] = name
    record["identity"]["task"]["name"] = name
    store.write(key, record)
    said = show_all(command, root, tmp_path)
    assert f"damaged: {root}/{key}.json; `bench run` makes it anew" in said[("status",)][1]
    before = sorted(p for p in tmp_path.rglob("*") if root not in p.parents)
    status, _, err = command("score", root, "--workers", "1")
    assert status == 1
    assert "damaged: " in err
    assert sorted(p for p in tmp_path.rglob("*") if root not in p.parents) == before
    assert not os.path.lexists("/escaped")


def run_anew(inline, root):
    """Run so that every part of the folder is written."""
    for part in ("fits", "predictions", "scores", "plans", "simulations"):
        if not (root / part).is_symlink():
            shutil.rmtree(root / part)
    inline.run(root)


@pytest.mark.parametrize("part", ["fits", "predictions", "scores", "plans", "locks"])
def test_links_out_of_the_folder(command, inline, root, tmp_path, part):
    outside = tmp_path / "outside"
    shutil.move(root / part, outside)
    (root / part).symlink_to(outside)
    before = {p: p.stat().st_mtime_ns for p in outside.rglob("*")}
    show_all(command, root, tmp_path)
    if part in ("fits", "plans", "scores"):
        assert "simple" not in command("leaderboard", root)[1]
    with pytest.raises(StoreError, match="leads out of"):
        run_anew(inline, root)
    assert {p: p.stat().st_mtime_ns for p in outside.rglob("*")} == before


@pytest.mark.parametrize("what", ["pipe", "huge", "zeros", "deep", "many", "header"])
@pytest.mark.parametrize("where", ["run", "plans", "fit", "member", "scores"])
def test_files_that_swell(command, root, tmp_path, where, what):
    fit = folder_of(root)
    path = {
        "run": root / "run.json",
        "plans": next((root / "plans").glob("*.json")),
        "fit": fit / "fit.json",
        "member": fit / "member-000.json",
        "scores": next((root / "scores").rglob("member-001.json")),
    }[where]
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "zeros":
        path.symlink_to("/dev/zero")
    elif what == "huge":
        with path.open("wb") as file:
            file.truncate(2**40)
    elif what == "deep":
        path.write_text('{"a":' * 100_000)
    elif what == "many":
        path.write_text(json.dumps({str(i): [] for i in range(100_000)}))
    else:
        arrays = path.with_suffix(".safetensors")
        arrays.write_bytes((2**62).to_bytes(8, "little") + b"{" * 100)
        Store.open(root).write(
            path.relative_to(root).with_suffix("").as_posix(), {"status": "done"}
        )
    said = show_all(command, root, tmp_path)
    if where in ("run", "plans", "fit") and what != "pipe":
        assert any("damaged: " in err or "bench: " in err for _, err in said.values())


@pytest.mark.parametrize("part", ["plans/{}", "fits/gaussians-far/{}/fit", "scores/{}/x"])
@pytest.mark.parametrize("name", ["\x1b[2J", "two\nlines", "<script>", "a b", "-", "\udcff"])
def test_names_of_files(command, root, tmp_path, part, name):
    store = Store.open(root)
    like = store.keys(part.partition("/{}")[0])[0]
    record = store.record(like) | {"status": "failed", "error": "it did not work"}
    store.write(part.format(name), record, store.read(like).arrays)
    show_all(command, root, tmp_path)


def test_what_is_told_of_failures_is_escaped(command, root, tmp_path):
    store = Store.open(root)
    key = folder_of(root).relative_to(root).as_posix() + "/member-001"
    evil = "<script>alert(1)</script> | \x1b[31m [x](javascript:y)\nsecond line"
    store.write(key, {"status": "failed", "error": evil, "error_type": evil})
    said = show_all(command, root, tmp_path, report=True)
    markdown = said["leaderboard", "--format", "md"][0]
    assert "&lt;script" in markdown or "\\<script" in markdown
    assert "<script" not in markdown.replace("\\<script", "")
