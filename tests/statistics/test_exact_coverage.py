"""Statistical protocol: datasets, and coverage of exact likelihoods under each plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from bench.contracts import BootstrapPlan, IndependentPlan, Task
from bench.contracts.plan import number_of_sets
from bench.inference.datasets import likelihood_of
from bench.inference.ends import SLACK
from bench.inference.gradient import profile
from bench.inference.intervals import region_threshold, summarise
from bench.inference.lattice import refine
from bench.inference.likelihood import ExactLikelihood, MixtureLikelihood
from bench.inference.maximum import maximise
from bench.inference.profiling import profiled
from bench.registry.registry import Registry
from bench.seeds import canonical_json, digest, generator
from bench.stages.datasets import describe, events, sets
from bench.stats.clustering import mean
from bench.testing import asymmetric

REGISTRY = Registry([asymmetric.__file__])
NOMINAL = 2 * stats.norm.cdf(1) - 1


def covered(
    task: Task, plan: IndependentPlan | BootstrapPlan, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return shares of intervals and regions that contain the truth.

    Returns:
        Shares of each set's datasets (S, P + 1), the point of each set (S,), and the share of
        intervals that a bound cuts.
    """
    log_ratio = ExactLikelihood(task).log_ratio
    rows, points, cuts = [], [], []
    for one in sets(task, plan, seed):
        weighed = MixtureLikelihood(
            log_ratio, one.x, one.counts, task.space, task.weights, one.theta
        )
        curves, _ = summarise(refine(weighed, task.resolution), task.space)
        theta = one.theta.numpy()
        inside = (curves.lower <= theta) & (theta <= curves.upper)
        region = -2 * curves.log_ratio_truth <= region_threshold(len(theta))
        rows.append([*inside.mean(0), region.mean()])
        points.append(one.point)
        cuts.append((curves.cut_lower | curves.cut_upper).mean())
    return np.array(rows), np.array(points), float(np.mean(cuts))


@pytest.mark.slow
def test_exact_intervals_are_nominal_on_independent_datasets() -> None:
    """Intervals cover 68.27 % and 95 % regions 95 %, within three binomial errors."""
    plans = [
        ("gaussians-far", IndependentPlan(uniform=90, per_point=0)),
        ("gaussians-far", IndependentPlan(uniform=2, per_point=14, observations=400)),
        ("gaussians-near", IndependentPlan(uniform=130, per_point=0)),
        ("asymmetric", IndependentPlan(uniform=80, per_point=0)),
    ]
    everything = []
    for name, plan in plans:
        found, points, cut = covered(REGISTRY.task(name), plan)
        found = found[points >= 0] if plan.per_point else found
        assert cut < 0.05
        for column, nominal in enumerate((NOMINAL, NOMINAL, 0.95)):
            error = math.sqrt(nominal * (1 - nominal) / len(found))
            assert abs(found[:, column].mean() - nominal) < 3 * error, (name, plan, column)
        everything.append(found)
    together = np.concatenate(everything)
    # Estimates of the two parameters are nearly independent: twice as many intervals.
    error = math.sqrt(NOMINAL * (1 - NOMINAL) / (2 * len(together)))
    assert abs(together[:, :2].mean() - NOMINAL) < 3 * error
    assert error < 0.017


@pytest.mark.slow
@pytest.mark.parametrize("multiple", [1, 9])
def test_exact_intervals_cover_less_on_bootstraps(multiple: int) -> None:
    """Coverage is 2 Φ(1/√(1 + 1/k)) − 1 at multiple k: 52.0 % at 1, 65.7 % at 9."""
    task = REGISTRY.task("gaussians-far")
    sets_of_point = {1: 16, 9: 16}[multiple]
    plan = BootstrapPlan(
        sets=sets_of_point, multiple=multiple, bootstraps=6, stratified=False, observations=120
    )
    found, points, cut = covered(task, plan, seed=1)
    spread = 1 + 1 / multiple
    expected = 2 * stats.norm.cdf(1 / math.sqrt(spread)) - 1
    assert expected == pytest.approx({1: 0.5205, 9: 0.6572}[multiple], abs=1e-4)
    region = stats.chi2.cdf(region_threshold(2) / spread, 2)
    assert cut < 0.05
    for column, share in enumerate((expected, expected, region)):
        estimate = mean(found[None, :, column], points)
        assert estimate.error < 0.035
        assert abs(estimate.value - share) < 3 * estimate.error
        if multiple == 1:  # far enough from nominal for a test
            assert abs(estimate.value - (NOMINAL, NOMINAL, 0.95)[column]) > 4 * estimate.error


