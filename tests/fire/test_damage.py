"""Files that are flipped, cut, deleted or swapped: detected, reported, repaired, never misread."""

import json
import random
import re
import shutil
import subprocess
import time

import pytest

CASES = 20


def flip(path, draw, others):
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 1, 16])):
        content[draw.randrange(len(content))] ^= draw.randint(1, 255)
    path.write_bytes(content)


def cut(path, draw, others):
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def blank(path, draw, others):
    path.write_bytes(bytes(path.stat().st_size))


def grow(path, draw, others):
    path.write_bytes(path.read_bytes() + draw.randbytes(9))


def delete(path, draw, others):
    path.unlink()


def delete_folder(path, draw, others):
    shutil.rmtree(path.parent) if path.parent.name != "results" else path.unlink()


def take_the_place(path, draw, others):
    """Replace an entry (record and arrays) by another one."""
    other = draw.choice([o for o in others if o.suffix == path.suffix])
    for suffix in (".json", ".safetensors"):
        if other.with_suffix(suffix).exists():
            shutil.copy(other.with_suffix(suffix), path.with_suffix(suffix))


DAMAGES = (flip, flip, cut, blank, grow, delete, delete_folder, take_the_place, take_the_place)


def numbers(text):
    """Return the leaderboards' numbers by quantity and number of networks."""
    return {
        (r["task"], r["plan"], r["fit"], r["members"], r["quantity"]): (r["value"], r["error"])
        for r in json.loads(text)
        if r["value"] is not None and not {"seconds", "ratio"} & {*re.split("[_/]", r["quantity"])}
    }


@pytest.fixture
def alone(inline, command, tmp_path):
    """Return the leaderboards' numbers for each of the two members alone."""
    found = []
    for member in range(2):
        root = shutil.copytree(inline.root, tmp_path / f"without {member}")
        for path in (root / "scores").rglob(f"simple-*/*/member-{member:03d}.json"):
            path.unlink()
        found.append(numbers(command("leaderboard", root, "--format", "json")[1]))
    return found


@pytest.mark.parametrize("case", range(CASES))
def test_damage(inline, command, alone, tmp_path, case):
    draw = random.Random(case)
    root = tmp_path / "results"
    shutil.copytree(inline.root, root)
    truth = numbers(command("leaderboard", root, "--format", "json")[1])
    assert truth
    files = sorted(p for p in root.rglob("*") if p.suffix in (".json", ".safetensors"))
    files = [p for p in files if not p.name.startswith("leaderboard")]
    for _ in range(draw.choice([1, 1, 4, 20])):
        path = draw.choice(files)
        if path.exists():
            draw.choice(DAMAGES)(path, draw, [p for p in files if p.exists() and p != path])
    for arguments in (("status",), ("leaderboard",), ("leaderboard", "--format", "json")):
        status, out, err = command(arguments[0], root, *arguments[1:])
        assert status in (0, 1, 2)
        assert all(line.startswith(("bench: ", "damaged: ")) for line in err.splitlines()), err
        assert "unexpected" not in err
        assert status == 0 or err
    for key, value in numbers(out or "[]").items():
        assert value in {t.get(key) for t in (truth, *alone)}, key
    inline.run(root)
    made = inline.arrays(root)
    assert made.items() <= inline.expected.items()
    missing = inline.expected.keys() - made.keys()
    assert all(key.startswith("simulations/") for key in missing)  # these are not needed again
    assert numbers(command("leaderboard", root, "--format", "json")[1]) == truth
    assert inline.planned(root) == []


@pytest.mark.parametrize("second", [(), ("--overwrite",), ("--method", "simple:wide")])
def test_two_runs_on_one_folder(place, same, second):
    first = place.start("--workers", 1)
    time.sleep(1)
    other = place.start("--workers", 1, *second)
    readers = 0
    while first.poll() is None or other.poll() is None:
        if place.root.joinpath("run.json").exists():
            ran = place.start(command="leaderboard" if readers % 2 else "status")
            _, err = ran.communicate(timeout=300)
            assert ran.returncode in (0, 1), err
            assert "unexpected" not in err
            assert "Traceback" not in err
            readers += 1
        time.sleep(0.5)
    for process in (first, other):
        try:
            _, err = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:  # pragma: no cover
            pytest.fail("it hangs")
        assert process.returncode == 0, err
    assert readers
    status, _, err = place.run()
    assert status == 0, err
    assert err.startswith("0 made")
    same(place)
