"""Disks that are full, read-only or limited during a run: one clear line, and a way to resume."""

import os
import random
import resource
import signal
import subprocess
import tempfile
import time

import pytest

from bench.errors import StoreError

SEED = 5
REASONS = {
    "full": "No space left on device",
    "denied": "Read-only file system",
}


def is_told(err, reason):
    lines = err.splitlines()
    assert any(reason in line for line in lines), err
    assert all(line.startswith(("bench: ", "failed: ")) or " made, " in line for line in lines), err
    assert "unexpected" not in err


@pytest.mark.parametrize("number", range(12))
def test_any_write_may_fail(inline, tmp_path, monkeypatch, number):
    """In one process, a failed write is reported, leaves no litter, and the next run resumes."""
    draw = random.Random(f"{SEED} {number}")
    left, where = draw.randint(1, 40), draw.choice(["os.fsync", "os.replace", "tempfile.mkstemp"])
    module, name = (os if where.startswith("os") else tempfile), where.split(".")[1]
    genuine = getattr(module, name)

    def fails(*arguments, **options):
        nonlocal left
        left -= 1
        if left <= 0:
            raise OSError(28, "No space left on device")
        return genuine(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, fails)
        with pytest.raises(StoreError, match="No space left on device"):
            inline.run(tmp_path / "results")
    litter = [p for p in (tmp_path / "results").rglob(".*") if p.is_file()]
    assert not litter
    before = inline.finished(tmp_path / "results")
    inline.run(tmp_path / "results")
    assert before.items() <= inline.finished(tmp_path / "results").items()
    assert inline.arrays(tmp_path / "results") == inline.expected


@pytest.mark.parametrize("sabotage", ["full 12 fsync", "denied 25 mkstemp", "full 3 replace"])
def test_disks_that_refuse(place, same, sabotage):
    status, out, err = place.run(sabotage=sabotage)
    assert (status, out) == (1, "")
    is_told(err, REASONS[sabotage.split()[0]])
    assert place.litter() == []
    status, _, err = place.run()
    assert status == 0, err
    same(place)


def test_a_limit_on_the_size_of_files(place, same):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    status, _, err = place.run(preexec_fn=limit)
    assert status == 1
    is_told(err, "File too large")
    assert place.run()[0] == 0
    same(place)


@pytest.fixture
def mount(place):
    """Mount a small disk for the results, where mounting is permitted."""
    disk = place.folder / "disk"
    disk.mkdir()

    def mount(*options):
        ran = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(disk)],
            capture_output=True,
            check=False,
        )
        if ran.returncode:
            pytest.skip("mounting is not permitted here")

    mount("size=500k")
    place.root = disk / "results"
    yield mount
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_disk_that_is_full(place, same, mount):
    status, _, err = place.run()
    assert status == 1
    is_told(err, REASONS["full"])
    mount("remount", "size=64m")
    status, _, err = place.run()
    assert status == 0, err
    same(place)


def test_a_disk_that_becomes_read_only(place, same, mount):
    mount("remount", "size=64m")
    process = place.start("--workers", 1)
    while len(place.finished()) < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    mount("remount", "ro")
    status, _, err = place.finish(process)
    assert status == 1
    is_told(err, REASONS["denied"])
    for command in ("status", "leaderboard"):
        status, _, err = place.run(command=command)
        assert status in (0, 1)
        assert all(line.startswith("bench: ") for line in err.splitlines())
    status, _, err = place.run()
    assert status == 1
    is_told(err, REASONS["denied"])
    mount("remount", "rw")
    status, _, err = place.run()
    assert status == 0, err
    same(place)
