"""Verdicts, prices, ranks and recommendations of leaderboards whose answers are planted."""

from dataclasses import replace

import numpy as np
import pytest
from planted_boards import NAMES, Planted, planted_board
from scipy.stats import norm

from bench.boards import FORMATS, table
from bench.boards.columns import sections
from bench.boards.notes import notes
from bench.boards.quantities import fair_universe
from bench.boards.results import Scores
from bench.boards.units import ResamplingUnits
from bench.boards.verdict import verdict
from bench.inference.box import ROOTS
from bench.report.frames import leaderboard
from bench.stats.clustering import Estimate
from bench.stats.decision import CoverageVerdict, judge_coverage
from bench.stats.honest import fold_of, honest_lengths
from bench.stats.local import local_coverage, local_gap

FOUR = {
    "good": Planted(0.0, 1.05, 0.05),
    "long": Planted(0.0, 1.40, 0.20),
    "bold": Planted(-0.15, 1.10, 0.60),
    "slight": Planted(-0.05, 1.06, 0.06),
}


@pytest.fixture(scope="module")
def board():
    return planted_board(np.random.default_rng(0), FOUR, members=14, sets=60)


def test_verdicts_ranks_and_recommendation(board):
    rows = {row.label: row for row in board.rows}
    words = {label: {v.word for v in row.verdicts.values()} for label, row in rows.items()}
    assert words["good"] == words["long"] == {"holds"}
    assert words["bold"] == {"fails"}
    assert words["slight"] == {"undetermined"}
    assert [label for label, row in rows.items() if row.recommended] == ["good"]
    assert rows["good"].rank[0] == 1
    assert rows["long"].rank == (4, 4)
    assert rows["bold"].likelihood_rank == (4, 4)
    assert rows["long"].likelihood_rank == (3, 3)
    first, second, third = verdict(board)
    assert first.startswith("Use good: its coverage holds")
    assert second.startswith("Do not use bold (coverage of mu -")
    assert third.startswith("Undetermined: slight in mu")


def test_lengths_at_honest_coverage(board):
    rows = {row.label: row for row in board.rows}
    for label, planted in FOUR.items():
        price = rows[label].estimate("price")
        assert abs(price.value / planted.length - 1) < 4 * price.error
        for name in NAMES:
            ratio = rows[label].estimate(f"honest_length/{name}/ratio")
            assert abs(ratio.value / planted.length - 1) < 4 * ratio.error
    # Intervals that cover 53 % at threshold 1 cover 68.27 % at threshold (1/0.724)².
    threshold = rows["bold"].estimate("threshold/mu")
    assert abs(threshold.value - 1.91) < 4 * threshold.error


@pytest.mark.slow
def test_tolerance_and_level_change_the_words():
    def words(**options):
        board = planted_board(np.random.default_rng(0), FOUR, 14, 60, **options)
        return {row.label: row.word for row in board.rows}

    assert words(tolerance=0.10)["slight"] == "holds"
    assert words(tolerance=0.30)["bold"] == "holds"
    assert words(tolerance=0.001)["good"] == "undetermined"
    assert words(tolerance=0.05, level=0.9999999)["good"] == "undetermined"


@pytest.mark.slow
def test_fifteen_methods_fit_in_a_hundred_columns():
    many = {f"method-{i:02d}:tuned": Planted(0.01 * i - 0.05, 1 + 0.02 * i) for i in range(15)}
    board = planted_board(np.random.default_rng(1), many, members=5, sets=30)
    tables = [columns for _, columns in sections(board)][:2]
    for columns in tables:
        widths = [
            max(len(word) for word in (*column.name.split(), *map(column.text, board.rows)))
            for column in columns
        ]
        assert sum(widths) + 2 * (len(widths) - 1) <= 100
    lines = table([board], brief=True).splitlines()
    assert max(map(len, lines)) <= 100
    for form in FORMATS.values():
        assert form([board])


def test_nobody_holds_is_said():
    poor = {"bold": Planted(-0.15), "wild": Planted(-0.2)}
    board = planted_board(np.random.default_rng(0), poor, members=14, sets=60)
    assert next(verdict(board)) == "None holds: the coverage of every method fails."
    board = planted_board(np.random.default_rng(0), poor, members=2, sets=60)
    first, *rest = verdict(board)
    assert first.startswith("None holds: no method is shown")
    assert any("more members would decide" in sentence for sentence in rest)
    assert any("within ± 5 points" in note for note in notes(board))


