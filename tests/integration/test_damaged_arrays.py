"""Damaged arrays with valid checksums: reported by name, and repaired or skipped."""

import csv
import io
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
from damage import FILES, NOT_FINITE, NUMBERS, SHAPES, replace, rewrite
from whole_runs import TINY, benchmark, contents, digests, inline

from bench.experiment.rescore import damaged_predictions, plan_scores
from bench.registry.registry import Registry
from bench.storage.arrays import described
from bench.storage.entries import inspect
from bench.storage.store import Store

PLANS = (*TINY["plans"], {"kind": "bootstrap", "sets": 2, "multiple": 2, "bootstraps": 3,
                          "observations": 50})  # fmt: skip
RESULTS = Path(__file__).parents[2] / "results"


class Whole:
    """Finished run, to be copied and damaged."""

    def __init__(self, folder):
        self.plugin = shutil.copy(Path(__file__).parents[1] / "plugins" / "simple.py", folder)
        self.root = folder / "results"
        inline(self.benchmark(self.root))
        self.before = digests(self.root)

    def benchmark(self, root):
        return benchmark(root, [self.plugin], plans=PLANS)

    def key(self, kind):
        """Return the key of the entry to damage, such as "scores bootstrap"."""
        part, _, plan = kind.partition(" ")
        where = "simple-*/" + (f"{plan}-*/" if plan else "")
        pattern = "*/*" if part == "simulations" else f"{where}member-001"
        path = sorted(self.root.glob(f"{part}/gaussians-far/{pattern}.json"))[0]
        return path.relative_to(self.root).with_suffix("").as_posix()


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    return Whole(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def root(whole, tmp_path):
    return Path(shutil.copytree(whole.root, tmp_path / "results"))


CURVES = ("mle", "area", "profile", "joint", "spacing")
SETS = ("point", "set", "block")
DAMAGES = SHAPES | NOT_FINITE | NUMBERS
CASES = [
    (kind, name, damage)
    for kind, damages, names in [
        ("fits", SHAPES | NOT_FINITE, ["coefficients"]),
        ("simulations", SHAPES | NOT_FINITE, ["x", "context"]),
        ("predictions independent", SHAPES | NUMBERS, [f"datasets.{name}" for name in SETS]),
        ("predictions independent", SHAPES | NOT_FINITE, ["datasets.theta"]),
        ("predictions independent", SHAPES | NOT_FINITE, [f"curves.{name}" for name in CURVES]),
        ("predictions independent", SHAPES, ["curves.cut_lower", "curves.unresolved"]),
        ("predictions bootstrap", SHAPES | NUMBERS, ["datasets.set", "full_set"]),
        ("predictions bootstrap", SHAPES | NOT_FINITE, [f"full.{name}" for name in CURVES]),
        ("predictions heldout", SHAPES | NOT_FINITE, ["context"]),
        ("predictions heldout", SHAPES, ["own", "reference", "score", "has_density"]),
        ("scores independent", SHAPES | NUMBERS, SETS),
        ("scores bootstrap", SHAPES | NUMBERS, SETS),
        ("scores heldout", SHAPES | NUMBERS, SETS),
        ("scores independent", SHAPES | NOT_FINITE, ["interval_score/mu", "coverage/z"]),
        ("scores independent", SHAPES, ["bias/z"]),
        ("scores bootstrap", SHAPES, ["overlap_kM/joint"]),
        ("scores heldout", SHAPES, ["not_finite/signal"]),
    ]
    for name in names
    for damage in damages
    if not (damage == "missing" and name.endswith("block"))  # missing in older entries
]
"""Every kind of entry, one of its arrays, and a possible damage."""


def test_every_damage_of_an_array_is_found_and_told(whole, root):
    store, task, known = Store.open(root), Registry().task("gaussians-far"), {}
    for kind, name, damage in CASES:
        key = whole.key(kind)
        files = [root / f"{key}.{suffix}" for suffix in ("json", "safetensors")]
        kept = [path.read_bytes() for path in files]
        known.setdefault(key, inspect(store, key, task))
        assert known[key][0].arrays
        assert known[key][1] == "", kind
        rewrite(root, key, DAMAGES[damage](name))
        entry, told = inspect(store, key, task)
        assert entry is None, (kind, name, damage)
        assert told.startswith(f"{key}.safetensors: "), (kind, name, damage)
        assert told.isprintable()
        if damage not in ("long", "short", "empty"):  # otherwise other arrays are reported
            assert name.rpartition(".")[2] in told, (name, damage, told)
        for path, content in zip(files, kept, strict=True):
            path.write_bytes(content)


@pytest.mark.parametrize("damage", FILES)
def test_every_damage_of_a_file_is_found_and_told(whole, root, damage):
    store = Store.open(root)
    for kind in ("fits", "simulations", "predictions heldout", "scores independent"):
        key = whole.key(kind)
        replace(root, key, FILES[damage]((root / f"{key}.safetensors").read_bytes()))
        entry, told = inspect(store, key)
        assert entry is None, kind
        assert told.startswith(f"{key}.safetensors: ")


def test_names_of_arrays_may_be_anything(whole, root):
    """Names of a fit's arrays are chosen by the method."""
    store, key = Store.open(root), whole.key("fits")
    odd = {"two\nlines": np.ones((1, 2)), "": np.zeros((1, 1), dtype=np.int64)}
    store.write(key, {**store.record(key), "state": described(odd)}, odd)
    entry, told = inspect(store, key)
    assert (entry.arrays.keys(), told) == (odd.keys(), "")


def test_stray_files_are_not_told(whole, root, command):
    for part in ("scores independent", "predictions heldout"):
        record = root / f"{whole.key(part)}.json"
        for name in ("member-000 copy.json", "notes.json", "member-.json"):
            shutil.copy(record, record.with_name(name))
    for name in ("status", "leaderboard"):
        assert command(name, root)[::2] == (0, "")
    assert damaged_predictions(Store.open(root), plan_scores(Store.open(root), Registry())) == []


def test_numbers_that_may_be_missing_are_no_damage(whole, root):
    """NaN marks a dataset without a value, and log-densities may be infinite."""
    store = Store.open(root)
    for kind, name, value in [
        ("scores independent", "bias/z", np.nan),
        ("scores heldout", "not_finite/signal", np.nan),
        ("predictions heldout", "own", -np.inf),
        ("predictions heldout", "own", np.nan),
        ("predictions heldout", "score", np.inf),
    ]:
        rewrite(root, whole.key(kind), NOT_FINITE["NaN"](name))
        rewrite(root, whole.key(kind), lambda arrays, n=name, v=value: arrays[n].fill(v))
        entry, told = inspect(store, whole.key(kind))
        assert (entry is not None, told) == (True, "")


@pytest.mark.parametrize(
    "damage", ["missing", "an axis more", "another type", "short", "NaN", "inf", "far"]
)
def test_a_resuming_run_makes_it_again(whole, root, damage):
    wanted = {kind: name for kind, name, d in CASES if d == damage and kind != "simulations"}
    for kind, name in wanted.items():
        rewrite(root, whole.key(kind), DAMAGES[damage](name))
    made = inline(whole.benchmark(root))
    for kind in wanted:
        part, plan = f"{kind} ".split(" ")[:2]
        job = {"fits": "fit", "predictions": "predict", "scores": "score"}[part]
        assert any(key.startswith(f"{job} ") and plan in key for key in made), kind
    after = contents(digests(root, ".safetensors"))
    assert after == contents(digests(whole.root, ".safetensors"))
    assert whole.benchmark(root).jobs == []


def test_damaged_simulations_are_made_again(whole, root):
    shutil.rmtree(root / "fits")
    keys = sorted(Store.open(root).keys("simulations"))
    damages = [SHAPES["missing"], SHAPES["another type"], SHAPES["short"], NOT_FINITE["NaN"]]
    for i, key in enumerate(keys):
        rewrite(root, key, damages[i % len(damages)]("x" if i % 2 else "context"))
    inline(whole.benchmark(root))
    expected = contents(digests(whole.root, ".safetensors"))
    after = contents(digests(root, ".safetensors"))
    assert {k: v for k, v in after.items() if "simulations" not in k} == {
        k: v for k, v in expected.items() if "simulations" not in k
    }
    assert any(after[k] == expected[k] for k in after if "simulations" in k)


def table(text):
    """Return the leaderboards' numbers by plan, method, members and quantity."""
    return {
        (r["plan"], r["method"], r["members"], r["quantity"]): (r["value"], r["error"])
        for r in csv.DictReader(io.StringIO(text))
        if "seconds" not in r["quantity"]
    }


@pytest.fixture(scope="module")
def alone(whole, tmp_path_factory):
    """Make a copy of the results with only the undamaged member."""
    root = Path(shutil.copytree(whole.root, tmp_path_factory.mktemp("alone") / "results"))
    for path in root.glob("scores/gaussians-far/simple-*/*/member-001.*"):
        path.unlink()
    return root


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("interval_score/mu", "NaN"),
        ("interval_score/mu", "missing"),
        ("width/mu", "inf"),
        ("point", "missing"),
        ("point", "far"),
        ("set", "an axis more"),
        ("bias/z", "another type"),
    ],
)
def test_leaderboards_pass_over_damaged_scores_and_say_so(
    whole, root, alone, command, name, damage
):
    key = whole.key("scores independent")
    rewrite(root, key, DAMAGES[damage](name))
    for path in alone.glob("scores/*/simple-*/heldout-*/member-000.*"):
        shutil.copy(path, path.with_name(path.name.replace("000", "001")))
    expected = table(command("leaderboard", alone, "--format", "csv")[1])
    for arguments in (("status",), ("leaderboard",), ("leaderboard", "--format", "csv")):
        status, out, err = command(arguments[0], root, *arguments[1:])
        assert (status, err.count("\n")) == (1, 1), err
        assert err.startswith(f"damaged: {root / key}.safetensors: ")
        assert err.endswith("; `bench run` makes it anew\n")
        if arguments[0] == "status":
            (line,) = (line for line in out.splitlines() if "  simple  " in line)
            assert line.endswith("fits 2/2  bootstrap 2/2  heldout 2/2  independent 1/2")
    found = table(out)
    ours = {k: v for k, v in expected.items() if k[0].startswith("independent")}
    assert ours.items() <= found.items()
    assert {k for k in found if k[0].startswith("independent")} == set(ours)


