"""Neyman construction: quantiles, rescaled statistics, toys, and intervals that cover."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import optimize, stats

import bench
from bench.contracts import (
    DatasetDraw,
    FitContext,
    IndependentPlan,
    Parameter,
    ParameterSpace,
    ProfileSummary,
    StoredTask,
    Task,
    Wrapped,
)
from bench.errors import BudgetExceeded, NotApplicable
from bench.inference.critical import LEVELS, CriticalValues, QuantileFunction, position_in
from bench.inference.likelihood import ExactLikelihood
from bench.inference.quantiles import (
    FAMILIES,
    candidates,
    choose_family,
    fit_quantile,
    pinball,
)
from bench.inference.toys import statistics_of_toys
from bench.metrics.expected import expected_region
from bench.seeds import generator
from bench.stages.datasets import sets
from bench.stages.evaluators import EVALUATORS
from bench.stages.predict import load, predict
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store
from bench.wrappers.neyman import Neyman, NeymanConfig, NeymanSurrogate

CPU = torch.device("cpu")
USUAL = math.sqrt(stats.chi2.ppf(LEVELS[0], 1))
BOX = torch.tensor([[0.25, 0.25], [0.75, 0.75]], dtype=torch.float64)


def constant(value, parameters):
    return QuantileFunction.polynomial(torch.tensor([float(value)]).double(), parameters)


def scaled(box, factor, reported):
    """Return critical values of a likelihood that is raised to a power, for a Gaussian one."""
    parameters = box.shape[1]
    wide = math.sqrt(factor * stats.chi2.ppf(LEVELS[1], 1))
    own = [constant(math.sqrt(factor), parameters), constant(wide, parameters)]
    region = constant(math.sqrt(factor * stats.chi2.ppf(LEVELS[1], parameters)), parameters)
    return CriticalValues(box, dict.fromkeys(reported, own), region)


# Quantile regression


def heteroscedastic(n, seed=0):
    """Return positions, and |z| times a scale that doubles across the first axis."""
    rng = np.random.default_rng(seed)
    position = rng.uniform(-1, 1, (n, 2))
    return position, np.abs(rng.standard_normal(n)) * 2 ** position[:, 0]


@pytest.mark.parametrize(("family", "error"), [("quadratic", 0.06), ("boosted", 0.15)])
@pytest.mark.parametrize("level", LEVELS)
def test_quantiles_follow_a_scale(family, error, level):
    fitted = fit_quantile(*heteroscedastic(8000), level, family)
    position, _ = heteroscedastic(200, seed=1)
    true = stats.halfnorm.ppf(level) * 2 ** position[:, 0]
    found = fitted(torch.from_numpy(position)).numpy()
    assert np.mean(np.abs(found / true - 1)) < error


@pytest.mark.parametrize("n", [10, 50])
def test_a_constant_quantile_contains_new_values_as_often_as_its_level(n):
    rng = np.random.default_rng(n)
    share = [
        stats.halfnorm.cdf(float(fit_quantile(np.zeros((n, 1)), v, LEVELS[0], "constant")(
            torch.zeros(1, dtype=torch.float64))))
        for v in np.abs(rng.standard_normal((2000, n)))
    ]  # fmt: skip
    assert np.mean(share) == pytest.approx(LEVELS[0], abs=4 * np.std(share) / np.sqrt(2000))


def test_the_pinball_loss_is_least_at_the_quantile():
    values = np.abs(np.random.default_rng(0).standard_normal(200_000))
    places = stats.halfnorm.ppf(LEVELS[0]) + np.array([-0.1, 0, 0.1])
    losses = [pinball(values, np.full_like(values, place), LEVELS[0]).mean() for place in places]
    assert np.argmin(losses) == 1


def test_families_are_chosen_by_toys_that_they_have_not_seen():
    position, value = heteroscedastic(2000)
    groups = np.arange(2000)
    assert choose_family(position, value, LEVELS[0], groups) == "quadratic"
    flat = value / 2 ** position[:, 0]
    assert choose_family(position, flat, LEVELS[0], groups) == "constant"
    steps = flat * np.where(np.abs(position[:, 0] - 0.3) < 0.2, 4.0, 1.0)
    assert choose_family(position, steps, LEVELS[0], groups) == "boosted"
    assert choose_family(position[:12], value[:12], LEVELS[0], groups[:12]) == "constant"
    assert choose_family(position, value, LEVELS[0], 0 * groups) == "constant"  # no fold apart


def test_few_toys_determine_few_terms():
    assert candidates(10, 20) == ["constant"]
    assert candidates(10**6, 20) == list(FAMILIES)


# Rescaled statistics


def test_rescaled_statistics_have_the_quantiles_of_chi_square():
    rng = np.random.default_rng(0)
    t = torch.from_numpy(2.3 * rng.chisquare(1, 100_000) ** 1.4)
    roots = [constant(np.quantile(t.sqrt(), level), 2) for level in LEVELS]
    critical = CriticalValues(BOX, {1: roots}, constant(1, 2))
    unit = torch.rand(len(t), 2, dtype=torch.float64)
    found = critical.of_profile(t, unit, 1)
    for level in LEVELS:
        assert (found <= stats.chi2.ppf(level, 1)).double().mean() == pytest.approx(level, abs=1e-4)
    order = t.argsort()
    assert (found[order].diff() >= 0).all()
    assert torch.equal(critical.of_profile(t, unit, 0), t)  # not reported


def test_crossing_quantiles_still_give_rising_statistics():
    critical = CriticalValues(BOX, {0: [constant(2.0, 2), constant(1.5, 2)]}, constant(1, 2))
    t = torch.linspace(0, 30, 500, dtype=torch.float64)
    found = critical.of_profile(t, torch.full((500, 2), 0.5).double(), 0)
    assert (found.diff() > 0).all()
    assert float(found[0]) == 0


def test_positions_outside_are_those_of_the_nearest_point_inside():
    unit = torch.tensor([[0.0, 0.5], [0.25, 0.75], [0.5, 2.0]], dtype=torch.float64)
    assert position_in(BOX, unit).tolist() == [[-1, 0], [-1, 1], [0, 1]]


def test_critical_values_survive_their_state():
    position, value = heteroscedastic(500)
    every = [fit_quantile(position, value, LEVELS[0], family) for family in FAMILIES]
    critical = CriticalValues(BOX, {0: every[:2], 1: every[1:]}, every[2])
    again = CriticalValues.of(critical.state())
    unit = torch.rand(50, 2, dtype=torch.float64)
    t = torch.linspace(0, 20, 50, dtype=torch.float64)
    for p in (0, 1):
        assert torch.equal(again.of_profile(t, unit, p), critical.of_profile(t, unit, p))
    assert torch.equal(again.of_region(t, unit), critical.of_region(t, unit))
    assert again.largest == critical.largest


# Intervals


def tempered(task, factor, critical=None):
    """Return the exact likelihood raised to a power, with critical values if given."""
    surrogate = Wrapped([ExactLikelihood(task)], lambda log_ratio: factor * log_ratio)
    surrogate.critical_values = None if critical is None else [critical]
    return surrogate


def evaluated(task, surrogate, evaluator, folder, datasets=24):
    plan = IndependentPlan(uniform=datasets, per_point=0, evaluator=evaluator)
    store = SimulationStore(Store(folder))
    found = list(EVALUATORS[evaluator](task, surrogate, plan, sets(task, plan, 0), CPU, 1, store))
    whole = [part for own in found for part in own.curves[0] if isinstance(part, ProfileSummary)]
    boxed = [own.box[0][0] for own in found]
    return type(whole[0]).concatenate(whole), type(boxed[0]).concatenate(boxed)


@pytest.mark.parametrize(
    ("name", "evaluator"),
    [
        ("linear-gaussian-2", "lattice"),
        ("linear-gaussian-2", "gradient"),
        ("linear-gaussian-5", "gradient"),
    ],
)
@pytest.mark.parametrize("factor", [0.4, 4.0])
def test_intervals_of_a_power_are_corrected_to_those_of_the_likelihood(
    tmp_path, name, evaluator, factor
):
    task = bench.task(name)
    critical = scaled(task.space.box, factor, task.reported_index)
    exact = evaluated(task, tempered(task, 1.0), evaluator, tmp_path)
    wrong = evaluated(task, tempered(task, factor), evaluator, tmp_path)
    right = evaluated(task, tempered(task, factor, critical), evaluator, tmp_path)
    width = exact[0].upper - exact[0].lower
    assert np.median((wrong[0].upper - wrong[0].lower) / width) == pytest.approx(
        factor**-0.5, rel=0.03
    )
    for own, other in zip(right, exact, strict=True):
        for side in ("lower", "upper"):  # ends at the last threshold may be beyond 40 nats
            off = getattr(own, side) - getattr(other, side)
            assert (
                np.abs(off[..., :8] / width.reshape(len(width), -1, *[1] * (off.ndim - 2))).max()
                < 0.03
            )
        np.testing.assert_allclose(own.log_ratio_truth, other.log_ratio_truth, atol=0.05, rtol=0.02)
        assert not own.unresolved.any()
    np.testing.assert_allclose(right[1].statistic, exact[1].statistic, atol=0.05, rtol=0.02)


def ends_of_exact(task, evaluator, folder, squares):
    """Return the intervals of the exact likelihood at other thresholds, by its power."""
    plan = IndependentPlan(uniform=24, per_point=0, evaluator=evaluator)
    found = []
    for square in squares:
        powered = (replace(one, power=1 / square) for one in sets(task, plan, 0))
        store = SimulationStore(Store(folder))
        every = EVALUATORS[evaluator](task, tempered(task, 1.0), plan, powered, CPU, 1, store)
        parts = [p for own in every for p in own.curves[0] if isinstance(p, ProfileSummary)]
        found.append(type(parts[0]).concatenate(parts))
    return found


@pytest.mark.parametrize("evaluator", ["lattice", "gradient"])
@pytest.mark.parametrize(("usual", "wide"), [(1, 1.3), (1, 3), (1.5, 2), (0.7, 4)])
def test_ends_are_at_the_quantiles_whatever_their_ratio(tmp_path, evaluator, usual, wide):
    task = bench.task("linear-gaussian-2")
    own = [constant(usual, 2), constant(wide, 2)]
    critical = CriticalValues(
        task.space.box, dict.fromkeys(task.reported_index, own), constant(2, 2)
    )
    whole, box = evaluated(task, tempered(task, 1.0, critical), evaluator, tmp_path)
    (expected,) = ends_of_exact(task, evaluator, tmp_path, [usual**2])
    length = expected.upper - expected.lower
    np.testing.assert_allclose((whole.upper - whole.lower) / length, 1, atol=0.03)
    # The box cuts some intervals; the others are those of the space.
    inside = np.abs(box.lower[..., 3] - expected.lower) < 0.03 * length
    assert inside.mean() > 0.5


def test_critical_values_may_depend_on_the_parameter(tmp_path):
    task = bench.task("linear-gaussian-2")
    # The root rises by 40 % from the centre of the box to its upper end in the first parameter.
    slope = torch.tensor([1.0, 0.4, 0, 0, 0, 0], dtype=torch.float64)
    rising = QuantileFunction.polynomial(slope, 2)
    own = [rising, QuantileFunction.polynomial(1.96 * slope, 2)]
    critical = CriticalValues(task.space.box, {0: own}, constant(2.4, 2))
    found = {
        evaluator: evaluated(task, tempered(task, 1.0, critical), evaluator, tmp_path)[0]
        for evaluator in ("lattice", "gradient")
    }
    exact, _ = evaluated(task, tempered(task, 1.0), "lattice", tmp_path)
    low, high = (float(task.space.from_unit(task.space.box[side])[0]) for side in (0, 1))
    sigma, centre = 0.5 * (exact.upper - exact.lower)[:, 0], exact.mle[:, 0]
    for side, sign in (("lower", -1), ("upper", 1)):
        # Solve |θ − θ̂| = σ (1 + 0.4 v(θ)) with v from −1 to 1 across the box, constant outside.
        for row, (middle, width) in enumerate(zip(centre, sigma, strict=True)):

            def excess(theta, middle=middle, width=width, sign=sign):
                place = np.clip(2 * (theta - low) / (high - low) - 1, -1, 1)
                return sign * (theta - middle) - width * (1 + 0.4 * place)

            far = middle + 3 * sign * width
            expected = optimize.brentq(excess, *sorted((middle, far)))
            for own_ends in found.values():
                end = getattr(own_ends, side)[row, 0]
                assert end == pytest.approx(expected, abs=0.03 * width)


def test_calibrated_thresholds_multiply_critical_values(tmp_path):
    task = bench.task("linear-gaussian-2")
    own = [constant(1.0, 2), constant(3.0, 2)]
    critical = CriticalValues(
        task.space.box, dict.fromkeys(task.reported_index, own), constant(2, 2)
    )
    plan = IndependentPlan(uniform=2, per_point=0)
    surrogate, store = tempered(task, 1.0, critical), SimulationStore(Store(tmp_path))
    # Three standard deviations of the likelihood where the rescaled statistic is 3.84.
    for evaluator in ("lattice", "gradient"):
        lengths = []
        for chosen, power in ((surrogate, 1 / 3.8415), (tempered(task, 1.0), 1 / 9)):
            powered = [replace(one, power=power) for one in sets(task, plan, 0)]
            (found,) = list(EVALUATORS[evaluator](task, chosen, plan, powered, CPU, 1, store))[:1]
            lengths.append(found.curves[0][0].upper - found.curves[0][0].lower)
        np.testing.assert_allclose(lengths[0], lengths[1], rtol=0.02)


def test_members_have_critical_values_of_their_own():
    task = bench.task("linear-gaussian-2")
    pair = [scaled(task.space.box, factor, task.reported_index) for factor in (1.0, 4.0)]
    surrogate = tempered(task, 1.0)
    surrogate.critical_values = pair
    surrogate.log_ratio = lambda x, context: (
        ExactLikelihood(task).log_ratio(x, context).repeat(2, 1, 1, 1)
    )
    plan = IndependentPlan(uniform=3, per_point=0)
    found = list(EVALUATORS["lattice"](task, surrogate, plan, sets(task, plan, 0), CPU, 2, None))
    for own in found:
        first, second = (own.curves[m][0].upper - own.curves[m][0].lower for m in (0, 1))
        np.testing.assert_allclose(second, 2 * first, rtol=0.02)
        assert own.box[1][0].region_factor == pytest.approx(0.25)


def test_the_expected_coverage_of_a_region_is_corrected(tmp_path):
    for name, evaluator in (("linear-gaussian-2", "lattice"), ("linear-gaussian-5", "gradient")):
        task = bench.task(name)
        critical = scaled(task.space.box, 4.0, task.reported_index)
        plan = IndependentPlan(uniform=6, per_point=0, evaluator=evaluator)
        shares = []
        for surrogate in (tempered(task, 1.0), tempered(task, 4.0, critical), tempered(task, 4.0)):
            args = plan, 0, Store(tmp_path), CPU, lambda **_: None
            truth, own = (
                load(task, plan, predict(task, one, *args)[0])
                for one in (tempered(task, 1.0), surrogate)
            )
            shares.append(expected_region.compute(own, truth)[""])
        np.testing.assert_allclose(shares[1], shares[0], atol=0.01)
        assert (shares[2] < shares[0]).all()


def test_the_area_of_a_region_is_corrected(tmp_path):
    task = bench.task("linear-gaussian-2")
    critical = scaled(task.space.box, 4.0, task.reported_index)
    plan = IndependentPlan(uniform=8, per_point=0)
    areas = []
    for surrogate in (tempered(task, 1.0), tempered(task, 4.0, critical)):
        store = SimulationStore(Store(tmp_path))
        every = EVALUATORS["lattice"](task, surrogate, plan, sets(task, plan, 0), CPU, 1, store)
        areas.append([own.curves[0][1].area[0] for own in every])
    np.testing.assert_allclose(areas[1], areas[0], rtol=0.02)


# Toys


def bank_of(task, folder, budget, seed=0):
    return SimulationBank(task, Store(folder), budget, [0], "fresh", seed)


@pytest.mark.parametrize("name", ["linear-gaussian-2", "linear-gaussian-5"])
def test_statistics_of_toys_are_those_of_the_closed_form(tmp_path, name):
    task = bench.task(name)
    repeats = 3 if name == "linear-gaussian-2" else 1
    draw = DatasetDraw(8, task.observations, repeats)
    toys = bank_of(task, tmp_path, draw.n).datasets(draw)
    found = statistics_of_toys(task, ExactLikelihood(task), toys, CPU)
    assert found.group.tolist() == [i for i in range(8) for _ in range(repeats)]
    row = 0
    for events in toys:
        for counts in events.counts:
            x = events.x[counts > 0]
            assert len(x) == task.observations
            profile = task.profile_statistic(x, events.theta)
            own = torch.as_tensor(profile).flatten()[list(task.reported_index)]
            assert torch.allclose(found.profile[row], own.double(), atol=0.02, rtol=0.01)
            region = -2 * float(task.log_likelihood_ratio(x, events.theta))
            assert float(found.region[row]) == pytest.approx(region, abs=0.02, rel=0.01)
            row += 1


def test_toys_are_metered_and_a_longer_draw_begins_with_a_shorter_one(tmp_path):
    task = bench.task("linear-gaussian-2")
    few, many = DatasetDraw(3, 10, 2), DatasetDraw(5, 10, 2)
    bank = bank_of(task, tmp_path, 100)
    toys = bank.datasets(many)
    assert (bank.spent, bank.made) == (100, 100)
    again = bank_of(task, tmp_path, 60).datasets(few)
    for one, other in zip(again, toys, strict=False):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.theta, other.theta)
    assert len({tuple(events.theta.tolist()) for events in toys}) == 5
    with pytest.raises(BudgetExceeded, match="toys cost 50 calls"):
        bank.datasets(DatasetDraw(5, 5, 2))
    low, high = task.space.box
    unit = task.space.to_unit(torch.stack([events.theta for events in toys]))
    assert ((unit >= low) & (unit <= high)).all()
    assert not torch.equal(toys[0].x, bank_of(task, tmp_path, 100, seed=1).datasets(many)[0].x)


def test_pools_are_resampled(tmp_path):
    task = bench.task("linear-gaussian-2")
    draw = DatasetDraw(4, 10, 7, 3)
    bank = bank_of(task, tmp_path, 120)
    toys = bank.datasets(draw)
    assert bank.spent == 120
    assert all(events.counts.shape == (7, 30) for events in toys)
    assert all((events.counts.sum(1) == 10).all() for events in toys)


def learned(task, folder, budget, surrogate=None, **settings):
    wrapper = Neyman(NeymanConfig(share=0.99, **settings))
    bank = bank_of(task, folder, wrapper.calls(budget))
    context = FitContext(
        task,
        bank,
        features_of(task, Store(folder)),
        CPU,
        lambda number, purpose: generator(purpose, number),
        lambda **_: None,
    )
    return CriticalValues.of(wrapper.fit([surrogate or ExactLikelihood(task)], context))


def test_a_likelihood_to_a_power_gets_the_critical_values_of_its_power(tmp_path):
    task = bench.task("linear-gaussian-5")
    task.observations = 10
    critical = learned(task, tmp_path, 20_000, tempered(task, 4.0), family="constant")
    middle = torch.full((5,), 0.5, dtype=torch.float64)
    expected = scaled(task.space.box, 4.0, task.reported_index)
    for own, other in zip(critical.intervals[0], expected.intervals[0], strict=True):
        assert float(own(middle) / other(middle)) == pytest.approx(1, abs=0.08)
    assert float(critical.region(middle) / expected.region(middle)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("pool", [1, 3])
def test_pools_are_corrected_for_their_own_deviation(tmp_path, pool):
    task = bench.task("linear-gaussian-2")
    task.observations = 10
    critical = learned(task, tmp_path, 3000 * pool, family="constant", pool=pool)
    middle = torch.full((2,), 0.5, dtype=torch.float64)
    usual, wide = (float(q(middle)) for q in critical.intervals[0])
    assert usual == pytest.approx(USUAL, abs=0.1)
    assert wide == pytest.approx(math.sqrt(stats.chi2.ppf(0.95, 1)), abs=0.2)


class Unit:
    """Gaussian of width 1 around the context, with its density."""

    size = None

    def simulate(self, context, rng):
        return context + torch.randn(context.shape, generator=rng)

    def log_prob(self, x, context):
        return -0.5 * (x - context).double().square().sum(-1) - 0.5 * math.log(2 * math.pi)

    def score(self, x, context):
        return (x - context).double()


class Bounded(Task):
    """Mean of a Gaussian that cannot be negative (Feldman & Cousins 1998)."""

    name = "bounded"
    version = 1
    observations = 1
    event_shape = (1,)
    space = ParameterSpace([Parameter("mean", 0.0, 12.0, "interest", (0.0, 6.0))], ["mean"])
    nominal = torch.tensor([3.0])
    points = torch.tensor([[1.0]])

    def components(self, split):
        return {"gaussian": Unit()}

    def weights(self, theta):
        return torch.ones_like(theta)


def unified(mean):
    """Return the exact critical value at a mean: Feldman & Cousins's acceptance interval."""

    def accepted(threshold):
        root = math.sqrt(threshold)
        # Below 0 the estimate is at the bound, and the statistic is mean² − 2 mean x.
        low = mean - root if root <= mean else (mean**2 - threshold) / (2 * mean)
        return stats.norm.cdf(root) - stats.norm.cdf(low - mean)

    return optimize.brentq(lambda t: accepted(t) - LEVELS[0], 1e-6, 10)


