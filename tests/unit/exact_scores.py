"""Checks of exact scores by differences of the density, and by their moments."""

import torch


def step(j, size):
    """Return a step in the j-th of two context parameters."""
    return size * torch.nn.functional.one_hot(torch.tensor(j), 2).double()


def assert_derivatives(source, x, context, size, atol):
    """Assert that scores are the slopes of log-densities, by fourth-order differences."""
    score = source.score(x, context)
    assert score.isfinite().all()
    for j in range(2):
        f = [source.log_prob(x, context + k * step(j, size)) for k in (-2, -1, 1, 2)]
        slope = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * size)
        torch.testing.assert_close(score[:, j], slope, rtol=1e-6, atol=atol)


def assert_moments(source, x, context, size):
    """Assert that scores at one context have mean zero and the Fisher information as covariance."""
    score, n = source.score(x, context), len(x)
    assert (score.mean(0) / score.std(0) * n**0.5).abs().max() < 4
    for j in range(2):  # Fisher information as minus the mean slope of the score
        by = step(j, size)
        slope = (source.score(x, context + by) - source.score(x, context - by)) / (2 * size)
        gap = score * score[:, j : j + 1] + slope
        assert (gap.mean(0) / gap.std(0) * n**0.5).abs().max() < 4
