"""Contributions of datasets: arrays, and what stands for none."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def defined(values: Array) -> Array:
    """Replace infinite values by NaN, which says that a dataset has none.

    A log-density of −inf makes the loss of a context infinite, and a width of 0 a ratio to it.

    Example:
        >>> defined(np.array([1.0, np.inf, -np.inf]))
        array([ 1., nan, nan])
    """
    return np.where(np.isinf(values), np.nan, values)
