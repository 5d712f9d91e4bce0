"""Unit coordinates and features: round trips, bounds, Jacobians, the chain rule."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from bench.contracts import (
    Features,
    HasLogProb,
    HasScore,
    Log,
    Parameter,
    ParameterSpace,
    Task,
    Transform,
)
from bench.errors import NotApplicable
from bench.nn.coordinates import Coordinates
from bench.registry.registry import Registry
from bench.stages.simulate import features_of
from bench.storage.store import Store
from bench.testing import asymmetric

REGISTRY = Registry([asymmetric.__file__])
TASKS = ["gaussians-far", "gaussians-near", "asymmetric", "higgs"]

units = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@st.composite
def parameters(draw: st.DrawFn, scale: Literal["linear", "log"]) -> Parameter:
    if scale == "log":
        low = 10 ** draw(st.floats(-6, 4))
        high = low * draw(st.floats(1.01, 1e6))
    else:
        low = draw(st.floats(-1e4, 1e4))
        high = low + draw(st.floats(1e-3, 1e4))
    return Parameter("p", low, high, "interest", (low, high), scale)


def space_of(*given: Parameter) -> ParameterSpace:
    return ParameterSpace(
        [replace(p, name=f"p{i}") for i, p in enumerate(given)],
        context=["p0"],
    )


def condition(p: Parameter) -> float:
    """Return the factor by which unit coordinates amplify rounding errors of θ."""
    if p.scale == "log":
        return 1 / math.log(p.high / p.low)
    return max(abs(p.low), abs(p.high)) / (p.high - p.low)


@settings(deadline=None)
@given(linear=parameters("linear"), log=parameters("log"), unit=units)
def test_unit_coordinates_round_trip(linear: Parameter, log: Parameter, unit: list[float]) -> None:
    space = space_of(linear, log)
    there = torch.tensor(unit, dtype=torch.float64)[:, None].expand(-1, 2)
    theta = space.from_unit(there)
    back = space.to_unit(theta)
    low, high = (
        torch.tensor([getattr(p, end) for p in space.parameters], dtype=torch.float64)
        for end in ("low", "high")
    )
    size = torch.maximum(low.abs(), high.abs())
    slack = torch.tensor([4 + 8 * condition(p) for p in space.parameters], dtype=torch.float64)
    assert ((back - there).abs() <= 1e-15 * slack).all()
    assert (theta >= low).all()
    assert (theta <= high + 1e-14 * size).all()
    # On a log scale, rounding of the unit coordinate grows with the length of the range.
    growth = torch.tensor(
        [math.log(p.high / p.low) if p.scale == "log" else 1.0 for p in space.parameters]
    )
    assert ((space.from_unit(back) - theta).abs() <= 1e-14 * (1 + growth) * size).all()


@settings(deadline=None)
@given(linear=parameters("linear"), log=parameters("log"))
def test_bounds_are_exact_and_the_map_is_monotone(linear: Parameter, log: Parameter) -> None:
    space = space_of(linear, log)
    bounds = torch.tensor([[linear.low, log.low], [linear.high, log.high]], dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        ends = space.from_unit(torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=dtype))
        assert torch.equal(ends, bounds.to(dtype))
    inside = space.from_unit(torch.linspace(0, 1, 50, dtype=torch.float64)[:, None].expand(-1, 2))
    assert (inside.diff(dim=0) > 0).all()
    expected = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    assert torch.equal(space.to_unit(bounds), expected)


def test_middle_of_each_scale() -> None:
    space = REGISTRY.task("asymmetric").space
    middle = space.from_unit(torch.full((1, 2), 0.5, dtype=torch.float64))
    torch.testing.assert_close(middle, torch.tensor([[0.35, 1.0]], dtype=torch.float64))


def test_draws_are_uniform_on_each_scale() -> None:
    task = REGISTRY.task("asymmetric")
    rng = torch.Generator().manual_seed(0)
    context = task.space.draw_context(4000, rng)
    assert context.shape == (4000, 1)
    assert context.dtype == torch.float32
    uniform = np.log(context[:, 0].double().numpy() / 0.5) / np.log(4)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    theta = task.draw_parameters(4000, rng)
    assert theta.dtype == torch.float64
    mu = (theta[:, 0].numpy() - 0.08) / (0.35 - 0.08)
    z = np.log(theta[:, 1].numpy() / 0.7) / np.log(2)
    assert stats.kstest(mu, "uniform").pvalue > 1e-3
    assert stats.kstest(z, "uniform").pvalue > 1e-3
    assert abs(float(stats.spearmanr(mu, z).statistic)) < 4 / math.sqrt(4000)


def test_context_is_picked_by_name_and_in_the_order_given() -> None:
    a, b, c = (Parameter(n, 0.0, 1.0, "interest", (0.0, 1.0)) for n in "abc")
    space = ParameterSpace([a, b, c], context=["c", "a"])
    assert space.context_index == (2, 0)
    assert space.context == (c, a)
    assert space.context_of(torch.tensor([[1.0, 2.0, 3.0]])).tolist() == [[3.0, 1.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inner": (-0.1, 0.5)}, "inner box"),
        ({"inner": (0.2, 1.5)}, "inner box"),
        ({"inner": (0.5, 0.5)}, "inner box"),
        ({"inner": (0.2, 0.5), "scale": "log"}, "log scale"),
    ],
)
def test_impossible_parameters_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Parameter("a", 0.0, 1.0, "interest", **arguments)


def test_impossible_spaces_are_refused() -> None:
    a = Parameter("a", 0.0, 1.0, "interest", (0.0, 1.0))
    with pytest.raises(ValueError, match="distinct"):
        ParameterSpace([a, a], context=["a"])
    with pytest.raises(ValueError, match="context names"):
        ParameterSpace([a], context=["b"])


def evidence(task: Task, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return simulations of the evidence reference and their contexts."""
    rng = torch.Generator().manual_seed(seed)
    context = task.space.draw_context(n, rng)
    label = torch.randint(2, (n, 1), generator=rng)
    signal, background = (c.simulate(context, rng) for c in task.components("train").values())
    return torch.where(label == 0, signal, background), context


