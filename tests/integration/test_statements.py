"""Statements of the docs agree with the committed results."""

import json
import re
import tomllib
from functools import cache
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bench
from bench.boards import FORMATS, Results, build
from bench.boards.columns import parenthesised
from bench.registry.registry import Registry
from bench.stats.clustering import Estimate
from bench.stats.ranking import rank
from bench.storage.store import Store
from bench.studies import expectations
from bench.studies.numbers import number
from bench.studies.scored import groups
from bench.studies.trust import Training, sides
from bench.studies.trust import markdown as trust_tables

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results/index.md").read_text()
PARAMETERS = {
    "gaussians-far": ("mu", "z"),
    "gaussians-near": ("mu", "z"),
    "higgs": ("mu", "z"),
    "gp": ("length", "nugget"),
    "student-t": ("length", "nu"),
    "sis": ("lambda", "gamma"),
}
TABLE = (  # rows of the table of docs/results/index.md: folder, tasks, calls
    ("gaussians-tuned", ("gaussians-far", "gaussians-near"), 2_000_000),
    ("higgs", ("higgs",), 1_000_000),
    ("processes", ("gp",), 100_000),
    ("processes", ("student-t",), 100_000),
    ("processes", ("sis",), 100_000),
)
NETWORKS = ("lre:tuned", "dle:tuned", "dle-nflows:tuned")
OURS_AND_SBI = (
    "lre:tuned",
    "dle:tuned",
    "sbi-nle",
    "sbi-nle:matched",
    "sbi-nre",
    "sbi-nre:matched",
)


@cache
def records(folder):
    """Return all numbers of a committed folder's leaderboards."""
    results = Results(Store.open(ROOT / "results" / folder))
    return json.loads(FORMATS["json"](build(results, Registry().metrics())))


@cache
def board(folder, task, budget, plan="independent"):
    """Return numbers of a committed leaderboard: label → quantity → record."""
    found = {}
    for record in records(folder):
        key = (record["task"], record["budget"], (record["plan"] or "").split("-")[0])
        if key != (task, budget, plan):
            continue
        label = f"{record['method']}:{record['configuration']}".removesuffix(":default")
        if record["calibration"]:
            others = "" if record["calibration"] == "platt" else f",{record['calibration']}"
            label = f"calibrated({label}{others})"
        if record["ensemble"] > 1:
            label = f"ensemble({label},{record['ensemble']})"
        found.setdefault(label, {})[record["quantity"]] = record
    return found


def ranks(folder, task, budget):
    """Return the ranks by intervals: label → (lowest, highest)."""
    return {
        label: (q["score_ratio"]["rank_low"], q["score_ratio"]["rank_high"])
        for label, q in board(folder, task, budget).items()
        if q.get("score_ratio", {}).get("rank_low") is not None
    }


def tied(found, labels):
    """Return whether no method is significantly better than any of these."""
    return {found[label][0] for label in labels} == {1}


def behind_all(found, labels, others):
    """Return whether these are significantly worse than each of the others.

    A rank says how many methods are significantly better or worse, not which. If exactly these are
    worse than some method, and a method has as many worse ones, these are the worse ones.
    """
    worse = {label for label, (low, _) in found.items() if low > 1}
    counts = {len(found) - found[label][1] for label in others}
    return worse == set(labels) and counts == {len(worse)}


def close(folder, task, budget, label):
    """Return whether a score is close in the sense of docs/results/index.md."""
    found = board(folder, task, budget)[label]["score_ratio"]
    return found["value"] + 3 * found["error"] < 1.05


def verdict(folder, task, budget, label, parameter, plan="independent"):
    """Return the verdict on a coverage: "holds", "fails" or "undetermined"."""
    return board(folder, task, budget, plan)[label][f"verdict/{parameter}"]["note"]


