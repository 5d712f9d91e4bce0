"""Rates of wrong decisions, and errors of honest lengths, on leaderboards that are planted."""

import numpy as np
import pytest
from planted_boards import NAMES, Planted, planted_board
from scipy.stats import binom

BOARDS, MEMBERS, SETS = 400, 14, 60
SAMPLING = 0.01  # standard error of a share of 500 intervals
GAPS = {
    "none": Planted(0.0, 1.05, 0.05),
    "small": Planted(-0.02, 1.10, 0.10),
    "tolerated": Planted(-0.05, 1.10, 0.10),
    "larger": Planted(-0.08, 1.10, 0.10),
    "large": Planted(-0.15, 1.20, 0.40),
}


@pytest.fixture(scope="module")
def boards():
    """Return boards of four methods; the gap next to the tolerance alternates."""
    names = list(GAPS)
    found = []
    for seed in range(BOARDS):
        left_out = names[1 + seed % 3]
        chosen = {name: one for name, one in GAPS.items() if name != left_out}
        found.append(planted_board(np.random.default_rng(seed), chosen, MEMBERS, SETS))
    return found


def words(boards, label):
    rows = [row for board in boards for row in board.rows if row.label == label]
    return [row.verdicts[name].word for row in rows for name in NAMES]


def upper(count, of):
    """Return the 95 % upper bound of a binomial rate."""
    rates = np.linspace(0, 1, 2001)
    return rates[binom.cdf(count, of, rates) >= 0.05].max()


@pytest.mark.parametrize(
    ("label", "wrong"),
    [
        ("none", "fails"),
        ("small", "fails"),
        ("tolerated", "holds"),
        ("tolerated", "fails"),
        ("larger", "holds"),
        ("large", "holds"),
    ],
)
def test_wrong_verdicts_are_rare(boards, label, wrong):
    said = words(boards, label)
    count = said.count(wrong)
    assert count / len(said) <= 0.05
    assert upper(count, len(said)) <= 0.08


@pytest.mark.parametrize(("label", "right"), [("none", "holds"), ("large", "fails")])
def test_clear_cases_are_decided(boards, label, right):
    said = words(boards, label)
    assert said.count(right) / len(said) >= 0.8


@pytest.mark.parametrize("label", GAPS)
@pytest.mark.parametrize("level", ["honest_length", "honest_length_95"])
def test_honest_lengths_are_unbiased_and_their_errors_right(boards, label, level):
    rows = [row for board in boards for row in board.rows if row.label == label]
    found = [row.estimate(f"{level}/{name}/ratio") for row in rows for name in NAMES]
    true = GAPS[label].length
    assert np.mean([e.value for e in found]) == pytest.approx(true, rel=0.01)
    low, high = np.transpose([e.interval(0.95) for e in found])
    share = np.mean((low < true) & (true < high))
    assert 0.93 - SAMPLING <= share <= 0.97 + SAMPLING


def test_ties_are_rarely_told_apart():
    """Both kinds of ranks keep their family-wise level among four equal methods."""
    twins = {f"twin-{i}": Planted(-0.02, 1.1, 0.1) for i in range(4)}
    wrong = {"rank": 0, "likelihood_rank": 0}
    for seed in range(BOARDS):
        board = planted_board(np.random.default_rng(1000 + seed), twins, MEMBERS, SETS)
        for kind in wrong:
            ranks = [getattr(row, kind) for row in board.rows if not row.fit.oracle]
            wrong[kind] += any(rank != (1, len(twins)) for rank in ranks)
    for count in wrong.values():
        assert count / BOARDS <= 0.05
        assert upper(count, BOARDS) <= 0.08
