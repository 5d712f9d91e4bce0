"""The study of the bootstrap multiple as a figure, where matplotlib is installed.

After figure 3 of Sluijter, Diefenbacher, Bhimji & Nachman (2025): coverage against k, the formula,
and the band of independent datasets.
"""

from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np

from bench.studies.comparison import SampleCoverage, by_size
from bench.studies.drawing import drawn
from bench.studies.expected import interval_coverage, region_coverage

_PANEL = (3.4, 2.8)  # inches


def figures(rows: Sequence[SampleCoverage]) -> dict[str, bytes]:
    """Draws a panel for each task, M and quantity; nothing without matplotlib.

    Returns:
        The files' contents by format.
    """
    groups = by_size(rows)
    names = list(rows[0].coverage)

    def draw(figure: Any) -> None:
        axes = figure.subplots(len(groups), len(names), squeeze=False)
        for line, group in zip(axes, groups, strict=True):
            for name, ax in zip(names, line, strict=True):
                _panel(ax, group, name)
        axes[0, 0].legend(fontsize="x-small")

    return drawn(draw, (_PANEL[0] * len(names), _PANEL[1] * len(groups)))


def _panel(ax: Any, group: Sequence[SampleCoverage], name: str) -> None:
    sample = group[0].sample
    bootstraps = [row for row in group if row.sample.multiple < inf]
    k = np.array([row.sample.multiple for row in bootstraps])
    measured = [row.coverage[name].measured for row in bootstraps]
    for band in (row.coverage[name].measured for row in group if row.sample.multiple == inf):
        low, high = band.value - band.error, band.value + band.error
        ax.axhspan(low, high, color="0.85", label="independent ± 1 standard error")
    fine = np.linspace(1, max(k.max(), 2), 100)
    curve = [interval_coverage(m) if name else region_coverage(m) for m in fine]
    ax.plot(fine, curve, color="0.3", lw=1, label="formula")
    if sample.stratified:
        expected = [row.coverage[name].expected for row in bootstraps]
        ax.plot(k, expected, "_", color="C1", ms=12, label="expected with fixed numbers")
    ax.errorbar(
        k, [m.value for m in measured], [m.error for m in measured], fmt="o", ms=4, label="exact"
    )
    ax.set_title(f"{sample.task}, M = {sample.observations:,}", fontsize="small")
    ax.set_xlabel("bootstrap multiple k")
    ax.set_ylabel(f"coverage of {name}" if name else "coverage of 95 % regions")
