"""Histogram templates of more than two context parameters, each of which is varied alone."""

from pathlib import Path

import pytest
import torch
from bench.methods.histogram import Histogram, Templates, additive, effects
from bench.tasks.linear_gaussian import linear_gaussian
from seeded import fit_context

from bench.errors import NotApplicable
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.store import Store

TASK = linear_gaussian(3)


def fitted(folder: Path, budget: int) -> Templates:
    method, store = Histogram(Histogram.Config()), Store(folder)
    bank = SimulationBank(TASK, store, budget, [0, 1])
    surrogate = method.fit(fit_context(TASK, bank, features_of(TASK, store)))
    assert bank.spent == budget
    assert isinstance(surrogate, Templates)
    return surrogate


def test_effects_of_parameters_multiply() -> None:
    """The fit to expected counts gives the probabilities between the anchors.

    Logarithms of the probabilities are sums of cubic polynomials of one parameter each.
    """
    rng = torch.Generator().manual_seed(0)
    powers = 0.2 * torch.randn(3, 3, 8, generator=rng, dtype=torch.float64)

    def probability(eta: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of eight bins at contexts (J, 3), (J, 8)."""
        each = torch.stack([eta, eta**2, eta**3], -1)
        return torch.einsum("jdp,dpb->jb", each, powers).softmax(-1)

    draws = Histogram(Histogram.Config()).draws(TASK, 10**6)
    size = torch.tensor([draw.n for draw in draws], dtype=torch.float64)
    anchors = torch.stack([draw.at for draw in draws]).double() / TASK.space.parameters[0].high
    counts = size[:, None] * probability(anchors)
    coefficients = effects(counts[None, None], additive(anchors, 5), 0.05)
    eta = 2 * torch.rand(50, 3, generator=rng, dtype=torch.float64) - 1
    found = (additive(eta, 5) @ coefficients[0, 0]).log_softmax(-1)
    torch.testing.assert_close(found, probability(eta).log(), atol=5e-3, rtol=0)


def test_anchors_differ_from_the_nominal_context_in_one_parameter() -> None:
    method = Histogram(Histogram.Config())
    draws = method.draws(TASK, 10_000)
    assert sum(draw.n for draw in draws) == 10_000
    nominal, *others = draws
    assert nominal.at.tolist() == TASK.nominal.tolist()
    assert nominal.n == pytest.approx(5000, abs=len(others))
    assert {draw.n for draw in others} == {5000 // 18}
    for j in range(3):
        own = torch.stack([draw.at for draw in others[6 * j : 6 * j + 6]])
        high = TASK.space.parameters[j].high
        assert own[:, j].tolist() == pytest.approx([high * (0.4 * i - 1) for i in range(6)])
        assert not own[:, [i for i in range(3) if i != j]].any()


def test_empty_bins_are_refused(tmp_path: Path) -> None:
    budget = 36 * 3199  # half of it at 18 anchors
    with pytest.raises(NotApplicable, match=r"3199 simulations for 64 bins .* use lre"):
        fitted(tmp_path, budget)


@pytest.mark.slow
def test_slopes_agree_with_exact_scores(tmp_path: Path) -> None:
    """Slopes at the nominal context are the scores, up to the width of bins and noise."""
    surrogate = fitted(tmp_path, 200_000)
    (part,) = TASK.components("test").values()
    rng = torch.Generator().manual_seed(0)
    context = torch.zeros(4000, 3).requires_grad_()
    x = part.simulate(context.detach(), rng)
    out = surrogate.log_ratio_paired(x, context)
    assert out.shape == (2, 1, 4000)
    score = part.score(x, context.detach())
    for member in out:
        (slope,) = torch.autograd.grad(member.sum(), context, retain_graph=True)
        for j in range(3):
            both = torch.stack([slope[:, j].double(), score[:, j]])
            assert float(torch.corrcoef(both)[0, 1]) > 0.85
        torch.testing.assert_close(slope.mean(0), torch.zeros(3), atol=0.1, rtol=0)
