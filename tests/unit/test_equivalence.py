"""Data-equivalence factor for learning curves with known answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_factors import BUDGETS, covered
from planted_scores import MEMBER

from bench.boards.results import Results
from bench.errors import UsageError
from bench.stats.equivalence import equivalent_budget, factor
from bench.storage.store import Store
from bench.studies import equivalence as study
from bench.studies import equivalence_tables as tables


def test_budget_on_a_power_law() -> None:
    """An excess of 5/N is exactly linear in logarithms."""
    curve = 5 / BUDGETS
    for wanted in (1e3, 2e3, 7e4, 1e5):
        assert equivalent_budget(BUDGETS, curve, 5 / wanted) == pytest.approx(wanted)
    assert equivalent_budget(BUDGETS, curve, 1.0) == 0
    assert equivalent_budget(BUDGETS, curve, 1e-6) == np.inf
    assert equivalent_budget(BUDGETS, curve, -1.0) == np.inf


def test_a_curve_that_rises_in_between_is_levelled() -> None:
    """Rising parts of a curve are replaced by their mean; after them it falls from their end."""
    curve = np.array([1.0, 0.2, 0.4, 0.1, 0.05])
    assert equivalent_budget(BUDGETS, curve, 0.3 + 1e-9) == pytest.approx(3e3)
    assert 1e3 < equivalent_budget(BUDGETS, curve, 0.35) < 3e3
    between = equivalent_budget(BUDGETS, curve, 0.2)
    assert between == pytest.approx(1e4 * 3 ** (np.log(1.5) / np.log(3)))
    assert equivalent_budget(BUDGETS, np.array([1, 1, 0.01, 0.01, 0.01]), 0.1) == pytest.approx(
        np.sqrt(3e3 * 1e4)
    )


def test_less_than_nothing_left_is_no_end() -> None:
    """Noise may make a curve negative; neighbouring budgets are unchanged."""
    curve = np.array([0.1, -0.001, 0.02, 0.01, -0.0001])
    levelled = (-0.001 + 0.02 + 0.01) / 3 + 1e-9
    assert equivalent_budget(BUDGETS, curve, levelled) == pytest.approx(3e3)
    last = equivalent_budget(BUDGETS, curve, 0.001)
    assert 3e4 < last < 1e5
    assert equivalent_budget(BUDGETS, curve, -0.0001) == pytest.approx(1e5)
    assert equivalent_budget(BUDGETS, curve, -0.001) == np.inf


@pytest.mark.slow
@pytest.mark.parametrize("networks", [(5, 5), (5, 3)])
def test_intervals_cover_the_true_factor(networks: tuple[int, int]) -> None:
    """Intervals cover 95 % within three Monte Carlo errors; percentiles cover 88 and 81 %."""
    assert covered(networks, 10, 3e3, 0.3, 400) == pytest.approx(0.95, abs=0.033)


def test_one_source_of_scatter_has_students_interval() -> None:
    """The interval is the bootstrap's of n = 5 times t √(n/(n − 1)) over the normal quantile."""
    curve = [np.full(5, 5 / b) for b in BUDGETS]
    other = 5 / 3e4 * np.exp([-0.02, -0.01, 0, 0.01, 0.02])
    found = factor(BUDGETS, curve, 3e3, other, draws=100_000)
    half = 2.776 * np.std([-0.02, -0.01, 0, 0.01, 0.02], ddof=1) / np.sqrt(5)
    assert np.log(found.high / found.value) == pytest.approx(half, rel=0.05)
    assert np.log(found.value / found.low) == pytest.approx(half, rel=0.05)


def test_the_interval_of_a_bound_is_widened_too() -> None:
    """A factor beyond the budgets has a low end, which percentiles alone do not widen."""
    rng = np.random.default_rng(1)
    curve = [5 / b * rng.lognormal(0, 0.3, 5) for b in BUDGETS]
    other = rng.lognormal(0, 0.3, 5)
    other *= 0.95 * curve[-1].mean() / other.mean()
    few = factor(BUDGETS, curve, 1e4, other)
    many = factor(BUDGETS, [np.tile(c, 20) for c in curve], 1e4, np.tile(other, 20))
    assert few.beyond == many.beyond == ">"
    assert few.low < many.low < 10


