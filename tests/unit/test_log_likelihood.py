"""Log-likelihoods of sets of events, against direct sums; impossible events and NaN."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from surfaces import REGISTRY, Array, alone, bootstraps, exact_log_ratio, square
from torch import Tensor

from bench.contracts import Parameter, ParameterSpace
from bench.errors import NonFiniteError
from bench.inference.intervals import summarise
from bench.inference.lattice import Lattice, refine
from bench.inference.likelihood import MixtureLikelihood
from bench.stages.datasets import events as simulate_events


def waves(components: int, dimension: int, seed: int) -> Callable[[Array, Array], Array]:
    """Return a smooth, asymmetric log-ratio (K, n, J) of events in two features, in numpy."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(components, 2))
    b = rng.normal(size=(components, 2, dimension))
    c = rng.normal(size=(components, dimension))

    def log_ratio(x: Array, context: Array) -> Array:
        linear = np.einsum("nf,kf->kn", x, a)[..., None]
        mixed = np.einsum("nf,kfd,jd->knj", np.tanh(x), b, context)
        result: Array = 3 + linear + mixed + np.sin(context @ c.T).T[:, None]
        return result

    return log_ratio


def mixture(components: int) -> Callable[[Tensor], Tensor]:
    def weights(theta: Tensor) -> Tensor:
        powers = torch.stack(
            [(theta[..., 0] + 0.1 * theta[..., 1]) ** k for k in range(components)]
        )
        return (powers / powers.sum(0)).movedim(0, -1)

    return weights


@pytest.mark.parametrize(
    ("components", "context"),
    [(2, ("b",)), (2, ("a",)), (3, ("b",)), (1, ("a", "b")), (1, ("b", "a")), (2, ("a", "b")),
     (1, ("b",))],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_likelihood_is_the_sum_over_events(
    components: int, context: tuple[str, ...], dtype: torch.dtype
) -> None:
    """The reference is counts · log Σ_k w_k p_k in float64, over several chunks and two members."""
    rng = np.random.default_rng(0)
    n, datasets = 700, 5
    x = rng.normal(size=(n, 2))
    functions = [waves(components, len(context), seed) for seed in (1, 2)]
    space = square(context)
    weights = mixture(components)
    counts = bootstraps(n, 400, datasets, 3)
    truth = torch.tensor([0.41, 0.57], dtype=torch.float64)

    def log_ratio(events: Tensor, eta: Tensor) -> Tensor:
        out = np.stack([f(events.double().numpy(), eta.double().numpy()) for f in functions])
        return torch.from_numpy(out).to(dtype)

    axes = (
        torch.linspace(0, 1, 41, dtype=torch.float64),
        torch.linspace(0.2, 0.8, 67, dtype=torch.float64),
    )
    events = MixtureLikelihood(log_ratio, torch.tensor(x), counts, space, weights, truth, members=2)
    values, at_truth = events.log_likelihood(axes)
    assert values.shape == (2 * datasets, 41, 67)
    assert at_truth.shape == (2 * datasets,)
    assert values.dtype == at_truth.dtype == torch.float64

    def direct(function: Callable[[Array, Array], Array], theta: Array) -> Array:
        eta = theta[:, ["ab".index(name) for name in context]]
        mixed = weights(torch.tensor(theta)).numpy().T[:, None] * np.exp(function(x, eta))
        result: Array = counts.double().numpy() @ np.log(mixed.sum(0))
        return result

    theta = torch.cartesian_prod(*axes).numpy()
    for member, function in enumerate(functions):
        expected = direct(function, theta) - direct(function, truth.numpy()[None])
        rows = slice(member * datasets, (member + 1) * datasets)
        got = (values[rows] - at_truth[rows, None, None]).flatten(1).numpy()
        # float32 logarithms and contexts have an error of about 1e-7 per event.
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=5e-4)


