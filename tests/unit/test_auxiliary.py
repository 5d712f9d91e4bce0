"""Constraints and rates: densities, draws, padded datasets and profiles against scipy."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor

from bench.contracts import (
    BootstrapPlan,
    Constraint,
    EventsOfSet,
    IndependentPlan,
    Parameter,
    ParameterSpace,
    Task,
)
from bench.contracts.plan import evaluator_of, fit_to, number_of_blocks
from bench.errors import NotApplicable, PluginError
from bench.inference.auxiliary import Auxiliary
from bench.inference.datasets import likelihood_of
from bench.inference.events import EventLikelihood
from bench.inference.gradient import profile
from bench.inference.likelihood import ExactLikelihood
from bench.registry.validate import check
from bench.seeds import generator
from bench.stages.datasets import events as mixture
from bench.stages.datasets import set_chunks, sets
from bench.stages.posterior import drawn
from bench.storage.simulations import SimulationStore
from bench.storage.store import Store
from bench.testing import check_task

CPU = torch.device("cpu")


class Bell:
    """Unit Gaussian around centre + sensitivity · shift; context (shift,), events (1,)."""

    size = None

    def __init__(self, centre: float, sensitivity: float) -> None:
        self.centre, self.sensitivity = centre, sensitivity

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        mean = self.centre + self.sensitivity * context
        return mean + torch.randn(mean.shape, generator=generator, dtype=mean.dtype)

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        pull = (x.double() - self.centre - self.sensitivity * context.double())[..., 0]
        return -0.5 * pull.square() - 0.5 * math.log(2 * math.pi)


class Recorded:
    """Different numbers, each of which is drawn once."""

    def __init__(self, size: int, first: int = 0) -> None:
        self.size, self.first = size, first

    def simulate(self, context: Tensor, generator: torch.Generator) -> Tensor:
        order = torch.randperm(self.size, generator=generator)
        return (self.first + order[torch.arange(len(context)) % self.size])[:, None].float()

    def block(self, number: int, of: int) -> "Recorded":
        return Recorded(self.size // of, self.first + number * (self.size // of))


class Peak(Task):
    """Signal of 30 μ events on `background` events, with an uncertain scale of x."""

    name = "peak"
    version = 1
    observations = 60
    event_shape = (1,)
    nominal = torch.zeros(1)
    space = ParameterSpace(
        [
            Parameter("mu", 0.0, 4.0, "interest", (0.5, 1.5)),
            Parameter("background", 10.0, 90.0, "nuisance", (20.0, 45.0), scale="log"),
            Parameter("shift", -2.0, 2.0, "nuisance", (-1.0, 1.0)),
        ],
        context=["shift"],
    )
    constraints = (
        Constraint("background", 30.0, 0.2, "log-normal"),
        Constraint("shift", 0.0, 0.5),
    )
    points = torch.tensor([[1.0, 30.0, 0.0]], dtype=torch.float64)

    def components(self, split: str) -> Mapping[str, Bell]:
        return {"signal": Bell(2.0, 1.0), "background": Bell(0.0, 0.3)}

    def rate(self, theta: Tensor) -> Tensor:
        return 30 * theta[..., 0] + theta[..., 1]

    def weights(self, theta: Tensor) -> Tensor:
        yields = torch.stack([30 * theta[..., 0], theta[..., 1]], -1)
        return yields / yields.sum(-1, keepdim=True)


PEAK = Peak()
PLAN = IndependentPlan(uniform=40, per_point=0)


def log_likelihood(x: np.ndarray, measured: np.ndarray, theta: np.ndarray) -> float:
    """Return the extended likelihood of `Peak`, with scipy alone."""
    mu, background, shift = theta
    density = 30 * mu * stats.norm.pdf(x, 2 + shift) + background * stats.norm.pdf(x, 0.3 * shift)
    extended = np.log(density).sum() - 30 * mu - background - math.lgamma(len(x) + 1)
    auxiliary = stats.norm.logpdf(np.log(measured[0]), np.log(background), 0.2)
    return float(extended + auxiliary + stats.norm.logpdf(measured[1], shift, 0.5))


def profiled(found: list[EventsOfSet]) -> tuple[np.ndarray, np.ndarray]:
    """Return estimates (D,) and interval ends (2, D) of mu by the exact likelihood."""
    likelihood = likelihood_of(PEAK, ExactLikelihood(PEAK), PLAN, found, CPU)
    truth = PEAK.space.to_unit(torch.stack([events.theta for events in found]))
    whole = profile(likelihood, [0], truth, PEAK.space.box).whole
    unit = torch.stack(
        [whole.maximum.unit[0, :, 0], whole.lower[0, :, 0, 0], whole.upper[0, :, 0, 0]]
    )
    mu = 4 * unit.numpy()  # its bounds are 0 and 4
    return mu[0], mu[1:]


def test_the_likelihood_is_that_of_scipy() -> None:
    """Padded datasets of different sizes have the same likelihoods as each by itself."""
    found = list(sets(PEAK, PLAN, 0))
    assert len({len(events.x) for events in found}) > 10
    likelihood = likelihood_of(PEAK, ExactLikelihood(PEAK), PLAN, found, CPU)
    unit = torch.rand(1, len(found), 3, generator=generator("points")).double()
    every = torch.arange(len(found))
    values = likelihood.values(every, unit)
    assert torch.allclose(values, likelihood(every, unit).value, atol=1e-9)
    for row, events in enumerate(found):
        theta = PEAK.space.from_unit(unit[0, row]).numpy()
        expected = log_likelihood(events.x[:, 0].double().numpy(), events.measured.numpy(), theta)
        assert abs(float(values[0, row]) - expected) < 1e-5


def test_scores_are_slopes() -> None:
    """Scores agree with differences, of the auxiliary factors alone and of the whole likelihood."""
    found = list(sets(PEAK, PLAN, 0))[:5]
    likelihood = likelihood_of(PEAK, ExactLikelihood(PEAK), PLAN, found, CPU)
    assert likelihood.auxiliary is not None
    unit = torch.rand(1, 5, 3, generator=generator("slopes")).double() * 0.8 + 0.1
    every = torch.arange(5)
    for function, values in (
        (likelihood.auxiliary, likelihood.auxiliary.values),
        (likelihood, likelihood.values),
    ):
        score = function(every, unit)[1]
        for j in range(3):
            step = torch.zeros(3).double().index_fill(0, torch.tensor(j), 1e-5)
            slope = (values(every, unit + step) - values(every, unit - step)) / 2e-5
            assert torch.allclose(score[..., j], slope, rtol=1e-4, atol=1e-3)


def test_expected_information_is_the_covariance_of_scores() -> None:
    """The mean outer product of scores at the truth is the information of the factors."""
    n, theta = 20_000, torch.tensor([1.0, 30.0, 0.2]).double()
    rng = generator("information")
    number = torch.poisson(PEAK.rate(theta).expand(n), generator=rng)
    measured = torch.stack(
        [c.measure(theta[1 + j].expand(n), rng) for j, c in enumerate(PEAK.constraints)], -1
    )
    unit = PEAK.space.to_unit(theta).expand(1, n, 3)
    _, score, information = Auxiliary(PEAK, measured, number)(torch.arange(n), unit)
    covariance = score[0].T @ score[0] / n
    scale = information[0, 0].diagonal().sqrt()
    difference = (covariance - information[0, 0]) / scale / scale[:, None]
    assert float(difference.abs().max()) < 5 * math.sqrt(2 / n)


def test_profiles_are_those_of_scipy() -> None:
    """Maxima and interval ends agree with a constrained optimisation of the extended likelihood."""
    found = list(sets(PEAK, PLAN, 3))[:6]
    maximum, ends = profiled(found)
    bounds = [(p.low, p.high) for p in PEAK.space.parameters]
    for row, events in enumerate(found):
        x, measured = events.x[:, 0].double().numpy(), events.measured.numpy()

        def lost(free: np.ndarray, mu: float | None, x: Any = x, measured: Any = measured) -> float:
            return -log_likelihood(x, measured, free if mu is None else np.array([mu, *free]))

        best = optimize.minimize(
            lost, events.theta.numpy(), (None,), bounds=bounds, options={"ftol": 1e-13}
        )
        half = 0.5 * float(ends[1, row] - ends[0, row])
        assert abs(best.x[0] - maximum[row]) < 2e-3 * half
        for end in ends[:, row]:
            if end in bounds[0]:
                continue
            there = optimize.minimize(
                lost, best.x[1:], (float(end),), bounds=bounds[1:], options={"ftol": 1e-13}
            )
            assert abs(2 * (there.fun - best.fun) - 1) < 2e-3


def test_exact_intervals_cover() -> None:
    """Intervals with nuisances, constraints and a Poisson total cover in 68.27 % of datasets."""
    found = list(sets(PEAK, IndependentPlan(uniform=400, per_point=0), 1))
    theta = np.array([float(events.theta[0]) for events in found])
    _, (lower, upper) = profiled(found)
    covered = ((lower <= theta) & (theta <= upper)).mean()
    assert abs(covered - 0.6827) < 4 * math.sqrt(0.6827 * 0.3173 / 400)


def test_true_parameters_follow_the_constraints() -> None:
    """True values are those of a truncated normal, and of the uniform distribution elsewhere."""
    uniform = torch.rand(20_000, 3, generator=generator("true")).double()
    theta = PEAK.true_parameters(uniform).numpy()
    normal = stats.truncnorm(-2, 2, 0, 0.5)
    assert stats.kstest(theta[:, 2], normal.cdf).pvalue > 1e-3
    low, high = (math.log(v / 30) / 0.2 for v in (20, 45))
    assert (
        stats.kstest(np.log(theta[:, 1] / 30) / 0.2, stats.truncnorm(low, high).cdf).pvalue > 1e-3
    )
    assert stats.kstest(theta[:, 0] - 0.5, "uniform").pvalue > 1e-3


def test_the_prior_is_the_density_of_true_parameters() -> None:
    """The prior is the density in unit coordinates, up to a constant."""
    unit = torch.rand(50, 3, generator=generator("prior")).double()
    theta = PEAK.space.from_unit(unit).numpy()
    expected = stats.norm.logpdf(np.log(theta[:, 1]), math.log(30), 0.2)
    expected = expected + stats.norm.logpdf(theta[:, 2], 0, 0.5)
    assert np.ptp(PEAK.log_prior(unit).numpy() - expected) < 1e-10


def test_sizes_and_measurements_are_random() -> None:
    """The numbers of events are Poisson numbers, and the measurements scatter as declared."""

    class Fixed(Peak):
        def true_parameters(self, uniform: Tensor) -> Tensor:
            return torch.tensor([1.0, 30.0, 0.2]).double().expand(uniform.shape)

    task = Fixed()
    found = list(sets(task, IndependentPlan(uniform=1500, per_point=0, multiple=2), 0))
    sizes = np.array([len(events.x) for events in found])
    assert abs(sizes.mean() - 120) < 4 * math.sqrt(120 / 1500)
    assert abs(sizes.var() / 120 - 1) < 5 * math.sqrt(2 / 1500)
    measured = torch.stack([events.measured for events in found]).numpy()
    assert stats.kstest(np.log(measured[:, 0] / 30) / 0.2, "norm").pvalue > 1e-3
    assert stats.kstest((measured[:, 1] - 0.2) / 0.5, "norm").pvalue > 1e-3


def test_measurements_are_the_same_in_every_run(tmp_path: Path) -> None:
    """Also in longer plans and from stored datasets, which have M events if there is no rate."""

    class Alone(Peak):
        expensive = True

        def rate(self, theta: Tensor) -> None:
            return None

    task, plan = Alone(), IndependentPlan(uniform=3, per_point=1)
    store = SimulationStore(Store(tmp_path))
    found = [list(sets(task, plan, 0, s)) for s in (None, store, store)]
    (_, _, _, chunk), *_ = set_chunks(task, plan, 0)
    assert chunk.key is not None
    entry = store.read(chunk.key)
    assert entry is not None
    short = entry.arrays | {"x": entry.arrays["x"][:-1]}
    store.write(chunk.key, entry.record, short)  # it has another number of events: made again
    found.append(list(sets(task, plan, 0, store)))
    longer = list(sets(task, plan.model_copy(update={"uniform": 5}), 0))
    found.append([*longer[:3], longer[-1]])
    for same in zip(*found, strict=True):
        for events in same:
            assert events.x.shape == (60, 1)
            assert torch.equal(events.x, same[0].x)
            assert torch.equal(events.measured, same[0].measured)
    assert len({float(events.measured[0]) for events in longer}) == 6


def test_draws_follow_the_posterior_with_constraints(tmp_path: Path) -> None:
    """Means of draws are those of a grid, with priors, measurements and the Poisson total."""
    (events, *_) = sets(PEAK, PLAN, 5)
    unit = drawn(PEAK, PLAN, events, SimulationStore(Store(tmp_path))).arrays["unit"]
    likelihood = likelihood_of(PEAK, ExactLikelihood(PEAK), PLAN, [events], CPU)
    low, high = PEAK.space.box
    share = (torch.arange(25).double() + 0.5) / 25
    nodes = low + (high - low) * torch.cartesian_prod(share, share, share)
    values = likelihood.values(torch.zeros(len(nodes), dtype=torch.long), nodes[None])[0]
    weight = (values + PEAK.log_prior(nodes)).softmax(0)
    mean = weight @ nodes
    deviation = (weight @ (nodes - mean).square()).sqrt()
    pull = (unit.mean(0) - mean) / (deviation / math.sqrt(len(unit)))
    assert float(pull.abs().max()) < 4
    assert torch.allclose(unit.std(0), deviation, rtol=0.2)


def test_the_evaluator_is_that_of_gradients() -> None:
    """Constraints are n/a on a lattice, and for bootstraps, also with two parameters."""

    class Two(Peak):
        space = ParameterSpace(PEAK.space.parameters[::2], context=["shift"])
        constraints = PEAK.constraints[1:]

        def rate(self, theta: Tensor) -> None:
            return None

    assert evaluator_of(Two(), PLAN) == "gradient"
    with pytest.raises(NotApplicable, match="bootstraps are evaluated on a lattice, and a lattice"):
        fit_to(Two(), BootstrapPlan())
    with pytest.raises(NotApplicable, match="peak has constraints; the gradient evaluator takes"):
        fit_to(Two(), IndependentPlan(evaluator="lattice"))


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ([], r"its constraints are \[\], and must be a tuple"),
        ((Constraint("mu", 1.0, 0.1), Constraint("mu", 1.0, 0.2)), "constrains a parameter twice"),
        ((Constraint("nu", 1.0, 0.1),), "its constraint of 'nu' is not of a parameter"),
        ((Constraint("mu", 1.0, 0.1, "log-normal"),), "scale 'linear'; it must be 'log'"),
        ((Constraint("shift", 1.5, 0.1),), r"centred at 1.5, outside the inner box \[-1.0, 1.0\]"),
    ],
)
def test_wrong_constraints_give_one_line(constraints: Any, message: str) -> None:
    task = Peak()
    task.constraints = constraints
    with pytest.raises(PluginError, match=message):
        check("tasks", "peak", task)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", 1.0, 0.0), "its width is 0.0, and must be positive"),
        (("a", math.nan, 1.0), "its centre is nan, and must be finite"),
        (("a", 0.0, 1.0, "log-normal"), "its centre is 0.0, and must be positive"),
        (("a", 0.0, 1.0, "poisson"), "its kind is 'poisson'"),
    ],
)
def test_a_wrong_constraint_gives_one_line(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Constraint(*arguments)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (lambda theta: theta[..., 0] - 5, "the rate is -[0-9.]+ at mu = .*; it must be positive"),
        (lambda theta: theta, r"rate returned \(3,\) for parameters \(3,\)"),
        (lambda theta: 5.0, r"rate returned float for parameters \(3,\)"),
    ],
)
def test_a_wrong_rate_gives_one_line(rate: Any, message: str) -> None:
    task = Peak()
    task.rate = rate
    with pytest.raises(PluginError, match=message):
        next(iter(sets(task, PLAN, 0)))
    (failed,) = [r for r in check_task(task) if r.check == "rate"]
    assert failed.expected == "a rate that is positive and finite"


def test_a_rate_without_events_gives_one_line() -> None:
    task = Peak()
    task.rate = lambda theta: torch.full_like(theta[..., 0], 1e-9)
    with pytest.raises(PluginError, match="no dataset of peak has an event"):
        likelihood_of(task, ExactLikelihood(task), PLAN, list(sets(task, PLAN, 0)), CPU)


def test_the_kit_accepts_the_task() -> None:
    check_task(PEAK).raise_for_failures()


def test_padding_changes_nothing() -> None:
    """Padding does not enter likelihoods."""
    x = torch.tensor([[[0.5], [1.5]], [[0.2], [90.0]]])
    exact, space = ExactLikelihood(PEAK), PEAK.space
    whole = EventLikelihood(exact, x, space, PEAK.weights, sizes=torch.tensor([2, 1]))
    alone = EventLikelihood(exact, x[1:, :1], space, PEAK.weights)
    unit = torch.full((1, 1, 3), 0.4).double()
    padded = whole(torch.tensor([1]), unit)
    for found, expected in zip(padded, alone(torch.tensor([0]), unit), strict=True):
        assert torch.allclose(found, expected)


def test_blocks_hold_the_largest_poisson_number() -> None:
    """Recorded observations are never repeated within a dataset."""
    task = Peak()
    recorded, other = Recorded(2000), Recorded(2000, 2000)
    task.components = lambda split: {"signal": recorded, "background": other}  # type: ignore
    largest = float(task.rate(task.space.from_unit(task.space.box[1])))  # 30 · 1.5 + 45
    blocks = number_of_blocks(task, PLAN)
    assert blocks is not None
    assert largest + 6 * largest**0.5 <= 2000 / blocks < 2 * largest
    for one in sets(task, PLAN, 0):
        assert len(one.x.unique(dim=0)) == len(one.x)
    with pytest.raises(NotApplicable, match="and a dataset takes up to"):
        fit_to(task, PLAN.model_copy(update={"observations": 1900}))
    few = {"signal": recorded.block(0, 2000), "background": recorded}
    with pytest.raises(PluginError, match=r"takes \d+ observations of signal, and its block"):
        mixture(task, task.points[0], 500, torch.Generator(), stratified=False, components=few)


def test_thresholds_of_the_statistic_move_interval_ends(tmp_path):
    """A normal mean with a normal constraint: ends lie at the root of the threshold."""
    import bench
    from bench.contracts import FitLog
    from bench.library.evaluation import profiles_of

    class Normal:
        reference = None
        has_density = True
        log = FitLog()

        def log_ratio(self, x, context):
            return (-0.5 * (x[:, None, 0] - context[None, :, 0]).square())[None, None]

    def simulate(theta, rng):
        return rng.normal(theta, 1.0)

    x = torch.tensor([[0.2], [0.4], [1.2], [-0.1]])
    for constraints, extra in (([], 0.0), ([bench.contracts.Constraint("mean", 0.0, 0.5)], 4.0)):
        task = bench.contracts.Simulator(
            "normal", simulate, {"mean": (-4.0, 4.0)}, observations=4, constraints=constraints
        )
        width = (4 + extra) ** -0.5
        for threshold in (0.25, 1.0, 2.5, 9.0):
            (found,) = profiles_of(task, Normal(), x, tmp_path, None, threshold)
            assert abs(found.mle[0, 0] - 1.7 / (4 + extra)) < 1e-3
            half = 0.5 * (found.upper[0, 0] - found.lower[0, 0])
            assert abs(half / (width * threshold**0.5) - 1) < 0.01
