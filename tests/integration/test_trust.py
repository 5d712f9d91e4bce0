"""`bench.trust`: verdicts of planted surrogates, thresholds, costs, intervals of data."""

import time

import numpy as np
import pytest
import torch

import bench
from bench.contracts import (
    Constraint,
    FitLog,
    IndependentPlan,
    Method,
    Parameter,
    Simulator,
    StoredTask,
    Wrapped,
    Wrapper,
)
from bench.errors import BenchError, LimitExceeded, NotApplicable, PluginError, UsageError
from bench.library.examination import limited
from bench.library.trust_page import page
from bench.stages.datasets import sets
from bench.stats.clustering import Estimate
from bench.stats.decision import judge_coverage


def normal(theta, rng):
    return rng.normal(theta, 1.0)


def simulator(**changes):
    settings = {"observations": 4, "batch": True} | changes
    return Simulator("normal", normal, {"mean": (-4.0, 4.0)}, **settings)


class _Known:
    reference = None
    has_density = True
    log = FitLog()

    def log_ratio(self, x, context):
        return (-0.5 * (x[:, None, 0] - context[None, :, 0]).double().square())[None, None]

    def state(self):
        return {"nothing": torch.zeros(1, 1)}


class Known(Method):
    """The likelihood of the simulator, which `trust` does not know to be exact."""

    name = "known"

    def fit(self, fit_context):
        return _Known()

    def restore(self, task, features, state):
        return _Known()


class Power(Wrapper):
    name = "power"

    def restore(self, surrogates, state):
        return Wrapped(surrogates, lambda log_ratio: 1.892 * log_ratio)  # coverage 53.3 %


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return bench.trust(
        simulator(),
        [Known, "power(known)"],
        budget=10,
        toys=500,
        tolerance=0.075,
        objects=[Power],
        folder=tmp_path_factory.mktemp("trust"),
        quiet=True,
    )


def test_planted_gaps_are_decided(judged):
    frame = judged.frame()
    frame = frame[frame["observations"] == 4].set_index("method")
    assert frame["verdict"].to_dict() == {"known": "holds", "power(known)": "fails"}
    for label, coverage, threshold in (("known", 0.6827, 1.0), ("power(known)", 0.533, 1.892)):
        row = frame.loc[label]
        assert abs(row["coverage"] - coverage) < 4 * row["error"]
        assert 0.018 < row["error"] < 0.025
        assert row["threshold_low"] < row["threshold"] < row["threshold_high"]
        assert abs(row["threshold"] - threshold) < row["threshold_high"] - row["threshold_low"]
        assert abs(row["calibrated_length"] - 1.0) < 0.2  # two standard errors of a mean of four
        assert row["worst_low"] < row["worst_coverage"] < row["worst_high"]
        assert -2.4 <= row["worst_at"] <= 2.4
    assert abs(frame.loc["known", "length"] - 1.0) < 0.02
    steps = [method.next_step for method in judged.methods]
    assert steps[0].startswith("Use known as trained here")
    assert steps[1].startswith("Do not use power(known) as delivered: intervals of mean")


def test_the_text_fits_a_screen_and_names_costs(judged):
    text = judged.text()
    assert "normal, known: ✓ holds" in text
    assert "2,000 for 500 test datasets" in text
    assert len(text.splitlines()) <= 24
    assert text == repr(judged)


def test_work_is_reused(judged, monkeypatch):
    again = bench.trust(
        simulator(), [Known], budget=10, toys=500, tolerance=0.075, folder=judged.folder, quiet=True
    )
    assert again.frame().iloc[0].equals(judged.frame().iloc[0])


def test_intervals_of_data_as_delivered_and_calibrated(judged):
    x = np.array([[0.4], [1.4], [0.9], [1.3]])
    frame = judged.intervals(x).set_index("method")
    for label, half in (("known", 0.5), ("power(known)", 0.5 / 1.892**0.5)):
        row = frame.loc[label]
        assert abs(row["estimate"] - 1.0) < 1e-3
        assert abs(row["high"] - row["low"] - 2 * half) < 0.01
        assert abs(row["calibrated_high"] - row["calibrated_low"] - 1.0) < 0.2
        assert row["warning"] == ""
    frame = judged.intervals(x + 3.0)
    assert frame["warning"].str.startswith("at the edge of the training range").all()
    assert frame["warning"].str.endswith("test datasets have 4").sum() == 0
    frame = judged.intervals(x[:3])
    assert set(frame["warning"]) == {"3 observations, where test datasets have 4"}
    for wrong in ("observed.csv", [["a"]], [[1.0], [1.0, 2.0]]):
        with pytest.raises(UsageError, match="observations are no array of numbers"):
            judged.intervals(wrong)
    assert judged.intervals(x[::-1])["estimate"][0] == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(UsageError, match="observations have shape"):
        judged.intervals(np.zeros((3, 2)))