@pytest.mark.parametrize("name", ["gaussians-far", "gaussians-near", "asymmetric", "higgs"])
# Sets of 9000 events are only used for overlaps, on which 0.01 nats have no effect.
@pytest.mark.parametrize(("n", "most"), [(1000, 5e-4), (9000, 1e-2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_negligible_around_the_maximum(
    name: str, n: int, most: float, dtype: torch.dtype
) -> None:
    """Within three half-widths, float32 logarithms cause errors of about 1e-7 per event."""
    task = REGISTRY.task(name)
    truth = task.points[4]
    rng = torch.Generator().manual_seed(0)
    x = simulate_events(task, truth, n, rng, stratified=False)
    exact = exact_log_ratio(task)

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        return exact(x, context).to(dtype)

    events = MixtureLikelihood(log_ratio, x, torch.ones(1, n), task.space, task.weights, truth)
    lattice = refine(events, task.resolution)
    mu = lattice.axes[0] * 0.7
    z = task.space.from_unit(torch.stack([lattice.axes[1]] * 2, -1))[:, 1:]
    contexts = torch.cat([z, truth[1:, None]]).float()
    signal, background = log_ratio(x, contexts)[0].double().exp()  # (n, J + 1)
    direct = torch.stack([((m * signal + background) / (1 + m)).log().sum(0) for m in mu])
    mixed = (truth[0] * signal[:, -1] + background[:, -1]) / (1 + truth[0])
    expected = direct[:, :-1] - mixed.log().sum()
    got = lattice.values[0] - lattice.at_truth
    near = expected > expected.max() - 4.5
    assert int(near.sum()) > 100
    error = float((got - expected)[near].abs().max())
    assert error < most


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_single_nan_is_refused(bad: float) -> None:
    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        out = torch.zeros(1, 2, len(x), len(context))
        out[:, 1] = torch.where(x[:, 0, None] == 3.0, bad, 0.0)
        return out

    x = torch.arange(8.0)[:, None].expand(8, 2)
    axis = torch.linspace(0, 1, 5, dtype=torch.float64)
    truth = torch.tensor([0.5, 0.5], dtype=torch.float64)
    events = MixtureLikelihood(log_ratio, x, torch.zeros(1, 8), square(("b",)), mixture(2), truth)
    with pytest.raises(NonFiniteError, match=r"(5|6) of"):
        events.log_likelihood((axis, axis))


def test_impossible_events_are_never_nan() -> None:
    """An event may be impossible under one component, at some contexts, or everywhere."""

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        out = -0.5 * (x[:, 0, None] / 9 - context.T) ** 2 * torch.tensor([1.0, 2.0])[:, None, None]
        out[0, 3] = -torch.inf  # impossible under the first component
        out[:, 5, context[:, 0] > 0.6] = -torch.inf  # impossible, but not at the truth
        out[:, 6, context[:, 0] < 0.55] = -torch.inf  # impossible at the truth too
        out[:, 7] = -torch.inf
        return out[None]

    x = torch.arange(8.0)[:, None].expand(8, 2)
    counts = torch.ones(5, 8)
    counts[0, [3, 5, 6, 7]] = 0
    counts[1, [5, 6, 7]] = 0
    counts[2, [6, 7]] = 0
    counts[3, 7] = 0
    axis = torch.linspace(0, 1, 21, dtype=torch.float64)
    truth = torch.tensor([0.5, 0.5], dtype=torch.float64)
    arguments = (square(("b",)), mixture(2), truth)
    events = MixtureLikelihood(log_ratio, x, counts, *arguments)
    values, at_truth = events.log_likelihood((axis, axis))
    assert not values.isnan().any()
    assert not at_truth.isnan().any()
    # Impossible events that are not in a dataset do not change its likelihood.
    fine = torch.tensor([0, 1, 2, 4])
    rest = MixtureLikelihood(
        lambda x, c: log_ratio(torch.arange(8.0)[:, None], c)[:, :, fine],
        x[fine],
        torch.ones(1, 4),
        *arguments,
    )
    expected, expected_truth = rest.log_likelihood((axis, axis))
    torch.testing.assert_close(values[:1], expected, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(at_truth[:1], expected_truth, rtol=1e-6, atol=1e-5)
    # The first component's weight is 1 only at θ = (0, 0).
    possible = values[1] > -1e3
    assert possible[1:, 1:].all()
    assert (values[2][:, axis <= 0.6] > -1e3).all()
    assert (values[2][:, axis > 0.6001] < -1e20).all()
    assert (values[3, :, axis < 0.5499] < -1e20).all()
    assert at_truth[3] < -1e20
    curves, _ = summarise(Lattice((axis, axis), values, at_truth, False), square(("b",)))
    for name, array in curves.arrays().items():
        assert not np.isnan(array).any(), name


def test_lattices_of_more_than_two_parameters_are_refused() -> None:
    three = [Parameter(name, 0.0, 1.0, "interest", (0.0, 1.0)) for name in "abc"]
    space = ParameterSpace(three, context=["a"])
    zeros = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="one or two parameters, not 3"):
        MixtureLikelihood(lambda x, c: x, zeros, zeros, space, alone, zeros[0])
