"""Statements of the docs agree with the committed results."""

import json
import re
import tomllib
from functools import cache
from math import nan
from pathlib import Path

import numpy as np
import pytest

import bench
from bench.leaderboard import FORMATS, Results, build
from bench.leaderboard.columns import parenthesised
from bench.registry.registry import Registry
from bench.stats.clustering import Estimate
from bench.stats.ranking import rank
from bench.storage.store import Store
from bench.studies import averaging, expectations
from bench.studies.numbers import number
from bench.studies.scored import groups

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text()
PARAMETERS = {
    "gaussians-far": ("mu", "z"),
    "gaussians-near": ("mu", "z"),
    "higgs": ("mu", "z"),
    "gp": ("length", "nugget"),
    "student-t": ("length", "nu"),
    "sis": ("lambda", "gamma"),
}
TABLE = (  # rows of the table of docs/results.md: folder, tasks, calls
    ("gaussians-tuned", ("gaussians-far", "gaussians-near"), 2_000_000),
    ("gaussians-budgets", ("gaussians-far", "gaussians-near"), 10_000),
    ("higgs", ("higgs",), 1_000_000),
    ("processes", ("gp",), 100_000),
    ("processes", ("student-t",), 100_000),
    ("processes", ("sis",), 100_000),
)
NETWORKS = ("lre:tuned", "dle:tuned", "dle-nflows:tuned")


@cache
def records(folder):
    """Return all numbers of a committed folder's leaderboards."""
    results = Results(Store.open(ROOT / "results" / folder))
    return json.loads(FORMATS["json"](build(results, Registry().metrics())))


@cache
def board(folder, task, budget):
    """Return numbers of a committed leaderboard with θ uniform: label → quantity → record."""
    found = {}
    for record in records(folder):
        key = (record["task"], record["budget"], (record["plan"] or "").split("-")[0])
        if key != (task, budget, "independent"):
            continue
        label = f"{record['method']}:{record['configuration']}".removesuffix(":default")
        if record["ensemble"] > 1:
            label = f"ensemble({label},{record['ensemble']})"
        found.setdefault(label, {})[record["quantity"]] = record
    return found


def rows_of_the_table():
    rows = re.search(r"\| task \| calls \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE)[1].splitlines()
    assert len(rows) == len(TABLE)
    return rows


@pytest.mark.parametrize("number", range(len(TABLE)))
def test_numbers_of_the_table_are_on_the_leaderboards(number):
    folder, tasks, budget = TABLE[number]
    known = [
        (found["value"], found["error"])
        for task in tasks
        for quantities in board(folder, task, budget).values()
        for name in ("score_ratio", "overlap_M/joint")
        if (found := quantities.get(name)) is not None and found["error"]
    ]
    shown = re.findall(r"(\d+)\.(\d+)\((\d+)\)", rows_of_the_table()[number])
    assert shown
    for whole, decimals, digits in shown:
        unit = 10 ** -len(decimals)
        value, error = float(f"{whole}.{decimals}"), int(digits) * unit
        assert any(
            abs(value - v) < 0.51 * unit and abs(error - e) < 0.6 * unit for v, e in known
        ), f"{value} ± {error}"


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
    [
        ("gp", "dle:tuned"),
        ("gp", "dle-nflows:tuned"),
        ("student-t", "lre:tuned"),
        ("sis", "lre:tuned"),
    ],
)
def test_intervals_that_the_table_calls_too_long_are(task, label):
    for name in PARAMETERS[task]:
        assert established("processes", task, 100_000, label, f"width/{name}/ratio", 1.0)


def test_methods_that_the_table_calls_tied_are():
    """No method is significantly better than any of the tied ones."""
    for folder, tasks, budget in TABLE:
        for task in tasks:
            ranks = {
                label: q["score_ratio"]["rank_low"]
                for label, q in board(folder, task, budget).items()
                if "score_ratio" in q
            }
            if budget > 10_000:
                assert {ranks[label] for label in NETWORKS} == {1}
            if folder in ("gaussians-tuned", "processes"):
                assert ranks["lre:unnormalised"] == 1
            if folder in ("higgs", "processes"):
                assert ranks["histogram"] > 1


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
    board = (ROOT / "docs" / "reading-a-board.md").read_text()
    shown = re.search(r"\| `--all` \| show (.*?) \|", board)[1]
    assert "worst" not in shown
    assert "nine" not in shown


def test_densities_that_follow_the_process():
    """The page's table is the committed board."""
    page = (ROOT / "docs" / "processes.md").read_text()
    row = r"(?m)^\| `([\w-]+)` \| `(dle-\w+:tuned)` \| (holds) \| (holds) \| (.*) \|$"
    rows = re.findall(row, page)
    assert [row[0] for row in rows] == ["sis", "gp", "student-t"]
    for task, label, *verdicts, numbers in rows:
        found = board("densities", task, 10_000)[label]
        assert [found[f"verdict/{n}"]["note"] for n in PARAMETERS[task]] == verdicts
        quantities = [found[name] for name in ("price", "divergence/joint")]
        shown = [parenthesised(q["value"], q["error"]) for q in quantities]
        assert numbers.split(" | ") == shown


def test_savings_of_expectations_on_the_processes():
    """The page's factors are those of the committed run, in the order of its parameters."""
    page = (ROOT / "docs" / "expectations.md").read_text()
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


def test_networks_beside_the_papers():
    """The Gaussians' page lists the networks of each comparison correctly."""
    page = (ROOT / "docs" / "gaussians.md").read_text()
    published = (ROOT / "bench" / "report" / "published.csv").read_text()
    members = bench.load(ROOT / "results" / "gaussians-published").members
    members = members[members.plan == "bootstrap"]
    reaching = {}
    for task in ("far", "near"):
        for label in ("lre:published", "dle:published", "dle-nflows:published"):
            own = members[(members.task == f"gaussians-{task}") & (members.label == label)]
            by = {q: v.groupby("member").value.mean() for q, v in own.groupby("quantity")}
            key = f"gaussians.{task}.{label[:3]}."
            example = {
                q: float(
                    re.search(rf"(?m)^{re.escape(key + q)},.*,network,([\d.]+),", published)[1]
                )
                for q in ("coverage_z", "overlap_joint")
            }
            coverage, overlap = by["coverage/z"], by["overlap_kM/joint"]
            reach = int((overlap >= example["overlap_joint"]).sum())
            reaching[label] = reaching.get(label, 0) + reach
            row = re.search(rf"(?m)^\| {task} \| `{label}` \| [\d.]+ ± .*of 5 \|$", page)[0]
            specs = [spec.strip() for spec in row.split("|")[3:-1]]
            assert specs[0] == f"{coverage.mean():.2f} ± {coverage.std():.2f}"
            assert float(specs[2]) == example["coverage_z"]
            assert specs[3] == f"{reach} of {len(overlap)}"
    assert tuple(reaching.values()) == (2, 8, 6)


def test_the_table_on_averaging():
    page = (ROOT / "docs" / "processes.md").read_text()
    results = Results(Store.open(ROOT / "results" / "processes"))
    methods = ("lre:tuned", "dle:tuned", "dle-nflows:tuned")
    compared = 0
    for group, rows in averaging.splits(groups(results, (), methods)):
        order = Registry().task(group.task).space.names
        for label in methods if group.budget == 100_000 else ():
            own = {row.parameter: row for row in rows if row.method == label}
            cells = (f"{own[n].error:.2f} | {number(own[n].share)}" for n in order)
            assert f"| `{group.task}` | `{label}` | {' | '.join(cells)} |" in page
            compared += 1
    assert compared == 9
