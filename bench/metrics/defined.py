"""Contributions of datasets, with NaN for undefined ones."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def defined(values: Array) -> Array:
    """Replace infinite values by NaN, the mark of a dataset without a contribution.

    Examples are the loss of a context with a log-density of −inf, and a ratio to a width of 0.

    Example:
        >>> defined(np.array([1.0, np.inf, -np.inf]))
        array([ 1., nan, nan])
    """
    return np.where(np.isinf(values), np.nan, values)
