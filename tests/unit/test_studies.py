"""Studies of a results folder, where the answer is planted or computed another way."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from planted_scores import planted
from scipy import stats

from bench.errors import UsageError
from bench.registry.registry import Registry
from bench.stats.clustering import Estimate, mean, ratio
from bench.studies import averaging, calibration, differences, networks, points
from bench.studies.equivalence import EquivalenceFactor, Point
from bench.studies.equivalence_tables import counts
from bench.studies.numbers import marked, number, p_value
from bench.studies.scored import groups

RNG = np.random.default_rng(7)
NOISE = RNG.normal(10, 1, (4, 40))
POOLED = np.zeros(40, int)


def same(found: Estimate | None, expected: Estimate) -> bool:
    """Return whether two estimates are the same to rounding."""
    assert found is not None
    return asdict(found) == pytest.approx(asdict(expected), nan_ok=True)


def test_a_planted_difference_is_found_and_nothing_else(tmp_path: Path) -> None:
    """Errors are those of paired differences: what methods have in common is no noise."""
    own = {"a": NOISE, "b": NOISE + RNG.normal(0, 0.1, NOISE.shape), "c": NOISE + 0.5}
    own["c"] = own["c"] + RNG.normal(0, 0.1, NOISE.shape)
    results = planted(tmp_path, {f"{k}:x": {"width/z": v} for k, v in own.items()})
    ((group, rows),) = differences.differences(groups(results))
    assert [(r.first, r.second, r.members) for r in rows] == [
        *(("a:x", "b:x", 4), ("a:x", "c:x", 4), ("b:x", "c:x", 4))
    ]
    for row in rows:
        gap = own[row.first[0]] - own[row.second[0]]
        expected = mean(gap, POOLED)
        assert same(row.estimate, expected)
        t = abs(gap.mean()) / expected.error
        corrected = min(1, 3 * 2 * stats.t.sf(t, expected.dof))
        assert p_value(row.estimate, 3) == pytest.approx(corrected)
    text = differences.markdown([(group, rows)])
    bold = [line.split(" | ")[0] for line in text.splitlines() if "**" in line]
    assert bold == ["| `a:x` − `c:x`", "| `b:x` − `c:x`"]
    assert "### gaussians-near, 1,000 simulator calls, independent-1" in text
    assert "3 comparisons." in text


def test_only_shared_training_sets_are_compared(tmp_path: Path) -> None:
    """Ensembles have other networks; the exact likelihood is compared only if asked for."""
    kinds = {
        "a:x": {"width/z": NOISE},
        "b:x": {"width/z": NOISE[:2] + 1},
        "b:y": {"width/z": NOISE[:1], "identity": {"ensemble": 5}},
        "exact": {"width/z": NOISE[:1]},
    }
    results = planted(tmp_path, kinds)
    ((_, rows),) = differences.differences(groups(results))
    assert [(r.first, r.second, r.members) for r in rows] == [("a:x", "b:x", 2)]
    assert rows[0].estimate.value == pytest.approx(-1)
    ((_, rows),) = differences.differences(groups(results), ["width"], "exact")
    assert [r.first for r in rows] == ["a:x", "b:x", "ensemble(b:y,5)"]
    assert same(rows[0].estimate, mean(NOISE - NOISE[:1], POOLED))
    ((_, rows),) = differences.differences(groups(results, (), ("b:x", "a:*")))
    assert [(r.first, r.second) for r in rows] == [("b:x", "a:x")]
    for arguments, message in [
        (((), ("c:x",)), "unknown method 'c:x'; did you mean b:x or a:x?"),
        ((("gp",), ()), "unknown task 'gp'; known: gaussians-near"),
    ]:
        with pytest.raises(UsageError, match=message):
            groups(results, *arguments)
    with pytest.raises(UsageError, match="unknown metric 'widht'; did you mean width"):
        differences.differences(groups(results), ["widht"])
    with pytest.raises(UsageError, match="nothing to compare"):
        differences.differences(groups(results, (), ("a:x",)))


def test_averages_remove_what_differs(tmp_path: Path) -> None:
    """Errors 4 and 2 of two networks: variance 2 between them, mean square 10."""
    truth = RNG.normal(0, 1, (1, 40))
    own = truth + np.array([[4.0], [2.0]])
    kinds = {
        "a:x": {"bias/z": own, "bias/mu": own - 3},
        "b:x": {"bias/z": own[:1]},
        "exact": {"bias/z": truth, "bias/mu": truth},
    }
    found = averaging.splits(groups(planted(tmp_path, kinds)))
    rows = {r.parameter: r for _, several in found for r in several}
    assert {r.method for r in rows.values()} == {"a:x"}
    assert rows["z"].error == pytest.approx(10**0.5)
    assert rows["z"].share.value == pytest.approx(0.2)
    assert rows["mu"].share.value == pytest.approx(2.0)  # ±1: unbiased, so that it may exceed 1
    text = averaging.markdown(found)
    assert "| method | networks | error mu | share mu | error z | share z |" in text
    assert "| `a:x` | 2 | 1.00 | 2.0" in text


def test_calibrated_networks_are_compared_with_themselves(tmp_path: Path) -> None:
    """The same configuration, at the budget without the calibration's simulations."""
    scores = np.exp(NOISE / 10)
    covered = (RNG.random(NOISE.shape) < 0.5).astype(float)
    half = {"calibration": {"kind": "platt", "calls": 100, "version": 1}}
    kinds = {
        "a:x": {"interval_score/z": scores, "coverage/z": covered, "budget": 900},
        "a:x#2": {"interval_score/z": scores * 9, "coverage/z": covered},
        "a:x#3": {
            "interval_score/z": scores * (0.4 + 0.01 * NOISE),
            "coverage/z": np.maximum(covered, NOISE > 11),
            "identity": half,
        },
    }
    results = planted(tmp_path, kinds)
    (row,) = calibration.changes(results, groups(results))
    assert (row.method, row.kind, row.members) == ("a:x", "platt", 4)
    halved = row.changes["interval_score/z"]
    assert halved.is_ratio
    assert same(halved.change, ratio(scores * (0.4 + 0.01 * NOISE), scores, POOLED))
    assert halved.change.value == pytest.approx(0.5, abs=0.02)
    gained = row.changes["coverage/z"]
    assert gained.without == covered.mean()
    assert gained.change.value == (np.maximum(covered, NOISE > 11) - covered).mean()
    assert gained.text.startswith(f"{covered.mean():.3f} +0.")
    with pytest.raises(UsageError, match="nothing to compare: it takes calibrated methods"):
        calibration.changes(results, groups(results, (), ("a:x",)))