def test_at_a_bound_critical_values_are_those_of_feldman_and_cousins(tmp_path):
    task = Bounded()
    critical = learned(task, tmp_path, 20_000, family="boosted")
    for mean in (0.3, 0.6, 1.0, 2.0, 4.0):
        unit = torch.tensor([mean / 12], dtype=torch.float64)
        found = float(critical.intervals[0][0](position_in(task.space.box, unit))) ** 2
        assert found == pytest.approx(unified(mean), abs=0.12), mean


def test_intervals_at_a_bound_cover_where_those_of_wilks_do_not(tmp_path):
    task = Bounded()
    critical = learned(task, tmp_path, 20_000, family="boosted")
    surrogate = tempered(task, 1.0, critical)
    plan = IndependentPlan(uniform=2, per_point=0)
    bank = bank_of(task, tmp_path / "other", 400, seed=5)
    rng = torch.Generator().manual_seed(0)
    covered = {"wilks": 0, "neyman": 0}
    mean, n = 0.3, 300
    for event in bank.datasets(DatasetDraw(n, 1)):
        x = mean + torch.randn(1, 1, generator=rng)
        own = replace(event, theta=torch.tensor([mean]).double(), x=x)
        for name, chosen in (("wilks", tempered(task, 1.0)), ("neyman", surrogate)):
            store = SimulationStore(Store(tmp_path))
            (found,) = EVALUATORS["lattice"](task, chosen, plan, [own], CPU, 1, store)
            whole = found.curves[0][0]
            covered[name] += bool(whole.lower[0, 0] <= mean <= whole.upper[0, 0])
    error = math.sqrt(0.22 / n)
    assert covered["neyman"] / n == pytest.approx(LEVELS[0], abs=4 * error)
    assert covered["wilks"] / n > LEVELS[0] + 3 * error


