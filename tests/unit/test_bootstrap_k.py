"""Study of the bootstrap multiple: formulas, measurement and sentences."""

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from bench.tasks.gaussians import RotatedGaussians
from scipy import stats

from bench.boards.build import expected_coverage
from bench.errors import UsageError
from bench.inference.intervals import region_threshold
from bench.registry.registry import Registry
from bench.stats.clustering import Estimate
from bench.storage.store import Store
from bench.studies import bootstrap_k as study
from bench.studies.comparison import differences, measured, verdict
from bench.studies.expected import (
    MULTINOMIAL,
    expected,
    interval_coverage,
    region_coverage,
    stratified_shares,
)
from bench.studies.render import FORMATS, figures, table

REGISTRY = Registry()
TINY = {"observations": [40], "sets": 2, "bootstraps": 4, "independent": 9}


# Formulas


@pytest.mark.parametrize(
    ("multiple", "interval", "region"),
    [(1, 0.5205, 0.7764), (9, 0.6572, 0.9325), (math.inf, 0.6827, 0.95)],
)
def test_formulas_at_known_values(multiple, interval, region):
    assert interval_coverage(multiple) == pytest.approx(interval, abs=5e-5)
    assert region_coverage(multiple) == pytest.approx(region, abs=5e-5)
    assert region_coverage(multiple) == pytest.approx(
        stats.chi2.cdf(region_threshold(2) / (1 + 1 / multiple), 2), abs=1e-12
    )
    plan = {"kind": "bootstrap", "multiple": multiple}
    assert interval_coverage(multiple) == expected_coverage(plan)
    # A parameter without scatter between sets has the coverage of independent datasets.
    assert interval_coverage(multiple, 0.0) == pytest.approx(2 * stats.norm.cdf(1) - 1)


def test_regions_with_two_shares_agree_with_simulation():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400_000, 2))
    statistic = (z**2 * [1 + 0.1 / 2, 1 + 0.9 / 2]).sum(1)
    error = 0.5 / math.sqrt(len(z))
    assert region_coverage(2, (0.1, 0.9)) == pytest.approx(
        (statistic <= region_threshold(2)).mean(), abs=error
    )


def test_fixed_counts_matter_as_far_as_components_are_told_apart():
    """With separate components, the counts hold all information on μ and none on z."""
    for radius, low, high in ((6.0, 0.0, 1e-3), (0.05, 0.8, 1.0)):
        task = RotatedGaussians("gaussians", "", radius)
        for shares in stratified_shares(task, 2000):
            assert low <= shares.parameters[0] <= high
            assert shares.parameters[1] == pytest.approx(1, abs=0.02)
            assert sorted(shares.axes) == pytest.approx(sorted(shares.parameters), abs=0.02)


def test_expectations_with_fixed_counts_where_components_overlap_a_little():
    """As measured in the protocol, μ stays at 67.8 ± 0.2 % and z falls to 65.7 %."""
    task = REGISTRY.task("gaussians-far")
    (share, *_) = stratified_shares(task)
    # At radius 2 a share Φ(−2) of each component is misidentified, so counts are almost known.
    assert 0.05 < share.parameters[0] < 0.15
    found = expected(task, 9, stratified_shares(task, 5000))
    assert found["coverage/mu"] == pytest.approx(0.680, abs=0.002)
    assert found["coverage/z"] == pytest.approx(0.657, abs=0.001)
    assert set(found) == {"coverage/mu", "coverage/z", "region_coverage/"}


# Measurement


def rows_of(tmp_path, **options):
    store = Store(tmp_path)
    wanted = study.samples(REGISTRY, [REGISTRY.task("gaussians-far")], **(TINY | options))
    for sample in wanted:
        study.measure(report=lambda **_: None, root=str(tmp_path), plugins=(), sample=sample)
    return measured(wanted, store)


def test_what_is_measured_by_default():
    tasks, skipped = study.choose(REGISTRY, study.TASKS)
    assert not skipped
    found = study.samples(REGISTRY, tasks)
    assert [(s.observations, s.multiple) for s in found if s.task == "gaussians-far"] == [
        *((1000, k) for k in (1, 2, 3, 5, 9, math.inf)),
        *((5000, k) for k in (1, 2, 3, math.inf)),
    ]
    assert len({s.key for s in found}) == len({s.seed for s in found}) * 2 == len(found)
    assert all(s.plan.stratified for s in found if s.multiple < math.inf)


def test_every_setting_is_part_of_the_identity():
    task = REGISTRY.task("gaussians-far")

    def keys(**options):
        return {s.key for s in study.samples(REGISTRY, [task], **(TINY | options))}

    before = keys(multiples=[2])
    for change in ({"sets": 3}, {"bootstraps": 5}, {"seed": 1}, {"stratified": False}):
        assert len(before & keys(multiples=[2], **change)) == (0 if "seed" in change else 1)
    assert not before & keys(multiples=[2], observations=[41])
    assert before < keys(multiples=[2, 3])


@pytest.mark.slow
def test_coverage_falls_with_the_multiple(tmp_path):
    options = {"sets": 4, "bootstraps": 8, "stratified": False, "multiples": [1, 9]}
    one, nine, independent = rows_of(tmp_path, observations=[100], independent=36, **options)
    for name in ("z", ""):
        values = [row.coverage[name] for row in (one, nine, independent)]
        assert values[0].measured.value < values[1].measured.value
        assert values[0].expected < values[1].expected < values[2].expected
        for compared in values:
            error = compared.measured.error
            assert 0 < error < 0.15
            assert abs(compared.measured.value - compared.expected) < 3.5 * error
            assert compared.expected == compared.formula
    assert one.coverage["z"].measured.value < 0.6827


