"""Every metric on surfaces whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, optimize, stats
from torch import Tensor

from bench.contracts import (
    BootstrapPlan,
    Curves,
    Datasets,
    FitLog,
    HasLogProb,
    HeldOut,
    HeldOutPlan,
    HeldOutPrediction,
    IndependentPlan,
    LikelihoodPrediction,
    Metric,
    Parameter,
    ParameterSpace,
    ReferenceKind,
    Surrogate,
    Task,
)
from bench.numerics.clustering import mean
from bench.numerics.intervals import summarise
from bench.numerics.surface import Lattice
from bench.stages.predict import load, predict
from bench.stages.registry import Registry
from bench.stages.score import score
from bench.stages.store import Store
from bench.testing import asymmetric

Array = NDArray[np.float64]
Scores = Mapping[str, NDArray[Any]]

REGISTRY = Registry([asymmetric.__file__])
METRICS: dict[str, Metric] = {
    name: REGISTRY.get("metrics", name) for name in REGISTRY.names("metrics")
}
CPU = torch.device("cpu")

SPACE = ParameterSpace(
    [
        Parameter("mu", 0.0, 1.0, "interest", (0.1, 0.9)),
        Parameter("z", 0.0, 1.0, "nuisance", (0.1, 0.9)),
    ],
    context=["z"],
)
SIGMA = (0.02, 0.03)
DATASETS = 600
THETA = (0.5, 0.5)


def compute(name: str, own: Any, truth: Any = None) -> Mapping[str, NDArray[Any]]:
    """A metric's contributions, (D,) by key."""
    return METRICS[name].compute(own, truth)


def likelihoods(
    estimates: Array,
    rho: float = 0.0,
    *,
    width: float = 1.0,
    theta: tuple[float, float] = THETA,
    nodes: int = 65,
    reach: float = 8.0,
) -> Curves:
    """Gaussian likelihoods around estimates (D, 2), of covariance width² Σ, on one lattice."""
    axes = tuple(
        torch.linspace(max(t - reach * s, 0), min(t + reach * s, 1), nodes, dtype=torch.float64)
        for t, s in zip(theta, SIGMA, strict=True)
    )

    def value(a: Tensor, b: Tensor) -> Tensor:
        u = (a - torch.tensor(estimates[:, 0])[:, None, None]) / (width * SIGMA[0])
        v = (b - torch.tensor(estimates[:, 1])[:, None, None]) / (width * SIGMA[1])
        return -0.5 * (u**2 - 2 * rho * u * v + v**2) / (1 - rho**2)

    at_truth = value(torch.tensor(theta[0]), torch.tensor(theta[1]))[:, 0, 0]
    values = value(axes[0][:, None], axes[1])
    return summarise(Lattice((axes[0], axes[1]), values, at_truth, False), SPACE)


def prediction(
    curves: Curves,
    theta: tuple[float, float] = THETA,
    sets: NDArray[np.int64] | None = None,
) -> LikelihoodPrediction:
    count = len(curves.area)
    return LikelihoodPrediction(
        names=("mu", "z"),
        low=np.zeros(2),
        high=np.ones(2),
        log_scale=np.zeros(2, dtype=bool),
        datasets=Datasets(
            theta=np.tile(theta, (count, 1)),
            point=np.zeros(count, dtype=np.int64),
            set=np.arange(count) if sets is None else sets,
            block=np.arange(count) if sets is None else sets,
        ),
        curves=curves,
    )


def first(whole: LikelihoodPrediction, count: int = 50) -> LikelihoodPrediction:
    """The first datasets of a prediction."""
    return replace(
        whole,
        datasets=Datasets(**{k: v[:count] for k, v in whole.datasets.arrays().items()}),
        curves=Curves(**{k: v[:count] for k, v in whole.curves.arrays().items()}),
    )


def scatter(rho: float, seed: int = 0, count: int = DATASETS) -> Array:
    """Estimates of exact likelihoods: θ plus noise of covariance Σ."""
    rng = np.random.default_rng(seed)
    noise = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], count)
    result: Array = np.array(THETA) + noise * np.array(SIGMA)
    return result


def near_share(values: NDArray[Any], share: float) -> bool:
    """Whether the mean of yes or no is within four binomial errors of a share."""
    return bool(abs(values.mean() - share) < 4 * math.sqrt(share * (1 - share) / len(values)))


