"""Profile likelihoods by gradients, against closed forms, scipy and dense scans."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from bench.tasks.linear_gaussian import linear_gaussian
from scipy.optimize import brentq, minimize
from torch import Tensor

from bench.contracts import IndependentPlan, Parameter, ParameterSpace, Task
from bench.errors import NonFiniteError, PluginError
from bench.inference import maximum
from bench.inference.box import ROOTS
from bench.inference.ends import SLACK
from bench.inference.events import Evaluation, EventLikelihood
from bench.inference.gradient import GradientProfiles, profile
from bench.inference.likelihood import ExactLikelihood
from bench.inference.maximum import newton, restricted, update
from bench.stages.datasets import sets
from bench.testing.four_components import four_components

WHOLE = ((0.0,), (1.0,))


def datasets(task: Task, n: int, seed: int = 5) -> tuple[Tensor, Tensor]:
    """Simulate events (D, M, …) of a task, and their parameters (D, P)."""
    made = list(sets(task, IndependentPlan(kind="independent", uniform=n, per_point=0), seed))
    return torch.stack([s.x for s in made]), torch.stack([s.theta for s in made])


class Pairs:
    """Surrogate of one component from a function of events (n, …) and contexts (n, d)."""

    def __init__(self, log_density: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.log_density = log_density

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        context = context if context.dim() == 3 else context[None]
        return torch.stack([self.log_density(x, c) for c in context])[:, None]


def ones(theta: Tensor) -> Tensor:
    """Return the weight of a single component."""
    return torch.ones_like(theta[..., :1])


@pytest.mark.parametrize("parameters", [1, 2, 5, 10, 20])
def test_linear_gaussian(parameters: int) -> None:
    """Estimates, ends at all thresholds, statistics and information are those of closed forms."""
    names = tuple(f"theta{i + 1}" for i in range(min(parameters, 2)))
    task = linear_gaussian(parameters, reported=names)
    x, theta = datasets(task, 12)
    space, whole = task.space, torch.tensor(WHOLE).double().expand(2, parameters)
    likelihood = EventLikelihood(ExactLikelihood(task), x, space, task.weights)
    found = profile(likelihood, range(len(names)), space.to_unit(theta), whole)
    sigma = task.standard_deviation(x)
    mle = space.from_unit(found.whole.maximum.unit[0])
    assert float(((mle - task.maximum(x)) / sigma).abs().max()) < 1e-3
    for level, root in enumerate(ROOTS):
        lower, upper = task.profile_interval(x, root**2)
        for ends, exact, cut in (
            (found.box.lower, lower, found.box.cut_lower),
            (found.box.upper, upper, found.box.cut_upper),
        ):
            full = torch.full((len(x), parameters), 0.5, dtype=torch.float64)
            full[:, : len(names)] = ends[0, :, :, level]
            apart = ((space.from_unit(full) - exact) / sigma).abs()[:, : len(names)]
            assert float(apart[~cut[0, :, :, level]].max()) < 1e-3
    statistic = task.profile_statistic(x, theta)[:, : len(names)]
    assert float((found.statistic[0] - statistic).abs().max()) < 1e-4
    information = task.information(x)
    relative = (found.information[0] - information) / information.diagonal().max()
    assert float(relative.abs().max()) < 1e-6
    ratio = task.log_likelihood_ratio(x, theta)
    assert float((found.at_truth[0] - found.whole.maximum.value[0] - ratio).abs().max()) < 1e-4
    assert float(found.box.error.max()) < SLACK


def test_four_components() -> None:
    """Maxima and ends of a mixture with seven parameters are those of scipy, at a bounded cost."""
    task = four_components(1000)
    x, theta = datasets(task, 8)
    likelihood = EventLikelihood(ExactLikelihood(task), x, task.space, task.weights)
    found = profile(likelihood, [0], task.space.to_unit(theta), task.space.box)
    assert float(found.cost[:, 0].mean()) <= 250
    for row in range(2):
        alone = EventLikelihood(ExactLikelihood(task), x[row : row + 1], task.space, task.weights)
        best = _scipy(alone, np.full(7, 0.5), None)
        assert abs(-best.fun - float(found.whole.maximum.value[0, row])) < 1e-6
        lower, upper = (float(e[0, row, 0, 0]) for e in (found.whole.lower, found.whole.upper))
        middle, sigma = float(found.whole.maximum.unit[0, row, 0]), 0.5 * (upper - lower)
        assert np.abs(best.x[0] - middle) < 1e-3 * sigma
        for end in (lower, upper):

            def excess(value: float, alone: EventLikelihood = alone, best: Any = best) -> float:
                return float(2 * (_scipy(alone, best.x, value).fun - best.fun) - 1)

            near = [middle + share * (end - middle) for share in (0.8, 1.2)]
            assert abs(brentq(excess, *near, xtol=1e-7) - end) < 1e-3 * sigma


def _scipy(likelihood: EventLikelihood, start: Any, first: float | None) -> Any:
    """Maximise by L-BFGS-B, with the first parameter fixed if a value is given."""

    def loss(unit: Any) -> tuple[float, Any]:
        there = likelihood(torch.zeros(1, dtype=torch.long), torch.from_numpy(unit)[None, None])
        return -float(there.value), -there.score[0, 0].numpy()

    bounds: Any = [(0.0, 1.0)] * len(start)
    if first is not None:
        start, bounds[0] = np.r_[first, start[1:]], (first, first)
    options: Any = {"ftol": 1e-15, "gtol": 1e-8, "maxiter": 500}
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)


def test_cost_of_twenty_parameters() -> None:
    """One reported parameter of twenty costs at most 400 forward passes per event."""
    task = linear_gaussian(20)
    x, theta = datasets(task, 4)
    likelihood = EventLikelihood(ExactLikelihood(task), x, task.space, task.weights)
    found = profile(likelihood, [0], task.space.to_unit(theta), task.space.box)
    assert float(found.cost[:, 0].max()) <= 400
    assert torch.equal(found.cost.sum(1) + 1, likelihood.cost)  # and one at the truth


def planted(
    mean: Callable[[Tensor], Tensor],
    theta: float,
    n: int,
    size: int = 100,
    extra: Callable[[Tensor, Tensor], Tensor] = lambda t, nuisance: 0 * t,
    fine: int = 701,
) -> tuple[GradientProfiles, list[tuple[float, float, float]]]:
    """Profile Gaussians whose mean is a function of t and a nuisance, and scan them densely.

    Returns:
        The profiles of t, and ends and half-width of each scanned connected interval.
    """
    torch.manual_seed(1)
    parameters = [
        Parameter("t", -1.0, 1.0, "interest", (-0.9, 0.9)),
        Parameter("n", -1.0, 1.0, "nuisance", (-0.9, 0.9)),
    ]
    space = ParameterSpace(parameters, ["t", "n"])

    def means(c: Tensor) -> Tensor:
        t, nuisance = c.unbind(-1)
        return torch.stack([mean(t) + 0.5 * nuisance, nuisance, 0.15 * t], -1)

    truth = torch.tensor([theta, 0.1]).double().expand(n, 2)
    x = means(truth)[:, None] + torch.randn(n, size, 3).double()
    surrogate = Pairs(
        lambda x, c: -0.5 * (x - means(c)).square().sum(-1) + extra(*c.unbind(-1)) / size
    )
    likelihood = EventLikelihood(surrogate, x, space, ones)
    whole = torch.tensor(WHOLE).double().expand(2, 2)
    found = profile(likelihood, [0], space.to_unit(truth), whole)
    t, nuisance = torch.linspace(-1, 1, 2001).double(), torch.linspace(-0.6, 0.8, fine).double()
    contexts = torch.cartesian_prod(t, nuisance)
    nodes, added = means(contexts), extra(*contexts.unbind(-1))
    scanned = []
    for events in x:
        values = nodes @ events.sum(0) - 0.5 * size * nodes.square().sum(-1) + added
        curve = values.view(len(t), -1).amax(-1)
        statistic, best = 2 * (curve.max() - curve), int(curve.argmax())
        outside = (statistic > 1).nonzero().squeeze(-1)
        below, above = outside[outside < best], outside[outside > best]
        lower = float(t[below[-1]]) if len(below) else -1.0
        upper = float(t[above[0]]) if len(above) else 1.0
        scanned.append((lower, upper, 0.5 * (upper - lower)))
    return found, scanned


@pytest.mark.parametrize(
    ("mean", "theta"),
    [
        (lambda t: t**2 + 0.4 * t**3, 0.5),  # two modes far apart
        (lambda t: t**2 + 0.4 * t**3, 0.2),  # two modes with a shallow dip between them
        (lambda t: t + 2 * torch.relu(t - 0.3), 0.3),  # a kink
        (lambda t: t**3, 0.1),  # a plateau
    ],
    ids=["bimodal", "dip", "kink", "plateau"],
)
def test_planted(mean: Callable[[Tensor], Tensor], theta: float) -> None:
    """Intervals are the connected ones around the highest mode, or are flagged."""
    found, scanned = planted(mean, theta, 40)
    spacing = 1e-3
    flagged = (found.whole.error.flatten(2).amax(-1) > SLACK) | (
        found.whole.maximum.distance > SLACK
    )
    assert int(flagged.sum()) <= 1
    for row, (lower, upper, half) in enumerate(scanned):
        if not flagged[0, row]:
            own = (2 * float(e[0, row, 0, 0]) - 1 for e in (found.whole.lower, found.whole.upper))
            for end, exact in zip(own, (lower, upper), strict=True):
                assert abs(end - exact) < 0.01 * half + 1.5 * spacing, (row, end, exact)


@pytest.mark.parametrize(
    "extra",
    [
        lambda t, nuisance: -30 * (nuisance - 0.5 * t).abs(),  # the profile follows a kink
        lambda t, nuisance: -20 * (nuisance - 2 * t).clamp_min(0.05),  # its slope changes
        lambda t, nuisance: 0.35 * torch.cos(30 * (nuisance - t)),  # a nuisance has maxima
    ],
    ids=["ridge", "floor", "waves"],
)
def test_planted_kinks_of_a_nuisance(extra: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Ends are those of dense scans where a nuisance has kinks or several maxima."""
    found, scanned = planted(lambda t: t, 0.0, 20, extra=extra, fine=2801)
    spacing = 1e-3
    flagged = (found.whole.error.flatten(2).amax(-1) > SLACK) | found.whole.missed
    flagged |= found.whole.maximum.distance > SLACK
    assert int(flagged.sum()) <= 2
    for row, (lower, upper, half) in enumerate(scanned):
        if not flagged[0, row]:
            own = (2 * float(e[0, row, 0, 0]) - 1 for e in (found.whole.lower, found.whole.upper))
            for end, exact in zip(own, (lower, upper), strict=True):
                assert abs(end - exact) < 0.01 * half + 1.5 * spacing, (row, end, exact)