def test_data_unlike_the_simulations_are_told(judged):
    for x in ([[-9.0], [9.0], [-8.0], [8.0]], [[-3.0], [-3.0], [3.0], [3.0]], [[0.5]] * 4):
        frame = judged.intervals(np.array(x))
        unlike = frame["warning"].str.startswith("the data look unlike simulations")
        assert unlike.all() == (abs(x[0][0]) > 1)


def test_data_like_the_simulations_are_rarely_called_unlike(judged):
    """At most 1 % of datasets; 50 are drawn."""
    rng = np.random.default_rng(5)
    texts = [judged.intervals(rng.normal(0.3, 1.0, (4, 1)))["warning"][0] for _ in range(50)]
    assert sum("unlike" in text for text in texts) <= 2


def test_the_default_number_of_toys_decides():
    """At least 70 % of planted gaps of 0 and of 15 points, for one to three parameters."""
    rng = np.random.default_rng(0)
    toys, trials = 1500, 2000
    for parameters in (1, 2, 3):
        level = 1 - 0.05 / parameters
        for gap, word in ((0.0, "holds"), (-0.15, "fails")):
            share = rng.binomial(toys, 0.6827 + gap, (trials, parameters)) / toys
            decided = 0
            for row in share:
                words = set()
                for value in row:
                    error = (value * (1 - value) / (toys - 1)) ** 0.5
                    found = Estimate(value - 0.6827, error, toys - 1.0, np.nan, error)
                    words.add(judge_coverage(found, 1, toys, 0.05, level).word)
                decided += words == {word} if gap == 0 else word in words
            assert decided > 0.7 * trials


def test_false_verdicts_at_the_tolerance_are_rare():
    rng = np.random.default_rng(1)
    toys, trials = 1500, 2000
    for gap, wrong in ((0.05, "holds"), (0.0499, "fails")):
        share = rng.binomial(toys, 0.6827 + gap, trials) / toys
        words = []
        for value in share:
            error = (value * (1 - value) / (toys - 1)) ** 0.5
            found = Estimate(value - 0.6827, error, toys - 1.0, np.nan, error)
            words.append(judge_coverage(found, 1, toys, 0.05, 0.95).word)
        assert words.count(wrong) / trials < 0.045  # 2.5 % expected


def test_trained_networks(tmp_path):
    found = bench.trust(
        simulator(observations=20), budget=2000, toys=60, folder=tmp_path, quiet=True
    )
    (method,) = found.methods
    assert method.label == "lre:tuned"
    assert method.training_calls == 2000
    assert method.toy_calls == 1200
    assert 0 < method.closure.normalisation < 1
    assert method.closure.events == 2000 + 1200
    assert found.frame()["verdict"].item() in ("undetermined", "holds", "fails")


def test_bad_input_gives_one_line(tmp_path):
    with pytest.raises(UsageError, match="the likelihood of exponential is known"):
        bench.trust("exponential")
    with pytest.raises(UsageError, match="toys = 3"):
        bench.trust(simulator(), toys=3)
    with pytest.raises(PluginError, match="global random generator"):
        bench.trust(
            Simulator(
                "mine",
                lambda theta, rng: np.random.normal(theta),  # noqa: NPY002
                {"mean": (0.0, 1.0)},
                batch=True,
            ),
            quiet=True,
        )


def test_stored_simulations(tmp_path):
    """Test datasets are rows of the file that training has not seen."""
    rng = np.random.default_rng(0)
    theta = rng.uniform(-4, 4, (1500, 1))
    np.savez(tmp_path / "pairs.npz", theta=theta, x=rng.normal(theta, 1.0, (1500, 4)))
    mean = Parameter("mean", -4.0, 4.0, "interest", (-2.4, 2.4))
    task = StoredTask("stored", tmp_path / "pairs.npz", [mean], observations=4)
    found = bench.trust(task, [Known], budget=100, folder=tmp_path / "r", quiet=True)
    (method,) = found.methods
    assert 100 < method.toys < 300
    (row,) = found.frame().to_dict("records")
    assert abs(row["coverage"] - 0.6827) < 4 * row["error"]
    with pytest.raises(NotApplicable, match="one wrapper that learns"):
        bench.trust(task, ["calibrated(calibrated(lre:published))"], budget=500, quiet=True)