@dataclass(frozen=True)
class Delivered:
    """Intervals of all P parameters in D datasets, in unit coordinates.

    Args:
        lower: lower ends in the whole parameter space, (D, P).
        upper: upper ends.
        truth: generating values.
        statistic: likelihood-ratio statistics of the generating values in the box.
    """

    lower: np.ndarray
    upper: np.ndarray
    truth: np.ndarray
    statistic: np.ndarray

    def folded(self, column: int) -> Delivered:
        """Return intervals of the absolute value of a parameter, whose bounds are symmetric."""
        lower, upper = self.lower.copy(), self.upper.copy()
        negative = upper[:, column] < 0.5
        assert (negative | (lower[:, column] > 0.5)).all()
        lower[negative, column] = 1 - self.upper[negative, column]
        upper[negative, column] = 1 - self.lower[negative, column]
        return replace(self, lower=lower, upper=upper)

    def assert_covers(self, shares: Sequence[float]) -> None:
        """Assert that intervals cover known shares, within four binomial errors."""
        inside = ((self.lower <= self.truth) & (self.truth <= self.upper)).mean(0)
        for found, share in zip(inside, shares, strict=True):
            assert abs(found - share) < 4 * binomial_error(share, len(self.truth)), inside


def binomial_error(share: float, n: int) -> float:
    """Return the standard error of a share of n."""
    return math.sqrt(share * (1 - share) / n)


def delivered(name: str, datasets: int = 2000, *, one_maximum: bool = False) -> Delivered:
    """Return exact intervals of all parameters, nuisance parameters included, by gradients.

    Args:
        name: name of the task.
        datasets: number D of datasets.
        one_maximum: whether likelihoods have one maximum. A search from the centre and intervals
            at one threshold then suffice. Statistics are not computed.
    """
    task, plan = REGISTRY.task(name), IndependentPlan(uniform=datasets, per_point=0)
    size = len(task.space)
    space = torch.stack([torch.zeros(size), torch.ones(size)]).double()
    ordered, parts = sets(task, plan, 0), []
    while some := list(islice(ordered, 32)):
        likelihood = likelihood_of(task, ExactLikelihood(task), plan, some, torch.device("cpu"))
        truth = task.space.to_unit(torch.stack([one.theta for one in some]))
        if one_maximum:
            start = torch.full((1, *truth.shape), 0.5, dtype=torch.float64)
            maximum = maximise(likelihood.of(torch.arange(len(some))), start, space)
            whole = profiled(likelihood, maximum, range(size), (1.0,), space)
            statistic = torch.full_like(truth, torch.nan)
        else:
            found = profile(likelihood, range(size), truth, task.space.box)
            whole, statistic = found.whole, found.statistic[0]
        unresolved = (whole.error[0].flatten(1).amax(-1) > SLACK) | whole.missed[0]
        unresolved |= whole.maximum.distance[0] > SLACK
        cut = whole.cut[0].flatten(2).any(-1)
        parts.append(
            (whole.lower[0, ..., 0], whole.upper[0, ..., 0], truth, statistic, unresolved, cut)
        )
    *ends, unresolved, cut = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
    assert unresolved.mean() <= 0.01
    assert (cut.mean(0) < 0.05).all()
    return Delivered(*ends)


