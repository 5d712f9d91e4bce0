"""Leaderboards of generated scores with known means, gaps and ranks."""

import csv
import io
import json
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.boards import FORMATS, Results, build, table
from bench.boards.build import expected_coverage
from bench.boards.columns import parenthesised, sections
from bench.boards.notes import heading, notes
from bench.boards.verdict import verdict
from bench.contracts import Metric
from bench.registry.registry import Registry
from bench.storage.store import Store

SETS = 60
PLAN = {"kind": "independent", "uniform": 40, "per_point": 10, "observations": None}
POINT = np.array([-1] * 40 + [0] * 10 + [1] * 10)


@pytest.fixture(scope="module")
def metrics():
    return Registry().metrics()


class Folder:
    """Results folder made without training."""

    def __init__(self, root):
        self.store = Store(root)
        self.store.write("plans/independent-x", {"plan": PLAN, "seed": 0})
        self.store.write("run", {"command": ["bench"], "preset": {}, "cells": [], "absent": []})
        self.noise = np.random.default_rng(0)

    def fit(self, method, members, *, oracle=False, failed=(), losses=(), **values):
        budget = 0 if oracle else 1000
        data = "none" if oracle else "fresh"
        self.store.write(
            f"fits/t/{method}-0/fit",
            {
                "task": "t",
                "method": method,
                "configuration": "default",
                "oracle": oracle,
                "identity": {"budget": budget, "training_data": data, "seed": 0},
            },
        )
        for member in range(members):
            curve = {"steps": 10, "seconds": 2.0, "seconds_to_best": 1.0}
            curve["validation_loss"] = list(losses)
            record = {
                "status": "done",
                "seconds": 3.0,
                "stack": 2,
                "calls": budget,
                "parameters": 7,
                "curves": {"net": curve},
                "environment": {"device": "cpu"},
            }
            if member in failed:
                record = {"status": "failed", "error": "the loss is <NaN>"}
            self.store.write(f"fits/t/{method}-0/member-{member:03d}", record)
            if member not in failed:
                arrays = {"point": POINT, "set": np.arange(SETS)}
                arrays |= {name: make(member) for name, make in values.items()}
                self.store.write(
                    f"scores/t/{method}-0/independent-x/member-{member:03d}",
                    {"status": "done", "undefined": {}},
                    arrays,
                )

    def boards(self, metrics):
        return build(Results(self.store), metrics)


def scores(folder, ratio, covered=0.7):
    """Return interval scores `ratio` times exact's, with noise over sets shared by methods."""
    base = np.random.default_rng(1).gamma(4.0, size=SETS)

    def score(member):
        return ratio * base * folder.noise.gamma(100, 0.01, size=SETS)

    return {
        "interval_score/mu": score,
        "interval_score/z": score,
        "width/mu": lambda m: base,
        "width/z": lambda m: base / ratio,
        "coverage/mu": lambda m: (np.arange(SETS) % 10 < 10 * covered).astype(float),
        "coverage/z": lambda m: np.ones(SETS),
    }


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path / "r")
    base = np.random.default_rng(1).gamma(4.0, size=SETS)
    exact = scores(folder, 1.0) | dict.fromkeys(
        ("interval_score/mu", "interval_score/z"), lambda m: base
    )
    folder.fit("exact", 1, oracle=True, **exact)
    return folder


def test_means_gaps_ratios_and_ranks(folder, metrics):
    folder.fit("good", 5, **scores(folder, 1.1))
    folder.fit("twin", 5, **scores(folder, 1.1))
    folder.fit("bad", 5, **scores(folder, 2.0, covered=0.4))
    (board,) = folder.boards(metrics)
    rows = {row.label: row for row in board.rows}
    assert board.rows[0].label == "exact"
    assert rows["exact"].rank is None
    assert rows["good"].rank == rows["twin"].rank == (1, 2)
    assert rows["bad"].rank == (3, 3)
    ratio = rows["bad"].quantities["score_ratio"].estimate
    assert abs(ratio.value - 2.0) < 4 * ratio.error < 0.2
    assert rows["bad"].quantities["width/z/ratio"].estimate.value == pytest.approx(0.5)
    gap = rows["bad"].quantities["coverage/mu/gap"].estimate
    assert gap.value == pytest.approx(-0.3)
    assert rows["bad"].quantities["coverage/mu/worst"].where == "point 1"
    assert rows["good"].quantities["coverage/mu/gap"].estimate.value == 0.0
    # Each of two members that trained as one stack has half of the time.
    assert rows["bad"].cost["seconds_per_step"] == pytest.approx(0.1)
    assert rows["bad"].cost["seconds_to_best"] == pytest.approx(0.5)
    assert isnan(rows["exact"].quantities["coverage/mu"].estimate.member_error)


def test_a_share_of_equal_answers_is_not_certain(folder, metrics):
    folder.fit("good", 3, **scores(folder, 1.1))
    (board,) = folder.boards(metrics)
    for row in board.rows:
        estimate = row.quantities["coverage/z"].estimate
        assert estimate.value == 1.0
        assert 0.01 < estimate.error < 0.1


