"""Coverage of one surrogate along a parameter, and profile likelihoods of observed data."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.interpolate import PchipInterpolator

from bench.report import tidy
from bench.report.figures.marks import DASHED, SOLID
from bench.report.figures.style import Looks, styled

_NOMINAL = 68.27
_FINE = 200


@styled
def draw_local_coverage(frame: pd.DataFrame, axes: Axes, looks: Looks) -> None:
    """Draw coverage along a parameter, with 95 % bands.

    Columns of the frame, shares: `label, theta, coverage, low, high`.
    """
    axes.axhline(_NOMINAL, **SOLID)
    for label, one in tidy.groups(frame, "label"):
        colour = looks[label].colour
        axes.fill_between(
            one["theta"], 100 * one["low"], 100 * one["high"], color=colour, alpha=0.15, lw=0
        )
        axes.plot(one["theta"], 100 * one["coverage"], **looks[label].line())
    axes.set(ylim=(0, 100), ylabel="coverage (%)", xlabel="true value")
    axes.margins(x=0)


@styled
def draw_profiles(frame: pd.DataFrame, axes: Axes, looks: Looks) -> None:
    """Draw the likelihood-ratio statistic along a parameter.

    Columns of the frame: `label, value, statistic`, points of profiles in rising order, and
    `threshold`, the value of the statistic at the ends of calibrated intervals.
    """
    axes.axhline(1.0, **SOLID)
    for label, one in tidy.groups(frame, "label"):
        one = one.drop_duplicates("value")
        fine = np.linspace(one["value"].min(), one["value"].max(), _FINE)
        # The root of the statistic, with a sign, is smooth where the statistic has its minimum.
        lowest = one["value"].iloc[int(one["statistic"].to_numpy().argmin())]
        root = np.sqrt(one["statistic"]) * np.sign(one["value"] - lowest)
        curve = PchipInterpolator(one["value"], root)(fine) if len(one) > 1 else root.to_numpy()
        axes.plot(fine[: len(curve)], curve**2, **looks[label].line())
        axes.axhline(float(one["threshold"].iloc[0]), **DASHED | {"color": looks[label].colour})
    axes.set(ylim=(0, 9), ylabel="statistic", xlabel="value")