def test_exact_intervals_of_lifetimes() -> None:
    """The statistic of M lifetimes is a function of a gamma variable, λ times their sum."""
    task = REGISTRY.task("exponential")
    m = task.observations

    def excess(ratio: float) -> float:
        return 2 * m * (ratio - 1 - math.log(ratio)) - 1

    low, high = optimize.brentq(excess, 0.1, 1), optimize.brentq(excess, 1, 9)
    share = stats.gamma.cdf(high * m, m) - stats.gamma.cdf(low * m, m)
    assert abs(share - NOMINAL) < 0.001
    found, _, cut = covered(task, IndependentPlan(uniform=2000, per_point=0))
    assert cut < 0.05
    assert abs(found[:, 0].mean() - share) < 4 * binomial_error(share, len(found))


def test_exact_intervals_of_a_linear_gaussian_on_a_lattice() -> None:
    task = REGISTRY.task("linear-gaussian-2")
    found, _, cut = covered(task, IndependentPlan(uniform=2000, per_point=0))
    assert cut < 0.05
    for share, nominal in zip(found.mean(0), (NOMINAL, NOMINAL, 0.95), strict=True):
        assert abs(share - nominal) < 4 * binomial_error(nominal, len(found))


@pytest.mark.parametrize("parameters", [5, 10, 20])
def test_exact_intervals_of_linear_gaussians(parameters: int) -> None:
    found = delivered(f"linear-gaussian-{parameters}", one_maximum=True)
    found.assert_covers([NOMINAL] * parameters)


def test_exact_intervals_of_slcp() -> None:
    """Intervals cover what is known of means, deviations and a correlation, for one sign each.

    Wilks' theorem does not hold: the signs of theta3 and theta4 are not determined, and twenty
    points are few. Thresholds that cover 68.27 % of half of the datasets do so in the other half.
    """
    m = REGISTRY.task("slcp").observations
    found = delivered("slcp")
    mean_of = 2 * stats.t.cdf(math.sqrt((m - 1) * math.expm1(1 / m)), m - 1) - 1

    def excess(ratio: float) -> float:  # of the estimated to the true variance
        return m * (ratio - 1 - math.log(ratio)) - 1

    low, high = optimize.brentq(excess, 1e-3, 1), optimize.brentq(excess, 1, 9)
    deviation = stats.chi2.cdf(high * m, m - 1) - stats.chi2.cdf(low * m, m - 1)
    correlation = share_of_correlations(m)
    shares = (mean_of, deviation, correlation)
    assert shares == pytest.approx((0.6639, 0.6600, 0.653), abs=1e-3)
    found.folded(2).folded(3).assert_covers([mean_of, mean_of, deviation, deviation, correlation])

    half = len(found.truth) // 2
    for column in (0, 2):
        threshold = np.quantile(found.statistic[:half, column], NOMINAL)
        inside = (found.statistic[half:, column] <= threshold).mean()
        assert abs(inside - NOMINAL) < 4 * math.sqrt(2) * binomial_error(NOMINAL, half)


def share_of_correlations(m: int) -> float:
    """Return the share of intervals of slcp's theta5 that cover it, by sample correlations.

    The profile likelihood of a correlation depends on the sample correlation alone (Fisher 1915).
    """
    rng, n = np.random.default_rng(0), 400_000
    true = np.tanh(rng.uniform(-1.5, 1.5, n))
    orthogonal = np.sqrt(1 - true**2)
    first = np.sqrt(rng.chisquare(m - 1, n))
    along = true * first + orthogonal * rng.standard_normal(n)
    sample = along / np.hypot(along, orthogonal * np.sqrt(rng.chisquare(m - 2, n)))
    halves = 0.5 * (np.log1p(-(true**2)) + np.log1p(-(sample**2)))
    statistic = 2 * m * (np.log1p(-true * sample) - halves)
    return float((statistic <= 1).mean())


def test_exact_intervals_of_noisy_paths() -> None:
    delivered("ornstein-uhlenbeck").assert_covers([NOMINAL] * 4)


@pytest.mark.timeout(2 * 3600)
def test_exact_intervals_of_systematic_uncertainties() -> None:
    delivered("higgs-systematics", one_maximum=True).assert_covers([NOMINAL] * 7)