@pytest.mark.parametrize(
    ("value", "word"), [(0.0, "holds"), (0.2, "fails"), (0.03, "undetermined")]
)
def test_a_verdict_is_where_the_interval_is(value, word):
    gap = Estimate(value, 0.01, 7.0, 0.009, 0.004)
    found = judge_coverage(gap, 8, 100, tolerance=0.05, level=0.99)
    assert found.word == word
    assert (found.members is None) == (word != "undetermined")


def test_as_many_members_as_said_decide():
    gap = Estimate(0.02, 0.02, 4.0, 0.018, 0.005)
    found = judge_coverage(gap, 5, 100, tolerance=0.05, level=0.99)
    assert found.word == "undetermined"
    scale = np.sqrt(5 / found.members)
    error = np.hypot(0.018 * scale, np.sqrt(0.02**2 - 0.018**2))
    then = Estimate(0.02, error, 99.0, 0.018 * scale, 0.005)
    assert judge_coverage(then, found.members, 100, 0.05, 0.99).word == "holds"


def test_without_an_error_there_is_no_verdict():
    gap = Estimate(0.0, np.nan, np.nan, np.nan, np.nan)
    assert judge_coverage(gap, 1, 1, 0.05, 0.95).word == "n/a"


def test_datasets_decide_where_members_do_not():
    gap = Estimate(0.02, 0.02, 20.0, 0.0, 0.02)
    found = judge_coverage(gap, 5, 20, tolerance=0.05, level=0.99)
    assert found.members is None
    assert found.sets > 20


def gaussian(rng, width, sets=400, shift=0.0):
    """Return coverages and lengths of intervals of a Gaussian estimate, given the dataset."""
    roots = np.array(ROOTS)
    off = shift * np.sign(rng.standard_normal((1, sets, 1)))
    covers = norm.cdf(off + width * roots) - norm.cdf(off - width * roots)
    return covers, np.broadcast_to(2 * width * roots, covers.shape)


@pytest.mark.parametrize("level", [0.6827, 0.95])
@pytest.mark.parametrize("width", [0.4, 0.7, 1.0, 1.6])
def test_a_scale_costs_nothing_once_it_is_corrected(width, level):
    covers, length = gaussian(np.random.default_rng(0), width)
    fold = [fold_of(i) for i in range(400)]
    found = honest_lengths(covers, length, ROOTS, 20.0, level, fold)
    expected = 2 * norm.isf(0.5 - 0.5 * level)
    assert found.lengths.mean() == pytest.approx(expected, rel=0.005)
    assert found.root[0] == pytest.approx(0.5 * expected / width, rel=0.005)


def test_a_shift_costs_length():
    covers, length = gaussian(np.random.default_rng(0), 1.0, shift=1.0)
    fold = [fold_of(i) for i in range(400)]
    found = honest_lengths(covers, length, ROOTS, 20.0, 0.6827, fold)
    root = found.root[0]
    assert norm.cdf(1 + root) - norm.cdf(1 - root) == pytest.approx(0.6827, abs=0.002)
    assert found.lengths.mean() == pytest.approx(2 * root, rel=0.002)


def test_beyond_the_last_threshold_intervals_are_the_whole_range():
    covers, length = gaussian(np.random.default_rng(0), 0.1)  # 38 % at the last threshold
    fold = [fold_of(i) for i in range(400)]
    found = honest_lengths(covers, length, ROOTS, 20.0, 0.6827, fold)
    assert np.isinf(found.root[0])
    last = covers[0, 0, -1]
    share = (0.6827 - last) / (1 - last)
    assert found.lengths.mean() == pytest.approx((1 - share) * length[0, 0, -1] + share * 20.0)
    with pytest.raises(ValueError, match="at least 2 parts"):
        honest_lengths(covers, length, ROOTS, 20.0, 0.6827, [0] * 400)


def test_the_whole_range_is_that_of_exact_intervals():
    """Intervals that are tiny and wrong pay with the box, not with the range that they reach."""
    surrogates = {"tiny": Planted(-0.67, 0.001, scatter=0.0)}
    board = planted_board(np.random.default_rng(0), surrogates, members=3, sets=12)
    (row,) = (row for row in board.rows if row.label == "tiny")
    # 0.68 of the longest exact interval, 5 σ on either side, in units of σ on either side.
    for name in NAMES:
        assert row.estimate(f"honest_length/{name}/ratio").value > 0.6 * 5
    assert row.quantities["threshold/mu"].reason == "> 25"