def test_points_have_binomial_intervals_and_join_by_a_parameter(tmp_path: Path) -> None:
    """Nine points, three of each z; the interval is of Clopper and Pearson's beta quantiles."""
    hits = (RNG.random((1, 2 + 9 * 20)) < 0.7).astype(float)
    own = {"coverage/z": hits, "coverage/mu": hits, "width/z": 1 + 0 * hits}
    long = {"coverage/z": hits[[0, 0]], "width/z": 2 + 0 * hits[[0, 0]]}
    kinds = {"exact": own, "a:x": long}
    results = planted(tmp_path, kinds, uniform=2, per_point=20)
    registry = Registry()
    task = registry.task("gaussians-near")
    group = groups(results)[0]
    here = points.places(task, group.units.point)
    assert [int(place.used.sum()) for place in here] == [2] + [20] * 9
    assert here[0].name == "uniform"
    z = task.points[:, 1].numpy()
    joined = points.places(task, group.units.point, "z")
    assert [place.name for place in joined] == [f"{v:g}" for v in np.unique(z)]
    k, n = int(hits[0, joined[0].used].sum()), 60
    low, high = stats.beta.ppf([0.025, 0.975], [k, k + 1], [n - k + 1, n - k])
    expected = f"{k / n:.0%} [{low:.0%}, {high:.0%}]"
    assert points.share(hits[0, joined[0].used]) == expected
    text = points.markdown(points.of_truth([group]), registry, "z")
    assert f"| `exact` | {joined[0].name} | 60 | {expected} |" in text
    assert "coverage/mu" not in text
    text = points.markdown([group], registry)
    assert "| `a:x` | 2 | " in text
    assert "| 2.0000(0) |" in text
    with pytest.raises(UsageError, match="unknown parameter 'zz'; did you mean z"):
        points.markdown([group], registry, "zz")


def test_single_networks_have_their_standard_deviation(tmp_path: Path) -> None:
    values = NOISE + np.arange(4)[:, None]
    results = planted(tmp_path, {"a:x": {"width/z": values}, "exact": {"width/z": values[:1]}})
    means = values.mean(1)
    text = networks.markdown(groups(results))
    assert f"| `a:x` | 4 | {means.mean():.1f} ± {means.std(ddof=1):.1f} |" in text
    with pytest.raises(UsageError, match="unknown metric 'bias'"):
        networks.markdown(groups(results), ["bias"])


def test_better_worse_and_chance_are_counted() -> None:
    """Pulls of −3, +3 and 0; by chance Student's t with n + m − 2 degrees of freedom."""

    def point(label: str, budget: int, value: float, members: int = 5) -> Point:
        return Point("gp", "heldout-1", label, "bce/field", budget, members, value, 1 / 2**0.5)

    plain = [point("a", b, 10.0) for b in (1, 2, 3, 4)]
    other = [point("b", 1, 7.0), point("b", 2, 13.0), point("b", 3, 10.0), point("b", 4, 0.0, 1)]
    factor = EquivalenceFactor(
        *("gp", "heldout-1", "a", "b", "bce/field", 1, 5, 5, 4, 1.0, 0.5, 2.0, "")
    )
    (found,) = counts([factor], plain + other)
    assert (found.comparisons, found.better, [p.budget for p in found.worse]) == (3, 1, [2])
    assert found.chance == pytest.approx(3 * stats.t.sf(2, 8))


def test_numbers_are_marked_where_their_interval_excludes_equality() -> None:
    estimate = Estimate(-0.5, 0.1, 10, 0.1, 0.1)
    for comparisons in (1, 10, 100, 1000):
        low, high = estimate.interval(1 - 0.05 / comparisons)
        assert ("**" in marked(estimate, comparisons)) == (not low <= 0 <= high)
        assert "**" not in marked(estimate, comparisons, equal=-0.5)
    assert (number(estimate), number(None)) == ("−0.50(10)", "n/a")
    assert number(Estimate(0.5, 0.1, 10, 0.1, 0.1), "+") == "+0.50(10)"
    assert np.isnan(p_value(Estimate(1, np.nan, np.nan, np.nan, np.nan), 3))