@pytest.mark.parametrize("height", [0.9, 0.3])
def test_second_maximum_at_a_bound(height: float) -> None:
    """A profile that jumps to a nuisance's bound before an interval ends is followed there."""
    parameters = [
        Parameter("t", -1.0, 1.0, "interest", (-0.9, 0.9)),
        Parameter("n", -1.0, 1.0, "nuisance", (-0.9, 0.9)),
    ]
    space = ParameterSpace(parameters, ["t", "n"])

    def log_ratio(x: Tensor, c: Tensor) -> Tensor:
        t, n = c.unbind(-1)
        first = -0.5 * ((t / 0.1) ** 2 + (n / 0.3) ** 2)
        # Falls towards n = 1 − 0.3, and is there height − 1.125 at t = 0.1.
        second = height - 0.5 * (((t - 0.1) / 0.3) ** 2 + ((n - 1.3) / 0.2) ** 2)
        return torch.logaddexp(first, second) + 0 * x[..., 0]

    likelihood = EventLikelihood(Pairs(log_ratio), torch.zeros(1, 1, 1).double(), space, ones)
    whole = torch.tensor(WHOLE).double().expand(2, 2)
    found = profile(likelihood, [0], torch.full((1, 2), 0.5).double(), whole)
    t, n = (torch.linspace(-1, 1, size).double() for size in (4001, 401))
    values = log_ratio(torch.zeros(1), torch.cartesian_prod(t, n)).view(len(t), -1).amax(-1)
    inside = t[values >= values.max() - 0.5]
    assert not bool(found.whole.missed)
    for own, exact in ((found.whole.lower, inside[0]), (found.whole.upper, inside[-1])):
        assert abs(2 * float(own) - 1 - float(exact)) < 1e-3
    assert bool((found.box.upper[..., 1:] >= found.box.upper[..., :-1]).all())