@pytest.fixture(scope="module", params=[0.0, 0.7])
def exact(request: pytest.FixtureRequest) -> tuple[float, Array, LikelihoodPrediction]:
    """Correlation, estimates and prediction of the exact likelihood."""
    rho = float(request.param)
    estimates = scatter(rho)
    return rho, estimates, prediction(likelihoods(estimates, rho))


Exact = tuple[float, Array, LikelihoodPrediction]


# --- likelihoods -------------------------------------------------------------------------------


def test_exact_against_itself(exact: Exact) -> None:
    rho, estimates, truth = exact
    overlap = compute("overlap_M", first(truth), first(truth))
    assert set(overlap) == {"mu", "z", "joint"}
    for values in overlap.values():
        np.testing.assert_allclose(values, 1, atol=2e-3)
    for name in ("mle_distance", "likelihood_ratio_error"):
        for values in compute(name, truth, truth).values():
            assert (values == 0).all()
    for i, parameter in enumerate(("mu", "z")):
        assert near_share(compute("coverage", truth)[parameter], 2 * stats.norm.cdf(1) - 1)
        np.testing.assert_allclose(compute("width", truth)[parameter], 2 * SIGMA[i], rtol=1e-3)
        bias = (estimates[:, i] - THETA[i]) / SIGMA[i]
        np.testing.assert_allclose(compute("bias", truth, truth)[parameter], bias, atol=2e-3)
    assert near_share(compute("region_coverage", truth)[""], 0.95)
    area = math.pi * stats.chi2.ppf(0.95, 2) * SIGMA[0] * SIGMA[1] * math.sqrt(1 - rho**2)
    np.testing.assert_allclose(compute("region_area", truth)[""], area, rtol=0.01)
    for name in ("cut", "disconnected", "mle_edge", "unresolved"):
        for values in compute(name, truth).values():
            assert (values == 0).all()


@pytest.mark.parametrize("delta", [0.5, 1.5])
def test_a_biased_surrogate(exact: Exact, delta: float) -> None:
    """The likelihood shifted in z by δ half-widths."""
    rho, estimates, truth = exact
    shift = np.array([0.0, delta * SIGMA[1]])
    own = prediction(likelihoods(estimates + shift, rho))
    bias, exact_bias = compute("bias", own, truth), compute("bias", truth, truth)
    np.testing.assert_allclose(bias["z"] - exact_bias["z"], delta, atol=5e-3)
    np.testing.assert_allclose(bias["mu"], exact_bias["mu"], atol=5e-3)
    distance = compute("mle_distance", own, truth)
    np.testing.assert_allclose(distance["z"], delta, atol=5e-3)
    np.testing.assert_allclose(distance["mu"], 0, atol=5e-3)
    overlap = compute("overlap_M", first(own), first(truth))
    np.testing.assert_allclose(overlap["z"], 2 * stats.norm.cdf(-delta / 2), atol=3e-3)
    np.testing.assert_allclose(overlap["mu"], 1, atol=5e-3)
    length = delta / math.sqrt(1 - rho**2)  # the shift in units of the tilted Gaussian
    np.testing.assert_allclose(overlap["joint"], 2 * stats.norm.cdf(-length / 2), atol=4e-3)
    covered = stats.norm.cdf(1 - delta) - stats.norm.cdf(-1 - delta)
    assert near_share(compute("coverage", own)["z"], covered)
    np.testing.assert_array_equal(compute("coverage", own)["mu"], compute("coverage", truth)["mu"])
    # −2 log-ratio at θ is |e + s|² instead of |e|², where |s| is the length of the shift.
    error = compute("likelihood_ratio_error", own, truth)[""]
    expected = length**2 + length**4 / 4
    assert abs(error.mean() - expected) < 4 * error.std() / math.sqrt(len(error))
    region = stats.ncx2.cdf(stats.chi2.ppf(0.95, 2), 2, length**2)
    assert near_share(compute("region_coverage", own)[""], region)


