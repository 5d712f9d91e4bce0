"""Errors over members × sets, against simulated tables with known effects."""

from __future__ import annotations

import math
from random import Random

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from crossed_effects import MEMBERS, Labels, coverage, documented, simulated, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.stats.clustering import Array, Estimate, Strata, mean, ratio, two_way_variance

POINTS = np.repeat(np.arange(9), 5)
"""Evaluation points of the default plan: 9 points, 5 sets each."""

EFFECTS = {
    "members and sets": (0.5, 1.0, 0.5),
    "mostly sets": (0.15, 1.0, 0.5),
    "sets": (0.0, 1.0, 0.3),
    "members": (1.0, 0.0, 0.5),
}
"""Standard deviations of the member, set and interaction effects."""


@pytest.mark.parametrize("members", [2, 5])
@pytest.mark.parametrize("stratum", [POINTS, np.repeat([0, 1, 2], [2, 3, 15])])
def test_sources_of_variance_are_unbiased(members: int, stratum: Labels) -> None:
    sets, n = len(stratum), 4000
    effects = (0.5, 1.0, 0.7)
    variance = two_way_variance(tables(effects, members, stratum, n, seed=1), Strata(stratum))
    of_member, of_set, of_both = (e**2 for e in effects)
    both = of_both / (members * sets)
    for estimate, truth in (
        (variance.members, of_member / members + both),
        (variance.sets, of_set / sets + both),
        (variance.interaction, both),
    ):
        assert abs(estimate.mean() - truth) < 4 * estimate.std() / math.sqrt(n)


@pytest.mark.parametrize("effects", EFFECTS.values(), ids=EFFECTS)
@pytest.mark.parametrize("members", [5, 30])
@pytest.mark.parametrize("stratum", [POINTS, np.zeros(30, int)], ids=["9x5", "1x30"])
def test_error_is_the_spread_and_intervals_cover(
    effects: tuple[float, float, float], members: int, stratum: Labels
) -> None:
    covered, error = coverage(tables(effects, members, stratum, 2500, seed=2), stratum)
    assert 0.93 < covered < 0.97
    assert error == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("members", [2, 5, 30])
def test_without_member_and_set_effects_the_floor_is_conservative(members: int) -> None:
    covered, error = coverage(tables((0, 0, 1), members, POINTS, 2000, seed=3), POINTS)
    assert covered > 0.95
    assert 1 < error < 1.3


@pytest.mark.parametrize("members", MEMBERS)
def test_intervals_cover_as_documented(members: int) -> None:
    """Fewer simulations than `tox -e statistics`, with a margin of five Monte Carlo errors."""
    for sets, spare in ((16, 2.5), (60, 2.5), (0, 1.5)):
        low, high = documented()[members, sets]
        effects = [(0.0, 0.0, 1.0)] if sets == 0 else [(0.02, 1.0, 0.25), (1.0, 1.0, 0.25)]
        for variances in effects:
            assert low - spare < simulated(variances, members, sets or 16, 2) < high + spare


def test_one_member_covers_conditional_on_its_training_set() -> None:
    covered, error = coverage(tables((0, 1, 0.5), 1, POINTS, 4000, seed=5), POINTS)
    assert 0.93 < covered < 0.97
    assert error == pytest.approx(1, abs=0.04)


def test_strata_that_differ_in_spread_cover_with_fewer_degrees_of_freedom() -> None:
    values = tables((0, 1, 0.5), 5, POINTS, 4000, seed=6) - 7.0 * (POINTS - POINTS.mean())
    values *= np.where(POINTS == 0, 8, 1)
    assert 0.93 < coverage(values, POINTS)[0] < 0.97
    assert np.median(two_way_variance(values, Strata(POINTS)).dof) < 12 < len(POINTS) - 9


def test_points_with_one_set_each_are_pooled() -> None:
    # Differences between points drawn at random, one set each, are part of the noise.
    values = np.random.default_rng(7).standard_normal((1, 40))
    assert mean(values, np.arange(40)) == mean(values, np.zeros(40, int))
    assert mean(values, np.arange(40)).dof > 30


def test_lone_set_joins_the_smallest_stratum() -> None:
    values = np.random.default_rng(8).standard_normal((2, 6))
    assert mean(values, [0, 0, 0, 1, 1, 2]) == mean(values, [0, 0, 0, 1, 1, 1])


def test_one_member_is_the_textbook_standard_error() -> None:
    values = np.random.default_rng(9).standard_normal((1, 50))
    estimate = mean(values, np.zeros(50, int))
    assert estimate.error == estimate.set_error
    assert estimate.error == pytest.approx(values.std(ddof=1) / math.sqrt(50))
    assert math.isnan(estimate.member_error)


def test_one_set_has_no_error() -> None:
    estimate = mean([[1.0], [2.0], [6.0]], [0])
    assert estimate.value == 3
    assert estimate.member_error == pytest.approx(math.sqrt(7 / 3))
    for undefined in (estimate.error, estimate.dof, estimate.set_error, *estimate.interval()):
        assert math.isnan(undefined)


@pytest.mark.parametrize("members", [1, 4])
def test_equal_values_have_no_error(members: int) -> None:
    estimate = mean(np.ones((members, 6)), [0, 0, 0, 1, 1, 1])
    assert estimate.error == 0
    assert math.isfinite(estimate.dof)
    assert estimate.interval() == (1, 1)


