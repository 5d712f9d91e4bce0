"""`bench study`: output, files, exit status, and one line for every mistake."""

import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli import main
from bench.registry.registry import Registry
from bench.storage.store import Store
from bench.studies import scaling_laws
from bench.studies.scaling import Timing, exponents, measure
from bench.studies.scaling_laws import laws

FIGURE = {"bootstrap-k.svg", "bootstrap-k.png"}  # only where matplotlib is installed

RESULTS = Path(__file__).parents[2] / "results"
OF_RESULTS = ("differences", "calibration", "averaging", "decomposition", "points", "networks")


@pytest.fixture
def bench(monkeypatch, capsys, tmp_path):
    """Return a function that runs a command in an empty folder.

    It returns exit status, standard output and error.
    """
    monkeypatch.chdir(tmp_path)

    def run(arguments):
        monkeypatch.setattr(sys, "argv", ["bench", *arguments.split()])
        status = 0
        try:
            main()
        except SystemExit as error:
            status = error.code
        return status, *capsys.readouterr()

    return run


def test_bootstrap_k(bench, tmp_path):
    command = (
        "study bootstrap-k --task gaussians-far --k 1 --observations 40 --sets 2 --bootstraps 4 "
        "--independent 9 --workers 1"
    )
    status, out, err = bench(command)
    assert (status, out.split(" · ")[0]) == (0, "gaussians-far")
    assert "Against 2 Φ(1/√(1 + 1/k)) − 1 " in " ".join(out.split())
    lines = err.splitlines()
    assert re.fullmatch(r"1/2 gaussians-far, M = 40, independent: \d+ s", lines[0])
    assert re.fullmatch(r"2/2 gaussians-far, M = 40, k = 1: \d+ s", lines[1])
    assert re.fullmatch(
        r"2 made, 0 reused, 0 failed in \d+ s; results in results/studies", lines[-1]
    )
    folder = tmp_path / "results" / "studies"
    assert {p.name for p in folder.glob("bootstrap-k.*")} - FIGURE == {
        *("bootstrap-k.md", "bootstrap-k.csv", "bootstrap-k.json")
    }
    written = (folder / "bootstrap-k.json").read_text()
    assert len(json.loads(written)) == 6
    status, again, err = bench(command)
    assert (status, again) == (0, out)
    assert err.startswith("0 made, 2 reused, 0 failed in ")
    assert (folder / "bootstrap-k.json").read_text() == written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("study bootstrp-k", "No such command 'bootstrp-k'."),
        ("study bootstrap-k --task gausians-far", "unknown task 'gausians-far'; did you mean gau"),
        ("study bootstrap-k --k 0", "Invalid value for '--k': 0 is not in the range 1<=x"),
        ("study bootstrap-k --k nine", "Invalid value for '--k': 'nine' is not a valid integer"),
        ("study bootstrap-k --sets 1", "Invalid value for '--sets': 1 is not in the range 2<=x"),
        ("study bootstrap-k --plugin none.py", "plugin none.py does not exist"),
        ("study bootstrap-k --seed -1", "Invalid value for '--seed': -1 is not in the range"),
        ("study bootstrap-k 9", "Got unexpected extra argument (9)"),
        ("study equivalence", "Missing argument 'RESULTS'."),
        *(
            (f"study {name} nowhere", "nowhere is not a results folder: it does not exist")
            for name in (*OF_RESULTS, "equivalence", "score-times")
        ),
        ("study examples --task gausians-far", "unknown task 'gausians-far'; did you mean gau"),
        ("study examples --task higgs-fair", "no task to draw: higgs-fair: the events of higgs"),
        ("study scaling --only evnts", "unknown size 'evnts'; did you mean events?"),
        ("study scaling --repeats 1", "Invalid value for '--repeats': 1 is not in the range 2<=x"),
        ("study device --network clasifier", "unknown network 'clasifier'; did you mean classif"),
        ("study device --device tpu", "Invalid value for '--device': 'tpu' is not one of"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_folder(bench, tmp_path, arguments, message):
    status, out, err = bench(arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.replace(f"{tmp_path}/", "").startswith(f"bench: {message}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (
            "differences higgs --method lre:tuned --method dle:tuned --metric width/z",
            ["| `lre:tuned` − `dle:tuned` | 5 | width/z | **0.00075(13)** | 0.0039 |"],
        ),
        (
            "differences higgs --against exact --metric coverage",
            ["| `histogram` − `exact` | 5 | coverage/z | **−0.0977(73)** | 3.1e-05 |"],
        ),
        (
            "calibration calibration --task gaussians-far --method calib* --metric coverage/z",
            [
                "| gaussians-far | 50,000 | `lre:tuned` | platt | 3 | 0.694 −0.017(14) |",
                "| gaussians-far | 50,000 | `lre:published` | isotonic | 3 | 0.189 +0.006(35) |",
            ],
        ),
        (
            "averaging processes --task gp --method lre:tuned",
            ["| `lre:tuned` | 5 | 0.80 | 0.361(55) | 0.63 | 0.253(42) |"],
        ),
        (
            "points points --task student-t",
            [
                "| `exact` | 0.2, 9 | 100 | 72% [62%, 81%] | 60% [50%, 70%] | 92% [85%, 96%] | "
                "5% [2%, 11%] |",
                "| `exact` | all | 1100 | 69% [66%, 71%] | 68% [66%, 71%] | 94% [93%, 95%] | "
                "2% [1%, 3%] |",
            ],
        ),
        (
            "points higgs --by z --method *",
            [
                "| `ensemble(lre:tuned,5)` | 1 | 0.93 | **1.0695(27)** | 1.076(18) | −0.0040(82) |",
                "| `histogram` | 5 | 1.07 | 0.9943(73) | **1.357(44)** | **−0.124(14)** |",
            ],
        ),
        (
            "networks higgs --method dle:published --metric coverage/z --metric overlap_kM/joint",
            [
                "| `dle:published` | 5 | 0.599 ± 0.062 | 0.47 ± 0.18 |",
                "| `exact` | 1 | 0.671 | 1.00 |",
            ],
        ),
    ],
)
def test_studies_of_results_print_what_pages_quote(bench, arguments, rows):
    name, folder, *more = arguments.split()
    status, out, err = bench(" ".join(["study", name, str(RESULTS / folder), *more]))
    assert (status, err) == (0, "")
    for row in rows:
        assert row in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "differences higgs --method lre:tunde",
            "unknown method 'lre:tunde'; did you mean lre:tun",
        ),
        ("differences higgs --against exakt", "unknown method 'exakt'; did you mean exact?"),
        ("differences higgs --metric widht", "unknown metric 'widht'; did you mean width?"),
        ("differences higgs --method lre:tuned", "nothing to compare: it takes two methods"),
        ("calibration higgs", "nothing to compare: it takes calibrated methods"),
        ("averaging points", "nothing to average: it takes a method with at least two networks"),
        ("decomposition points", "nothing to decompose: it takes three networks of a method"),
        ("points points --task sis-1", "unknown task 'sis-1'; did you mean sis?"),
        ("points higgs --by zz", "unknown parameter 'zz'; did you mean z?"),
        ("networks higgs --metric nothing", "unknown metric 'nothing'; known: bce, bias, "),
    ],
)
def test_mistakes_about_results_are_one_line(bench, tmp_path, arguments, message):
    name, folder, *more = arguments.split()
    status, out, err = bench(" ".join(["study", name, str(RESULTS / folder), *more]))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"bench: {message}")
    assert not list(tmp_path.iterdir())


