"""Commands on results: status, leaderboards, scores, and damaged or missing parts."""

import csv
import errno
import io
import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from small_run import METRIC, results

from bench.storage.store import Store


def test_status(command, folder):
    status, out, err = command("status", results(folder))
    assert (status, err) == (0, "")
    assert command("status") == (status, out, err)  # default: the newest under results/
    assert out.splitlines() == [
        "last run: bench run my preset.toml --plugin simple.py --workers 1",
        "gaussians-far  exact  budget 0  seed 0  fits 1/1  independent 1/1",
        "gaussians-far  simple  budget 600  seed 0  fits 1/1  independent 1/1",
    ]


def test_leaderboards_parse_back(command, folder):
    _, text, err = command("leaderboard", "--format", "csv")
    assert err == ""
    rows = list(csv.DictReader(io.StringIO(text)))
    records = json.loads(command("leaderboard", "--format", "json")[1])
    assert len(rows) == len(records) > 20
    for row, record in zip(rows, records, strict=True):
        assert list(row) == list(record)
        for key, value in record.items():
            assert row[key] == ("" if value is None else str(value))
    assert {r["method"] for r in records} == {"exact", "simple"}
    table = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in command("leaderboard", "--format", "md")[1].splitlines()
        if line.startswith("|")
    ]
    assert table[0][:2] == ["method", "coverage of mu"]
    widths = [len(row) for row in table]
    starts = [i for i, row in enumerate(table) if set(row) == {"---"}]
    assert starts
    assert all(widths[i - 1] == widths[i] == widths[i + 1] == widths[i + 2] for i in starts)
    for form in ("csv", "md", "json"):
        written = (results(folder) / f"leaderboard.{form}").read_text()
        assert command("leaderboard", "--format", form)[1] == written
    assert "simple" in command("leaderboard")[1]
    assert command("leaderboard", "--task", "gaussians-*")[1] == command("leaderboard")[1]


def test_score_computes_a_new_metric_and_trains_nothing(command, folder):
    root = results(folder)

    def stamps(*parts):
        return {p: p.stat().st_mtime_ns for part in parts for p in (root / part).rglob("*.*")}

    before = stamps("fits", "predictions", "simulations")
    status, out, err = command("score", "--plugin", "metric.py", "--workers", "1")
    assert (status, out) == (0, "")
    assert re.search(r"^2 made, 0 reused, 0 failed in ", err, re.MULTILINE)
    assert stamps("fits", "predictions", "simulations") == before
    records = json.loads(command("leaderboard", "--format", "json", "--plugin", "metric.py")[1])
    assert [r["value"] for r in records if r["quantity"] == "answer/"] == [42.0, 42.0]

    # A failing metric does not affect the others, and is tried again.
    shutil.move("broken.py", "metric.py")
    status, out, err = command("score", "--plugin", "metric.py", "--workers", "1")
    assert (status, out) == (1, "")
    assert err.count("ZeroDivisionError: float division by zero") <= 1
    assert err.count("metric 'answer' fails: ZeroDivisionError") == 1
    records = json.loads(command("leaderboard", "--format", "json", "--plugin", "metric.py")[1])
    assert not [r for r in records if r["quantity"] == "answer/"]
    assert [r for r in records if r["quantity"] == "coverage/mu"]
    assert stamps("fits", "predictions", "simulations") == before


BREACHES = {
    '{"two\\nlines": answers}': r"returned the key 'two\\nlines'; a key is a text ",
    '{"": answers * np.inf}': "returned infinite values for '' in 3 of 3 datasets",
    '{"": answers, "mu": answers * 1j}': "returned values of type complex128 for 'mu'",
}


def test_metrics_that_break_their_contract_lose_their_own_columns(command, folder):
    before = command("leaderboard", "--format", "csv")[1]
    source = METRIC.replace("return {", "answers = np.ones(len(prediction.datasets))\n    return {")
    names, plugins = [f"answer-{i}" for i in range(len(BREACHES))], []
    for name, returned in zip(names, BREACHES, strict=True):
        text = source.replace('{"": np.full(len(prediction.datasets), ANSWER)}', returned)
        Path(f"{name}.py").write_text(
            text.replace('Metric("answer", "answer"', f'Metric("{name}", "{name}"')
        )
        plugins += ["--plugin", f"{name}.py"]
    told = dict(zip(names, BREACHES.values(), strict=True))
    for _ in range(2):  # they are tried again
        status, out, err = command("score", *plugins, "--workers", "1")
        assert (status, out) == (1, "")
        lines = sorted(line for line in err.splitlines() if line.startswith("failed: "))
        assert len(lines) == len(names)
        for line, name in zip(lines, names, strict=True):
            reason = f"metric '{name}' {told[name]}"
            assert re.match(f"failed: metric {name} on gaussians-far: {reason}", line)
    status, text, err = command("leaderboard", "--format", "csv", *plugins)
    assert (status, err) == (0, "")
    shown = read(command, "--all", *plugins)
    for name in names:
        own = [line for line in text.splitlines(keepends=True) if f",{name}," in line]
        assert len(own) == 1
        assert re.search(told[name], own[0])
        text = text.replace(own[0], "")
        assert re.search(f"n/a {name}: metric '{name}' {told[name]}", shown)
    assert text == before


def read(command, *options):
    """Return the leaderboards as printed on a terminal, joined to one line."""
    return " ".join(command("leaderboard", *options)[1].split())


