"""Ratios of lre: corrected for class sizes, and normalised per member in any number of contexts."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from seeded import fit_context, seeds
from torch import Tensor

from bench.contracts import Features, FitLog, HasLogProb, Parameter, ParameterSpace, Transform
from bench.nn.encoders import SeriesEncoder, VariogramEncoder
from bench.nn.normaliser import Normaliser, chebyshev, degree_of, number_of_contexts
from bench.nn.ratio import RatioNetwork
from bench.nn.ratio_method import Classifier
from bench.registry.registry import Registry
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store
from bench.testing import asymmetric

REGISTRY = Registry([asymmetric.__file__])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "normalise"), [(0.2, False), (0.75, False), (0.0, False), (0.2, True), (0.0, True)]
)
def test_ratios_are_corrected_for_the_class_sizes(
    share: float, normalise: bool, tmp_path: Path
) -> None:
    """With N_ref ≠ N_k, log r̂ must not contain log(N_k / N_ref) = log 2, −log 6 or −log 2.

    With a share of 0 the reference is the evidence: the components' own simulations with newly
    drawn contexts.

    On the asymmetric task, errors of the components differ. The mean of log r̂ − log r over the
    component, and log E_ref[r̂], are 0 for the exact ratio.
    """
    task = REGISTRY.task("asymmetric")
    method = REGISTRY.method("lre")
    config = method.Config(
        hidden=(32, 32),
        reference="fixed" if share else None,
        reference_share=share,
        normalise=normalise,
        training={"epochs": 2, "steps": 700, "batch_size": 512, "learning_rate": 5e-3},
    )
    store = Store(tmp_path)
    bank = SimulationBank(task, store, 60_000, [0])
    surrogate = method(config).fit(fit_context(task, bank, features_of(task, store)))
    assert bank.spent == 60_000

    rng = torch.Generator().manual_seed(9)
    parts = list(task.components("test").values())
    n = 1500
    contexts = torch.tensor([[0.8], [1.0], [1.25]])
    nodes = task.nominal[None] if share else task.space.draw_context(500, rng)
    nominal = nodes[torch.randint(len(nodes), (n,), generator=rng)]
    label = torch.randint(2, (n, 1), generator=rng)
    reference_x = torch.where(
        label == 0, parts[0].simulate(nominal, rng), parts[1].simulate(nominal, rng)
    )

    def log_reference(x: Tensor) -> Tensor:
        both = torch.cat([p.log_prob(x[:, None], nodes[None]) for p in parts], 1)
        return both.logsumexp(1) - math.log(2 * len(nodes))

    for k, part in enumerate(parts):
        assert isinstance(part, HasLogProb)
        gaps, means = [], []
        for j, context in enumerate(contexts):
            x = part.simulate(context.expand(n, -1), rng)
            learned = surrogate.log_ratio(x, contexts)[0, k, :, j].double()
            gaps.append((learned - part.log_prob(x, context) + log_reference(x)).mean())
            over_reference = surrogate.log_ratio(reference_x, contexts)[0, k, :, j].double()
            means.append(over_reference.exp().mean().log())
        # A missing or inverted correction would be 0.7 or more.
        assert float(torch.stack(gaps).mean()) == pytest.approx(0, abs=0.15)
        assert float(torch.stack(means).mean()) == pytest.approx(0, abs=0.15)
        if normalise:  # up to the noise of the mean over 1500 events, at every context
            assert torch.stack(means).tolist() == pytest.approx([0] * 3, abs=0.1)


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_every_member_is_normalised_over_its_own_reference(share: float, tmp_path: Path) -> None:
    """Each member has mean 1 to rounding over its own reference only, also when restored."""
    task = REGISTRY.task("asymmetric")
    found = REGISTRY.method("lre")
    method = found(
        found.Config(
            hidden=(8,), reference_share=share, training={"epochs": 1, "steps": 0, "batch_size": 64}
        )
    )
    members = [0, 1]
    store = Store(tmp_path)
    features = features_of(task, store)
    bank = SimulationBank(task, store, 4000, members)
    surrogate = method.fit(fit_context(task, bank, features))
    restored = method.restore(task, features, surrogate.state())
    between = torch.tensor([[0.83], [1.02], [1.31]])  # contexts between the nodes
    reference = method.reference_events(task, bank)
    for member in members:
        log_ratio = surrogate.log_ratio(reference[member], between)
        assert torch.equal(restored.log_ratio(reference[member], between), log_ratio)
        means = log_ratio.double().exp().mean(2)  # (members, components, contexts)
        assert means[member].flatten().tolist() == pytest.approx([1.0] * 6, abs=1e-4)
        assert float((means[1 - member] - 1).abs().max()) > 1e-3  # not over the other's reference


def test_a_classifier_in_two_contexts() -> None:
    """Ratios are normalised, or by a constant that is independent of the number of contexts."""
    space = ParameterSpace(
        [Parameter(name, -1, 1, "interest", (-0.5, 0.5)) for name in "ab"], ["a", "b"]
    )
    features = Features(space, Transform(), torch.zeros(2), torch.ones(2))
    net = RatioNetwork.create(None, 2, 2, (8,), "silu", seeds(range(2)))
    x, context = torch.randn(5, 2), 2 * torch.rand(3, 2) - 1
    for coefficients in (torch.zeros(2, 81), torch.zeros(2, 1)):
        normaliser = Normaliser(coefficients.double(), 2)
        classifier = Classifier(net, features, normaliser, FitLog(), (2,))
        assert classifier.log_ratio(x, context).shape == (2, 5, 3)


CPU = torch.device("cpu")


@pytest.mark.parametrize("total", [False, True])
@pytest.mark.parametrize(
    ("dimensions", "degree"), [(d, g) for d in (1, 2, 3) for g in (0, 1, 4, 16) if g**d <= 300]
)
def test_chebyshev_polynomials_are_cosines_of_angles(
    dimensions: int, total: bool, degree: int
) -> None:
    rng = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(50, dimensions, generator=rng, dtype=torch.float64) - 1
    x = torch.cat([x, x.sign()])
    every = product(range(degree + 1), repeat=dimensions)
    powers = torch.tensor([p for p in every if not total or sum(p) <= degree])
    expected = (x.acos()[:, None] * powers).cos().prod(-1)
    torch.testing.assert_close(chebyshev(x, degree, total=total), expected, rtol=0, atol=1e-13)
    stacked = chebyshev(x.view(4, 25, dimensions), degree, total=total)
    assert torch.equal(stacked.flatten(0, 1), chebyshev(x, degree, total=total))


def test_chebyshev_polynomials_have_slopes_at_the_bounds() -> None:
    """The slope of the n-th is n² at 1 and (−1)ⁿ⁺¹ n² at −1, and there within rounding too."""
    for end in (1.0, 1.0 + 1e-7, -1.0, -1.0 - 1e-7):
        x = torch.tensor([[end]], dtype=torch.float64, requires_grad=True)
        for n, value in enumerate(chebyshev(x, 16)[0]):
            slope = float(torch.autograd.grad(value, x, retain_graph=True)[0])
            sign = 1.0 if end > 0 else (-1.0) ** (n + 1)
            assert slope == pytest.approx(sign * n**2, rel=1e-4)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5, 6, 7, 8, 20])
def test_the_mean_ratio_of_normal_densities(dimensions: int) -> None:
    """The ratio of N(η·a, 1) to N(0, 1) has mean 1; with a factor, the factor.

    Its mean over quadrature nodes of N(0, 1) is known. The factor is a polynomial of the degree
    that the normaliser has, or a smooth function with a known error.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    x, log_weight = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum()).log()
    rng = torch.Generator().manual_seed(0)
    a = torch.rand(dimensions, generator=rng, dtype=torch.float64) / dimensions**0.5
    b = torch.randn(dimensions, generator=rng, dtype=torch.float64) / dimensions**0.5
    degree = min(degree_of(dimensions), 4)

    def polynomial(eta: Tensor) -> Tensor:
        return (0.3 + eta @ b) ** degree

    def smooth(eta: Tensor) -> Tensor:
        return ((eta @ b).exp() + 1).log()

    at = 2 * torch.rand(2000, dimensions, generator=rng, dtype=torch.float64) - 1
    known: list[tuple[Callable[[Tensor], Tensor], float]] = [
        (polynomial, 1e-6),
        (smooth, 1e-3 if dimensions <= 6 else 1e-2),
    ]
    for factor, error in known:

        def log_ratio(eta: Tensor, factor: Callable[[Tensor], Tensor] = factor) -> Tensor:
            shift = eta @ a
            ratio = x * shift - 0.5 * shift**2 + factor(eta)
            return (ratio + log_weight + math.log(len(x)))[None]

        normaliser = Normaliser.estimate(log_ratio, dimensions, CPU)
        off = normaliser(at)[0] - factor(at)
        assert float(off.square().mean().sqrt()) < error