@pytest.mark.parametrize("damage", ["missing", "NaN", "another type", "an axis more"])
def test_reports_pass_over_damaged_predictions_and_say_so(
    whole, root, command, monkeypatch, damage, tmp_path
):
    monkeypatch.setattr("bench.report.write.figures", lambda loaded: [])
    keys = [whole.key("scores bootstrap"), whole.key("predictions independent")]
    rewrite(root, keys[0], DAMAGES[damage]("width/mu"))
    rewrite(root, keys[1], DAMAGES[damage]("curves.joint"))
    status, out, err = command("report", root, "--out", tmp_path / "report")
    assert status == 1
    assert out == f"{tmp_path / 'report' / 'index.html'}\n"
    lines = err.splitlines()[:-1]
    assert [line.split(": ")[:2] for line in lines] == [
        ["damaged", f"{root / key}.safetensors"] for key in sorted(keys)
    ]


def test_damaged_predictions_are_not_scored_and_told(whole, root):
    key = whole.key("predictions heldout")
    before = len(plan_scores(Store(root), Registry()))
    rewrite(root, key, SHAPES["missing"]("own"))
    planned = plan_scores(Store(root), Registry())
    assert len(planned) == before - 1
    assert damaged_predictions(Store(root), planned) == [
        f"{root / key}.safetensors: it lacks 'own'; `bench run` makes it anew"
    ]


