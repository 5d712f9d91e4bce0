"""`bench study`: output, files, exit status, and one line for every mistake."""

import json
import re
import sys

import pytest

from bench.cli import main

FIGURE = {"bootstrap-k.svg", "bootstrap-k.png"}  # only where matplotlib is installed


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
        ("study equivalence nowhere", "nowhere is not a results folder: it does not exist"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_folder(bench, tmp_path, arguments, message):
    status, out, err = bench(arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.replace(f"{tmp_path}/", "").startswith(f"bench: {message}")
    assert not list(tmp_path.iterdir())