def test_damaged_scores_are_passed_over_and_named(bench, tmp_path):
    packed, copy = Store.open(RESULTS / "peers"), Store(tmp_path / "peers")
    for key in (key for part in ("run", "plans", "fits", "scores") for key in packed.keys(part)):
        entry = packed.read(key) if key.startswith("scores/") else None
        copy.write(key, packed.record(key), entry and entry.arrays)
    copy.write("run", packed.record("run"), {})
    command = f"study networks {copy.root}"
    status, whole, err = bench(command)
    assert (status, err) == (0, "")
    path = next((copy.root / "scores").glob("*/dle-*/independent-*/member-000.safetensors"))
    path.write_bytes(path.read_bytes()[:-8])
    status, out, err = bench(command)
    assert status == 1
    assert err.startswith(f"damaged: {path}")
    assert err.count("\n") == 1
    assert "| `dle:tuned` | 2 |" in out
    assert len(out.splitlines()) == len(whole.splitlines())


def test_examples_are_the_same_every_time(bench, tmp_path):
    command = "study examples --task sis --task student-t --task gaussians-far"
    status, _, err = bench(command)
    folder = tmp_path / "results" / "studies"
    assert (status, err) == (0, "")
    assert {path.name for path in folder.iterdir()} == {"examples.svg", "examples.png"}
    drawn = (folder / "examples.svg").read_bytes()
    text = drawn.decode()
    assert text.index(">sis<") < text.index(">student-t<") < text.index(">gaussians-far<")
    assert "λ = 0.6, γ = 0.2" in text
    assert "ℓ = 0.2, ν = 6" in text
    assert bench(command)[0] == 0
    assert (folder / "examples.svg").read_bytes() == drawn


def test_a_device_agrees_with_itself(bench, tmp_path):
    command = (
        "study device --device cpu --network classifier --network series --members 1 --members 2"
    )
    status, out, err = bench(f"{command} --batch 8 --repeats 2")
    assert (status, err) == (0, "")
    with (tmp_path / "results" / "studies" / "device.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert all(float(row["difference_to_cpu"]) < 1e-5 for row in rows)
    one = next(
        row for row in rows if row["network"] == "classifier" and row["what"] == "evaluation"
    )
    assert int(one["operations"]) == 8 * 2 * (3 * 120 + 120 * 120 * 2 + 120)
    assert "| classifier | evaluation, launched | 2 | 8 |" in out


def test_the_exponent_of_a_square_is_two():
    rows = [Timing("nothing", "events", n, 3e-3 * n**2, 0, 0, 5) for n in (1, 2, 5, 10, 20, 50)]
    (found,) = exponents(rows)
    assert (found.low, found.high) == (1, 50)
    assert found.exponent == pytest.approx(2)
    assert found.upper == pytest.approx(2)


@pytest.mark.parametrize("law", laws(Registry()), ids=lambda law: f"{law.name}, {law.size}")
def test_every_scaling_law_can_be_timed(law):
    rows = list(measure(replace(law, sizes=law.sizes[:2]), 2))
    assert [row.value for row in rows] == list(law.sizes[:2])
    assert all(0 < row.fastest <= row.seconds <= row.slowest for row in rows)


def test_scaling(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(scaling_laws, "_SIZES", (1, 2))
    status, out, err = bench("study scaling --only population --repeats 2")
    assert (status, err.splitlines()[0]) == (0, "simulation, sis against population: done")
    folder = tmp_path / "results" / "scaling"
    assert {"seconds.csv", "exponents.csv", "scaling.md"} <= {p.name for p in folder.iterdir()}
    assert (folder / "scaling.md").read_text() == out
    assert "| score, sis | population | 5 | 10 |" in out