def test_the_command_score_says_what_it_passes_over(whole, root, command):
    prediction, scores = whole.key("predictions heldout"), whole.key("scores independent")
    rewrite(root, prediction, NOT_FINITE["NaN"]("context"))
    rewrite(root, scores, NOT_FINITE["NaN"]("width/z"))
    status, out, err = command("score", root, "--workers", 1)
    assert (status, out) == (1, "")
    lines = err.splitlines()
    assert lines[0].startswith(f"damaged: {root / prediction}.safetensors: 'context' holds NaN")
    assert "1 made, 7 reused, 0 failed" in lines[-1]  # the scores are computed again
    assert not any("unexpected" in line for line in lines)
    assert contents(digests(root))[f"{scores}.safetensors"] == whole.before[
        f"{scores}.safetensors"
    ][0]  # fmt: skip


def test_the_study_of_equivalence_passes_over_damaged_scores(command, tmp_path):
    root = tmp_path / "results"
    packed, unpacked = Store.open(RESULTS / "scores"), Store(root)
    names = ("exact-*", "lre-*")
    patterns = ["plans/*", *(f"*/student-t/{name}/*" for name in names)]
    for key in (key for part in ("plans", "fits", "scores") for key in packed.keys(part)):
        if any(fnmatchcase(key, pattern) for pattern in patterns):
            entry = packed.read(key) if key.startswith("scores/") else None
            unpacked.write(key, packed.record(key), entry and entry.arrays)
    shutil.copy(RESULTS / "scores" / "run.json", root)
    arguments = ("study", "equivalence", root, "--out", tmp_path / "study")
    assert command(*arguments)[::2] == (0, "")
    exact, other = (
        next((root / "scores").glob(f"*/{name}/independent-*/member-000.json")) for name in names
    )
    exact, other = (path.relative_to(root).with_suffix("").as_posix() for path in (exact, other))
    rewrite(root, exact, SHAPES["missing"]("interval_score/nu"))
    rewrite(root, other, NOT_FINITE["NaN"]("interval_score/nu"))
    status, out, err = command(*arguments)
    assert status == 1
    assert out
    assert [line.split(": ")[:2] for line in err.splitlines()] == [
        ["damaged", f"{root / key}.safetensors"] for key in sorted([exact, other])
    ]