def test_failed_members_are_said_and_left_out(folder, metrics):
    folder.fit("shaky", 4, failed=(2,), **scores(folder, 1.2))
    folder.fit("broken", 1, failed=(0,))
    (board,) = folder.boards(metrics)
    rows = {row.label: row for row in board.rows}
    assert rows["shaky"].members == 3
    assert rows["broken"].members == 0
    said = "\n".join(notes(board))
    assert "shaky: fit of member 2 failed: the loss is <NaN>" in said
    assert "broken: fit of member 0 failed" in said
    for form in FORMATS.values():
        assert "broken" in form([board])


def test_who_has_fewer_members_is_said(folder, metrics):
    folder.fit("whole", 3, **scores(folder, 1.1))
    folder.fit("begun", 2, **scores(folder, 1.2))
    (board,) = folder.boards(metrics)
    assert "Members: begun 2, where others have 3." in notes(board)


def test_what_has_scores_is_not_absent(folder, metrics):
    folder.fit("there", 2, **scores(folder, 1.1))
    absent = [{"task": "t", "label": name, "reason": "no package"} for name in ("there", "gone")]
    folder.store.write("run", {"command": [], "preset": {}, "cells": [], "absent": absent})
    (board,) = folder.boards(metrics)
    assert board.absent == {"gone": "no package"}


@pytest.mark.parametrize(
    ("losses", "worse"),
    [
        ((), 0),
        ((1.0,), 0),
        ((1.0, 0.4, 0.5), 0),
        ((1.0, 0.4, 1.1), 1),
        ((1.0, None), 1),
        ((None, 1.0), 0),
    ],
)
def test_trainings_that_ended_worse_than_they_began_are_said(folder, metrics, losses, worse):
    folder.fit("steady", 3, losses=(1.0, 0.5), **scores(folder, 1.0))
    folder.fit("shaky", 1, losses=losses, **scores(folder, 1.0))
    (board,) = folder.boards(metrics)
    said = [note for note in notes(board) if "ended a training" in note]
    assert [note[:22] for note in said] == ["shaky: 1 of 1 member e"] * worse


def test_without_an_exact_likelihood_the_histogram_is_the_reference(tmp_path, metrics):
    folder = Folder(tmp_path / "r")
    folder.fit("histogram", 3, **scores(folder, 1.0))
    folder.fit("net", 3, **scores(folder, 0.5))
    (board,) = folder.boards(metrics)
    rows = {row.label: row for row in board.rows}
    assert board.reference == "histogram"
    assert rows["net"].quantities["score_ratio"].estimate.value == pytest.approx(0.5, rel=0.1)
    assert "score\n/hist." in table([board]) or "/hist." in table([board])
    assert not any("exact" in sentence for sentence in verdict(board))


def test_verdicts_claim_no_more_than_the_numbers(folder, metrics):
    folder.fit("good", 5, **scores(folder, 1.1))
    folder.fit("twin", 5, **scores(folder, 1.1))
    folder.fit("bad", 5, **scores(folder, 2.0, covered=0.2))
    (board,) = folder.boards(metrics)
    first, *rest = verdict(board)
    assert first.startswith("None holds")
    assert not any(row.recommended for row in board.rows)
    assert all("good" not in line for line in rest if line.startswith("Do not use"))


def test_one_member_is_conditional(folder, metrics):
    folder.fit("good", 1, **scores(folder, 1.1))
    folder.fit("bad", 1, **scores(folder, 3.0))
    (board,) = build(Results(folder.store), metrics, tolerance=0.9)
    assert any("one training set" in note for note in notes(board))
    assert next(verdict(board)).startswith("Use good, as trained here: its coverage holds")


def test_formats_parse_back(folder, metrics):
    folder.fit("good", 3, **scores(folder, 1.1))
    folder.fit("sick|<b>", 2, failed=(0, 1))
    boards = folder.boards(metrics)
    records = json.loads(FORMATS["json"](boards))
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](boards))))
    assert len(records) == len(rows)
    value = next(r for r in records if r["method"] == "good" and r["quantity"] == "coverage/mu/gap")
    assert value["value"] == 0.0
    assert value["error"] > 0
    markdown = FORMATS["md"](boards)
    assert "<b>" not in markdown
    assert all(
        line.replace("\\|", "").count("|") == markdown_columns(markdown, line)
        for line in markdown.splitlines()
        if line.startswith("|")
    )
    assert heading(boards[0]).startswith("t · 1,000 simulator calls")


OTHERS = [
    Metric(
        "aim", "aim | <b>", "Distance [a](b).", ("independent",), len, unit="cm", better="lower"
    ),
    Metric("share", "share", "How many.", ("independent",), len, unit="%", better="higher"),
    Metric("tilt", "[red]tilt[/red]", "Slope.", ("independent",), len, target=0.25),
    Metric("plain", "plain", "Nothing.", ("independent",), len, against="difference"),
    Metric("unseen", "unseen", "Not computed.", ("independent",), len, better="lower"),
]


def with_others(folder):
    """Return scores of a method that include other metrics."""
    names = [f"{name}/{key}" for name in ("aim", "share", "tilt") for key in ("mu", "z")]
    base = np.linspace(0.0, 1.0, SETS)
    return scores(folder, 1.1) | dict.fromkeys([*names, "plain/"], lambda m: base)


