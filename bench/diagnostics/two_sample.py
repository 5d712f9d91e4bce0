"""Two-sample tests of simulations against draws from a surrogate, calibrated by permutation.

Under the null hypothesis both samples have one distribution, so that all labellings of the pooled
rows are equally probable. The p-value is the share of labellings whose statistic is at least as
large, the observed one included (Phipson & Smyth 2010, arXiv:1603.05766).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import numpy as np
from scipy.spatial.distance import cdist

from bench.contracts.diagnostic import Array, Diagnostic, Evidence, Finding
from bench.errors import NotApplicable

PERMUTATIONS = 199
_DIRECTIONS = 50  # of sliced distances
_PAIRED = 1500  # rows of each sample, of which all pairs are compared


@dataclass(frozen=True)
class Pooled:
    """Rows of two samples together, with labellings.

    Args:
        rows: standardised rows, (N, F) float64.
        labels: 1 for rows of the first sample and 0 for the second, (1 + permutations, N) float64;
            the observed labelling comes first.
    """

    rows: Array
    labels: Array

    @property
    def first(self) -> Array:
        """Labels divided by the size of the first sample."""
        return np.asarray(self.labels / self.labels.sum(1, keepdims=True))

    @property
    def second(self) -> Array:
        """Labels of the second sample divided by its size."""
        other = 1 - self.labels
        return np.asarray(other / other.sum(1, keepdims=True))


def pooled(
    first: Array, second: Array, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> Pooled:
    """Pool two samples, (n, F) and (m, F), and standardise each column; constant ones stay.

    Raises:
        NotApplicable: if they are not finite.

    Example:
        >>> both = pooled(np.zeros((2, 1)), np.ones((3, 1)), np.random.default_rng(0), 4)
        >>> both.rows.shape, both.labels.shape, both.labels.sum(1).tolist()
        ((5, 1), (5, 5), [2.0, 2.0, 2.0, 2.0, 2.0])
    """
    rows = np.concatenate([first, second])
    if not np.isfinite(rows).all():
        raise NotApplicable("rows are not finite")
    scale = rows.std(0)
    rows = (rows - rows.mean(0)) / np.where(scale > 0, scale, 1)
    observed = np.arange(len(rows)) < len(first)
    labels = [observed, *(rng.permutation(observed) for _ in range(permutations))]
    return Pooled(rows, np.array(labels, dtype=np.float64))


def p_value(statistics: Array) -> float:
    """Return the p-value of the first statistic among all, of which large ones are extreme.

    It is NaN if a statistic is not finite.

    Example:
        >>> p_value(np.array([3.0, 1.0, 2.0, 4.0]))
        0.5
    """
    if not np.isfinite(statistics).all():
        return nan
    tolerance = 1e-12 * np.abs(statistics).max(initial=0.0)  # sums differ by rounding
    return float((statistics >= statistics[0] - tolerance).mean())


def kernel_distance(both: Pooled, kernel: Array) -> Array:
    """Return squared distances of mean embeddings, unbiased, for all labellings.

    Args:
        both: the samples.
        kernel: kernel of all pairs of rows, (N, N).

    Returns:
        (1 + permutations,), from Gretton et al. (2012), arXiv:0805.2368.
    """
    a, b = both.labels, 1 - both.labels
    n, m = a.sum(1), b.sum(1)
    product = a @ kernel
    within, across = (product * a).sum(1), (product * b).sum(1)
    other = kernel.sum() - within - 2 * across
    diagonal = np.diagonal(kernel)
    first = (within - a @ diagonal) / (n * (n - 1))
    second = (other - b @ diagonal) / (m * (m - 1))
    return np.asarray(first + second - 2 * across / (n * m))


def gaussian(both: Pooled) -> Array:
    """Return distances of means under a Gaussian kernel whose width is the median distance."""
    square = cdist(both.rows, both.rows, "sqeuclidean")
    median = np.median(square[np.triu_indices(len(square), 1)])
    return kernel_distance(both, np.exp(-square / max(median, 1e-300)))


def energy(both: Pooled) -> Array:
    """Return energy distances of Székely & Rizzo (2004)."""
    return kernel_distance(both, -cdist(both.rows, both.rows))


def polynomial(both: Pooled) -> Array:
    """Return distances of means under the kernel (x·y / F + 1)⁴."""
    return kernel_distance(both, (both.rows @ both.rows.T / both.rows.shape[1] + 1) ** 4)


def frechet(both: Pooled) -> Array:
    """Return squared Fréchet distances of Gaussians with the means and covariances of the rows."""
    rows = both.rows
    features = rows.shape[1]
    products = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)

    def moments(share: Array) -> tuple[Array, Array]:
        mean = share @ rows
        square = (share @ products).reshape(-1, features, features)
        return mean, square - mean[:, :, None] * mean[:, None, :]

    (mean, own), (other_mean, other) = moments(both.first), moments(both.second)
    values, vectors = np.linalg.eigh(own)
    root = (vectors * np.sqrt(values.clip(0))[:, None]) @ vectors.swapaxes(1, 2)
    middle = np.sqrt(np.linalg.eigvalsh(root @ other @ root).clip(0)).sum(1)
    spread = np.trace(own, axis1=1, axis2=2) + np.trace(other, axis1=1, axis2=2) - 2 * middle
    return np.asarray(((mean - other_mean) ** 2).sum(1) + spread)


def sliced(both: Pooled, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return sliced Wasserstein and Kolmogorov–Smirnov distances.

    Both are means over random directions of the distances of projections. Distributions of
    projections are compared at all of their values (Bonneel et al. 2015; Grossi, Letizia &
    Torre 2024, arXiv:2409.16336).

    Returns:
        Two arrays (1 + permutations,).
    """
    features = both.rows.shape[1]
    directions = rng.standard_normal((features, _DIRECTIONS))
    projected = both.rows @ (directions / np.linalg.norm(directions, axis=0))
    difference = both.first - both.second
    transport, largest = np.zeros(len(difference)), np.zeros(len(difference))
    for column in projected.T:
        order = np.argsort(column, kind="stable")
        gap = np.abs(np.cumsum(difference[:, order], 1)[:, :-1])
        step = np.diff(column[order])
        transport += gap @ step
        largest += np.where(step > 0, gap, 0).max(1)
    return transport / _DIRECTIONS, largest / _DIRECTIONS