@pytest.mark.parametrize("name", TASKS)
def test_features_are_standardised(name: str, tmp_path: Path) -> None:
    task = REGISTRY.task(name)
    features = features_of(task, Store(tmp_path))
    x, _ = evidence(task, 20_000)
    y = features(x)
    assert y.dtype == torch.float32
    assert y.shape == x.shape
    # 10^4 simulations determine the standardisation, and 2·10^4 test it.
    assert y.mean(0).abs().max() < 0.05
    assert (y.std(0) - 1).abs().max() < 0.05
    mean = (features.mean + features.scale * y.double()).mean(0)
    torch.testing.assert_close(mean, task.transform(x.double()).mean(0), rtol=0, atol=1e-6)


def test_a_feature_without_spread_is_left_unscaled() -> None:
    task = REGISTRY.task("gaussians-far")
    x = torch.stack([torch.linspace(0, 1, 11), torch.full((11,), 3.0)], -1)
    features = Features.estimate(task, x)
    assert float(features.scale[1]) == 1
    assert (features(x)[:, 1] == 0).all()


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**20),
    shape=st.sampled_from([(), (2,), (3, 4)]),
    log=st.booleans(),
)
def test_log_jacobian_against_autograd(seed: int, shape: tuple[int, ...], log: bool) -> None:
    rng = torch.Generator().manual_seed(seed)
    space = REGISTRY.task("asymmetric").space
    mean = torch.randn(shape, generator=rng, dtype=torch.float64)
    scale = torch.rand(shape, generator=rng, dtype=torch.float64) + 0.1
    transform = Log() if log else REGISTRY.task("gaussians-far").transform
    features = Features(space, transform, mean, scale)
    x = torch.rand(5, *shape, generator=rng, dtype=torch.float64) + 0.05
    got = features.log_jacobian(x)
    assert got.shape == (5,)
    assert got.dtype == torch.float64
    for i in range(5):
        matrix = torch.autograd.functional.jacobian(features, x[i])
        _, expected = torch.linalg.slogdet(matrix.reshape(max(x[i].numel(), 1), -1).double())
        assert float(got[i]) == pytest.approx(float(expected), abs=1e-5)