@pytest.fixture
def with_and_without(folder, metrics):
    """Return a leaderboard of the suite's metrics alone, and one with other metrics."""
    folder.fit("good", 3, **with_others(folder))
    folder.fit("older", 3, **scores(folder, 1.2))
    (alone,), (board,) = folder.boards(metrics), folder.boards([*metrics, *OTHERS])
    return alone, board


def test_metrics_of_plugins_have_tables_with_what_they_declare(with_and_without):
    _, board = with_and_without
    tables = [(title, columns) for title, columns in sections(board) if title.startswith("Other")]
    assert [title for title, _ in tables] == ["Other metrics, 1 of 2", "Other metrics, 2 of 2"]
    assert [columns[0].name for _, columns in tables] == ["method", "method"]
    shown = [column for _, columns in tables for column in columns[1:]]
    assert [column.name for column in shown] == [
        "aim | <b> mu (cm) ↓",
        "aim | <b> z (cm) ↓",
        "share mu (%) ↑",
        "share z (%) ↑",
        "[red]tilt[/red] mu → 0.25",
        "[red]tilt[/red] z → 0.25",
        "plain",
    ]
    rows = {row.label: {column.text(row) for column in shown} for row in board.rows}
    value = board.rows[1].quantities["aim/mu"].estimate
    assert rows == {
        "exact": {"–"},
        "good": {parenthesised(value.value, value.error)},
        "older": {"n/a"},
    }


def test_notes_say_what_metrics_of_plugins_are(with_and_without):
    alone, board = with_and_without
    more = [note for note in notes(board) if note not in notes(alone)]
    assert more[:4] == [
        "aim | <b>: Distance [a](b). Lower is better.",
        "share: How many. Higher is better.",
        "[red]tilt[/red]: Slope. 0.25 is ideal.",
        "plain: Nothing.",
    ]
    assert all(note.startswith("n/a ") for note in more[4:])
    assert notes(board, brief=True) == notes(alone, brief=True)


def test_metrics_of_plugins_are_in_every_format(with_and_without, monkeypatch):
    alone, board = with_and_without
    monkeypatch.setenv("COLUMNS", "80")
    printed = table([board]).splitlines()
    first = next(i for i, line in enumerate(printed) if line.startswith("Other metrics"))
    assert printed[:first] == table([alone]).splitlines()[:first]
    assert max(map(len, printed[first:])) <= 80
    assert "[red]tilt[/red]" in "\n".join(printed[first:])
    markdown, before = FORMATS["md"]([board]), FORMATS["md"]([alone])
    assert markdown.startswith(before[: before.index("\n- ")])
    assert "| method | aim \\| &lt;b> mu (cm) ↓ | " in markdown
    assert "- aim \\| &lt;b>: Distance [a]\\(b). Lower is better." in markdown
    assert {record["quantity"] for record in json.loads(FORMATS["json"]([board]))} >= {"aim/mu"}


def test_the_suites_own_metrics_have_no_other_table(folder, metrics):
    folder.fit("good", 3, **{f"{m.name}/mu": lambda _: np.ones(SETS) for m in metrics})
    (board,) = folder.boards(metrics)
    assert not [title for title, _ in sections(board) if title.startswith("Other")]


def markdown_columns(markdown, line):
    """Return the number of columns of the table that contains a line of Markdown."""
    lines = markdown.splitlines()
    at = lines.index(line)
    while lines[at - 1].startswith("|"):
        at -= 1
    return lines[at].count("|")


def test_an_empty_folder_has_no_leaderboard(tmp_path, metrics):
    results = Results(Store(tmp_path / "r"))
    assert build(results, metrics) == []
    assert FORMATS["csv"]([]) == ""
    assert json.loads(FORMATS["json"]([])) == []


def test_damaged_records_count_as_missing(folder, metrics):
    folder.fit("good", 2, **scores(folder, 1.1))
    path = folder.store.root / "scores/t/good-0/independent-x/member-001.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    (board,) = folder.boards(metrics)
    assert next(r for r in board.rows if r.label == "good").members == 1


def test_numbers_on_a_narrow_terminal_are_never_cut(folder, metrics, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    folder.fit("a-method-with-a-long-name", 3, **scores(folder, 1.1))
    assert "…" not in table(folder.boards(metrics))


@given(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(1e-6, 1e6, allow_nan=False),
)
def test_parentheses_hold_two_digits_of_the_error(value, error):
    shown, digits = parenthesised(value, error)[:-1].split("(")
    decimals = len(shown.partition(".")[2])
    unit = 10.0**-decimals
    assert abs(float(shown) - value) <= 0.51 * unit
    assert abs(int(digits) * unit - error) <= 0.51 * unit
    assert len(digits) == 2 or decimals == 0


def test_expected_coverage():
    assert expected_coverage(PLAN) == pytest.approx(0.6827, abs=1e-4)
    assert expected_coverage({"kind": "bootstrap", "multiple": 9}) == pytest.approx(0.657, abs=1e-3)
