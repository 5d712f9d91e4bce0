"""Coverage of exact intervals against the bootstrap multiple.

After figure 3 of Sluijter, Diefenbacher, Bhimji & Nachman (2025).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.report.figures.boards import each, groups
from bench.report.figures.colours import INK, PALETTE, Style
from bench.report.figures.style import FAINT, PAGE, Figure, key, laid_out, styled
from bench.report.figures.words import bare, literal, symbols, with_error, written
from bench.report.load import Loaded
from bench.studies.expected import interval_coverage, region_coverage

STUDY = "bootstrap-k"
_MARKERS = "osD^"  # by size of datasets, since colours are for methods
_EXPECTED = PALETTE[6]
_ASIDE = 0.06  # horizontal offset between sizes, relative to k


@styled
def draw_coverage_against_k(frame: pd.DataFrame, axes: Axes) -> None:
    """Draw measured coverage with errors, the expected coverage, and the formula for large M.

    Args:
        frame: of `Loaded.studies["bootstrap-k"]`, one task and quantity.
        axes: to draw on.
    """
    boot = frame[frame["plan"] == "bootstrap"]
    region = str(frame["quantity"].iloc[0]).startswith("region")
    k = np.linspace(1, max(float(boot["multiple"].max()), 2.0), 120)
    formula = [region_coverage(m) if region else interval_coverage(m) for m in k]
    axes.plot(k, formula, color=INK, lw=0.8, alpha=0.7, zorder=1)
    axes.axhline(0.95 if region else 0.6827, color=INK, alpha=FAINT, lw=0.8, dashes=(4, 2))
    sizes = sorted(set(frame["observations"]))
    for number, size in enumerate(sizes):
        one = frame[frame["observations"] == size]
        aside = 1 + _ASIDE * (number - (len(sizes) - 1) / 2)
        for row in each(one[one["plan"] == "independent"]):
            low, high = row.value - row.error, row.value + row.error
            axes.axhspan(low, high, color=INK, alpha=0.1, lw=0, zorder=0)
        points = one[one["plan"] == "bootstrap"].sort_values("multiple")
        x = points["multiple"].to_numpy(float) * aside
        axes.errorbar(
            x, points["value"], points["error"], mew=0.9, elinewidth=0.9, **_points(number)
        )
        if points["stratified"].astype(str).eq("True").any():
            axes.plot(x, points["expected"], "_", color=_EXPECTED, ms=10, mew=1.4, zorder=3)
    ticks = sorted(set(boot["multiple"].astype(int)))
    axes.set_xscale("log")
    axes.set_xlim(0.85, 1.15 * max(ticks, default=2))
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("bootstrap multiple k")


def _points(number: int) -> dict[str, Any]:
    """Return the marker of a size of datasets, numbered from the smallest."""
    fill = "none" if number else INK
    return {"color": INK, "marker": _MARKERS[number % 4], "ms": 4, "ls": "none", "mfc": fill}


def figures(loaded: Loaded, shown: Mapping[str, Style]) -> Iterator[Figure]:
    """Yield one figure, with tasks as rows and quantities as columns."""
    frame = loaded.studies.get(STUDY)
    needed = {"task", "plan", "observations", "multiple", "stratified", "quantity", "value"}
    if frame is None or not needed | {"error", "expected"} <= set(frame.columns):
        return
    frame = frame.dropna(subset=["value"])
    if not (frame["plan"] == "bootstrap").any():
        return
    tasks = sorted(set(frame["task"]))
    quantities = sorted(set(frame["quantity"]), key=lambda q: (q.startswith("region"), q))
    sizes = sorted(set(frame["observations"]))

    def draw(axes: Any) -> None:
        for line, task in zip(axes, tasks, strict=True):
            names = symbols(loaded.registry, task)
            for ax, quantity in zip(line, quantities, strict=True):
                one = frame[(frame["task"] == task) & (frame["quantity"] == quantity)]
                if one.empty:
                    ax.set_visible(False)
                    continue
                draw_coverage_against_k(one, ax)
                ax.set_ylabel(literal(_quantity(quantity, names)))
            line[0].set_title(literal(task))
        extra: dict[str, Any] = {
            f"M = {size:,}": Line2D([], [], **_points(i)) for i, size in enumerate(sizes)
        }
        extra["± 1 error of independent datasets"] = Patch(facecolor=INK, alpha=0.1, lw=0)
        extra["formula"] = Line2D([], [], color=INK, lw=0.8, alpha=0.7)
        extra["expected with fixed numbers"] = Line2D(
            [], [], color=_EXPECTED, marker="_", ms=10, mew=1.4, ls="none"
        )
        extra["nominal"] = Line2D([], [], color=INK, alpha=FAINT, lw=0.8, dashes=(4, 2))
        key(axes, {}, extra)

    yield Figure(
        name=STUDY,
        section="papers",
        task="",
        title="Coverage of exact intervals against the bootstrap multiple k",
        caption=(
            "Exact likelihoods on bootstraps of sets of k M observations; errors take the set as "
            "the unit. Line: the formula for large M, 2 Φ(1/√(1 + 1/k)) − 1, and for regions "
            "F(5.991/(1 + 1/k)). Short marks: the same where the numbers of events of each "
            "component are fixed. Bands: independent datasets at the same points."
        ),
        alternative=_alternative(frame, loaded),
        size=(PAGE, 0.6 + 1.75 * len(tasks)),
        draw=laid_out(draw, len(tasks), len(quantities), inner=True, sharey="col", sharex=True),
    )


def _quantity(name: str, names: Mapping[str, str]) -> str:
    metric, _, parameter = name.partition("/")
    if metric.startswith("region"):
        return "coverage of 95 % regions"
    return f"coverage of {bare(written(names, parameter))}"


def _alternative(frame: pd.DataFrame, loaded: Loaded) -> str:
    sentences = []
    boot = frame[frame["plan"] == "bootstrap"]
    for (task, quantity), one in groups(boot, ["task", "quantity"]):
        few = one[one["observations"] == one["observations"].min()].sort_values("multiple")
        ends = few.iloc[[0, -1]].drop_duplicates("multiple")
        parts = [
            f"{with_error(r.value, r.error)} at k = {r.multiple:g}, expected {r.expected:.3f}"
            for r in each(ends)
        ]
        what = _quantity(str(quantity), symbols(loaded.registry, str(task)))
        sentences.append(f"{task}, {what}: {'; '.join(parts)}.")
    return " ".join(sentences)


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Return the reason if the figure is missing."""
    reason = f"no table {STUDY}.csv among the folders; `bench study bootstrap-k` makes it"
    missing = [("Coverage against the bootstrap multiple", reason)]
    return [] if STUDY in loaded.studies else missing