def test_more_datasets_do_not_repeat_old_ones(tmp_path):
    """250 datasets are evaluated, then 350 of them in all, and 100 are new."""
    shapes = []

    class Counting(_Known):
        def log_ratio(self, x, context):
            shapes.append(len(x))
            return super().log_ratio(x, context)

    class Counted(Known):
        name = "counted"

        def fit(self, fit_context):
            return Counting()

        def restore(self, task, features, state):
            return Counting()

    task, counts = simulator(), []
    for toys in (250, 350):
        found = bench.trust(task, [Counted], budget=10, toys=toys, folder=tmp_path, quiet=True)
        assert found.methods[0].toys == toys
        counts.append(sum(n == 4 for n in shapes))
        shapes.clear()
    assert abs(counts[1] / counts[0] - 0.4) < 0.1
    assert not bench.load(tmp_path).boards  # parts have no leaderboards


def test_parts_are_the_datasets_of_the_whole():
    task = simulator()
    whole = IndependentPlan(uniform=30, per_point=0)
    parts = [IndependentPlan(uniform=n, per_point=0, first=f) for f, n in ((0, 12), (12, 18))]
    found = [list(sets(task, plan, 3)) for plan in (whole, *parts)]
    for one, other in zip(found[0], found[1] + found[2], strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.theta, other.theta)
    for theta in ("random", "sobol"):
        first, second = (
            [one.theta for one in sets(task, plan.model_copy(update={"theta": theta}), 3)]
            for plan in (whole, parts[1])
        )
        assert torch.equal(torch.stack(first[12:]), torch.stack(second))


class Shallow(Wrapper):
    """A likelihood with an offset of the mean: the more observations, the worse it covers."""

    name = "shallow"

    def restore(self, surrogates, state):
        return _Moved()


class _Moved(_Known):
    def log_ratio(self, x, context):
        return super().log_ratio(x + 0.6, context)


def test_it_says_up_to_what_size_coverage_holds(tmp_path):
    """An offset of 0.6 σ gives a gap of −10 points for one observation, −68 for 16."""
    settings = {"budget": 10, "toys": 400, "quiet": True, "folder": tmp_path}
    task = simulator(observations=16)
    found = bench.trust(
        task, ["shallow(known)"], objects=[Known, Shallow], tolerance=0.2, **settings
    )
    (method,) = found.methods
    assert method.word == "fails"
    assert method.sizes[1].word == "holds"
    assert method.holds_up_to == 1
    note = next(note for note in method.notes if note.startswith("Holds"))
    assert note.startswith("Holds up to 1. Gaps by number of observations: 1: ✓ holds (mean ")
    assert note.endswith("points).") or "16: ✗ fails (mean " in note
    frame = found.frame()
    assert {1, 16} <= {*frame["observations"]}
    assert set(frame["holds_up_to"]) == {1}
    chosen = bench.trust(task, ["known"], objects=[Known], sizes=(32,), tolerance=0.1, **settings)
    assert [one.word for one in chosen.methods[0].every] == ["holds", "holds"]
    assert set(chosen.frame()["holds_up_to"]) == {32}
    data = np.random.default_rng(0).normal(0.5, 1.0, (32, 1))
    assert chosen.intervals(data)["warning"].item() == ""  # test datasets have as many
    with pytest.raises(UsageError, match="observations = 0 is not allowed"):
        bench.trust(task, ["known"], objects=[Known], sizes=(0,), **settings)


def test_bias_is_the_offset_of_the_estimates(tmp_path):
    found = bench.trust(
        simulator(),
        ["shallow(known)"],
        objects=[Known, Shallow],
        budget=10,
        toys=400,
        folder=tmp_path,
        quiet=True,
    )
    bias = found.methods[0].parameters[0].bias
    assert 0.5 < bias.value < 1.2 + 4 * bias.error  # 0.6 in half-lengths of 0.5, less at the bounds
    assert abs(bias.error - 1 / 400**0.5) < 0.02


def test_the_page_has_tables_and_figures(judged):
    x = np.array([[0.4], [1.4], [0.9], [1.3]])
    text = page(judged, judged.intervals(x), judged.profiles(x)).decode()
    for word in ("power(known)", "calibrated length", "Observed data", "data:image/svg+xml"):
        assert word in text
    assert "<script>alert" not in text
    assert judged.plot().axes
    frame = judged.profiles(x).panels[0].frame
    one = frame[frame["label"] == "known"]
    exact = 4 * (one["value"] - 1.0) ** 2
    assert np.abs(exact - one["statistic"]).max() < 0.05


def test_a_simulator_that_hangs_is_stopped():
    slow = pytest.raises(LimitExceeded, match="it hangs, or its calls are slow")
    with slow, limited("the simulator of mine", 0.1):
        time.sleep(5)