def test_members_of_other_sets_are_told(whole, root, command):
    """Scores with one evaluation point fewer agree with the plan, but not with other scores."""
    key = whole.key("scores bootstrap")
    rewrite(root, key, lambda arrays: {name: array[:-2] for name, array in arrays.items()})
    status, _, err = command("leaderboard", root)
    assert status == 1
    assert err == (
        f"damaged: {root / key}.safetensors: 'point' numbers other sets than other scores; "
        "`bench run` makes it anew\n"
    )
    made = inline(whole.benchmark(root))
    assert len(made) == 1
    assert command("leaderboard", root)[::2] == (0, "")


def test_an_unreadable_column_costs_itself_alone(whole, root, command):
    before = command("leaderboard", root, "--format", "csv")[1]
    key = whole.key("scores independent")
    rewrite(root, key, lambda arrays: arrays | {"mine/two\nlines": arrays["width/mu"]})
    status, out, err = command("leaderboard", root, "--format", "csv")
    assert (status, out) == (1, before)
    assert err == (
        f"damaged: {root / key}.safetensors: 'mine/two\\nlines' is no name of a column; "
        "`bench run` makes it anew\n"
    )
    assert len(inline(whole.benchmark(root))) == 1
    assert command("leaderboard", root, "--format", "csv") == (0, before, "")