# --- datasets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (
            IndependentPlan(uniform=3, per_point=1, observations=40),
            IndependentPlan(uniform=5, per_point=3, observations=40),
        ),
        (
            BootstrapPlan(sets=1, multiple=3, bootstraps=4, observations=40),
            BootstrapPlan(sets=3, multiple=3, bootstraps=6, observations=40),
        ),
    ],
)
def test_a_longer_plan_begins_with_the_datasets_of_a_shorter_one(
    short: IndependentPlan | BootstrapPlan, long: IndependentPlan | BootstrapPlan
) -> None:
    task = REGISTRY.task("gaussians-near")

    def by_place(plan: IndependentPlan | BootstrapPlan) -> dict[int, list[tuple]]:
        places: dict[int, list[tuple]] = {}
        for one in sets(task, plan, 0):
            places.setdefault(one.point, []).append((one.theta, one.x, one.counts))
        return places

    few, many = by_place(short), by_place(long)
    assert set(few) == set(many)
    for point, datasets in few.items():
        assert len(datasets) < len(many[point])
        for one, other in zip(datasets, many[point], strict=False):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])
            assert torch.equal(one[2], other[2][: len(one[2])])


def test_datasets_are_the_same_again_and_differ_between_seeds_points_and_sets() -> None:
    task = REGISTRY.task("gaussians-near")
    plan = IndependentPlan(uniform=3, per_point=2, observations=20)
    first, again, other = (list(sets(task, plan, seed)) for seed in (0, 0, 1))
    assert len(first) == number_of_sets(task, plan) == 3 + 2 * 9
    for one, same in zip(first, again, strict=True):
        assert torch.equal(one.x, same.x)
    seen = [tuple(one.x.flatten().tolist()) for one in (*first, *other)]
    assert len(set(seen)) == len(seen)
    far = list(sets(REGISTRY.task("gaussians-far"), plan, 0))
    assert not torch.equal(far[0].theta, first[0].theta)


def test_global_randomness_has_no_part_in_datasets() -> None:
    task = REGISTRY.task("asymmetric")
    plan = BootstrapPlan(sets=1, multiple=2, bootstraps=2, observations=20)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.rand(seed)
        np.random.default_rng(seed).random()
        found.append([(one.x, one.counts) for one in sets(task, plan, 3)])
    for (x, counts), (again, recounts) in zip(*found, strict=True):
        assert torch.equal(x, again)
        assert torch.equal(counts, recounts)


def test_parameters_of_the_uniform_part_fill_the_inner_box() -> None:
    task = REGISTRY.task("asymmetric")
    plan = IndependentPlan(uniform=400, per_point=0, observations=1)
    theta = np.stack([one.theta.numpy() for one in sets(task, plan, 0)])
    mu = (theta[:, 0] - 0.08) / 0.27
    z = np.log(theta[:, 1] / 0.7) / np.log(2)
    for values in (mu, z):
        assert stats.kstest(values, "uniform").pvalue > 1e-3
    assert abs(stats.spearmanr(mu, z).statistic) < 0.2


def test_datasets_of_a_plan() -> None:
    task = REGISTRY.task("gaussians-far")
    independent = list(sets(task, IndependentPlan(uniform=2, per_point=1), 0))
    for one in independent:
        assert one.x.shape == (1000, 2)
        assert one.x.dtype == torch.float32
        assert torch.equal(one.counts, torch.ones(1, 1000))
    assert [one.point for one in independent] == [-1, -1, *range(9)]
    plan = BootstrapPlan(sets=2, multiple=4, bootstraps=7, observations=50)
    boot = list(sets(task, plan, 0))
    for one in boot:
        assert one.x.shape == (200, 2)
        assert one.counts.shape == (7, 200)
        assert (one.counts.sum(1) == 50).all()
        assert torch.equal(one.theta, task.points[one.point])
    table = describe(boot)
    assert table.set.tolist() == np.repeat(np.arange(18), 7).tolist()
    assert table.point.tolist() == np.repeat(np.arange(9), 14).tolist()
    assert table.theta.shape == (126, 2)