def test_the_mean_ratio_without_a_context() -> None:
    """It is one number; contexts have no columns."""
    ratio = torch.tensor([[1.0, 2.0, 6.0], [0.5, 0.5, 0.5]], dtype=torch.float64)
    normaliser = Normaliser.estimate(lambda eta: ratio.log(), 0, CPU)
    assert normaliser(torch.zeros(2, 0)).exp().tolist() == [
        pytest.approx([3.0, 3.0]),
        pytest.approx([0.5, 0.5]),
    ]
    assert (degree_of(0), number_of_contexts(0)) == (0, 1)
    assert chebyshev(torch.zeros(2, 0), 4).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("shared", [False, True])
def test_runs_of_equal_contexts_are_evaluated_once(shared: bool) -> None:
    """Values and gradients are those of every context by itself, with runs of several lengths."""
    rng = torch.Generator().manual_seed(0)
    normaliser = Normaliser(torch.randn(2, 286, generator=rng).double(), 3)
    distinct = 2 * torch.rand(1 if shared else 2, 4, 3, generator=rng) - 1
    contexts = distinct.double().repeat_interleave(torch.tensor([1, 5, 2, 3]), 1)
    found = []
    for function in (normaliser, normaliser.of_runs):
        leaf = (contexts[0] if shared else contexts).clone().requires_grad_()
        values = function(leaf)
        pull = torch.arange(values.numel()).view_as(values).double()
        found.append((values.detach(), torch.autograd.grad((values * pull).sum(), leaf)[0]))
    for own, alone in zip(*found, strict=True):
        torch.testing.assert_close(own, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_mean_ratio_between_the_nodes(dimensions: int) -> None:
    """Ratios are of a normal density with location and slope in η."""
    x = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def log_ratio(eta: Tensor) -> Tensor:
        return 0.5 * x * eta[0] - 0.1 * x**2 * (eta[-1] + 0.3 * eta[0] ** 2)

    normaliser = Normaliser.estimate(log_ratio, dimensions, CPU)
    assert normaliser.coefficients.shape == (2, number_of_contexts(dimensions))
    at = 2 * torch.rand(50, dimensions, generator=torch.Generator().manual_seed(1)) - 1
    expected = [logsumexp(log_ratio(eta.double()).numpy(), axis=1, b=1 / 4000) for eta in at]
    for row, value in zip(normaliser(at).T.tolist(), expected, strict=True):
        assert row == pytest.approx(value.tolist(), abs=1e-4)


def test_a_constant_is_one_coefficient() -> None:
    """An unnormalised ratio is corrected by the class sizes alone."""
    constant = Normaliser(torch.tensor([[0.5], [2.0]], dtype=torch.float64), 2)
    assert constant(torch.zeros(3, 2)).tolist() == [[0.5] * 3, [2.0] * 3]


def test_the_variogram_belongs_to_the_identity_of_series_and_fields_only() -> None:
    """Fits without it have the identity that they had before there was a choice."""
    method = REGISTRY.method("lre")
    found = {
        (task, variogram): method(method.Config(variogram=variogram)).settings(REGISTRY.task(task))
        for task in ("gaussians-near", "sis", "gp")
        for variogram in (True, False)
    }
    assert found["gaussians-near", True] == found["gaussians-near", False]
    assert "variogram" not in found["gaussians-near", True]
    for task in ("sis", "gp"):
        assert found[task, True] == found[task, False] | {"variogram": True}
    sis = REGISTRY.task("sis")
    assert method(method.Config()).encoder(sis) == VariogramEncoder.of(sis)
    assert method(method.Config(variogram=False)).encoder(sis) == SeriesEncoder((40,))