def test_an_overconfident_surrogate(exact: Exact) -> None:
    """Twice the log-likelihood: everything is narrower by √2, and nothing is biased."""
    rho, estimates, truth = exact
    own = prediction(likelihoods(estimates, rho, width=1 / math.sqrt(2), nodes=81))
    for i, parameter in enumerate(("mu", "z")):
        width = compute("width", own)[parameter]
        np.testing.assert_allclose(width, math.sqrt(2) * SIGMA[i], rtol=2e-3)
        assert near_share(compute("coverage", own)[parameter], 0.5205)
        distance = compute("mle_distance", own, truth)[parameter]
        np.testing.assert_allclose(distance, 0, atol=5e-3)
    threshold = stats.chi2.ppf(0.95, 2)
    assert near_share(compute("region_coverage", own)[""], stats.chi2.cdf(threshold / 2, 2))
    ratio = compute("region_area", own)[""] / compute("region_area", truth)[""]
    np.testing.assert_allclose(ratio, 0.5, rtol=0.015)
    # (2 q − q)² / 4 for q ~ χ²₂, whose second moment is 8.
    statistic = -2 * truth.curves.log_ratio_truth
    error = compute("likelihood_ratio_error", own, truth)[""]
    np.testing.assert_allclose(error, statistic**2 / 4, rtol=1e-3, atol=1e-3)
    assert abs(error.mean() - 2) < 4 * error.std() / math.sqrt(len(error))
    overlap = compute("overlap_M", first(own), first(truth))
    cross = math.sqrt(math.log(2))  # where the densities of σ and σ/√2 are equal
    one = 2 * stats.norm.sf(math.sqrt(2) * cross) + 1 - 2 * stats.norm.sf(cross)
    np.testing.assert_allclose(overlap["mu"], one, atol=3e-3)
    np.testing.assert_allclose(overlap["z"], one, atol=3e-3)
    np.testing.assert_allclose(overlap["joint"], 0.75, atol=5e-3)


@pytest.mark.parametrize("ratio", [3.0, 30.0, 300.0])
def test_overlap_of_very_different_widths(ratio: float) -> None:
    """Each on a lattice of its own; the narrower one is resolved however narrow it is."""
    wide = likelihoods(np.array([THETA]))
    lattice = likelihoods(np.array([THETA]), width=1 / ratio, nodes=61, reach=8 / ratio)
    own, truth = prediction(lattice), prediction(wide)
    cross = optimize.brentq(
        lambda t: stats.norm.logpdf(t) - stats.norm.logpdf(t, scale=1 / ratio), 1 / ratio, 5
    )
    one = 2 * stats.norm.sf(ratio * cross) + 1 - 2 * stats.norm.sf(cross)
    radius = 4 * math.log(ratio) / (ratio**2 - 1)  # squared, where the densities in 2D are equal
    two = 1 - math.exp(-radius / 2) + math.exp(-(ratio**2) * radius / 2)
    for a, b in ((own, truth), (truth, own)):
        overlap = compute("overlap_M", a, b)
        # A window ends six nats down, which an overlap of a hundredth notices.
        assert overlap["mu"][0] == pytest.approx(one, rel=0.02, abs=1e-3)
        assert overlap["z"][0] == pytest.approx(one, rel=0.02, abs=1e-3)
        assert overlap["joint"][0] == pytest.approx(two, rel=0.02, abs=1e-3)


def test_windows_that_do_not_meet_share_nothing() -> None:
    near = likelihoods(np.array([[0.4, 0.3], [0.4, 0.3], [0.4, 0.3]]), reach=20, nodes=161)
    far = likelihoods(np.array([[0.6, 0.7], [0.6, 0.3], [0.4, 0.3]]), reach=20, nodes=161)
    overlap = compute("overlap_M", prediction(near), prediction(far))
    np.testing.assert_allclose(overlap["joint"], [0, 0, 1], atol=2e-3)
    np.testing.assert_allclose(overlap["mu"], [0, 0, 1], atol=2e-3)
    np.testing.assert_allclose(overlap["z"], [0, 1, 1], atol=2e-3)


def half_gaussian(sigma: float, nodes: int) -> Curves:
    """A likelihood cut in its middle by μ ≥ 0, on a lattice of so many nodes down to DEPTH."""
    first = torch.arange(int(1.4 * nodes), dtype=torch.float64) * (math.sqrt(12) * sigma / nodes)
    second = torch.linspace(0, 1, 65, dtype=torch.float64)
    values = -0.5 * (first[:, None] / sigma) ** 2 - 0.5 * ((second - 0.5) / 0.1) ** 2
    return summarise(
        Lattice((first, second), values[None], torch.zeros(1, dtype=torch.float64), False), SPACE
    )


