"""`bench report`: output and exit status."""

import os
import pty
import re
import shutil
import subprocess
from contextlib import suppress

import pytest
from figure_results import bootstrap_table
from small_run import BENCH

TASK = "gaussians-far"


@pytest.fixture
def results(made, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    results = made("results/mine", uniform=30, per_point=1)
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 3, width=1.05, shift=0.1)
    results.fit(TASK, "dle", "tuned", 3, width=2.0)
    return results


def test_the_newest_results_become_a_report_and_a_terminal_shows_how_far_it_is(
    results, monkeypatch, tmp_path
):
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    made = subprocess.Popen([BENCH, "report"], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the end of a terminal
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert made.communicate(timeout=60)[0] == b"reports/mine/index.html\n"
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    steps = re.findall(r"(\d+) of (\d+)", text)
    assert [int(done) for done, _ in steps] == [*range(len(steps))]
    assert {total for _, total in steps} == {str(len(steps) - 1)}
    places = [text.index(what) for what in ("reading results", "drawing figures", "writing")]
    assert places == sorted(places)
    assert re.search(r"\d+ files in reports/mine", text)
    page = (tmp_path / "reports/mine/sources.html").read_text()
    assert "bench report results/mine --out reports/mine" in page


def test_tasks_and_methods_are_chosen(command, results, tmp_path):
    status, out, err = command(
        "report", results.root, "--method", "lre:*", "--task", "*far", "--out", "r"
    )
    assert (status, out) == (0, "r/index.html\n")
    assert re.fullmatch(r"\d+ files in r\n", err)  # no progress where there is no terminal
    assert "lre:tuned" in (tmp_path / "r/index.html").read_text()
    page = (tmp_path / "r/sources.html").read_text()
    assert "dle" not in (tmp_path / "r/tables/leaderboards.csv").read_text()
    assert "--task '*far' --method 'lre:*'" in page.replace("&#39;", "'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a results folder: it does not exist"),
        (["results/mine", "--task", "gausian"], "unknown task 'gausian'; did you mean"),
        (["results/mine", "--method", "none"], "unknown method in these results 'none'; known: "),
        (
            ["results/mine", "--method", "LRE-tuned"],
            "unknown method in these results 'LRE-tuned'; did you mean lre:tuned?",
        ),
        (
            ["results/mine", "--method", "ensemble(lre)"],
            "ensemble: key 'members' is missing; it is written 'ensemble(METHOD,MEMBERS)'",
        ),
    ],
)
def test_mistakes_are_one_line(command, results, arguments, message):
    status, out, err = command("report", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"bench: {message}")


def test_nothing_to_compare_is_said(command, made, tmp_path):
    empty = made("empty")
    status, out, err = command("report", empty.root, "--out", tmp_path / "r")
    assert (status, out) == (1, "")
    assert "no scores to compare" in err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("words", ["report", "leaderboard", "status", "score", "study equivalence"])
def test_the_parent_of_results_is_refused_with_their_names(command, results, tmp_path, words):
    """A parent folder with a table must not count as a folder of studies."""
    shutil.copytree(results.root, tmp_path / "results" / "other")
    (tmp_path / "results" / "afterwards.csv").write_text("a\n1\n")
    status, out, err = command(*words.split(), "results")
    assert (status, out) == (2, "")
    assert err == "bench: results is not a results folder: name one of those in it: mine, other\n"
    assert not (tmp_path / "reports").exists()


def test_tables_that_no_figure_shows_are_no_report(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / "lre.csv").write_text("rate,loss\n0.1,0.5\n")
    status, out, err = command("report", "tuning")
    assert (status, out) == (1, "")
    assert err == (
        "bench: tuning: no scores to compare, and no table of a study that a figure shows\n"
    )
    assert not (tmp_path / "reports").exists()


def test_tables_of_studies_alone_are_a_report(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    bootstrap_table().to_csv(tmp_path / "studies" / "bootstrap-k.csv", index=False)
    assert command("report", "studies")[:2] == (0, "reports/studies/index.html\n")
    assert list((tmp_path / "reports" / "studies" / "figures").glob("bootstrap-k*.svg"))


def test_damage_is_said_and_the_rest_reported(command, results):
    (results.root / f"fits/{TASK}/dle-tuned/fit.json").write_text("{")
    status, out, err = command("report", results.root)
    assert (status, out) == (1, "reports/mine/index.html\n")
    assert err.startswith("damaged: ")


def test_one_file_has_everything(command, results, tmp_path):
    assert command("report", results.root, "--inline", "--out", "r")[1] == "r/index.html\n"
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == [
        "index.html",
        "report.sha256",
    ]
    assert "data:image/svg+xml;base64," in (tmp_path / "r" / "index.html").read_text()