def test_the_first_table_has_the_recommended_methods():
    """It has the recommended methods, and the shortest with exact scores."""
    frames = [bench.load(ROOT / "results" / f).leaderboard() for f in ("known", "gaussians-scores")]
    table = PAGE.partition("## ")[0]
    for task in PARAMETERS:
        shown = set(re.findall(rf"(?m)^\| \[`{task}`\].*?\| `(.*?)` \|", table))
        own, scored = (frame[(frame["task"] == task) & frame["recommended"]] for frame in frames)
        chosen = set(own["label"])
        if len(scored):
            chosen.add(scored["label"][scored["honest length"].idxmin()])
        assert shown == chosen != set()
    assert "a method holds on each of six tasks" in table


@pytest.mark.parametrize(("folder", "tasks", "budget"), TABLE)
def test_methods_that_the_table_calls_close_are(folder, tasks, budget):
    for task in tasks:
        shown = re.search(rf"(?m)^\| \[`{task}`\]\(.*\| (all three|none) \|", PAGE)[1]
        assert {close(folder, task, budget, n) for n in NETWORKS} == {shown == "all three"}


def established(folder, task, budget, label, quantity, equal):
    """Return whether a 95 % interval, widened for the gaps of the table, excludes equality."""
    methods = board(folder, task, budget)
    ranked = sum(
        "rank_low" in q["score_ratio"] and q["score_ratio"]["rank_low"] is not None
        for q in methods.values()
        if "score_ratio" in q
    )
    found = methods[label][quantity]
    estimate = Estimate(found["value"], found["error"], found["dof"], nan, nan)
    low, high = estimate.interval(1 - 0.05 / (ranked * len(PARAMETERS[task])))
    return low > equal or high < equal


@pytest.mark.parametrize(
    ("folder", "task", "budget", "label", "parameters"),
    [
        ("higgs", "higgs", 1_000_000, "lre:published", ("z",)),
        ("processes", "student-t", 100_000, "dle:tuned", ("nu",)),
        ("processes", "student-t", 100_000, "dle-nflows:tuned", ("nu",)),
        ("processes", "sis", 100_000, "dle:tuned", ("lambda", "gamma")),
        ("processes", "sis", 100_000, "dle-nflows:tuned", ("lambda", "gamma")),
    ],
)
def test_losses_of_coverage_that_the_table_lists_are_established(
    folder, task, budget, label, parameters
):
    for name in parameters:
        assert established(folder, task, budget, label, f"coverage/{name}/gap", 0.0)


@pytest.mark.parametrize(
    ("task", "label"),
    [("gp", "dle:tuned"), ("gp", "dle-nflows:tuned"), ("sis", "lre:tuned")],
)
def test_intervals_that_the_table_calls_too_long_are(task, label):
    for name in PARAMETERS[task]:
        assert established("processes", task, 100_000, label, f"width/{name}/ratio", 1.0)


@pytest.mark.parametrize(("folder", "tasks", "budget"), TABLE[:-1])
def test_methods_that_the_table_calls_tied_are(folder, tasks, budget):
    for task in tasks:
        assert tied(ranks(folder, task, budget), NETWORKS)


@pytest.mark.parametrize(
    ("folder", "task", "budget", "labels", "others"),
    [
        ("gaussians-tuned", "gaussians-near", 2_000_000, ["histogram"], NETWORKS),
        ("higgs", "higgs", 1_000_000, ["histogram", "lre:published"], NETWORKS),
        ("processes", "gp", 100_000, ["histogram"], NETWORKS[1:]),
        ("processes", "student-t", 100_000, ["histogram"], (*NETWORKS, "lre:unnormalised")),
        (
            "processes",
            "sis",
            100_000,
            ["histogram", "dle:tuned", "dle-nflows:tuned"],
            ("lre:tuned", "lre:unnormalised"),
        ),
    ],
)
def test_methods_that_the_table_calls_behind_are(folder, task, budget, labels, others):
    assert behind_all(ranks(folder, task, budget), labels, others)


