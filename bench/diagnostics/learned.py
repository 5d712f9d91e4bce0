"""Two-sample tests that learn where simulations and draws from a surrogate differ."""

import numpy as np
from scipy import stats
from scipy.spatial.distance import cdist, pdist
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from bench.contracts.diagnostic import Array, Diagnostic, Evidence, Finding
from bench.diagnostics.two_sample import Pooled, p_value, pooled

_CENTRES = 100  # of kernels
_RIDGE = 1e-3  # penalty on the coefficients of kernels, per row
_STEPS = 60  # of the fit


def _classifier(evidence: Evidence) -> Finding:
    """Return the area under the curve of half of the rows, by trees trained on the other half.

    Labels of the second half are permuted, while the classifier stays: its scores do not depend on
    them. The p-value is the normal approximation of Mann & Whitney (1947).
    """
    assert evidence.samples is not None
    both = pooled(evidence.samples.simulated, evidence.samples.generated, evidence.rng, 0)
    order = evidence.rng.permutation(len(both.rows))
    rows, label = both.rows[order], both.labels[0, order].astype(bool)
    half = len(rows) // 2
    trees = HistGradientBoostingClassifier(
        max_iter=60,
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=40,
        early_stopping=False,
        random_state=int(evidence.rng.integers(2**31)),
    )
    trees.fit(rows[:half], label[:half])
    score, own = trees.predict_proba(rows[half:])[:, 1], label[half:]
    test = stats.mannwhitneyu(score[own], score[~own], alternative="greater", method="asymptotic")
    return Finding(float(roc_auc_score(own, score)), float(test.pvalue))


def kernel_likelihood_ratio(both: Pooled, rng: np.random.Generator) -> Array:
    r"""Return likelihood-ratio statistics of a kernel model of the ratio, for all labellings.

    The logarithm f of the ratio is a sum of Gaussian kernels around some rows, fitted by logistic
    regression with a quadratic penalty. The statistic is that of an extended likelihood,

    .. math:: 2 \left[\sum_\text{first} f - \frac{n}{m} \sum_\text{second} (e^f - 1)\right].

    All labellings share an upper bound of the Hessian (Böhning & Lindsay 1988).

    Args:
        both: the samples.
        rng: generator that chooses the kernels' centres.

    Returns:
        (1 + permutations,).
    """
    rows, labels = both.rows, both.labels
    centres = rows[rng.choice(len(rows), min(_CENTRES, len(rows)), replace=False)]
    apart = pdist(centres)
    width = np.median(apart[apart > 0]) if apart.any() else 1.0  # equal rows have no scale
    kernels = np.exp(-0.5 * cdist(rows, centres, "sqeuclidean") / width**2)
    basis = np.concatenate([np.ones((len(rows), 1)), kernels - kernels.mean(0)], 1)
    penalty = _RIDGE * len(rows) * np.eye(basis.shape[1])
    penalty[0, 0] = 0
    ahead = np.linalg.solve(basis.T @ basis / 4 + penalty, np.eye(basis.shape[1]))
    coefficients = np.zeros((len(labels), basis.shape[1]))
    share = labels.mean(1, keepdims=True)
    offset = np.log(share / (1 - share))
    for _ in range(_STEPS):
        probability = 1 / (1 + np.exp(-(coefficients @ basis.T + offset)))
        slope = (labels - probability) @ basis - coefficients @ penalty
        coefficients += slope @ ahead
    f = coefficients @ basis.T
    size = labels.sum(1) / (1 - labels).sum(1)
    return np.asarray(2 * ((labels * f).sum(1) - size * ((1 - labels) * np.expm1(f)).sum(1)))


def _nplm(evidence: Evidence) -> Finding:
    assert evidence.samples is not None
    both = pooled(evidence.samples.simulated, evidence.samples.generated, evidence.rng)
    found = kernel_likelihood_ratio(both, evidence.rng)
    return Finding(float(found[0]), p_value(found))


classifier = Diagnostic(
    "classifier",
    "classifier AUC",
    "Area under the curve of boosted trees that separate simulations from draws of the surrogate.",
    "event",
    "samples",
    _classifier,
    null="permutation",
    citation="Lopez-Paz & Oquab (2017), arXiv:1610.06545",
)
nplm = Diagnostic(
    "nplm",
    "kernel likelihood ratio",
    "Likelihood-ratio statistic of a kernel model of the ratio of simulations to draws.",
    "event",
    "samples",
    _nplm,
    null="permutation",
    citation="D'Agnolo & Wulzer (2019), arXiv:1806.02350; Letizia et al. (2022), arXiv:2204.02317",
)