def test_local_failures_are_found_and_flat_coverage_is_not_blamed():
    rng = np.random.default_rng(3)
    theta = rng.uniform(size=(300, 16))
    flat = rng.uniform(size=(4, 300, 16)) < 0.6827
    found = local_coverage(theta, flat, [0] * 300)
    assert ((found.low < 0.6827) & (found.high > 0.6827)).all()
    hole = 0.6827 - 0.45 * np.exp(-0.5 * ((theta - 1.0) / 0.15) ** 2)
    found = local_coverage(theta, rng.uniform(size=(4, 300, 16)) < hole, [0] * 300)
    at = found.worst(0.6827)
    assert found.theta[at] > 0.9
    assert found.high[at] < 0.5
    everywhere = local_coverage(theta, np.ones((2, 300, 16)), [0] * 300)
    assert np.isfinite(everywhere.coverage).all()


def test_local_gaps_scatter_by_their_errors():
    """Intervals miss together with exact ones, which cover too often at the ends."""
    rng = np.random.default_rng(4)
    pulls, largest = [], []
    for _ in range(60):
        theta = rng.uniform(size=(200, 16))
        luck = rng.uniform(size=(1, 200, 1))  # of a dataset
        common = 0.6 * luck + 0.4 * rng.uniform(size=(1, 200, 16))
        often = 0.55 + 0.3 * np.abs(2 * theta - 1)
        own = common + 0.05 * rng.standard_normal((12, 1, 1))
        found = local_gap(theta, own < often, common < often, [0] * 200)
        pulls.append((found.gap / found.error)[[4, 20, 36]])
        largest.append(abs(found.gap[found.worst]))
    assert np.abs(np.mean(pulls)) < 0.5
    assert 0.7 < np.std(pulls) < 1.5
    assert np.median(largest) < 0.12
    same = local_gap(theta, common < often, common < often, [0] * 200)
    assert np.abs(same.gap).max() == 0
    assert same.error.max() == 0


def test_boards_are_a_frame(board):
    frame = leaderboard([board], {})
    good = frame.set_index("label").loc["good"]
    assert good["verdict mu"] == "holds"
    assert bool(good["recommended"])
    assert good["honest length"] == board.rows[1].estimate("price").value
    assert good["interval rank"] == "1–2"
    assert frame.set_index("label").loc["exact"]["likelihood rank"] == ""
    assert leaderboard([], {}).empty


@pytest.mark.slow
def test_wrong_verdicts_are_rare_on_a_few_boards():
    """A small version of tests/statistics/test_decisions.py."""
    two = {"none": Planted(0.0), "large": Planted(-0.15, 1.2)}
    words = {name: [] for name in two}
    for seed in range(15):
        board = planted_board(np.random.default_rng(seed), two, members=14, sets=40)
        for row in board.rows[1:]:
            words[row.label] += [verdict.word for verdict in row.verdicts.values()]
    assert "fails" not in words["none"]
    assert "holds" not in words["large"]
    assert words["none"].count("holds") >= 24
    assert words["large"].count("fails") >= 24


@pytest.mark.parametrize(("covered", "penalty"), [(0.68, 1.0), (0.50, 14.744), (0.90, 20.01)])
def test_the_score_of_the_fair_universe_challenge(covered, penalty):
    """Penalties for 100 datasets, by hand: σ = 0.0465, no penalty within 2 σ."""
    inside = (np.arange(100) < 100 * covered).astype(float)[None]
    values = {"width/mu": np.full((1, 100), 0.3), "coverage/mu": inside}
    point, block = np.full(100, -1), np.arange(100)
    scores = Scores((0,), point, block, values, {}, {})
    ((name, quantity),) = fair_universe(scores, ["mu"], ResamplingUnits(point, block))
    assert name == "fair_universe_score/mu"
    assert quantity.estimate.value == pytest.approx(-np.log(0.31 * penalty), abs=0.01)
    assert quantity.estimate.error > 0
    few = Scores((0,), point[:9], block[:9], {k: v[:, :9] for k, v in values.items()}, {}, {})
    assert not list(fair_universe(few, ["mu"], ResamplingUnits(point[:9], block[:9])))


def test_a_method_holds_only_if_every_parameter_has_a_verdict(board):
    good = next(row for row in board.rows if row.label == "good")
    partly = replace(good, verdicts=good.verdicts | {"z": CoverageVerdict("n/a", np.nan, np.nan)})
    assert (good.word, partly.word) == ("holds", "n/a")
