"""Papers' numbers: equal to their tables, and verdicts on hand-made results."""

import json
from math import inf, nan
from pathlib import Path

import pytest

from bench.boards import Leaderboard, Quantity, Row
from bench.boards.results import SavedFit
from bench.report.papers import Published, beside, comparisons, expected_interval, judge, published
from bench.stats.clustering import Estimate

SHARED = Path(__file__).parents[3] / "shared" / "data" / "paper_tables.json"


class Stub:
    """Results with leaderboards only."""

    def __init__(self, *boards):
        self.boards = list(boards)
        self.results = type("Results", (), {"fits": [], "plans": {}})()


def board(kind="bootstrap", data="shared", task="gaussians-far", budget=100, **rows):
    plan = {"kind": kind, "multiple": 9}
    made = []
    for name, (members, quantities) in rows.items():
        method, _, configuration = name.partition("_")
        identity = {"budget": budget, "training_data": data, "seed": 0}
        fit = SavedFit(f"{task}/{name}", task, method, configuration, method == "exact", identity)
        found = {k: Quantity(v, "" if v else "needs a sun") for k, v in quantities.items()}
        made.append(Row(fit.label, fit, members, found, None, {}))
    return Leaderboard(
        task, budget, data, 0, plan, f"{kind}-x", ("mu", "z"), "exact", made, {}, 0.657
    )


def estimate(value, member=0.01, sets=0.01, dof=30.0):
    return Estimate(value, (member**2 + sets**2) ** 0.5, dof, member, sets)


def number(quantity="coverage/z", value="0.60", kind="network", task="gaussians-far"):
    return Published("k", "s", task, "lre", quantity, kind, value, "")


@pytest.mark.skipif(not SHARED.is_file(), reason="the papers' tables are not beside the project")
def test_every_number_is_the_papers():
    def flat(prefix, node):
        for name, value in node.items():
            if isinstance(value, dict):
                yield from flat(f"{prefix}{name}.", value)
            elif not isinstance(value, str):
                yield f"{prefix}{name}", value

    theirs = dict(flat("", json.loads(SHARED.read_text())))
    ours = {number.key: float(number.value) for number in published()}
    assert ours == theirs


def test_every_number_is_known_to_be_of_something():
    numbers = published()
    assert len({number.key for number in numbers}) == len(numbers) == 50
    assert {number.kind for number in numbers} == {"network", "average", "claim"}
    assert all(number.source.startswith(("Sluijter", "Shen", "Dudley")) for number in numbers)


def test_rounding_is_half_a_unit_of_the_last_digit():
    assert number(value="0.60").rounding == pytest.approx(0.005)
    assert number(value="0.031").rounding == pytest.approx(0.0005)


@pytest.mark.parametrize(
    ("paper", "ours", "low", "high", "target", "verdict"),
    [
        (0.6, 0.62, 0.58, 0.66, 1.0, "compatible"),
        (0.5, 0.62, 0.58, 0.66, 1.0, "better"),
        (0.7, 0.62, 0.58, 0.66, 1.0, "missed"),
        (0.5, 0.66, 0.64, 0.68, 0.657, "better"),
        (0.65, 0.2, 0.1, 0.3, 0.657, "missed"),
        (0.5, 0.62, 0.58, 0.66, nan, "missed"),
        (10, 20, 12, 40, inf, "better"),
        (10, 3, 2, 4, inf, "missed"),
    ],
)
def test_verdicts(paper, ours, low, high, target, verdict):
    assert judge(paper, ours, low, high, target) == verdict


def test_a_single_network_scatters_more_than_a_mean():
    low, high = expected_interval(estimate(0.6, member=0.02, sets=0.0), 4, number())
    # t(3) √(1 + 1/4) of the networks' standard deviation, 0.02 √4, plus rounding.
    assert high - 0.6 == pytest.approx(3.182 * 0.04 * 1.25**0.5 + 0.005, rel=1e-3)
    assert low == pytest.approx(1.2 - high)
    low, high = expected_interval(
        estimate(0.6, member=0.02, sets=0.0, dof=3.0), 4, number(kind="average")
    )
    assert high - 0.6 == pytest.approx(3.182 * 0.02 + 0.005, rel=1e-3)
    _, high = expected_interval(estimate(0.9, member=0.2), 4, number("overlap_kM/z"))
    assert high == 1.0  # upper bound of an overlap