@pytest.mark.slow
def test_a_study_resumes_and_recomputes_nothing(tmp_path):
    store = Store(tmp_path)
    tasks = [REGISTRY.task("gaussians-far")]
    few = study.samples(REGISTRY, tasks, multiples=[1], **TINY)
    more = study.samples(REGISTRY, tasks, multiples=[1, 2], **TINY)
    for sample in few:
        study.measure(report=lambda **_: None, root=str(tmp_path), plugins=(), sample=sample)
    seen = []
    for _ in range(2):
        study.run(more, store, (), 1, lambda s, o: seen.append((s.multiple, o.status, o.value)))
    assert seen == [(2, "done", "done")]
    again = study.measure(report=dict, root=str(tmp_path), plugins=(), sample=more[0])
    assert again == "reused"
    rows = measured(more, store)
    assert [row.sample.multiple for row in rows] == [1, 2, math.inf]
    # A damaged result is computed again, with the same numbers.
    path = tmp_path / f"{more[0].key}.json"
    before = path.read_text()
    path.write_text(before[:-9])
    assert len(measured(more, store)) == 2
    study.measure(report=lambda **_: None, root=str(tmp_path), plugins=(), sample=more[0])
    old, new = json.loads(before), json.loads(path.read_text())
    assert old["by_set"] == new["by_set"]


def test_tasks_without_an_exact_likelihood(tmp_path):
    plugin = tmp_path / "blind.py"
    plugin.write_text(
        "from bench.tasks.gaussians import RotatedGaussians\n"
        "class Simulator:\n"
        "    size = None\n"
        "    def __init__(self, inner): self.simulate = inner.simulate\n"
        "class Blind(RotatedGaussians):\n"
        "    def components(self, split):\n"
        "        return {k: Simulator(c) for k, c in super().components(split).items()}\n"
        "blind = Blind('blind', '', 1.0)\n"
    )
    registry = Registry([plugin])
    tasks, skipped = study.choose(registry, ["gaussians-far", "blind"])
    assert [t.name for t in tasks] == ["gaussians-far"]
    assert skipped == {"blind": "it has no exact likelihood"}
    with pytest.raises(UsageError, match="no task to study: blind: it has no exact likelihood"):
        study.choose(registry, ["blind"])


# Sentences


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return rows_of(tmp_path_factory.mktemp("rows"), multiples=[1, 2])


def told(rows, shift, error=0.01):
    """Return rows with coverages at their expectations, the first shifted by `shift` errors."""
    out = []
    for row in rows:
        at = {
            name: replace(c, measured=Estimate(c.expected, error, 100.0, math.nan, error))
            for name, c in row.coverage.items()
        }
        out.append(replace(row, coverage=at))
    first = out[0].coverage["mu"]
    value = first.expected + shift * error
    out[0].coverage["mu"] = replace(first, measured=replace(first.measured, value=value))
    return out


@pytest.mark.slow
def test_the_verdict_claims_nothing_within_the_errors(rows):
    for shift in (0.0, 2.0, -2.3):  # 2.3 standard errors are p = 0.02, for 6 comparisons
        fixed, _ = verdict(told(rows, shift))
        assert "no difference is established" in fixed
        assert f"{abs(shift):.1f} standard errors" in fixed
    fixed, formula = verdict(told(rows, 4.0))
    assert "1 of 6 coverages differ at a simultaneous level of 5 %" in fixed
    assert "gaussians-far, M = 40, k = 1, mu: 0.7" in fixed
    # With fixed counts μ hardly scatters between sets, and the plain formula fails.
    assert formula.startswith("Against 2 Φ(1/√(1 + 1/k)) − 1 ")
    assert formula.endswith("it does not allow for the fixed numbers.")
    assert len(differences(rows, lambda c: c.expected)) == 6
    assert verdict(rows[-1:]) == []  # independent datasets only


@pytest.mark.slow
def test_multinomial_sets_have_one_expectation(rows, tmp_path):
    found = rows_of(tmp_path, multiples=[1], stratified=False)
    assert len(verdict(found)) == 1
    assert "expected" not in table(found)
    assert "expected" in table(rows)


@pytest.mark.slow
def test_formats_agree(rows):
    records = json.loads(FORMATS["json"](rows))
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](rows))))
    assert len(records) == len(lines) == 9
    for line, record in zip(lines, records, strict=True):
        assert {k: "" if v is None else str(v) for k, v in record.items()} == line
    assert {r["quantity"] for r in records} == {"coverage/mu", "coverage/z", "region_coverage"}
    assert [r["multiple"] for r in records] == [1, 1, 1, 2, 2, 2, None, None, None]
    assert {r["formula"] for r in records[-3:]} == {None}
    body = [line for line in FORMATS["md"](rows).splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in body] == ["k", "---:", "1", "2", "indep."]
    assert len({line.count("|") for line in body}) == 1


@pytest.mark.slow
def test_the_figure(rows):
    svg = figures(rows)["svg"]
    assert svg.startswith(b"<?xml")
    assert figures(rows)["svg"] == svg


def test_expectations_of_one_component_need_no_simulation():
    class One:
        component_names = ("all",)
        points = torch.zeros(4, 2)

    assert stratified_shares(One()) == [MULTINOMIAL] * 4