def test_bootstraps_are_multinomial() -> None:
    """Counts of an event over bootstraps have mean and variance 1/k, to leading order."""
    task = REGISTRY.task("gaussians-far")
    plan = BootstrapPlan(sets=1, multiple=3, bootstraps=200, observations=100)
    counts = next(iter(sets(task, plan, 0))).counts
    assert float(counts.mean()) == pytest.approx(1 / 3)
    expected = (1 / 3) * (1 - 1 / 300)
    assert float(counts.var()) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("multiple", [1, 9])
def test_stratified_sets_hold_exact_numbers_of_each_component(multiple: int) -> None:
    """Sets have exactly round(k M μ/(1 + μ)) signal events, which come first."""
    task = REGISTRY.task("gaussians-far")
    plan = BootstrapPlan(sets=2, multiple=multiple, bootstraps=2)
    for one in sets(task, plan, 0):
        mu = float(one.theta[0])
        n = multiple * 1000
        expected = round(n * mu / (1 + mu))
        axis = torch.stack([one.theta[1].cos(), one.theta[1].sin()]).float()
        along = one.x @ axis  # signal at −2, background at +2
        signal = int((along < 0).sum())
        # 2.3 % of each side overlap: the first rows show their component.
        assert float(along[:expected].mean()) == pytest.approx(-2, abs=5 / math.sqrt(expected))
        assert float(along[expected:].mean()) == pytest.approx(2, abs=5 / math.sqrt(n - expected))
        assert float(along[expected - 20 : expected].mean()) < -1
        assert float(along[expected : expected + 20].mean()) > 1
        assert abs(signal - expected) < 0.05 * n


class Labels:
    """Component whose observations are its label."""

    size = None

    def __init__(self, label: float) -> None:
        self.label = label

    def simulate(self, context: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.full((len(context), 1), self.label)


class Three:
    """Stand-in for a task with three components, one of them absent."""

    name = "three"
    event_shape = (1,)

    def __init__(self) -> None:
        self.space = REGISTRY.task("gaussians-far").space

    def components(self, split: str) -> dict[str, Labels]:
        return {str(i): Labels(float(i)) for i in range(3)}

    def weights(self, theta: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.25, 0.0, 0.75], dtype=torch.float64)


def test_component_counts() -> None:
    """Stratified counts are exact; others are multinomial."""
    task = Three()
    theta = torch.tensor([0.1, 0.5], dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    x = events(task, theta, 4002, rng, stratified=True)
    counts = torch.bincount(x[:, 0].long(), minlength=3).tolist()
    assert counts == [1000, 0, 3002]  # 1000.5 is rounded to even; the last component has the rest
    drawn = torch.tensor(
        [float((events(task, theta, 100, rng, stratified=False) == 0).sum()) for _ in range(2000)]
    )
    assert float(drawn.mean()) == pytest.approx(25, abs=0.4)
    assert float(drawn.var()) == pytest.approx(100 * 0.25 * 0.75, rel=0.15)


# --- seeds -------------------------------------------------------------------------------------


def test_seeds_do_not_depend_on_the_method_or_the_order_of_keys() -> None:
    a = generator("dataset", {"b": 1, "a": [2.5]}, 3)
    b = generator("dataset", {"a": [2.5], "b": 1}, 3)
    assert torch.equal(torch.rand(5, generator=a), torch.rand(5, generator=b))
    assert digest("a", 1) != digest("a", "1")
    assert digest(["a"], "b") != digest(["a", "b"])
    assert digest(1.0) != digest(1)
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"a": float("nan")})


def test_streams_are_told_apart_by_more_than_32_bits() -> None:
    """PyTorch's Mersenne Twister starts from the low 32 bits of its seed alone.

    With 32 bits, two of about 10^5 streams (the chunks of a leaderboard) would coincide. The test
    uses the first such pair of a count.
    """
    first, second = (generator("stream", i) for i in (26_971, 37_883))
    assert not torch.equal(torch.rand(8, generator=first), torch.rand(8, generator=second))