def test_what_is_beside_a_number_is_the_papers_plan():
    ours = {"coverage/z": estimate(0.61)}
    loaded = Stub(
        board("independent", lre_published=(5, {"coverage/z": estimate(0.1)})),
        board("bootstrap", "fresh", budget=1000, lre_published=(5, {"coverage/z": estimate(0.2)})),
        board(
            "bootstrap", exact_default=(1, {"coverage/z": estimate(0.65)}), lre_published=(5, ours)
        ),
    )
    found = beside(loaded, number(), "published")
    assert (found.value, found.target, found.verdict) == (0.61, 0.65, "compatible")
    assert found.where == "gaussians-far, bootstrap plan, 100 calls, 5 networks"


def test_what_cannot_be_judged_says_why():
    few = Stub(board(lre_published=(2, {"coverage/z": estimate(0.61)})))
    found = beside(few, number(), "published")
    assert (found.verdict, found.reason) == ("n/a", "2 networks do not tell how networks scatter")
    assert found.ours == "0.610(14)"
    one = Stub(board(lre_published=(1, {"coverage/z": estimate(0.61, nan)})))
    assert beside(one, number(), "published").reason.startswith("1 network does not tell")
    other = Stub(board("independent", lre_published=(5, {"coverage/z": estimate(0.61)})))
    assert "another plan" in beside(other, number(), "published").reason
    none = Stub(board(lre_published=(5, {"coverage/z": None})))
    assert beside(none, number(), "published").reason == "needs a sun"
    nothing = beside(Stub(), number(task="higgs"), "tuned")
    assert nothing.reason == "no results of lre:tuned on higgs-fair or higgs"


def test_without_any_results_every_number_has_its_reason():
    found = comparisons(Stub())
    assert {one.published.key for one in found} == {number.key for number in published()}
    assert {one.verdict for one in found} == {"n/a"}
    assert all(one.reason for one in found)


def fit(method, seconds, **identity):
    known = {"budget": 10, "training_data": "fresh", "seed": 0}
    made = SavedFit("t/f", "t", method, "tuned", False, known | identity)
    for member, each in enumerate(seconds):
        curve = {"steps": 10, "seconds": 20 * each}
        environment = {"device": "cpu"}
        made.members[member] = {"curves": {"n": curve}, "stack": 2, "environment": environment}
    return made


def claim(*fits):
    loaded = Stub()
    loaded.results.fits = list(fits)
    return [c for c in comparisons(loaded) if c.published.quantity == "training_time"]


def test_the_time_of_a_step_is_compared_with_its_error():
    (found,) = claim(fit("nler", [1.0, 1.01, 0.99]), fit("nler-sa", [1.04, 1.05, 1.06]))
    assert found.value == pytest.approx(1.05)
    assert found.error == pytest.approx(0.01 * (1 / 3 + 1.05**2 / 3) ** 0.5, rel=0.01)
    assert found.verdict == "compatible"
    (found,) = claim(fit("nler", [1.0, 1.01, 0.99]), fit("nler-sa", [1.4, 1.41, 1.42]))
    assert found.verdict == "missed"
    (found,) = claim(fit("nler", [1.0, 1.2, 0.8]), fit("nler-sa", [1.1, 1.0, 1.2]))
    assert (found.verdict, found.reason) == ("n/a", "its interval holds the claimed bound")
    (found,) = claim(fit("nler", [1.0, 1.0]), fit("nler-sa", [1.1, 1.0, 1.2]))
    assert "too few networks" in found.reason
    (found,) = claim(fit("nler", [1.0] * 3), fit("nler-sa", [1.1] * 3, budget=11))
    assert found.reason == "no method here is trained with and without scores"