def test_an_unreadable_column_is_left_out(command, folder):
    before = command("leaderboard", "--format", "csv")[1]
    store = Store(results(folder))
    for key in store.keys("scores"):
        entry = store.read(key)
        odd = {name: np.ones(3) for name in ("mine/two\nlines", "mine", "../x", "mine/a/b")}
        store.write(key, entry.record, entry.arrays | odd)
    assert command("leaderboard", "--format", "csv")[1] == before


def refusing(genuine, folder):
    """Return a function that makes temporary files, except in one folder."""

    def made(*arguments, **options):
        where = Path(options.get("dir") or tempfile.gettempdir())
        if where.resolve().is_relative_to(folder.resolve()):
            raise OSError(errno.EROFS, "Read-only file system")
        return genuine(*arguments, **options)

    return made


@pytest.mark.parametrize(
    ("line", "work"),
    [
        ("score", "bench.experiment.rescore.plan_scores"),
        ("run preset.toml --plugin simple.py", "bench.experiment.run.run"),
        ("tune lre --task gaussians-far", "bench.tuning.tune.tune"),
        ("study bootstrap-k --task gaussians-far", "bench.studies.bootstrap_k.run"),
        (
            "study features --observed gaussians-far --model gaussians-far",
            "bench.studies.features.tests",
        ),
    ],
)
def test_a_read_only_folder_is_told_before_any_work(fails, folder, monkeypatch, line, work):
    """Temporary files fail as in a read-only folder, since root ignores permissions."""

    def works(*arguments, **options):
        raise AssertionError("it works before it tries to write")

    root = results(folder)
    Path("preset.toml").write_text(Path("my preset.toml").read_text())
    before = sorted(root.rglob("*"))
    for name in ("NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refusing(getattr(tempfile, name), root))
    monkeypatch.setattr(work, works)
    arguments = [*line.split(), *([root] if line == "score" else ["--out", root])]
    advice = (
        "copy it, or make it writable" if line == "score" else "choose another folder with --out"
    )
    expected = f"cannot write to {root}: Read-only file system; {advice}"
    assert fails(*arguments) == (1, expected)
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("which", ["run", "plans/*", "fits/*/simple-*/fit"])
@pytest.mark.parametrize("content", [b"", b'{"a": NaN, "record_sha256": ""}', b"\xff\0", b"[]"])
def test_damaged_records_are_named_and_the_rest_is_shown(command, folder, which, content):
    root = results(folder)
    (path,) = root.glob(f"{which}.json")
    path.write_bytes(content)
    for name in ("status", "leaderboard"):
        status, out, err = command(name, root)
        assert status == 1
        lines = err.splitlines()
        assert lines[0] == f"damaged: {path}; `bench run` makes it anew"
        if name == "leaderboard" and which == "plans/*":  # the only plan
            assert lines[1] == (
                f"bench: {root} has no scores to compare; `bench status` says what it has"
            )
            assert (len(lines), out) == (2, "")
        else:
            assert len(lines) == 1
            assert "exact" in out
    status, _, err = command("run", "my preset.toml", "--plugin", "simple.py", "--quiet")
    assert (status, err.count("\n")) == (0, 1)
    assert command("status", root)[::2] == (0, "")


@pytest.mark.parametrize("cells", [3, "gaussians-far/exact", [1], None])
def test_a_run_with_a_wrong_list_of_fits_is_damaged(command, folder, cells):
    store = Store.open(results(folder))
    store.write("run", store.record("run") | {"cells": cells})
    status, out, err = command("status", store.root)
    assert (status, out.startswith("gaussians-far  exact")) == (1, True)
    assert err == f"damaged: {store.root}/run.json; `bench run` makes it anew\n"


def test_score_of_a_damaged_folder(command, folder):
    (results(folder) / "run.json").write_text("")
    status, _, err = command("score", "--workers", "1")
    assert status == 1
    assert err.startswith("damaged: results/my preset/run.json; `bench run` makes it anew\n")
    assert "0 made, 2 reused, 0 failed" in err


def test_results_without_scores(command, fails, folder):
    shutil.rmtree(results(folder) / "scores")
    status, line = fails("leaderboard")
    assert status == 1
    assert line == "results/my preset has no scores to compare; `bench status` says what it has"
    assert command("status")[1].splitlines()[-1].endswith("fits 1/1  independent 0/1")


def test_a_report_of_older_results_is_told(command, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.report.write.figures", lambda loaded: iter(()))
    run = made(uniform=5, per_point=0)
    run.fit("gaussians-far", "exact")
    run.fit("gaussians-far", "lre", "tuned", 1)
    commands = [("status",), ("leaderboard", "--format", "csv")]
    report = Path("reports/results")

    def told():
        said = {command(*words, where)[2] for words in commands for where in ("results", run.root)}
        assert len(said) == 2 or said == {""}
        return "".join(sorted(said)).splitlines()

    assert told() == []  # there is no report
    assert command("report", "results")[0] == 0
    run.fit("gaussians-far", "dle", "tuned", 1)
    assert told() == [
        f"{report} was made from older results; `bench report {where}` renews it"
        for where in (run.root, "results")
    ]
    assert command("report", "results")[0] == 0
    assert told() == []
    assert command("results", "pack", "results")[0] == 0
    assert told() == []  # packing changes no results
    run.run(absent=[], cells=["another"])
    listed = report / "report.sha256"
    elsewhere = listed.read_text().replace("  results\n", "  elsewhere\n")
    strange = [f"# made from {digest}  a\0b\n" for digest in ("x", "0" * 64)]
    for text in ["", "binary \0\n", elsewhere, *strange]:
        listed.write_text(text)
        assert told() == []
    listed.unlink()
    listed.symlink_to(report / "index.html")
    assert told() == []