def test_overlap_of_cut_likelihoods_does_not_depend_on_the_lattice() -> None:
    """The same likelihood on other nodes; and one 10 % wider."""
    found = {
        (nodes, sigma): prediction(half_gaussian(sigma, nodes))
        for nodes in range(30, 70, 4)
        for sigma in (0.05, 0.055)
    }
    truth = prediction(half_gaussian(0.05, 32))

    def smaller(t: float) -> float:
        return 2 * min(float(stats.norm.pdf(t)), float(stats.norm.pdf(t, scale=1.1)))

    wider = integrate.quad(smaller, 0, 8)[0]
    worst = 0.0
    for (_, sigma), own in found.items():
        overlap = compute("overlap_M", own, truth)
        expected = 1.0 if sigma == 0.05 else wider
        worst = max(worst, abs(overlap["mu"][0] - expected), abs(overlap["joint"][0] - expected))
        assert overlap["z"][0] == pytest.approx(1, abs=0.01)
    assert worst < 0.01


def test_overlap_of_all_events_is_given_to_the_datasets_of_its_set() -> None:
    sets = np.repeat([0, 1, 2], 4)
    curves = likelihoods(np.tile(THETA, (12, 1)))
    truth_full = likelihoods(np.tile(THETA, (3, 1)))
    shifts = np.array([[0, 0], [0, 0.5 * SIGMA[1]], [0, 1.5 * SIGMA[1]]])
    own_full = likelihoods(np.array(THETA) + shifts)
    full_set = np.arange(3)
    truth = replace(prediction(curves, sets=sets), full=truth_full, full_set=full_set)
    own = replace(prediction(curves, sets=sets), full=own_full, full_set=full_set)
    overlap = compute("overlap_kM", own, truth)
    expected = np.repeat(2 * stats.norm.cdf(-np.array([0, 0.5, 1.5]) / 2), 4)
    np.testing.assert_allclose(overlap["z"], expected, atol=4e-3)
    np.testing.assert_allclose(overlap["mu"], 1, atol=4e-3)
    arrays, undefined = score([METRICS["overlap_kM"]], own, truth)
    np.testing.assert_allclose(arrays["overlap_kM/z"], expected[::4], atol=4e-3)
    assert not undefined
    arrays, undefined = score([METRICS["overlap_kM"]], prediction(curves), prediction(curves))
    assert list(undefined) == ["overlap_kM"]


# --- intervals ---------------------------------------------------------------------------------


def hand(count: int, **arrays: Any) -> LikelihoodPrediction:
    """A prediction of which only some arrays matter."""
    nothing = np.zeros((count, 2), dtype=bool)
    fields: dict[str, Any] = {
        "mle": np.full((count, 2), 0.5),
        "lower": np.full((count, 2), 0.4),
        "upper": np.full((count, 2), 0.6),
        "cut_lower": nothing,
        "cut_upper": nothing,
        "disconnected": nothing,
        "log_ratio_truth": np.zeros(count),
        "area": np.ones(count),
        "region_cut": np.zeros(count, dtype=bool),
        "unresolved": np.zeros(count, dtype=bool),
    } | arrays
    rest = {
        name: np.zeros(shape)
        for name, shape in {
            "origin": (count, 2),
            "spacing": (count, 2),
            "profile": (count, 2, 33),
            "marginal": (count, 2, 33),
            "joint": (count, 33, 33),
        }.items()
    }
    return prediction(Curves(**fields, **rest))


def test_interval_score_by_hand() -> None:
    """Width, plus 2/α times the distance by which the truth (0.5) is missed."""
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


def test_interval_score_is_proper() -> None:
    """Of Gaussian intervals, the 68.27 % one has the lowest mean score, and it is unbiased."""
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
    """The 16 % and 84 % percentiles of each set's estimates, given to each of its datasets."""
    rng = np.random.default_rng(0)
    mle = rng.uniform(size=(200, 2))
    sets = np.repeat([3, 8], 100)
    own = hand(200, mle=mle)
    own = replace(own, datasets=replace(own.datasets, set=sets))
    found = compute("percentile_width", own)
    for number in (3, 8):
        for i, name in enumerate(("mu", "z")):
            ordered = np.sort(mle[sets == number, i])
            # Linear between order statistics: percentile q is at position q (n − 1).
            low = ordered[15] + 0.84 * (ordered[16] - ordered[15])
            high = ordered[83] + 0.16 * (ordered[84] - ordered[83])
            np.testing.assert_allclose(found[name][sets == number], high - low)


# --- from events to metrics ----------------------------------------------------------------------


