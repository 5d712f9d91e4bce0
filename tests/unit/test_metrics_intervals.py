"""Metrics of hand-made intervals: scores, bias, flags, percentiles, means within sets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from metric_predictions import DATASETS, METRICS, SIGMA, Array, compute, prediction, scatter

from bench.contracts import LatticeWindow, LikelihoodPrediction, ProfileSummary
from bench.stages.score import score

WINDOW = {"area", "region_cut"}


def hand(count: int, **arrays: Any) -> LikelihoodPrediction:
    """Return a prediction with the given arrays and defaults for the rest."""
    nothing = np.zeros((count, 2), dtype=bool)
    fields: dict[str, Any] = {
        "mle": np.full((count, 2), 0.5),
        "lower": np.full((count, 2), 0.4),
        "upper": np.full((count, 2), 0.6),
        "cut_lower": nothing,
        "cut_upper": nothing,
        "disconnected": nothing,
        "log_ratio_truth": np.zeros(count),
        "unresolved": np.zeros(count, dtype=bool),
    } | {name: array for name, array in arrays.items() if name not in WINDOW}
    window: dict[str, Any] = {
        "area": np.ones(count),
        "region_cut": np.zeros(count, dtype=bool),
        "origin": np.zeros((count, 2)),
        "spacing": np.zeros((count, 2)),
        "profile": np.zeros((count, 2, 33)),
        "marginal": np.zeros((count, 2, 33)),
        "joint": np.zeros((count, 33, 33)),
    } | {name: array for name, array in arrays.items() if name in WINDOW}
    return prediction(ProfileSummary.from_arrays(fields), LatticeWindow(**window))


def test_interval_score_by_hand() -> None:
    """The score is the width, plus 2/α times the distance of a missed truth (0.5)."""
    lower = np.array([[0.4, 0.5], [0.55, 0.1], [0.2, 0.0]])
    upper = np.array([[0.6, 0.7], [0.65, 0.3], [0.4, 0.5]])
    own = hand(3, lower=lower, upper=upper)
    factor = 2 / 0.31731050786291415
    scores = compute("interval_score", own)
    np.testing.assert_allclose(scores["mu"], [0.2, 0.1 + factor * 0.05, 0.2 + factor * 0.1])
    np.testing.assert_allclose(scores["z"], [0.2, 0.2 + factor * 0.2, 0.5])
    np.testing.assert_array_equal(compute("coverage", own)["mu"], [1, 0, 0])
    np.testing.assert_array_equal(compute("coverage", own)["z"], [1, 0, 1])
    np.testing.assert_allclose(compute("width", own)["z"], [0.2, 0.2, 0.5])


def test_intervals_that_know_the_range_of_theta_score_below_exact_ones() -> None:
    """Clipping to a box that contains θ increases no score and reduces some."""
    rng = np.random.default_rng(0)
    theta = rng.uniform(0.45, 0.55, (DATASETS, 2))
    estimates = theta + rng.normal(0, SIGMA, theta.shape)
    lower, upper = estimates - SIGMA, estimates + SIGMA

    def scores(low: Array, high: Array) -> Array:
        own = hand(DATASETS, lower=low, upper=high)
        own = replace(own, datasets=replace(own.datasets, theta=theta))
        return np.stack([compute("interval_score", own)[name] for name in ("mu", "z")])

    clipped = scores(np.clip(lower, 0.45, 0.55), np.clip(upper, 0.45, 0.55))
    assert (clipped <= scores(lower, upper) + 1e-12).all()
    assert (clipped.mean(1) < 0.95 * scores(lower, upper).mean(1)).all()


def test_interval_score_is_proper() -> None:
    """Among Gaussian intervals, the unbiased 68.27 % one has the lowest mean score."""
    estimates = scatter(0.0, seed=1, count=20_000)

    def score_of(width: float, shift: float) -> float:
        centre = estimates + shift * np.array(SIGMA)
        half = width * np.array(SIGMA)
        own = hand(len(estimates), lower=centre - half, upper=centre + half)
        return float(compute("interval_score", own)["mu"].mean())

    best = score_of(1, 0)
    for other in ((0.7, 0), (1.4, 0), (1, 0.3), (1, -0.3)):
        assert score_of(*other) > best


def test_bias_is_in_half_widths_of_the_exact_interval() -> None:
    own = hand(2, mle=np.array([[0.6, 0.5], [0.45, 0.2]]))
    truth = hand(
        2,
        mle=np.array([[0.5, 0.5], [0.5, 0.5]]),
        lower=np.array([[0.45, 0.4], [0.4, 0.3]]),
        upper=np.array([[0.55, 0.6], [0.6, 0.5]]),
    )
    np.testing.assert_allclose(compute("bias", own, truth)["mu"], [2, -0.5])
    np.testing.assert_allclose(compute("bias", own, truth)["z"], [0, -3])
    np.testing.assert_allclose(compute("mle_distance", own, truth)["mu"], [2, 0.5])
    np.testing.assert_allclose(compute("mle_distance", own, truth)["z"], [0, 3])


def test_edges_and_flags() -> None:
    yes = np.array([[True, False], [False, False], [False, True]])
    own = hand(
        3,
        mle=np.array([[0.0, 0.5], [0.3, 1.0], [0.9999, 0.0001]]),
        cut_lower=yes,
        cut_upper=yes[::-1],
        disconnected=yes,
        region_cut=np.array([False, True, True]),
        unresolved=np.array([True, False, False]),
        area=np.array([1.0, 2.0, 3.0]),
        log_ratio_truth=-0.5 * np.array([0.0, 5.9, 6.1]),
    )
    expected = {
        "mle_edge": {"mu": [1, 0, 0], "z": [0, 1, 0]},
        "cut": {"mu": [1, 0, 1], "z": [1, 0, 1], "region": [0, 1, 1]},
        "disconnected": {"mu": [1, 0, 0], "z": [0, 0, 1]},
        "unresolved": {"": [1, 0, 0]},
        "region_area": {"": [1, 2, 3]},
        "region_coverage": {"": [1, 1, 0]},
    }
    for name, by_key in expected.items():
        found = compute(name, own)
        assert set(found) == set(by_key), name
        for key, values in by_key.items():
            np.testing.assert_array_equal(found[key], values, err_msg=f"{name}/{key}")


def test_percentile_width_by_hand() -> None:
    """The width is between the 16 % and 84 % percentiles of a set's estimates."""
    rng = np.random.default_rng(0)
    mle = rng.uniform(size=(200, 2))
    sets = np.repeat([3, 8], 100)
    own = hand(200, mle=mle)
    own = replace(own, datasets=replace(own.datasets, set=sets))
    found = compute("percentile_width", own)
    for number in (3, 8):
        for i, name in enumerate(("mu", "z")):
            ordered = np.sort(mle[sets == number, i])
            # Interpolation is linear between order statistics: percentile q is at q (n − 1).
            low = ordered[15] + 0.84 * (ordered[16] - ordered[15])
            high = ordered[83] + 0.16 * (ordered[84] - ordered[83])
            np.testing.assert_allclose(found[name][sets == number], high - low)


def test_scores_are_averaged_within_sets() -> None:
    sets = np.array([7, 7, 4, 4, 4])
    own = hand(5, area=np.array([1.0, 3.0, 5.0, np.nan, 7.0]))
    own = replace(own, datasets=replace(own.datasets, set=sets, point=np.array([2, 2, 1, 1, 1])))
    arrays, _ = score([METRICS["region_area"]], own, None)
    np.testing.assert_array_equal(arrays["set"], [4, 7])
    np.testing.assert_array_equal(arrays["point"], [1, 2])
    np.testing.assert_array_equal(arrays["region_area/"], [6, 2])
    _, undefined = score([METRICS["bias"]], own, None)
    assert "needs an exact likelihood" in undefined["bias"]