def test_calibrated_intervals_with_a_constraint(tmp_path):
    """The constraint is part of the likelihood whose threshold moves."""
    task = simulator(constraints=[Constraint("mean", 0.0, 0.5)], observations=1)
    found = bench.trust(task, [Known], budget=10, toys=150, folder=tmp_path, quiet=True)
    (own,) = found.methods[0].parameters
    frame = found.intervals(np.array([[0.5]]), measured={"mean": 0.0})
    delivered = frame["high"] - frame["low"]
    calibrated = frame["calibrated_high"] - frame["calibrated_low"]
    assert abs(delivered.item() - 2 * 5**-0.5) < 0.01
    assert abs(calibrated.item() / delivered.item() - own.threshold**0.5) < 0.01


def test_equal_objects_of_two_processes_train_equal_networks(tmp_path):
    """Two tasks of one definition stand for two processes: their versions differ."""
    both = [
        bench.fit(simulator(), "lre:published", budget=500, folder=tmp_path / str(i), quiet=True)
        for i in range(2)
    ]
    x, context = torch.tensor([[0.3]]), torch.tensor([[0.5]])
    assert both[0].spec.folder != both[1].spec.folder
    assert torch.equal(*(one.log_ratio(x, context) for one in both))


class Sharp(Wrapper):
    """So narrow a likelihood that thresholds lie beyond the saved profiles."""

    name = "sharp"

    def restore(self, surrogates, state):
        return Wrapped(surrogates, lambda log_ratio: 1e4 * log_ratio)


class Impossible(Wrapper):
    name = "impossible"

    def restore(self, surrogates, state):
        return Wrapped(surrogates, lambda log_ratio: torch.full_like(log_ratio, -torch.inf))


def test_unknown_thresholds_give_no_calibrated_intervals(tmp_path):
    settings = {"budget": 10, "toys": 40, "folder": tmp_path, "quiet": True}
    found = bench.trust(simulator(), ["sharp(known)"], objects=[Known, Sharp], **settings)
    (method,) = found.methods
    assert method.word == "fails"
    assert method.parameters[0].threshold == np.inf
    assert "> 25" in found.text()
    frame = found.intervals(np.array([[0.4], [1.4], [0.9], [1.3]]))
    assert frame["calibrated_low"].isna().all()
    assert "its threshold is not known" in frame["warning"].item()


def test_impossible_likelihoods_are_judged_or_refused_in_one_line(tmp_path):
    settings = {"budget": 10, "toys": 40, "folder": tmp_path, "quiet": True}
    try:
        found = bench.trust(
            simulator(), ["impossible(known)"], objects=[Known, Impossible], **settings
        )
    except BenchError:
        return
    assert found.methods[0].word != "holds"


def test_a_simulator_that_fails_after_the_verdict_keeps_it(tmp_path):
    """Closure and the comparison with data call the simulator again."""
    failing = []

    def simulate(theta, rng):
        if failing:
            raise SystemExit
        return rng.normal(theta, 1.0)

    task = Simulator("normal", simulate, {"mean": (-4.0, 4.0)}, observations=4, batch=True)

    class Failing(Known):
        name = "failing"

        def restore(self, task, features, state):
            return _Late()

    class _Late(_Known):
        def log_ratio(self, x, context):
            if len(x) > 4:  # that of closure
                failing.append(True)
                raise SystemExit
            return super().log_ratio(x, context)

    found = bench.trust(task, [Failing], budget=300, toys=60, folder=tmp_path, quiet=True)
    assert found.methods[0].closure.failure
    assert "Closure of observations: n/a, SystemExit." in found.text()
    frame = found.intervals(np.array([[0.4], [1.4], [0.9], [1.3]]))
    assert "not compared with simulations" in frame["warning"].item()


def test_few_stored_datasets_give_one_line(tmp_path):
    theta = np.linspace(-3.9, 3.9, 100)[:, None]
    np.savez(tmp_path / "pairs.npz", theta=theta, x=theta)
    mean = Parameter("mean", -4.0, 4.0, "interest", (-0.001, 0.001))
    task = StoredTask("few", tmp_path / "pairs.npz", [mean])
    with pytest.raises(NotApplicable, match=r"test datasets? in the inner box; 2 are needed"):
        bench.trust(task, [Known], budget=10, folder=tmp_path / "r", quiet=True)


@pytest.mark.parametrize(
    "wrong",
    [{"toys": 20.5}, {"toys": "x"}, {"sizes": 2}, {"sizes": [2.5]}, {"tolerance": "a"}],
)
def test_wrong_values_give_one_line(wrong):
    with pytest.raises(UsageError, match="must be"):
        bench.trust(simulator(), [Known], quiet=True, **wrong)
