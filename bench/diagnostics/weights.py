"""Diagnostics of ratios as weights of reference observations."""

from math import nan

import numpy as np
from scipy import stats

from bench.contracts.diagnostic import Array, Diagnostic, Evidence, Finding
from bench.errors import NotApplicable

_BINS = 5  # of each column of rows
_PER_BIN = 10  # least observations in a bin, on average
_LEAST = 200  # observations
_SMALLEST = 1e-2  # least eigenvalue of a covariance, relative to the largest


def wald(difference: Array, covariance: Array) -> float:
    """Return the p-value of a χ² test that the expectation of a difference is 0.

    Directions with little variance are not Gaussian. They do not count as degrees of freedom, and
    their variance is replaced by a larger one.

    Example:
        >>> round(wald(np.array([2.0, 0.0]), np.diag([1.0, 0.0])), 4)
        0.0455
    """
    values, vectors = np.linalg.eigh(covariance)
    least = _SMALLEST * values.max(initial=0.0)
    used = values > least
    if not used.any():
        return nan
    scaled = (vectors.T @ difference) / np.sqrt(values.clip(least))
    return float(stats.chi2.sf(scaled @ scaled, used.sum()))


def _closure(evidence: Evidence) -> Finding:
    """Compare shares of simulations and of weights in bins of every column."""
    assert evidence.weights is not None
    own = evidence.weights
    weight = np.exp(own.log_weight - own.log_weight.max())
    weight /= weight.mean()
    effective = weight.sum() ** 2 / (weight**2).sum()
    least = max(_LEAST, _PER_BIN * _BINS * own.simulated.shape[1])
    if min(len(own.simulated), effective) < least:
        raise NotApplicable(
            f"{len(own.simulated):,} simulations and {effective:,.0f} effective reference "
            f"observations: {least:,} of each are needed"
        )
    first, second = [], []
    for column, other in zip(own.simulated.T, own.reference.T, strict=True):
        inner = np.quantile(column, np.arange(1, _BINS) / _BINS)
        edges = np.unique(inner)
        for bin_ in range(len(edges)):  # the last one follows from the others
            first.append(np.digitize(column, edges) == bin_)
            second.append(np.digitize(other, edges) == bin_)
    shares, weighted = np.array(first, dtype=np.float64), np.array(second, dtype=np.float64)
    expected = weighted @ weight / len(weight)
    difference = shares.mean(1) - expected
    influence = (weighted - expected[:, None]) * weight  # of a ratio of means
    covariance = np.cov(shares) / shares.shape[1] + influence @ influence.T / len(weight) ** 2
    return Finding(float(np.sqrt((difference**2).mean())), wald(difference, covariance))


def _size(evidence: Evidence) -> Finding:
    assert evidence.weights is not None
    weight = np.exp(evidence.weights.log_weight - evidence.weights.log_weight.max())
    return Finding(float(weight.sum() ** 2 / (weight**2).sum() / len(weight)))


def _normalisation(evidence: Evidence) -> Finding:
    """Fit a polynomial to log E[r̂] of each component, and test it against 0.

    The contexts share their observations, so that their errors are correlated.
    """
    assert evidence.ratios is not None
    logs, context = evidence.ratios.log_ratio, evidence.ratios.context
    top = logs.max(1, keepdims=True)
    ratio = np.exp(logs - top)  # (K, n, C)
    mean = ratio.mean(1, keepdims=True)
    found = (np.log(mean) + top)[:, 0]  # (K, C)
    basis = polynomials(context)
    fit = np.linalg.pinv(basis)  # (q, C)
    influence = (ratio / mean - 1) @ fit.T  # (K, n, q)
    coefficients = (found @ fit.T).ravel()
    spread = influence.swapaxes(0, 1).reshape(logs.shape[1], -1)
    covariance = spread.T @ spread / len(spread) ** 2
    largest = np.abs(found @ fit.T @ basis.T).max()
    return Finding(float(largest), wald(coefficients, covariance))


def polynomials(context: Array) -> Array:
    """Return all monomials up to degree 2 of contexts (C, d), or fewer than C/2 of them.

    Example:
        >>> polynomials(np.array([[2.0], [3.0], [4.0], [5.0], [6.0], [7.0]]))[0].tolist()
        [1.0, 2.0, 4.0]
    """
    one = np.ones((len(context), 1))
    rows, columns = np.triu_indices(context.shape[1])
    every = [one, context, context[:, rows] * context[:, columns]]
    terms = one
    for part in every[1:]:
        if 2 * (terms.shape[1] + part.shape[1]) > len(context):
            break
        terms = np.concatenate([terms, part], 1)
    return np.asarray(terms)


closure = Diagnostic(
    "closure",
    "reweighting closure",
    "Root mean square difference of the shares of simulations and of weights in bins of features "
    "and contexts.",
    "event",
    "weights",
    _closure,
    null="closed form",
    citation="Cranmer, Pavez & Louppe (2015), arXiv:1506.02169",
)
effective_size = Diagnostic(
    "effective-size",
    "effective sample size",
    "Effective number of reference observations under the weights r̂, as a share of their number.",
    "event",
    "weights",
    _size,
    better="higher",
    citation="Kong (1992)",
)
normalisation = Diagnostic(
    "normalisation",
    "log E[r̂]",
    "Largest absolute value of a polynomial in the context, fitted to the logarithm of the mean "
    "ratio over common reference observations, in nats.",
    "event",
    "ratios",
    _normalisation,
    null="closed form",
    citation="Cranmer, Pavez & Louppe (2015), arXiv:1506.02169",
)
