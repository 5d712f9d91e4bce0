"""Refined maxima and interval ends on curves with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import optimize
from torch import Tensor

from bench.inference.profile import crossings, peak, profiles

unit = st.floats(0, 1)
nodes = st.integers(5, 60)


def parabola(n: int, vertex: float, sigma: float) -> Tensor:
    """Return −½ ((i − vertex) / σ)² at n nodes."""
    return -0.5 * ((torch.arange(n, dtype=torch.float64) - vertex) / sigma) ** 2


def ends(curve: Tensor, threshold: float = 1.0) -> tuple[float, float, bool, bool, bool]:
    """Return the interval of one curve: lower, upper, open below, open above, disconnected."""
    lower, upper, below, above, again = crossings(curve[None], *peak(curve[None]), threshold)
    return float(lower), float(upper), bool(below), bool(above), bool(again)


@settings(deadline=None)
@given(n=nodes, place=unit, sigma=st.floats(0.1, 50), height=st.floats(-1e3, 1e3))
def test_peak_of_a_parabola_is_its_vertex(
    n: int, place: float, sigma: float, height: float
) -> None:
    vertex = place * (n - 1)
    value, position = peak(height + parabola(n, vertex, sigma))
    rounding = 1e-12 * (abs(height) + n**2 / sigma**2)
    assert float(value) == pytest.approx(height, abs=4 * rounding)
    assert float(position) == pytest.approx(vertex, abs=1e-9 + 4 * rounding * sigma**2)


@settings(deadline=None)
@given(n=nodes, place=st.floats(-2, -0.01), sigma=st.floats(0.1, 50))
def test_peak_outside_is_the_first_or_last_node(n: int, place: float, sigma: float) -> None:
    curve = parabola(n, place, sigma)
    value, position = peak(curve)
    assert float(position) == 0
    assert float(value) == pytest.approx(float(curve[0]), rel=1e-12)
    value, position = peak(curve.flip(0))
    assert float(position) == n - 1
    assert float(value) == pytest.approx(float(curve[0]), rel=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(-200, 200), min_size=3, max_size=30))
def test_peak_is_within_a_node_of_the_best_and_no_lower(values: list[int]) -> None:
    curve = torch.tensor(values, dtype=torch.float64) / 4
    value, position = peak(curve)
    assert float(value) >= float(curve.max())
    assert 0 <= float(position) <= len(values) - 1
    nearest = (torch.arange(len(values)) - position).abs() <= 1
    assert float(curve[nearest].max()) == float(curve.max())
    shifted, moved = peak(curve + 16)
    assert float(shifted) == pytest.approx(float(value) + 16, abs=1e-9)
    flipped, mirrored = peak(curve.flip(0))
    if (curve == curve.max()).sum() == 1:
        assert float(moved) == pytest.approx(float(position), abs=1e-6)
        assert float(flipped) == pytest.approx(float(value), abs=1e-9)
        assert float(mirrored) == pytest.approx(len(values) - 1 - float(position), abs=1e-9)


@settings(deadline=None)
@given(
    slopes=st.lists(st.floats(0.01, 10), min_size=4, max_size=20),
    wall=st.sampled_from([30.0, 1e3, 1e6, 1e30]),
    flip=st.booleans(),
)
@example(slopes=[1.0, 1.0, 1.0, 1.0], wall=1e30, flip=False)
def test_peak_of_a_concave_curve_is_below_its_chords(
    slopes: list[float], wall: float, flip: bool
) -> None:
    """Concave curves lie below the lines through neighbouring nodes, beyond these nodes.

    A wall on one side of the maximum, where events become impossible, must not raise it.
    """
    falls = np.cumsum(np.concatenate([[0.0], np.sort(slopes)]))
    curve = torch.tensor(np.concatenate([[-2 * wall, -wall], -falls]), dtype=torch.float64)
    curve = curve.flip(0) if flip else curve
    value, position = peak(curve)
    if flip:
        curve, position = curve.flip(0), len(curve) - 1 - position
    # The maximum is between nodes 1 and 3: below the line through nodes 2 and 3 if it is before
    # node 2, and below that through nodes 3 and 4 if it is after node 2.
    assert 1 <= float(position) <= 3
    bound = max(float(2 * curve[2] - curve[3]), float(2 * curve[3] - curve[4]), float(curve[2]))
    assert float(value) <= bound + 1e-9 * abs(bound)


@settings(deadline=None)
@given(
    n=nodes,
    place=unit,
    sigma=st.floats(0.2, 50),
    threshold=st.sampled_from([0.5, 1.0, 3.84, 9.0]),
)
def test_crossings_of_a_parabola_are_exact(
    n: int, place: float, sigma: float, threshold: float
) -> None:
    """Ends are exact at any spacing; nodes may be five times coarser than σ."""
    vertex = place * (n - 1)
    reach = sigma * math.sqrt(threshold)
    # On a node, rounding decides whether the threshold is reached.
    assume(abs(vertex - reach) > 1e-6)
    assume(abs(vertex + reach - (n - 1)) > 1e-6)
    lower, upper, below, above, again = ends(parabola(n, vertex, sigma), threshold)
    assert below == (vertex - reach < 0)
    assert above == (vertex + reach > n - 1)
    assert lower == pytest.approx(max(vertex - reach, 0), abs=1e-5)
    assert upper == pytest.approx(min(vertex + reach, n - 1), abs=1e-5)
    assert not again


@settings(deadline=None)
@given(
    skew=st.floats(-0.06, 0.06),
    spacing=st.floats(0.1, 0.5),
    offset=unit,
    threshold=st.sampled_from([1.0, 4.0]),
)
def test_crossings_of_skewed_curves(
    skew: float, spacing: float, offset: float, threshold: float
) -> None:
    """For the signed root t + skew · t², ends are exact to 1 % of the half-width at σ/2."""
    t = (torch.arange(-40, 41, dtype=torch.float64) + offset) * spacing
    t = t[(1 + 2 * skew * t) > 0.1]  # where the root is monotone
    curve = -0.5 * (t + skew * t**2) ** 2
    limit = math.sqrt(threshold)
    known = []
    for sign in (-1, 1):
        inside = (sign * limit) * 4 * skew + 1
        assume(inside > 0.05)
        known.append((math.sqrt(inside) - 1) / (2 * skew) if abs(skew) > 1e-9 else sign * limit)
    assume(float(t[0]) < known[0] - spacing)
    assume(float(t[-1]) > known[1] + spacing)
    lower, upper, below, above, again = ends(curve, threshold)
    assert not below
    assert not above
    assert not again
    assert float(t[0]) + spacing * lower == pytest.approx(known[0], abs=0.01 * limit)
    assert float(t[0]) + spacing * upper == pytest.approx(known[1], abs=0.01 * limit)


@pytest.mark.parametrize("count", [5, 10, 30, 100])
def test_crossings_of_a_poisson_likelihood(count: int) -> None:
    rate = torch.arange(0.1, 4 * count, 0.25 * math.sqrt(count), dtype=torch.float64)
    step = float(rate[1] - rate[0])
    curve = count * rate.log() - rate
    lower, upper, *flags = ends(curve)

    def fallen(r: float) -> float:
        return 2 * (count * math.log(count) - count - count * math.log(r) + r) - 1

    known = [optimize.brentq(fallen, *b) for b in ((1e-3, count), (count, 9 * count))]
    assert not any(flags)
    for got, expected in zip((lower, upper), known, strict=True):
        assert 0.1 + step * got == pytest.approx(expected, abs=0.01 * math.sqrt(count))
    value, position = peak(curve)
    assert 0.1 + step * float(position) == pytest.approx(count, abs=0.02 * math.sqrt(count))
    assert float(value) == pytest.approx(count * math.log(count) - count, abs=2e-3)


@settings(deadline=None)
@given(n=nodes, place=unit, sigma=st.floats(0.3, 20), seed=st.integers(0, 1000))
def test_intervals_hold_the_maximum_are_nested_and_mirror(
    n: int, place: float, sigma: float, seed: int
) -> None:
    noise = 0.3 * torch.randn(n, generator=torch.Generator().manual_seed(seed)).double()
    curve = parabola(n, place * (n - 1), sigma) + noise
    position = float(peak(curve)[1])
    before = (position, position)
    for threshold in (0.25, 1.0, 4.0):
        lower, upper, below, above, again = ends(curve, threshold)
        assert 0 <= lower <= before[0] + 1e-9
        assert before[1] - 1e-9 <= upper <= n - 1
        assert below == (lower == 0) or not below
        before = (lower, upper)
        mirrored = ends(curve.flip(0), threshold)
        assert mirrored[0] == pytest.approx(n - 1 - upper, abs=1e-6)
        assert mirrored[1] == pytest.approx(n - 1 - lower, abs=1e-6)
        assert mirrored[2:] == (above, below, again)


@pytest.mark.parametrize(("second", "again"), [(-0.3, True), (-0.49, True), (-0.51, False)])
def test_a_second_rise_above_the_threshold_is_seen_on_either_side(
    second: float, again: bool
) -> None:
    curve = parabola(21, 6.0, 1.5)
    curve[16:] = torch.tensor([-5.0, second, -5.0, -5.0, -5.0], dtype=torch.float64)
    for one in (curve, curve.flip(0)):
        assert ends(one)[4] == again


def test_a_flat_curve_is_open_on_both_sides() -> None:
    flat = torch.zeros(7, dtype=torch.float64)
    lower, upper, below, above, again = ends(flat)
    assert (lower, upper, below, above, again) == (0, 6, True, True, False)


def test_profiles_are_maxima_over_the_other_parameter() -> None:
    """The ridge of a tilted Gaussian passes between nodes, and refined maxima are exact."""
    a = torch.linspace(-3, 3, 13, dtype=torch.float64)
    b = torch.linspace(-4, 4, 18, dtype=torch.float64)
    rho = 0.8
    pull = (a[:, None] ** 2 - 2 * rho * a[:, None] * b + b**2) / (1 - rho**2)
    first, second = profiles(-0.5 * pull[None].expand(3, -1, -1))
    assert first.shape == (3, 13)
    assert second.shape == (3, 18)
    torch.testing.assert_close(first[1], -0.5 * a**2)
    within = (rho * b).abs() <= 3  # elsewhere the ridge is outside
    torch.testing.assert_close(second[1][within], (-0.5 * b**2)[within])
    assert (second[1][~within] < (-0.5 * b**2)[~within]).all()


@settings(deadline=None)
@given(n=nodes, count=st.integers(1, 4), seed=st.integers(0, 1000))
def test_curves_are_independent_of_each_other(n: int, count: int, seed: int) -> None:
    curves = torch.randn(count, n, generator=torch.Generator().manual_seed(seed)).double()
    together = crossings(curves, *peak(curves))
    for i in range(count):
        one = crossings(curves[i : i + 1], *peak(curves[i : i + 1]))
        for a, b in zip(together, one, strict=True):
            assert torch.equal(a[i : i + 1], b)
