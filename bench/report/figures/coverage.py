"""Coverage against the nominal level, and of exact intervals against the bootstrap multiple."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.report import tidy
from bench.report.colours import INK, PALETTE
from bench.report.figures.marks import DASHED, SOLID, lines, log_axis
from bench.report.figures.style import Figure, Looks, Panel, styled
from bench.report.load import Loaded
from bench.report.words import bare, parameters, symbols
from bench.studies.expected import interval_coverage, region_coverage

STUDY = "bootstrap-k"
_BAND: Any = {"color": INK, "alpha": 0.13, "lw": 0, "zorder": 0}
_SHORT: Any = {"color": PALETTE[6], "marker": "_", "ms": 9, "mew": 1.4, "ls": "none"}
_METHODS = 5  # beside exact


@styled
def draw_calibration(
    frame: pd.DataFrame, axes: Axes, looks: Looks, *, difference: bool = False
) -> None:
    """Draw coverage, or its difference from the level, against the nominal level.

    The frame is of `Loaded.calibration`, one parameter of one leaderboard. Above the diagonal, or
    above zero, intervals are too long.
    """
    points = 100 * frame[["coverage", "low", "high"]].sub(frame["level"] * difference, axis=0)
    scaled = points.rename(columns={"coverage": "value"})
    scaled = scaled.assign(label=frame["label"], x=100 * frame["level"], error=100 * frame["error"])
    band = scaled.drop_duplicates("x").sort_values("x")
    axes.fill_between(band["x"], band["low"], band["high"], **_BAND)
    axes.plot([0, 100], [0, 0 if difference else 100], zorder=0.5, **SOLID)
    lines(scaled, axes, looks, "x", every=5)
    ticks = [0, 25, 50, 75, 100]
    axes.set(xlim=(0, 100), xlabel="nominal level (%)", xticks=ticks)
    axes.set_ylabel("coverage − level (points)" if difference else "coverage (%)")
    if not difference:
        axes.set(ylim=(0, 100), yticks=ticks)


def calibrations(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield a figure for each leaderboard, with two panels per parameter and for both."""
    for board, rows in tidy.boards(loaded.calibration.dropna(subset=["coverage"])):
        names = symbols(loaded.registry, board.task)
        rows, shown, left = tidy.best(rows, tidy.rows_of(loaded.quantities, board), _METHODS)
        level = rows["level"].iloc[(rows["level"] - 0.7).abs().argmin()]
        told = rows[rows["level"] == level].assign(value=rows["coverage"], at=f"{level:.0%}")
        keys = parameters(rows["parameter"], names)
        panels = []
        for key, difference in product(keys, (False, True)):
            one, near = (frame[frame["parameter"] == key] for frame in (rows, told))
            options = {"difference": difference}
            panels.append(Panel(draw_calibration, one, bare(names, key), options, near))
        name, title = board.slug("calibration"), f"Calibration: {board.words}"
        caption = (
            "Coverage of intervals and regions, members pooled; below zero they are too short. "
            "Nominal intervals stay within the band in 95 % of repetitions. Even exact "
            f"likelihoods can leave it, because their intervals are approximate.{left}"
        )
        layout: Any = {"columns": len(keys), "narrow": 2, "downwards": True, "height": 1.7}
        layout |= {"methods": shown, "legend": {"nominal intervals, 95 %": Patch(**_BAND)}}
        yield Figure(name, board.task, title, caption, tuple(panels), looks, **layout)


@styled
def draw_coverage_against_k(frame: pd.DataFrame, axes: Axes, looks: Looks) -> None:
    """Draw measured coverage with errors, the expected coverage, and the formula for large M.

    The frame is of `Loaded.studies["bootstrap-k"]`, one task and quantity.
    """
    boot = frame[frame["plan"] == "bootstrap"].sort_values("multiple")
    region = str(frame["quantity"].iloc[0]).startswith("region")
    k = np.linspace(1, max(float(boot["multiple"].max()), 2.0), 120)
    axes.plot(k, [(region_coverage if region else interval_coverage)(m) for m in k], **SOLID)
    axes.axhline(0.95 if region else 0.6827, **DASHED)
    for row in tidy.each(frame[frame["plan"] == "independent"]):
        axes.axhspan(row.value - row.error, row.value + row.error, **_BAND)
    for number, (_, one) in enumerate(tidy.groups(boot, "observations")):
        x = one["multiple"].to_numpy(float) * (1 + 0.06 * (number - 0.5))
        axes.errorbar(x, one["value"], one["error"], elinewidth=0.9, **_points(number))
        if one["stratified"].astype(str).eq("True").any():
            axes.plot(x, one["expected"], **_SHORT)
    ticks = sorted(set(boot["multiple"].astype(int)))
    log_axis(axes.xaxis, k)
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set_xlabel("bootstrap multiple k")


def _points(number: int) -> dict[str, Any]:
    """Return the marker of a size of datasets, numbered from the smallest."""
    fill = "none" if number else INK  # colours are for methods
    return {"color": INK, "marker": "osD^"[number % 4], "ms": 4, "ls": "none", "mfc": fill}


def bootstraps(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield one figure, with a panel per task and quantity."""
    frame = loaded.studies.get(STUDY, pd.DataFrame())
    if "stratified" not in frame:  # another table of this name
        return
    panels = []
    for (task, quantity), one in tidy.groups(frame.dropna(subset=["value"]), ["task", "quantity"]):
        boot = one[one["plan"] == "bootstrap"].sort_values("multiple")
        parameter = quantity.partition("/")[2]
        what = bare(symbols(loaded.registry, task), parameter) if parameter else "95 % regions"
        told = boot.assign(label="coverage", at="k = " + boot["multiple"].astype(str))
        if len(boot):
            panels.append(Panel(draw_coverage_against_k, one, f"{task}, {what}", {}, told))
    title = "Coverage of exact intervals against the bootstrap multiple k"
    caption = (
        "Exact likelihoods on bootstraps of sets of k M observations, with standard errors. Line: "
        "2 Φ(1/√(1 + 1/k)) − 1, for regions F(5.991/(1 + 1/k)); short marks: with fixed numbers "
        "of events of each component."
    )
    sizes = sorted(set(frame["observations"]))
    legend: Any = {f"M = {m:,}": Line2D([], [], **_points(i)) for i, m in enumerate(sizes)}
    legend |= {"independent datasets": Patch(**_BAND), "formula": Line2D([], [], **SOLID)}
    legend |= {"fixed numbers": Line2D([], [], **_SHORT), "nominal": Line2D([], [], **DASHED)}
    layout: Any = {"columns": frame["quantity"].nunique(), "height": 1.6, "legend": legend}
    if panels:
        yield Figure(STUDY, "", title, caption, tuple(panels), looks, "papers", **layout)
