"""SIS: transition matrices, likelihood and score against independent computations."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from bench.tasks.sis import Outbreak
from exact_scores import assert_derivatives, assert_moments
from scipy import linalg, stats

from bench.registry.registry import Registry

TASK = Registry(()).task("sis")
CONTEXTS = torch.tensor(
    [[1.0, 0.4], [2.5, 1.2], [0.2, 0.05], [0.6, 0.6], [2.5, 0.05]], dtype=torch.float64
)


def generator_matrix(infection: float, recovery: float, n: int) -> np.ndarray:
    """Return the generator matrix Q of the process, computed state by state."""
    q = np.zeros((n + 1, n + 1))
    for i in range(n + 1):
        if i < n:
            q[i, i + 1] = infection * i * (n - i) / n
        if i > 0:
            q[i, i - 1] = recovery * i
        q[i, i] = -q[i].sum()
    return q


@pytest.mark.parametrize("n", [3, 50, 100])
def test_transition_matrices_are_the_matrix_exponential(n: int) -> None:
    steps, slopes = Outbreak(population=n).transition(CONTEXTS, slopes=True)
    assert slopes is not None
    assert (steps >= 0).all()
    torch.testing.assert_close(steps.sum(-1), torch.ones(len(CONTEXTS), n + 1).double())
    # State 0 is absorbing.
    assert torch.equal(steps[:, 0], torch.eye(n + 1).double()[0].expand(len(CONTEXTS), -1))
    for i, (infection, recovery) in enumerate(CONTEXTS.tolist()):
        q = generator_matrix(infection, recovery, n)
        expected = linalg.expm(0.5 * q)
        np.testing.assert_allclose(steps[i], expected, atol=2e-13)
        for j in range(2):
            # The expectation is the Fréchet derivative of the exponential in the direction of dQ.
            unit = [0.0, 0.0]
            unit[j] = 0.5
            slope = linalg.expm_frechet(0.5 * q, generator_matrix(*unit, n), compute_expm=False)
            np.testing.assert_allclose(slopes[j, i], slope, atol=1e-12)


def test_small_probabilities_keep_their_relative_accuracy() -> None:
    """The example is a transition from one to fifty infected, by exact squaring of a matrix."""
    steps, _ = Outbreak().transition(torch.tensor([[0.2, 1.2]], dtype=torch.float64))
    q = generator_matrix(0.2, 1.2, 50)
    fastest = -q.diagonal().min()
    rows = np.zeros(51)
    rows[1] = 1.0
    total, term = np.zeros(51), rows
    for k in range(400):  # uniformisation without squaring
        total = total + stats.poisson.pmf(k, 0.5 * fastest) * term
        term = term + term @ q / fastest
    got = steps[0, 1].numpy()
    reached = total > 1e-250
    np.testing.assert_allclose(got[reached], total[reached], rtol=1e-9)
    assert 0 < got[40] < 1e-30


@pytest.mark.slow
def test_the_likelihood_is_the_sum_over_all_paths() -> None:
    tiny = Outbreak(population=3, infected=1, times=3, interval=0.7, detection=0.8)
    context = torch.tensor([[1.3, 0.6]])
    steps = linalg.expm(0.7 * generator_matrix(1.3, 0.6, 3))
    total = 0.0
    for counts in product(range(4), repeat=3):
        expected = 0.0
        for path in product(range(4), repeat=3):
            likelihood, state = 1.0, 1
            for infected, count in zip(path, counts, strict=True):
                likelihood *= steps[state, infected] * stats.binom.pmf(count, infected, 0.8)
                state = infected
            expected += likelihood
        got = float(tiny.log_prob(torch.tensor([counts], dtype=torch.float32), context)[0])
        assert got == pytest.approx(math.log(expected), abs=1e-5 if expected else 0)
        total += math.exp(got)
    assert total == pytest.approx(1, abs=1e-6)


def test_impossible_data_have_no_likelihood() -> None:
    source = Outbreak()
    x = torch.zeros(6, 40)
    x[1, 3:] = 1  # one undetected case
    x[2, 0] = 51
    x[3, 0] = -1
    x[4, 0] = 0.5
    x[5] = 50
    log_prob = source.log_prob(x, torch.tensor([[1.0, 0.4]]))
    assert torch.equal(log_prob.isfinite(), torch.tensor([True, True, False, False, False, True]))
    assert (log_prob[2:5] == -torch.inf).all()
    extinct = Outbreak(population=3, infected=1, times=2, detection=1.0)
    gone = extinct.log_prob(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
    assert gone[0] == -torch.inf  # no new infection is possible
    assert gone[1].isfinite()


@pytest.mark.slow
def test_scores_are_derivatives_and_have_mean_zero() -> None:
    source = TASK.components("test")["outbreak"]
    rng = torch.Generator().manual_seed(0)
    context = TASK.space.draw_context(150, rng).double()
    x = source.simulate(context, rng)
    assert_derivatives(source, x, context, 1e-4, atol=1e-6)
    at = torch.tensor([[0.8, 0.3]], dtype=torch.float64)
    assert_moments(source, source.simulate(at.expand(4000, 2), rng), at, 1e-3)


def test_both_simulators_follow_the_transition_matrix() -> None:
    source = Outbreak(times=3)
    n = 30_000
    context = torch.tensor([[1.1, 0.5]], dtype=torch.float64)
    steps = source.transition(context)[0][0]
    for simulate in (source.path, source.shared_path):
        infected = simulate(context.expand(n, 2), torch.Generator().manual_seed(1)).long()
        # Distributions at the first time, and at the third given the second.
        for expected, values in (
            (steps[5], infected[:, 0]),
            (steps[8], infected[infected[:, 1] == 8, 2]),
        ):
            seen = torch.bincount(values, minlength=51).double()
            wanted = expected * len(values)
            big = wanted >= 5
            observed = torch.cat([seen[big], seen[~big].sum()[None]])
            predicted = torch.cat([wanted[big], wanted[~big].sum()[None]])
            statistic = float(((observed - predicted).square() / predicted).sum())
            assert stats.chi2.sf(statistic, len(observed) - 1) > 1e-3


def test_counts_are_binomial_and_each_context_its_own() -> None:
    source = Outbreak()
    high, low = torch.tensor([2.5, 0.05]), torch.tensor([0.2, 1.2])
    x = source.simulate(torch.stack([high, low]).repeat(500, 1), torch.Generator().manual_seed(0))
    assert x.shape == (1000, 40)
    assert float(x[0::2, -1].mean()) == pytest.approx(0.9 * 49, abs=0.5)
    assert float(x[1::2, -1].mean()) < 0.1
    again = source.simulate(
        torch.stack([high, low]).repeat(500, 1), torch.Generator().manual_seed(0)
    )
    assert torch.equal(x, again)


def test_pairs_broadcast() -> None:
    source = TASK.components("test")["outbreak"]
    rng = torch.Generator().manual_seed(0)
    context = TASK.space.draw_context(4, rng)
    x = source.simulate(context[:3], rng)
    all_pairs = source.log_prob(x[:, None], context[None])
    assert all_pairs.shape == (3, 4)
    scores = source.score(x[:, None], context[None])
    assert scores.shape == (3, 4, 2)
    for i, j in product(range(3), range(4)):
        torch.testing.assert_close(source.log_prob(x[i], context[j]), all_pairs[i, j])
        torch.testing.assert_close(source.score(x[i], context[j]), scores[i, j])
    torch.testing.assert_close(source.log_prob(x, context[:3]), all_pairs[:, :3].diagonal())
    swapped = source.log_prob(x[None], context[:, None])
    torch.testing.assert_close(swapped, all_pairs.T)
    mixed = source.log_prob(x[:, None].expand(3, 4, 40), context.expand(3, 4, 2))
    torch.testing.assert_close(mixed, all_pairs)