def test_a_kink_ends_a_search_whatever_the_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The distance of a search that has ended is that of the search alone."""
    monkeypatch.setattr(maximum, "_STEPS", 40)

    def evaluate(tracks: Tensor, unit: Tensor) -> Evaluation:
        away = unit - 0.4
        kink = tracks[None, :, None] == 0
        value = torch.where(kink, -100 * away.abs(), -1e9 * away**16)
        score = torch.where(kink, -100 * away.sign(), -16e9 * away**15)
        return Evaluation(value.sum(-1), score, score[..., None] ** 2)

    bounds = torch.tensor([[0.0], [1.0]]).double()
    start = torch.tensor([[[0.39], [1.0]]]).double()
    alone = maximum.maximise(evaluate, start[:, :1], bounds)
    both = maximum.maximise(evaluate, start, bounds)
    assert float(both.distance[0, 1]) > maximum.TOLERANCE  # the other search has not ended
    assert float(both.distance[0, 0]) == float(alone.distance[0, 0]) <= maximum.TOLERANCE


def test_members_are_independent() -> None:
    """Members that are searched together have the results that each has alone."""
    task = linear_gaussian(3)
    x, theta = datasets(task, 4)
    exact = ExactLikelihood(task)
    offset = torch.tensor([[0.0, 0.0, 0.0], [0.3, -0.2, 0.1]]).double() * task.standard_deviation(x)

    class Shifted:
        """Exact densities at contexts shifted by a member's own amount."""

        def __init__(self, shifts: Tensor) -> None:
            self.shifts = shifts

        def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
            shifted = context + self.shifts[:, None]
            return torch.cat([exact.log_ratio_paired(x, c) for c in shifted])

    def of(shifts: Tensor) -> GradientProfiles:
        likelihood = EventLikelihood(Shifted(shifts), x, task.space, task.weights, len(shifts))
        return profile(likelihood, [0], task.space.to_unit(theta), task.space.box)

    both = of(offset)
    for member in range(2):
        alone = of(offset[member : member + 1])
        for name in ("lower", "upper"):
            torch.testing.assert_close(
                getattr(both.box, name)[member], getattr(alone.box, name)[0], atol=1e-5, rtol=0
            )