@pytest.mark.parametrize("task", ["gaussians-far", "gaussians-near"])
def test_statements_on_gaussians(task):
    for label in (*NETWORKS, "lre:unnormalised", "histogram"):
        assert verdict("gaussians-tuned", task, 2_000_000, label, "mu") == "holds"
    few = board("gaussians-budgets", task, 10_000)
    assert not any(
        close("gaussians-budgets", task, 10_000, label) for label in few.keys() - {"exact"}
    )
    largest = board("gaussians-budgets", "gaussians-far", 10_000)["dle:tuned"]["overlap_M/joint"]
    assert all(
        q["overlap_M/joint"]["value"] <= largest["value"] for n, q in few.items() if n != "exact"
    )
    for budget in (10_000, 100_000, 1_000_000):
        assert tied(ranks("gaussians-budgets", task, budget), NETWORKS[:2])


def test_statements_on_higgs():
    for label in NETWORKS:
        for name in ("mu", "z"):
            assert verdict("higgs", "higgs", 1_000_000, label, name, "bootstrap") == "holds"
    for label in ("histogram", "lre:published"):
        assert verdict("higgs", "higgs", 1_000_000, label, "z", "bootstrap") == "fails"
        gap = board("higgs", "higgs", 1_000_000, "bootstrap")[label]["coverage/z/gap"]
        assert gap["value"] < 0
    labels = board("higgs", "higgs", 1_000_000).keys() - {"exact"}
    assert {verdict("higgs", "higgs", 1_000_000, n, "z") for n in labels} == {"undetermined"}


def test_statements_on_events_of_the_challenge():
    """One method is known to be behind others, and its coverage is the only one that is known."""
    found = ranks("higgs-fair", "higgs-fair", 50_000)
    ahead = [label for label, (_, high) in found.items() if high < len(found)]
    assert behind_all(found, ["lre:published"], ahead)
    assert len(ahead) == 4
    assert found["lre:published"][0] == 5
    verdicts = {
        (label, name): verdict("higgs-fair", "higgs-fair", 50_000, label, name)
        for label in found
        for name in ("mu", "z")
    }
    assert verdicts.pop(("lre:published", "z")) == "fails"
    assert set(verdicts.values()) == {"undetermined"}


def test_statements_on_peers():
    assert tied(ranks("peers", "gaussians-near", 50_000), OURS_AND_SBI)
    for label in OURS_AND_SBI:
        for name in ("mu", "z"):
            known = (label, name) == ("sbi-nre:matched", "z")
            expected = "fails" if known else "undetermined"
            assert verdict("peers", "gaussians-near", 50_000, label, name) == expected


@pytest.mark.parametrize("task", ["gaussians-far", "gaussians-near", "higgs"])
def test_statements_on_trees_and_calibration(task):
    assert tied(ranks("calibration", task, 50_000), ("lre:tuned", "calibrated(lre:tuned)"))
    assert verdict("calibration", task, 50_000, "gradient-boosting", "z") == "fails"
    for label in ("gradient-boosting", "gradient-boosting:smooth"):
        assert board("calibration", task, 50_000)[label]["coverage/z/gap"]["value"] < 0
    if task != "gaussians-far":
        assert verdict("calibration", task, 50_000, "gradient-boosting:smooth", "z") == "fails"


def test_an_unnormalised_classifier_is_behind_in_overlap():
    loaded = bench.load(ROOT / "results" / "gaussians-tuned")
    labels = (*NETWORKS, "histogram", "lre:unnormalised")
    checked = 0
    for found in loaded.boards:
        if found.plan["kind"] != "independent":
            continue
        fits = {row.label: row.fit for row in found.rows}
        scores = [loaded.results.scores(fits[label], found.plan_folder) for label in labels]
        missed = [np.maximum(1 - s.values["overlap_M/joint"][..., None], 1e-9) for s in scores]
        sets = missed[0].shape[1]
        better = rank(missed, np.ones((sets, 1)), [0] * sets).better
        assert better[:3, 4].all()
        checked += 1
    assert checked == 2


def test_what_quick_shows():
    """The quick preset has no datasets at evaluation points, so it has no worst point."""
    points = {
        name: [
            plan["per_point"]
            for plan in tomllib.loads(path.read_text())["plans"]
            if "per_point" in plan
        ]
        for name in ("quick", "standard", "paper")
        if (path := ROOT / "bench" / "presets" / f"{name}.toml")
    }
    assert points["quick"] == [0]
    assert all(points["standard"])
    assert all(points["paper"])
    board = (ROOT / "docs" / "tutorials/reading-a-board.md").read_text()
    shown = re.search(r"\| `--all` \| show (.*?) \|", board)[1]
    assert "worst" not in shown
    assert "nine" not in shown


