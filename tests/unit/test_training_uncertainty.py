"""Uncertainty of training: spreads, errors and widened intervals of planted networks."""

import math

import numpy as np
import pytest
from scipy import stats

from bench.boards.judgement import NOMINAL
from bench.studies.training import QUOTED, Estimates, csv, line, markdown, paired

KEY = ("higgs", 1000, "lre", "mu")
DATASETS, MEMBERS, SETS = 400, 6, 12
BIAS, SET, START = 0.3, 0.5, 0.25  # of estimates, in half-widths of exact intervals


def estimates(own, rng):
    draws = rng.standard_normal((DATASETS, 16))
    return Estimates(own, own - 1, own + 1, draws)


def planted(seed, bias=BIAS, initial=START):
    """Return runs whose estimates have a bias, a part of the training set, and one of the start.

    A part is the same for all datasets up to its sign, as that of a distorted likelihood.
    """
    rng = np.random.default_rng(seed)

    def parts(scale, members):
        return scale * rng.standard_normal((members, 1)) * rng.choice([-1, 1], DATASETS)

    fresh = bias + parts(SET, 24) + parts(initial, 24)
    data = {"fresh": {((0, "plan"), 0): estimates(fresh, rng)}, "shared": {}, "bootstrap": {}}
    for seed in range(SETS):
        common = bias + parts(SET, 1)
        run = (seed, "plan"), 0
        data["shared"][run] = estimates(common + parts(initial, MEMBERS), rng)
        resampled = common + parts(SET, MEMBERS) + parts(initial, MEMBERS)
        data["bootstrap"][run] = estimates(resampled, rng)
    return data


def expected_coverage(half, bias, scatter):
    """Return the probability that an interval around a scattered estimate holds a normal draw."""
    width = math.hypot(1, scatter)
    return stats.norm.cdf((half - bias) / width) - stats.norm.cdf((-half - bias) / width)


def test_spreads_and_errors_are_the_planted_ones():
    found = [line(KEY, paired(planted(seed))) for seed in range(40)]
    both = math.hypot(SET, START)
    for name, true in (("spread", both), ("error", math.hypot(both, BIAS))):
        values = [getattr(one, name) for one in found]
        assert np.mean([v.value for v in values]) == pytest.approx(true, rel=0.05)
        pulls = [(v.value - true) / v.error for v in values]
        assert 0.6 < np.std(pulls) < 1.5
    for way, true in (("shared", START), ("bootstrap", both)):
        values = [one.quoted[way].spread for one in found]
        assert np.mean([v.value for v in values]) == pytest.approx(true, rel=0.05)
        pulls = [(v.value - true) / v.error for v in values]
        assert 0.6 < np.std(pulls) < 1.6
    assert all(one.quoted["shared"].sets == SETS for one in found)


def test_widened_intervals_have_the_coverage_of_their_width():
    found = [line(KEY, paired(planted(seed))) for seed in range(40)]
    scatter = math.hypot(SET, START)
    plain = 100 * (expected_coverage(1, BIAS, scatter) - NOMINAL)
    assert np.mean([one.gap.value for one in found]) == pytest.approx(plain, abs=1)
    # The spread of six networks differs between training sets, so this holds roughly.
    for way, spread in (("shared", START), ("bootstrap", scatter)):
        half = math.hypot(1, spread)
        gap = 100 * (expected_coverage(half, BIAS, scatter) - NOMINAL)
        assert np.mean([one.quoted[way].gap.value for one in found]) == pytest.approx(gap, abs=1.5)
        length = np.mean([one.quoted[way].length.value for one in found])
        assert length == pytest.approx(half, rel=0.03)


def test_one_training_set_has_no_error():
    data = planted(0)
    first = dict([*data["shared"].items()][:1])
    found = line(KEY, paired({"fresh": data["fresh"], "shared": first, "bootstrap": {}}))
    assert math.isnan(found.gap.error)
    assert set(found.quoted) == {"shared"}
    text = markdown([found])
    assert "n/a" in text
    assert "`higgs`" in text
    assert len(csv([found]).splitlines()) == 2


def with_drawn_weights(seed, scatter):
    """Return fresh ensembles with a common bias, and draws of the weights of each."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1, 1], DATASETS)
    fitted = BIAS + START * rng.standard_normal((SETS, 1)) * signs
    own = {((0, "plan"), 0): estimates(fitted, rng)}
    for draw in range(1, MEMBERS + 1):
        moved = fitted + scatter * rng.standard_normal((SETS, 1)) * signs
        own[(0, "plan"), draw] = estimates(moved, rng)
    return {"fresh": own}


@pytest.mark.parametrize("scatter", [0.1, 0.4])
def test_drawn_weights_quote_their_own_spread(scatter):
    found = [line(KEY, paired(with_drawn_weights(seed, scatter))) for seed in range(40)]
    quoted = [one.quoted["weights"] for one in found]
    assert np.mean([q.spread.value for q in quoted]) == pytest.approx(scatter, rel=0.05)
    pulls = [(q.spread.value - scatter) / q.spread.error for q in quoted]
    assert 0.6 < np.std(pulls) < 1.6
    assert np.mean([one.spread.value for one in found]) == pytest.approx(START, rel=0.1)
    gap = 100 * (expected_coverage(math.hypot(1, scatter), BIAS, START) - NOMINAL)
    assert np.mean([q.gap.value for q in quoted]) == pytest.approx(gap, abs=1.5)
    assert all(q.sets == SETS for q in quoted)


def test_one_draw_has_no_spread():
    data = with_drawn_weights(0, 0.1)["fresh"]
    assert not paired({"fresh": dict([*data.items()][:2])}).quotes


def test_ways_have_names():
    assert set(QUOTED) == {"shared", "bootstrap", "weights"}