class Wrapped:
    """The exact log-densities, changed: what a surrogate of known faults would return."""

    log = FitLog(0, [{}])
    has_density = False

    def __init__(
        self, task: Task, change: str = "nothing", reference: ReferenceKind | None = None
    ) -> None:
        self.task = task
        self.change = change
        self.reference = reference
        self.parts = [c for c in task.components("test").values() if isinstance(c, HasLogProb)]

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        out = torch.stack([c.log_prob(x[:, None], context[None]) for c in self.parts])[None]
        if self.change == "x":
            out = out + 20 * torch.sin(3 * x.sum(-1))[:, None] - 7
        elif self.change == "sharp":
            out = out * 1.1
        elif self.change == "reference":
            nominal = self.task.nominal.expand(len(x), -1)
            both = torch.stack([c.log_prob(x, nominal) for c in self.parts])
            out = out - (both.logsumexp(0) - math.log(2))[:, None]
        return out

    def state(self) -> None:
        return None


def evaluate(task: Task, surrogate: Surrogate, plan: Any, store: Store, seed: int = 0) -> Any:
    arrays = predict(task, surrogate, plan, seed, store, CPU, lambda **_: None)
    assert len(arrays) == 1
    return load(task, plan, arrays[0])


def all_scores(own: Any, truth: Any, kind: str) -> Scores:
    metrics = [m for m in METRICS.values() if kind in m.plans]
    arrays, undefined = score(metrics, own, truth)
    assert not undefined
    return arrays


@pytest.mark.parametrize("name", ["gaussians-near", "asymmetric"])
def test_a_term_in_x_alone_changes_nothing(name: str, tmp_path: Path) -> None:
    task = REGISTRY.task(name)
    plan = BootstrapPlan(sets=1, multiple=2, bootstraps=3, observations=500)
    store = Store(tmp_path)
    truth = evaluate(task, Wrapped(task), plan, store)
    plain = all_scores(truth, truth, "bootstrap")
    shifted = all_scores(evaluate(task, Wrapped(task, "x"), plan, store), truth, "bootstrap")
    assert set(plain) == set(shifted)
    np.testing.assert_allclose(plain["overlap_M/joint"], 1, atol=2e-3)
    np.testing.assert_allclose(plain["overlap_kM/joint"], 1, atol=2e-3)
    for key, values in plain.items():
        np.testing.assert_allclose(shifted[key], values, atol=2e-3, err_msg=key)


def test_a_sharper_surrogate_is_seen_to_be_sharper(tmp_path: Path) -> None:
    """Log-densities times 1.1: intervals of z are narrower by a twentieth, all else equal."""
    task = REGISTRY.task("gaussians-far")
    plan = IndependentPlan(uniform=12, per_point=0)
    store = Store(tmp_path)
    truth = evaluate(task, Wrapped(task), plan, store)
    found = all_scores(evaluate(task, Wrapped(task, "sharp"), plan, store), truth, "independent")
    plain = all_scores(truth, truth, "independent")
    ratio = found["width/z"].mean() / plain["width/z"].mean()
    assert ratio == pytest.approx(1 / math.sqrt(1.1), abs=0.02)
    assert found["overlap_M/z"].mean() < 0.99


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


# --- held-out simulations ----------------------------------------------------------------------


def held_out(
    own: Array, reference: Array, gradient: Array, density: bool, ratio: bool
) -> HeldOutPrediction:
    context = np.zeros((own.shape[1], gradient.shape[-1]))
    return HeldOutPrediction(
        ("signal", "background"),
        ("z",),
        HeldOut(context, own, reference, gradient, np.array(density), np.array(ratio)),
    )