def _test(
    statistics: Callable[[Pooled], Array], most: int | None = None
) -> Callable[[Evidence], Finding]:
    def compute(evidence: Evidence) -> Finding:
        assert evidence.samples is not None
        first, second = (
            rows[evidence.rng.permutation(len(rows))[:most]]
            for rows in (evidence.samples.simulated, evidence.samples.generated)
        )
        found = statistics(pooled(first, second, evidence.rng))
        return Finding(float(found[0]), p_value(found))

    return compute


def _sliced_test(which: int) -> Callable[[Evidence], Finding]:
    def compute(evidence: Evidence) -> Finding:
        assert evidence.samples is not None
        samples = evidence.samples
        both = pooled(samples.simulated, samples.generated, evidence.rng)
        found = sliced(both, evidence.rng)[which]
        return Finding(float(found[0]), p_value(found))

    return compute


mmd = Diagnostic(
    "mmd",
    "MMD",
    "Unbiased squared maximum mean discrepancy with a Gaussian kernel.",
    "event",
    "samples",
    _test(gaussian, _PAIRED),
    null="permutation",
    citation="Gretton et al. (2012), arXiv:0805.2368",
)
energy_distance = Diagnostic(
    "energy",
    "energy distance",
    "Energy distance of simulations and draws from the surrogate.",
    "event",
    "samples",
    _test(energy, _PAIRED),
    null="permutation",
    citation="Székely & Rizzo (2004); Aslan & Zech (2005), arXiv:hep-ex/0203010",
)
kernel_physics = Diagnostic(
    "kernel-physics",
    "kernel physics distance",
    "Unbiased squared maximum mean discrepancy with a polynomial kernel of degree 4.",
    "event",
    "samples",
    _test(polynomial, _PAIRED),
    null="permutation",
    citation="Kansal et al. (2023), arXiv:2211.10295",
)
frechet_physics = Diagnostic(
    "frechet",
    "Fréchet distance",
    "Squared Fréchet distance of Gaussians with the means and covariances of the rows.",
    "event",
    "samples",
    _test(frechet),
    null="permutation",
    citation="Kansal et al. (2023), arXiv:2211.10295",
)
sliced_wasserstein = Diagnostic(
    "sliced-wasserstein",
    "sliced Wasserstein",
    "Mean Wasserstein distance of projections on random directions.",
    "event",
    "samples",
    _sliced_test(0),
    null="permutation",
    citation="Bonneel, Rabin, Peyré & Pfister (2015)",
)
sliced_ks = Diagnostic(
    "sliced-ks",
    "sliced KS",
    "Mean Kolmogorov–Smirnov distance of projections on random directions.",
    "event",
    "samples",
    _sliced_test(1),
    null="permutation",
    citation="Grossi, Letizia & Torre (2024), arXiv:2409.16336",
)
