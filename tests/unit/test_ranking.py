"""Rank intervals, against simulated interval scores with known true ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.stats import ranking
from bench.stats.clustering import Array, ratio
from bench.stats.ranking import rank

Labels = NDArray[np.integer[Any]]

POINTS = np.repeat(np.arange(9), 5)
ONE_POINT = np.zeros(200, int)


def simulate(
    rng: np.random.Generator,
    truth: Sequence[float] | Array,
    members: Sequence[int],
    stratum: Labels,
    of_member: float | Sequence[float] = 0.05,
    of_set: float = 0.1,
    interaction: float = 0.2,
) -> tuple[list[Array], Array]:
    """Simulate scores with E[score] / E[reference] = exp(truth), and the reference, 2 parameters.

    Scores are skewed, differ between points, and have shared and separate set effects.
    """
    sets = len(stratum)
    reference = (1.0 + stratum % 3)[:, None] * rng.gamma(5, 1 / 5, size=(sets, 2))
    shared = reference * rng.gamma(50, 1 / 50, size=(sets, 2))
    scores = []
    spread = np.broadcast_to(of_member, len(truth))
    for log_ratio, m, member_spread in zip(truth, members, spread, strict=True):
        member = member_spread * rng.standard_normal((m, 1, 1)) - member_spread**2 / 2
        own = of_set * rng.standard_normal((1, sets, 2)) - of_set**2 / 2
        both = interaction * rng.standard_normal((m, sets, 2)) - interaction**2 / 2
        scores.append(shared * np.exp(log_ratio + member + own + both))
    return scores, reference


@pytest.mark.slow
@pytest.mark.parametrize(
    ("members", "stratum", "of_member"),
    [
        ((1,) * 6, ONE_POINT, 0.0),
        ((2,) * 6, ONE_POINT, 0.05),
        ((3,) * 6, POINTS, 0.02),
        ((5,) * 6, POINTS, 0.1),
        ((5,) * 6, ONE_POINT, 0.0),
        ((2, 5, 5, 5, 30, 1), POINTS, (0.2, 0.02, 0.02, 0.05, 0.05, 0.0)),
    ],
)
def test_tied_methods_are_rarely_told_apart(
    members: tuple[int, ...], stratum: Labels, of_member: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "DRAWS", 2000)
    rng = np.random.default_rng(1)
    repetitions = 300
    false = 0
    for _ in range(repetitions):
        scores, reference = simulate(rng, [0.1] * 6, members, stratum, of_member)
        result = rank(scores, reference, stratum)
        false += bool(result.better.any())
        if not result.better.any():
            assert result.low.tolist() == [1] * 6
            assert result.high.tolist() == [6] * 6
    # The limit is 5 % plus three Monte Carlo standard errors.
    assert false / repetitions < 0.05 + 3 * math.sqrt(0.05 * 0.95 / repetitions)


@pytest.mark.slow
@pytest.mark.parametrize(("members", "stratum"), [(5, ONE_POINT), (3, POINTS), (1, POINTS)])
def test_intervals_cover_all_true_ranks_at_once(
    members: int, stratum: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "DRAWS", 2000)
    rng = np.random.default_rng(2)
    truth = np.array([0.0, 0.02, 0.02, 0.1, 0.3])
    # Tied methods share the ranks 2 and 3, and intervals must contain both.
    low, high = np.array([1, 2, 2, 4, 5]), np.array([1, 3, 3, 4, 5])
    covered, differences, length = [], [], []
    for _ in range(300):
        spread = 0.0 if members == 1 else 0.02
        scores, reference = simulate(rng, truth, [members] * 5, stratum, spread)
        result = rank(scores, reference, stratum)
        covered.append(np.all((result.low <= low) & (high <= result.high)))
        error = np.abs(result.difference - (truth[:, None] - truth))
        differences.append(np.all(error <= result.half_width))
        length.append(np.mean(result.high - result.low))
    assert np.mean(covered) > 0.95
    assert np.mean(differences) > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 300)
    assert np.mean(length) < 3  # of at most 4, so intervals are informative


@pytest.mark.slow
def test_errors_of_differences_are_their_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "DRAWS", 10)
    rng = np.random.default_rng(3)
    results = []
    for _ in range(600):
        scores, reference = simulate(rng, [0.0, 0.2, 0.1], (8, 4, 1), POINTS, (0.03, 0.05, 0.0))
        results.append(rank(scores, reference, POINTS))
    for name, error in (("difference", "difference_error"), ("log_ratio", "error")):
        spread = np.std([getattr(r, name) for r in results], axis=0)
        claimed = np.sqrt(np.mean([getattr(r, error) ** 2 for r in results], axis=0))
        np.testing.assert_allclose(claimed, spread, rtol=0.1)


def test_clear_separation_gives_exact_ranks() -> None:
    truth = [0.4, 0.0, 1.2, 0.8]
    scores, reference = simulate(np.random.default_rng(4), truth, (5, 10, 30, 1), POINTS, 0.02)
    result = rank(scores, reference, POINTS)
    assert result.low.tolist() == result.high.tolist() == [2, 1, 4, 3]
    np.testing.assert_allclose(result.log_ratio, truth, atol=0.15)
    assert np.array_equal(result.better, result.difference < 0)
    # One significant difference by chance leaves the other methods tied.
    scores, reference = simulate(np.random.default_rng(5), [0, 0, 1], (10,) * 3, POINTS, 0.02)
    result = rank(scores, reference, POINTS)
    assert (result.low.tolist(), result.high.tolist()) == ([1, 1, 3], [2, 2, 3])


def test_comparison_is_consistent() -> None:
    scores, reference = simulate(
        np.random.default_rng(6), [0, 0.05, 0.1, 0.3], (2, 5, 5, 1), POINTS
    )
    result = rank(scores, reference, POINTS)
    np.testing.assert_array_equal(result.difference, -result.difference.T)
    np.testing.assert_allclose(result.difference_error, result.difference_error.T)
    np.testing.assert_allclose(result.half_width, result.half_width.T)
    np.testing.assert_array_equal(result.better, result.difference < -result.half_width)
    assert (np.diag(result.difference_error) == 0).all()
    assert (result.half_width >= result.critical * result.difference_error).all()
    assert 1.96 < result.critical < 2.64  # between 1 and 6 comparisons
    assert ((result.low <= result.high) & (result.low >= 1) & (result.high <= 4)).all()


def test_pairing_by_set_cancels_what_methods_share() -> None:
    rng = np.random.default_rng(7)
    scores, reference = simulate(rng, [0, 0.01], (10, 10), POINTS, 0.0, of_set=0, interaction=0.02)
    result = rank(scores, reference, POINTS)
    assert result.difference_error[0, 1] < result.error.min() / 5


def test_critical_value_is_that_of_independent_comparisons() -> None:
    rng = np.random.default_rng(8)
    scores, reference = simulate(rng, [0] * 6, (1,) * 6, np.zeros(4000, int), 0.0, of_set=0.5)
    # The expectation is the studentised range of 6 methods over √2: 4.030 / √2.
    assert rank(scores, reference, np.zeros(4000, int)).critical == pytest.approx(2.850, abs=0.04)


def test_exact_against_itself_is_zero_without_error() -> None:
    _, reference = simulate(np.random.default_rng(9), [], (), POINTS)
    result = rank([reference[None]], reference, POINTS)
    assert result.log_ratio == 0
    assert result.error == 0
    assert (result.low.tolist(), result.high.tolist()) == ([1], [1])
    assert result.difference.shape == result.better.shape == (1, 1)


@pytest.mark.parametrize("members", [1, 3])
def test_copies_are_ties(members: int) -> None:
    scores, reference = simulate(np.random.default_rng(10), [0.1], (members,), POINTS)
    result = rank([scores[0], scores[0].copy(), scores[0] * 3], reference, POINTS)
    assert not result.better[0, 1]
    assert not result.better[1, 0]
    if members == 1:  # constant factor: the difference has no variance
        assert not result.better.any()
        assert result.critical == pytest.approx(1.96, abs=0.01)


def test_one_parameter_is_the_ratio_of_means() -> None:
    scores, reference = simulate(np.random.default_rng(11), [0.3], (5,), ONE_POINT)
    result = rank([scores[0][..., :1]], reference[:, :1], ONE_POINT)
    expected = ratio(scores[0][..., 0], reference[None, :, 0], ONE_POINT)
    assert math.exp(result.log_ratio[0]) == pytest.approx(expected.value)
    assert result.error[0] == pytest.approx(expected.error / expected.value, rel=0.02)


def test_error_is_that_of_leaving_sets_out() -> None:
    rng = np.random.default_rng(13)
    n = 40
    reference = rng.gamma(0.7, size=(n, 1))  # a few sets dominate the mean
    scores = reference * rng.gamma(10, 1 / 10, size=(n, 1))
    left_out = [
        math.log(np.delete(scores, s).mean() / np.delete(reference, s).mean()) for s in range(n)
    ]
    jackknife = math.sqrt(n - 1) * np.std(left_out)
    result = rank([scores[None]], reference, np.zeros(n, int))
    # HC3 is the jackknife up to n / (n − 1). The delta method alone is 5 % too small.
    assert result.error[0] == pytest.approx(jackknife * n / (n - 1), rel=0.02)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(0.01, 100))
def test_units_and_order_are_irrelevant(seed: int, unit: float, factor: float) -> None:
    rng = np.random.default_rng(seed)
    scores, reference = simulate(rng, [0, 0.1, 0.4], (2, 4, 1), POINTS)
    plain = rank(scores, reference, POINTS)
    units = np.array([unit, 1.0])  # parameters have different units
    sets, methods = rng.permutation(45), rng.permutation(3)
    moved = rank(
        [factor * (scores[i] * units)[rng.permutation(len(scores[i]))][:, sets] for i in methods],
        (reference * units)[sets],
        POINTS[sets],
    )
    np.testing.assert_allclose(
        moved.log_ratio, plain.log_ratio[methods] + math.log(factor), atol=1e-9
    )
    np.testing.assert_allclose(moved.error, plain.error[methods])
    pairs = np.ix_(methods, methods)
    np.testing.assert_allclose(moved.difference, plain.difference[pairs], atol=1e-12)
    np.testing.assert_allclose(moved.difference_error, plain.difference_error[pairs])
    assert moved.critical == pytest.approx(plain.critical, rel=0.03)  # random numbers differ


def test_seed_decides_and_level_widens() -> None:
    scores, reference = simulate(np.random.default_rng(12), [0, 0.1, 0.2], (3, 3, 3), POINTS)
    once, again = rank(scores, reference, POINTS), rank(scores, reference, POINTS)
    other = rank(scores, reference, POINTS, seed=1)
    assert once.critical == again.critical != other.critical
    assert once.critical == pytest.approx(other.critical, rel=0.03)
    wider = rank(scores, reference, POINTS, level=0.99)
    off = ~np.eye(3, dtype=bool)
    assert (wider.half_width[off] > once.half_width[off]).all()


def test_bad_input_is_refused() -> None:
    good = np.ones((2, 4, 1))
    reference, stratum = np.ones((4, 1)), [0, 0, 1, 1]
    bad = [
        ([], reference, stratum, 0.95, "at least one method"),
        ([good[0]], reference, stratum, 0.95, "shape"),
        ([good, np.ones((2, 4, 3))], reference, stratum, 0.95, r"scores\[1\] has shape"),
        ([good], reference, [0, 0, 1], 0.95, "reference has shape"),
        ([good * math.nan], reference, stratum, 0.95, "finite"),
        ([-good], reference, stratum, 0.95, "positive mean"),
        ([good], 0 * reference, stratum, 0.95, "positive mean"),
        ([good[:, :1]], reference[:1], [0], 0.95, "2 sets"),
        ([good], reference, stratum, 95, "level"),
    ]
    for scores, base, points, level, message in bad:
        with pytest.raises(ValueError, match=message):
            rank(scores, base, points, level=level)