def test_held_out_metrics_by_hand() -> None:
    """Two components, two contexts, two events."""
    own = np.array([[[0.0, 1.0], [2.0, -1.0]], [[0.5, 0.5], [-3.0, 3.0]]])
    reference = np.log(np.array([[[1.0, 3.0], [0.5, 0.5]], [[1.0, 1.0], [2.0, 6.0]]]))
    gradient = np.array([[[1.0, 2.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])[..., None]
    prediction_ = held_out(own, reference, gradient, True, True)
    softplus = {v: math.log(1 + math.exp(v)) for v in (0.0, -1.0, -2.0, 1.0)}
    bce = compute("bce", prediction_)
    # log(1 + r̂) of the reference: log 2 and log 4; log 1.5 twice.
    first = 0.25 * (softplus[0.0] + softplus[-1.0] + math.log(2) + math.log(4))
    second = 0.25 * (softplus[-2.0] + softplus[1.0] + 2 * math.log(1.5))
    np.testing.assert_allclose(bce["signal"], [first, second])
    np.testing.assert_allclose(compute("nll", prediction_)["signal"], [-0.5, -0.5])
    np.testing.assert_allclose(compute("nll", prediction_)["background"], [-0.5, 0])
    mean_ratio = compute("log_mean_ratio", prediction_)
    np.testing.assert_allclose(mean_ratio["signal"], np.log([2, 0.5]))
    np.testing.assert_allclose(mean_ratio["background"], np.log([1, 4]))
    truth = held_out(own, reference, np.full_like(gradient, 2.0), False, False)
    error = compute("score_error", prediction_, truth)
    np.testing.assert_allclose(error["signal.z"], [0.5 * (1 + 0) / 4, 1])
    np.testing.assert_allclose(error["background.z"], [0.25, 0.25])
    assert compute("nll", truth) == compute("bce", truth) == compute("log_mean_ratio", truth) == {}
    np.testing.assert_allclose(compute("not_finite", prediction_)["signal"], [0, 0])
    own[1, 0, 1] = -np.inf
    own[1, 1] = np.nan
    broken = held_out(own, reference, gradient, True, True)
    np.testing.assert_allclose(compute("not_finite", broken)["signal"], [0, 0])
    np.testing.assert_allclose(compute("not_finite", broken)["background"], [0.5, 1])
    assert not np.isfinite(compute("nll", broken)["background"]).any()  # never replaced


def test_log_mean_ratio_of_huge_ratios_is_finite() -> None:
    big = np.full((2, 3, 4), 2000.0)
    found = compute("log_mean_ratio", held_out(big, big, big[..., None], False, True))
    np.testing.assert_allclose(found["signal"], 2000)
    assert np.isfinite(
        compute("bce", held_out(big, big, big[..., None], False, True))["signal"]
    ).all()


def test_held_out_simulations_of_exact_densities(tmp_path: Path) -> None:
    """NLL is the entropy; scores are those of the context scaled to [−1, 1]."""
    task = REGISTRY.task("gaussians-far")
    plan = HeldOutPlan(contexts=16, events=400)
    surrogate = Wrapped(task)
    surrogate.has_density = True
    own = evaluate(task, surrogate, plan, Store(tmp_path))
    assert isinstance(own, HeldOutPrediction)
    nll = compute("nll", own)
    for values in nll.values():
        entropy = 1 + math.log(2 * math.pi)
        assert abs(values.mean() - entropy) < 4 / math.sqrt(16 * 400)
    # The score of z is r times a standard normal; z covers π/2, its scaled form 2.
    root_mean_square = np.sqrt((own.values.score**2).mean((1, 2, 3)))
    np.testing.assert_allclose(root_mean_square, 2 * math.pi / 4, rtol=0.03)
    for values in compute("score_error", own, own).values():
        assert (values == 0).all()
    assert compute("bce", own) == {}


def test_held_out_simulations_of_an_exact_ratio(tmp_path: Path) -> None:
    """Its mean over the reference is 1, and BCE is that of the best classifier."""
    task = REGISTRY.task("gaussians-near")
    surrogate = Wrapped(task, "reference", "fixed")
    store = Store(tmp_path)
    own = evaluate(task, surrogate, HeldOutPlan(contexts=16, events=2000), store)
    for values in compute("log_mean_ratio", own).values():
        np.testing.assert_allclose(values, 0, atol=0.1)
    for values in compute("bce", own).values():
        assert (values < math.log(2) + 0.02).all()
        assert values.mean() > 0.6


def test_errors_of_held_out_metrics_are_honest(tmp_path: Path) -> None:
    """Over seeds, log E[r] of an exact ratio is 0 within its errors (contexts are the units)."""
    task = REGISTRY.task("gaussians-near")
    surrogate = Wrapped(task, "reference", "fixed")
    pulls = []
    for seed in range(12):
        store = Store(tmp_path / str(seed))
        own = evaluate(task, surrogate, HeldOutPlan(contexts=24, events=128), store, seed)
        for values in compute("log_mean_ratio", own).values():
            estimate = mean(values[None], np.full(len(values), -1))
            pulls.append(estimate.value / estimate.error)
    assert math.sqrt(np.mean(np.square(pulls))) < 1.6