def test_out_of_range_is_a_bound() -> None:
    plain = [5 / b * np.ones(3) for b in BUDGETS]
    found = factor(BUDGETS, plain, 3e4, np.full(3, 1e-9))
    assert (found.beyond, found.value, found.low, found.high) == (">", 1e5 / 3e4, np.inf, np.inf)
    found = factor(BUDGETS, plain, 1e4, np.full(3, 1.0))
    assert (found.beyond, found.value, found.low) == ("<", 0.1, 0)


def test_what_has_no_interval() -> None:
    plain = [5 / b * np.ones(1) for b in BUDGETS]
    found = factor(BUDGETS, plain, 1e3, np.full(1, 5e-4))
    assert (found.value, found.low, found.high) == (pytest.approx(10), 0, np.inf)
    plain[2] = np.array([np.nan])
    assert np.isnan(factor(BUDGETS, plain, 1e3, np.full(1, 5e-4)).value)


ALONE = [("nler", {}, 1.0, {}), ("nler-sa", {"scores": {"weight": 1.0}}, 0.1, {})]
OTHERS = [
    ("lre", {}, 3.0, {}),
    ("nler", {}, 0.2, {"ensemble": 5}),
    ("nler", {}, 0.2, {"schema": 0}),
]


def stored(
    path: Path, kinds: list[tuple[str, dict[str, object], float, dict[str, int]]]
) -> Results:
    """Store scores like a run: the excess falls as 1/N, with scores a tenth of it."""
    store = Store(path)
    store.write("plans/heldout-1", {"plan": {"kind": "heldout", "contexts": 4}, "seed": 0}, {})
    for number, (method, scores, share, more) in enumerate(kinds):
        for budget in (1000, 3000, 10_000, 30_000):
            folder = f"gp/{method}-{number}-{budget}"
            config = {"width": 4, **scores}
            record = {
                "task": "gp",
                "method": method,
                "configuration": "3k",
                "oracle": False,
                "identity": {
                    "budget": budget,
                    "seed": 0,
                    "training_data": "fresh",
                    "method": {"name": method, "config": config},
                    **more,
                },
            }
            store.write(f"fits/{folder}/fit", record, {})
            for member in range(3):
                left = share * 50 / budget * (1 + 0.01 * member)
                arrays = {
                    "point": np.full(4, -1),
                    "set": np.arange(4),
                    "score_error/field.length": np.full(4, left),
                    "width/length": np.ones(4),
                }
                key = f"{folder}/heldout-1/member-{member:03d}"
                store.write(f"fits/{folder}/member-{member:03d}", MEMBER, {})
                store.write(f"scores/{key}", {"status": "done"}, arrays)
    return Results(Store.open(path))


@pytest.mark.parametrize("kinds", [ALONE, ALONE + OTHERS], ids=["alone", "among others"])
def test_study_of_stored_scores(tmp_path: Path, kinds: list[Any]) -> None:
    """Other methods, ensembles and former versions are not part of the curve."""
    results = stored(tmp_path, kinds)
    found = study.rows(results)
    points = study.curves(results, found)
    assert {p.label for p in points} == {"nler:3k", "nler-sa:3k"}
    first = next(p for p in points if p.label == "nler-sa:3k")
    assert (first.budget, first.members) == (1000, 3)
    assert first.value == pytest.approx(0.005 * 1.01)
    assert first.error == pytest.approx(0.005 * 0.01 / 3**0.5)
    shown = tables.learning_curves(points)
    assert "| score_error/field.length | nler-sa:3k | 0.005050(29) |" in shown
    assert [r.budget for r in found] == [1000, 3000, 10_000, 30_000]
    assert {r.metric for r in found} == {"score_error/field.length"}
    for row in found[:2]:
        assert row.value == pytest.approx(10, rel=0.02)
        assert row.low < 10.1
        assert row.high > 9.9
    assert found[2].beyond == ">"
    assert found[2].value == 3
    text = tables.markdown(found)
    assert "### gp: nler-sa:3k against nler:3k" in text
    assert "| score_error/field.length | 10 [9.8, 10] | 10 [9.8, ∞] | > 3 | > 1 |" in text
    assert tables.csv(found).count("\n") == 5


def test_nothing_to_compare(tmp_path: Path) -> None:
    Store(tmp_path).write("run", {}, {})
    with pytest.raises(UsageError, match="no two methods to compare"):
        study.rows(Results(Store(tmp_path)))