def test_truth_is_not_seen() -> None:
    """Estimates and intervals are the same whatever the generating parameters are."""
    task = four_components(300)
    x, theta = datasets(task, 3)
    found = [
        profile(
            EventLikelihood(ExactLikelihood(task), x, task.space, task.weights),
            [0],
            task.space.to_unit(truth),
            task.space.box,
        )
        for truth in (theta, theta.flip(0))
    ]
    for name in ("lower", "upper"):
        assert torch.equal(getattr(found[0].box, name), getattr(found[1].box, name))
    assert not torch.equal(found[0].statistic, found[1].statistic)


def test_impossible_events() -> None:
    """Contexts at which an event is impossible are left alone."""
    space = ParameterSpace([Parameter("t", 0.5, 4.0, "interest", (1.0, 3.0))], ["t"])
    torch.manual_seed(2)
    x = torch.rand(5, 50, 1).double() * 2.0

    def uniform(x: Tensor, c: Tensor) -> Tensor:  # steps of 0.01, so that no end is at an event
        inside = x[:, 0] <= c[:, 0]
        return torch.where(inside, -c[:, 0].log(), -torch.inf)

    likelihood = EventLikelihood(Pairs(uniform), x, space, ones)
    truth = space.to_unit(torch.full((5, 1), 2.0).double())
    found = profile(likelihood, [0], truth, torch.tensor(WHOLE).double())
    largest = space.to_unit(x.amax(1))
    assert bool((found.whole.maximum.unit[0] >= largest).all())
    assert bool(found.whole.maximum.value.isfinite().all())


def test_bad_log_ratios() -> None:
    """NaN is refused with the parameters at which it occurred."""
    space = ParameterSpace(
        [Parameter(name, 0.0, 1.0, "interest", (0.2, 0.8)) for name in "ab"], ["a", "b"]
    )
    surrogate = Pairs(lambda x, c: -(x[:, 0] - c[:, 0]).square() - (c[:, 1] - 0.9).sqrt())
    likelihood = EventLikelihood(surrogate, torch.rand(2, 10, 1).double(), space, ones)
    whole = torch.tensor(WHOLE).double().expand(2, 2)
    with pytest.raises(NonFiniteError, match=r"NaN or \+inf for .* first at a = 0.5, b = 0.5"):
        profile(likelihood, [0], torch.full((2, 2), 0.5).double(), whole)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda theta: -torch.ones_like(theta[..., :1]), "negative or NaN at a = 0.5, b = 0.5"),
        (lambda theta: theta[..., :1] * torch.nan, "negative or NaN at a = 0.5, b = 0.5"),
        (lambda theta: theta.detach().numpy(), "weights returned ndarray for parameters"),
        (lambda theta: torch.ones(3), r"weights returned \(3,\) for parameters"),
    ],
)
def test_bad_weights(weights: Callable[[Tensor], Any], message: str) -> None:
    """Weights that are none are refused where they are."""
    space = ParameterSpace(
        [Parameter(name, 0.0, 1.0, "interest", (0.2, 0.8)) for name in "ab"], ["a", "b"]
    )
    surrogate = Pairs(lambda x, c: -(x[:, 0] - c.sum(-1)).square())
    likelihood = EventLikelihood(surrogate, torch.rand(2, 10, 1).double(), space, weights)
    with pytest.raises(PluginError, match=message):
        likelihood(torch.arange(2), torch.full((1, 2, 2), 0.5).double())


