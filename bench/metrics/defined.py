"""Contributions of datasets that have none."""

import numpy as np
from numpy.typing import NDArray


def defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace infinite values by NaN, which says that a dataset has none.

    A log-density of −inf makes the loss of a context infinite, and a width of 0 a ratio to it.

    Example:
        >>> defined(np.array([1.0, np.inf, -np.inf]))
        array([ 1., nan, nan])
    """
    return np.where(np.isinf(values), np.nan, values)