@pytest.mark.parametrize(
    ("task", "label"),
    [("sis", "dle-counts:tuned"), ("gp", "dle-fields:tuned"), ("student-t", "dle-fields:tuned")],
)
def test_autoregressive_densities_hold_on_processes(task, label):
    for folder, budget in (("densities", 10_000), ("known", 100_000)):
        for name in PARAMETERS[task]:
            assert verdict(folder, task, budget, label, name) == "holds"
    price = board("known", task, 100_000)[label]["price"]
    assert price["value"] < 1.01


@pytest.mark.parametrize("task", ["sis", "gp", "student-t"])
def test_classifiers_hold_on_processes(task):
    """They read variograms; honest lengths without are those of the page of processes."""
    for name in PARAMETERS[task]:
        assert verdict("known", task, 100_000, "lre:tuned", name) == "holds"
    price = board("known", task, 100_000)["lre:tuned"]["price"]
    page = (ROOT / "docs" / "results/processes.md").read_text()
    before = re.search(rf"(?m)^\| `{task}` \| ([\d.]+)\((\d+)\) \|", page)
    assert price["value"] + 4 * price["error"] < float(before[1])


def test_savings_of_expectations_on_the_processes():
    """The page's factors are those of the committed run, in the order of its parameters."""
    page = (ROOT / "docs" / "explanation/expectations.md").read_text()
    rows = re.findall(
        r"(?m)^\| `([\w-]+)`, `(dle-\w+:tuned)` \| (.*), (.*) \| (.*), (.*) \|$", page
    )
    results = Results(Store.open(ROOT / "results" / "densities"))
    known = {}
    for group, found in expectations.pairs(groups(results)):
        for pair in found:
            kind, _, name = pair.quantity.rpartition(" ")
            known[group.task, pair.method, kind, name] = pair.saving_in_datasets
    assert len(rows) == 3
    for task, label, *shown in rows:
        for kind, two in (("coverage gap", shown[:2]), ("score", shown[2:])):
            for name, factor in zip(PARAMETERS[task], two, strict=True):
                digits = 1 if "." in factor else 0
                assert f"{known[task, label, kind, name]:.{digits}f}" == factor


def test_verdicts_of_trust_against_the_truth():
    """The page's tables are those of the committed networks, and few verdicts are false."""
    page = (ROOT / "docs" / "guides/trust.md").read_text()
    frame = pd.read_csv(ROOT / "results" / "studies" / "trust.csv")
    found = [Training(**row) for row in frame.to_dict("records")]
    for line in trust_tables(found).splitlines():
        assert line.replace("-", "−") in page.replace("-", "−")
    for side in sides(found):
        assert side.limit <= 0.08
    assert np.median(frame["error"]) < 0.01


def test_corrected_intervals_of_the_page_are_those_of_the_table():
    page = (ROOT / "docs" / "results/corrections.md").read_text()
    frame = pd.read_csv(ROOT / "results" / "studies" / "corrections.csv")
    for low, high, total in ((9_900, 10_000, "10,000"), (99_000, 100_000, "100,000")):
        part = frame[frame.calls.between(low, high)]
        for method, own in part.groupby("method"):
            counts = [int((own.verdict == v).sum()) for v in ("holds", "undetermined", "fails")]
            numbers = [
                f"{own.gap.median():+.1f}".replace("-", "−"),
                f"{own.gap_error.median():.1f}",
            ]
            numbers += [f"{own.length.median():.3f}", f"{own.length_error.median():.3f}"]
            cells = [total, f"`{method}`", *map(str, counts), *numbers]
            assert f"| {' | '.join(cells)} |" in page
            if method == "neyman(lre:tuned,0.2)":
                assert counts[0] == 0
    part = frame[frame.calls.between(9_900, 10_000)].set_index(["task", "parameter", "method"])
    assert round(part.gap["slcp", "theta1", "lre:tuned"]) == -15
    assert round(part.length["slcp", "theta3", "neyman(lre:tuned)"]) == 5
    with_toys, without = (
        part.loc["ornstein-uhlenbeck", "rate", f"{start}lre:tuned{end}"]
        for start, end in (("neyman(", ")"), ("", ""))
    )
    assert (round(with_toys.length, 2), round(without.length, 3)) == (3.30, 1.362)