@pytest.mark.parametrize("came", [None, torch.zeros(1, 20), torch.zeros(1, 1, 3)])
def test_bad_shapes(came: Any) -> None:
    """Log-ratios of another shape are refused with the contract."""
    space = ParameterSpace([Parameter("a", 0.0, 1.0, "interest", (0.2, 0.8))], ["a"])

    class Wrong:
        def log_ratio_paired(self, x: Tensor, context: Tensor) -> Any:
            return came

    likelihood = EventLikelihood(Wrong(), torch.rand(2, 10, 1).double(), space, ones)
    with pytest.raises(PluginError, match=r"log_ratio_paired returned .* = \(1, components, 20\)"):
        likelihood.values(torch.arange(2), torch.full((1, 2, 1), 0.5).double())


def test_wrong_scores_are_flagged() -> None:
    """An interval holds its estimate even where gradients have the wrong sign."""
    task = linear_gaussian(3)
    x, theta = datasets(task, 4)
    exact = ExactLikelihood(task)

    class Flipped:
        def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
            with torch.no_grad():
                value = exact.log_ratio_paired(x, context)
            wrong = exact.log_ratio_paired(x, context)
            return value - (wrong - wrong.detach())

    likelihood = EventLikelihood(Flipped(), x, task.space, task.weights)
    found = profile(likelihood, [0], task.space.to_unit(theta), task.space.box)
    assert bool((found.box.lower <= found.box.upper).all())
    accurate = (found.whole.error.flatten(2).amax(-1) <= SLACK) & ~found.whole.missed
    assert not bool((accurate & (found.whole.maximum.distance <= SLACK)).any())


def test_parameter_without_effect() -> None:
    """A parameter on which nothing depends is named."""
    space = ParameterSpace(
        [Parameter(name, 0.0, 1.0, "interest", (0.2, 0.8)) for name in "ab"], ["a", "b"]
    )
    surrogate = Pairs(lambda x, c: -(x[:, 0] - c[:, 0]).square() + 0 * c[:, 1])
    likelihood = EventLikelihood(surrogate, torch.rand(2, 10, 1).double(), space, ones)
    whole = torch.tensor(WHOLE).double().expand(2, 2)
    with pytest.raises(PluginError, match="does not depend on parameter 'b'"):
        profile(likelihood, [0], torch.full((2, 2), 0.5).double(), whole)


def test_update_satisfies_the_secant_equation() -> None:
    """Updated curvatures map the step to the change of the gradient, and stay positive."""
    torch.manual_seed(0)
    root = torch.randn(20, 4, 4).double()
    curvature = root @ root.mT + torch.eye(4)
    step = torch.randn(20, 4).double()
    change = step + 0.1 * torch.randn(20, 4).double()
    new = update(curvature, step, change)
    kept = (step * change).sum(-1) >= 0.2 * (step * (curvature @ step[..., None])[..., 0]).sum(-1)
    assert int(kept.sum()) > 3
    torch.testing.assert_close((new @ step[..., None])[..., 0][kept], change[kept])
    assert float(torch.linalg.eigvalsh(update(curvature, step, -change)).min()) > 0


def test_newton_leaves_pressed_parameters() -> None:
    """Steps solve the equations of the free parameters alone."""
    curvature = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double()
    score, free = torch.tensor([1.0, -1.0]).double(), torch.tensor([True, False])
    step, distance = newton(curvature, score, free, torch.zeros(()).double())
    assert step.tolist() == [0.5, 0.0]
    assert math.isclose(float(distance), math.sqrt(0.5))
    assert restricted(curvature, free).tolist() == [[2.0, 0.0], [0.0, 1.0]]