def test_log_jacobian_makes_a_density_of_features_one_of_observations(tmp_path: Path) -> None:
    """For the standard Gaussian q, ∫ q(y(x)) |dy/dx| dx = 1 over the observations."""
    task = REGISTRY.task("asymmetric")
    features = features_of(task, Store(tmp_path))
    first = torch.linspace(-12, 12, 301, dtype=torch.float64)
    second = torch.linspace(-12, 12, 4001, dtype=torch.float64).exp()  # log-spaced
    x = torch.cartesian_prod(first, second)
    y = features(x).double()
    density = (-0.5 * y.square().sum(-1) - math.log(2 * math.pi)) + features.log_jacobian(x)
    inner = torch.trapezoid(density.exp().view(301, 4001), second)
    assert float(torch.trapezoid(inner, first)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", TASKS)
def test_contexts_are_scaled_to_minus_one_and_one(name: str) -> None:
    task = REGISTRY.task(name)
    features = Features.estimate(task, evidence(task, 100)[0])
    unit = torch.tensor([[0.5, 0.0], [0.5, 0.25], [0.5, 0.5], [0.5, 1.0]], dtype=torch.float64)
    context = task.space.context_of(task.space.from_unit(unit))
    scaled = features.context(context)
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(scaled, torch.tensor([[-1.0], [-0.5], [0.0], [1.0]]))
    nested = features.context(context.view(2, 2, 1))
    torch.testing.assert_close(nested.view(4, 1), scaled)


@pytest.mark.parametrize("name", TASKS)
def test_scores_are_scaled_by_the_chain_rule(name: str) -> None:
    """The scaled score is the derivative of log p with respect to the scaled context."""
    task = REGISTRY.task(name)
    x, context = evidence(task, 100, 1)
    features = Features.estimate(task, x)
    unit = task.space.to_unit(torch.cat([torch.full_like(context, 0.1), context], -1).double())
    unit = 0.05 + 0.9 * unit  # away from the bounds, so that differences are possible
    context = task.space.context_of(task.space.from_unit(unit))
    step = 1e-5
    for component in task.components("test").values():
        assert isinstance(component, HasLogProb)
        assert isinstance(component, HasScore)
        got = features.score(component.score(x, context), context)
        assert got.shape == context.shape
        values = []
        for sign in (-1, 1):
            moved = unit + torch.tensor([0.0, sign * 0.5 * step], dtype=torch.float64)
            values.append(component.log_prob(x, task.space.context_of(task.space.from_unit(moved))))
        slope = (values[1] - values[0]) / (2 * step)
        torch.testing.assert_close(got[:, 0].double(), slope, rtol=1e-5, atol=1e-5)


def test_slopes_of_unit_coordinates() -> None:
    """They are those of finite differences, one-sided at the bounds."""
    space = ParameterSpace(
        [
            Parameter("mu", -0.5, 2.0, "interest", (0.0, 1.0)),
            Parameter("z", 0.01, 100.0, "nuisance", (0.1, 10.0), scale="log"),
        ],
        [],
    )
    unit = torch.tensor([[0.0, 1.0], [0.3, 0.6], [1.0, 0.0]], dtype=torch.float64)
    inner, h = unit.clamp(1e-6, 1 - 1e-6), 1e-6
    expected = (space.from_unit(inner + h) - space.from_unit(inner - h)) / (2 * h)
    torch.testing.assert_close(space.slope(unit), expected, rtol=2e-5, atol=0)
    assert space.slope(unit.float()).dtype == torch.float32


def test_contexts_are_differentiable_at_the_bounds() -> None:
    """The scaled context moves by 2 over the range, on the parameter's own scale."""
    space = ParameterSpace(
        [
            Parameter("mu", 0.0, 2.0, "interest", (0.5, 1.0)),
            Parameter("z", 0.01, 100.0, "nuisance", (0.1, 10.0), scale="log"),
        ],
        ["mu", "z"],
    )
    features = Features(space, Transform(), torch.zeros(1), torch.ones(1))
    for dtype in (torch.float32, torch.float64):
        unit = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
        context = space.from_unit(unit).to(dtype).requires_grad_()
        (slope,) = torch.autograd.grad(features.context(context).sum(), context)
        assert slope.dtype == dtype
        torch.testing.assert_close(
            slope.double() * space.slope(unit), torch.full_like(unit, 2.0), rtol=1e-6, atol=0
        )


@pytest.mark.parametrize(
    ("low", "high", "inner", "why"),
    [
        (1.0, 0.0, (0.2, 0.8), r"the bounds \[1.0, 0.0\] must be finite, the lower below"),
        (0.5, 0.5, (0.5, 0.5), "the lower below the upper"),
        (math.nan, 1.0, (0.2, 0.8), r"the bounds \[nan, 1.0\] must be finite"),
        (0.0, math.inf, (0.2, 0.8), "must be finite"),
        (0.0, 1.0, (0.8, 0.2), r"inner box \(0.8, 0.2\) must lie within \[0.0, 1.0\]"),
        (0.0, 1.0, (0.2, math.nan), "inner box"),
    ],
)
def test_bounds_that_cross_are_named(
    low: float, high: float, inner: tuple[float, float], why: str
) -> None:
    with pytest.raises(ValueError, match=f"^parameter 'z': .*{why}"):
        Parameter("z", low, high, "nuisance", inner)


def test_a_context_may_be_empty() -> None:
    empty = torch.zeros(3, 0, dtype=torch.float64)
    space = ParameterSpace([], ())
    assert space.to_unit(empty).shape == space.from_unit(empty).shape == (3, 0)


class Square(Transform):
    """Transform without an inverse."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.square()


@pytest.mark.parametrize("transform", [Transform(), Log(), asymmetric.asymmetric.transform])
def test_features_and_coordinates_have_inverses(transform: Transform) -> None:
    x = 0.1 + torch.rand(2, 5, 2, generator=torch.Generator().manual_seed(0))
    space, y = REGISTRY.task("gaussians-near").space, transform(x.double())
    features = Features(space, transform, y.mean((0, 1)), y.std((0, 1)))
    found = features.inverse(features(x))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, x)
    field = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    for coordinates in (
        Coordinates.estimate("field", (3, 4), field),
        Coordinates("series", (3, 4)),
    ):
        torch.testing.assert_close(coordinates.inverse(coordinates(field)), field)


def test_a_transform_without_an_inverse_refuses() -> None:
    with pytest.raises(NotApplicable, match="Square defines no inverse"):
        Square().inverse(torch.ones(1))