def test_uncertainties_of_training_are_those_of_the_table():
    page = (ROOT / "docs" / "results/training.md").read_text()
    frame = pd.read_csv(ROOT / "results" / "studies" / "training.csv")
    names = ["shared_spread", "bootstrap_spread", "weights_spread", "spread", "error"]
    for row in frame.to_dict("records"):
        found = [Estimate(row[n], row[f"{n}_error"], 9.0, 0.0, 0.0) for n in names]
        cells = ["–" if e.value != e.value else number(e) for e in found]
        start = (
            f"| `{row['task']}` | {row['budget']:,} | `{row['method']}` | `{row['parameter']}` |"
        )
        assert f"{start} {' | '.join(cells)} |" in page
    plain = frame[frame.method == "lre:tuned"]
    off = {
        way: (plain[f"{way}_spread"] - plain.error)
        / np.hypot(plain[f"{way}_spread_error"], plain.error_error)
        for way in ("shared", "bootstrap")
    }
    assert (off["shared"] < -2).all()
    assert list(plain[off["bootstrap"].abs() > 2].parameter) == ["mu"]
    assert off["bootstrap"].max() > 2


def test_grades_of_diagnostics_of_the_page_are_those_of_the_table():
    page = (ROOT / "docs" / "results/diagnostics.md").read_text()
    studies = ROOT / "results" / "studies"
    grade = pd.read_csv(studies / "diagnostics.csv").set_index("diagnostic")
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(lines) == 9
    for line in lines:
        row = grade.loc[line.split("`")[1]]
        numbers = [
            parenthesised(row[name], row[f"{name}_error"]) for name in ("area", "power", "within")
        ]
        assert line.endswith(f"| {row.level} | {' | '.join(numbers)} | {row.calls:,.0f} |")
    best = grade.area.sort_values(ascending=False).index[:4]
    assert set(best) == {"coverage", "sbc", "tarp", "member-spread"}
    assert "20 of which fail" in page
    power = pd.read_csv(studies / "diagnostics-planted.csv")
    power = power.set_index(["defect", "size", "diagnostic"])
    assert power.repetitions.max() == 12
    assert power.power_error.max() < 0.135
    assert round(100 * power.gap["offset", 0.03, "mmd"]) == -19
    assert round(100 * power.power["offset", 0.03, "mmd"]) == 17
    assert abs(power.gap["mode", 0.03, "sbc"]) < 0.001
    assert power.power["nats", 0.01, "normalisation"] == 1


def test_networks_beside_the_papers():
    """The Gaussians' page counts the networks that reach the paper's examples."""
    page = " ".join((ROOT / "docs" / "results/gaussians.md").read_text().split())
    published = (ROOT / "bench" / "report" / "published.csv").read_text()
    members = bench.load(ROOT / "results" / "gaussians-published").members
    members = members[(members.plan == "bootstrap") & (members.quantity == "overlap_kM/joint")]
    reaching = []
    for label in ("lre:published", "dle:published", "dle-nflows:published"):
        reached = []
        for task in ("far", "near"):
            key = f"gaussians.{task}.{label[:3]}.overlap_joint"
            example = re.search(rf"(?m)^{re.escape(key)},.*,network,([\d.]+),", published)[1]
            own = members[(members.task == f"gaussians-{task}") & (members.label == label)]
            reached += list(own.groupby("member").value.mean() >= float(example))
        assert len(reached) == 10
        reaching.append(sum(reached))
    assert reaching == [2, 8, 6]
    assert "Two of ten classifiers reach" in page
    assert "Eight of ten flows of the zuko package do, and six of ten of nflows" in page