def test_interval_is_students() -> None:
    estimate = Estimate(value=2.0, error=0.5, dof=4.0, member_error=0.1, set_error=0.4)
    low, high = estimate.interval(0.9)
    assert (low + high) / 2 == pytest.approx(2)
    assert (high - low) / 2 == pytest.approx(0.5 * 2.1318, rel=1e-4)
    with pytest.raises(ValueError, match="level"):
        estimate.interval(95)


@pytest.mark.parametrize("reference_members", [1, 5])
def test_ratio_covers_and_its_error_is_the_spread(reference_members: int) -> None:
    rng = np.random.default_rng(10)
    offset = 1.0 + POINTS % 3  # points may have different means, but the ratio of means is common
    truth = 1.3
    pulls, errors, values = [], [], []
    for _ in range(1200):
        scale = offset * rng.gamma(20, 1 / 20, size=45)  # shared by both, hence paired
        member = 1 + 0.05 * rng.standard_normal((5, 1))
        above = truth * scale * (member + 0.1 * rng.standard_normal((5, 45)))
        below = scale * (1 + 0.1 * rng.standard_normal((reference_members, 45)))
        estimate = ratio(above, below, POINTS)
        low, high = estimate.interval()
        pulls.append(low < truth < high)
        errors.append(estimate.error)
        values.append(estimate.value)
    assert 0.93 < np.mean(pulls) < 0.97
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.07)


def test_ratio_is_paired_by_set() -> None:
    rng = np.random.default_rng(11)
    below = rng.gamma(2, size=(1, 45))
    above = below * (1 + 0.01 * rng.standard_normal((3, 45)))
    paired = ratio(above, below, POINTS).error
    shuffled = ratio(above, below[:, ::-1], POINTS).error
    assert paired < shuffled / 20


def test_ratio_to_one_is_the_mean_and_to_itself_is_exact() -> None:
    values = np.random.default_rng(12).gamma(3, size=(4, 45))
    over_one, plain = ratio(values, np.ones((1, 45)), POINTS), mean(values, POINTS)
    assert vars(over_one) == pytest.approx(vars(plain))
    own = ratio(values, values, POINTS)
    assert (own.value, own.error) == (1, 0)


TABLE = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.just(12)),
    elements=st.floats(-10, 10, width=32),
)
STRATUM = np.repeat([3, 1, 2], 4)


def close(a: Estimate, b: Estimate) -> bool:
    """Return whether estimates agree up to rounding; dof only if there is a variance."""
    names = ["value", "error", "member_error", "set_error"]
    names += ["dof"] if a.error > 1e-3 else []
    return all(
        getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-6, abs=1e-6, nan_ok=True)
        for name in names
    )


@settings(max_examples=60, deadline=None)
@given(TABLE, st.floats(-5, 5), st.floats(0.1, 10))
def test_mean_is_equivariant(values: Array, shift: float, scale: float) -> None:
    plain, moved = mean(values, STRATUM), mean(scale * values + shift, STRATUM)
    expected = Estimate(
        value=scale * plain.value + shift,
        error=scale * plain.error,
        dof=plain.dof,
        member_error=scale * plain.member_error,
        set_error=scale * plain.set_error,
    )
    assert close(expected, moved)


@settings(max_examples=60, deadline=None)
@given(TABLE, st.randoms(use_true_random=False))
def test_order_of_members_and_sets_is_irrelevant(values: Array, random: Random) -> None:
    members, sets = list(range(len(values))), list(range(12))
    random.shuffle(members)
    random.shuffle(sets)
    assert close(mean(values, STRATUM), mean(values[members][:, sets], STRATUM[sets]))


@settings(max_examples=60, deadline=None)
@given(TABLE)
def test_error_is_at_least_each_source_and_at_most_both(values: Array) -> None:
    estimate = mean(values, STRATUM)
    member = 0 if len(values) == 1 else estimate.member_error
    assert max(member, estimate.set_error) <= estimate.error * (1 + 1e-12)
    assert estimate.error <= math.hypot(member, estimate.set_error) * (1 + 1e-12)
    assert math.isfinite(estimate.dof)


@pytest.mark.parametrize(
    ("values", "stratum", "message"),
    [
        ([[1.0, math.nan]], [0, 0], "not finite"),
        ([[1.0, math.inf]], [0, 0], "not finite"),
        ([1.0, 2.0], [0, 0], "shape"),
        (np.ones((0, 2)), [0, 0], "shape"),
        ([[1.0, 2.0]], [0, 0, 0], "3 sets"),
        ([[1.0, 2.0]], [0.0, 0.0], "integer"),
        ([[1.0, 2.0]], [[0, 0]], "integer"),
        (np.ones((2, 0)), np.ones(0, int), "integer"),
    ],
)
def test_bad_input_is_refused(values: Array, stratum: Labels, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean(values, stratum)


def test_bad_denominators_are_refused() -> None:
    with pytest.raises(ValueError, match="members"):
        ratio(np.ones((3, 2)), np.ones((2, 2)), [0, 0])
    with pytest.raises(ValueError, match="mean is 0"):
        ratio(np.ones((1, 2)), [[1.0, -1.0]], [0, 0])
    with pytest.raises(ValueError, match="denominator holds 1"):
        ratio(np.ones((1, 2)), [[1.0, math.nan]], [0, 0])