# The wrapper


def test_too_few_toys_are_refused_with_their_price():
    wrapper = Neyman(NeymanConfig())
    task = bench.task("gaussians-near")
    with pytest.raises(NotApplicable, match="5,000 simulations are fewer than 10 toys of 1,000"):
        wrapper.check(task, wrapper.calls(10_000))
    wrapper.check(task, wrapper.calls(20_000))
    with pytest.raises(NotApplicable, match="constraints or a rate are not resampled"):
        Neyman(NeymanConfig(pool=2)).check(bench.task("higgs-systematics"), 10**6)


def test_draws_stay_within_the_calls():
    for name in ("exponential", "gp", "linear-gaussian-5", "higgs-systematics"):
        task = bench.task(name)
        for calls in (10 * task.observations, 1234 * task.observations + 1):
            for pool in (0, 3) if not task.has_auxiliary else (0,):
                (draw,) = Neyman(NeymanConfig(pool=pool)).draws(task, calls, None)
                assert 0.7 * calls < draw.n <= calls


def test_log_ratios_are_those_of_the_wrapped_surrogate():
    task = bench.task("linear-gaussian-2")
    exact = ExactLikelihood(task)
    state = scaled(task.space.box, 2.0, task.reported_index).state()
    x, at = torch.randn(5, *task.event_shape), task.space.draw_context(3, torch.Generator())
    found = NeymanSurrogate([exact], state)
    assert torch.equal(found.log_ratio(x, at), exact.log_ratio(x, at))


