"""my-diagnostic: the difference of the means of one column. Change it to your own diagnostic.

bench check ./my_diagnostic.py    check that it keeps the contract
"""

from bench.contracts import Diagnostic, Finding
from bench.diagnostics.two_sample import p_value, pooled

COLUMN = 0  # the first feature


def mean_difference(evidence):
    """Return the absolute difference of two means, and its p-value by permutation.

    `evidence.samples.simulated` and `evidence.samples.generated` are arrays of simulations and of
    draws from the surrogate, (n, columns) and (m, columns). Columns are features, contexts and the
    component. Random numbers come from `evidence.rng`.
    """
    samples = evidence.samples
    both = pooled(samples.simulated, samples.generated, evidence.rng)  # columns are standardised
    differences = abs((both.first - both.second) @ both.rows[:, COLUMN])  # of 1 + 199 labellings
    return Finding(differences[0], p_value(differences))  # the observed labelling comes first


my_diagnostic = Diagnostic(
    name="my-diagnostic",
    title="difference of means",  # heading of its column
    description="Absolute difference of the means of the first feature, in standard deviations.",
    level="event",  # or "dataset" or "training"
    takes="samples",  # the part of the evidence that it reads
    compute=mean_difference,
    better="lower",  # or "higher"
    null="permutation",  # "closed form", or "none" if it has no p-value
    version=1,  # raise it when the numbers change; in a plugin file the file's hash is enough
)