def test_stored_toys_are_those_of_the_inner_box(tmp_path):
    rng = np.random.default_rng(0)
    theta = rng.uniform(0, 10, (400, 2))
    x = theta[:, None, :] + rng.standard_normal((400, 3, 2))
    np.savez(tmp_path / "mine.npz", theta=theta, x=x)
    space = [Parameter(name, 0.0, 10.0, "interest", (2.5, 7.5)) for name in ("a", "b")]
    task = StoredTask("mine", tmp_path / "mine.npz", space, observations=3)
    toys = bank_of(task, tmp_path / "s", 450).datasets(DatasetDraw(150, 3))
    assert 20 < len(toys) < 60
    assert all(((events.theta >= 2.5) & (events.theta <= 7.5)).all() for events in toys)
    with pytest.raises(NotApplicable, match="parameters of their own"):
        bank_of(task, tmp_path / "s", 450).datasets(DatasetDraw(10, 3, 2))


def test_a_repeated_draw_of_toys_is_free(tmp_path):
    bank = bank_of(bench.task("linear-gaussian-2"), tmp_path, 100)
    first, again = (bank.datasets(DatasetDraw(5, 10, 2)) for _ in range(2))
    assert bank.spent == 100
    assert all(torch.equal(a.x, b.x) for a, b in zip(first, again, strict=True))


def test_toys_at_few_parameters_do_not_determine_trees(tmp_path):
    with pytest.raises(NotApplicable, match="too few for family 'boosted'; possible: constant"):
        learned(bench.task("linear-gaussian-2"), tmp_path, 2000, family="boosted")
