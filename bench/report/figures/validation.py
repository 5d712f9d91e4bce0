"""Weights of ratios with their closure, and power of diagnostics against planted defects."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.metrics.heldout import RATIO_EDGES, ratio_histogram
from bench.report import tidy
from bench.report.colours import INK
from bench.report.figures.marks import SOLID, lines
from bench.report.figures.style import Figure, Looks, Panel, styled
from bench.report.load import Loaded
from bench.report.words import literal
from bench.studies import planted

STUDY = "diagnostics-planted"
_RARE = 0.5  # percent
_FULL = "#0072b2"  # power 1
_DEFECTS = {
    "none": "none",
    "offset": "offset in η",
    "narrower": "narrower",
    "rotation": "rotation (°)",
    "mode": "mode missing",
    "tail": "tail missing",
    "nats": "offset (nats)",
}


@styled
def draw_power(frame: pd.DataFrame, axes: Axes, looks: Looks) -> None:
    """Draw a matrix of diagnostics and sizes of one defect, with the power in percent.

    Columns of the frame: `label, size, value`; rows keep the order of the labels.
    """
    names, sizes = list(dict.fromkeys(frame["label"])), sorted(set(frame["size"]))
    for row in tidy.each(frame):
        x, y = sizes.index(row.size), names.index(row.label)
        axes.fill_between(
            [x - 0.48, x + 0.48], y - 0.46, y + 0.46, color=_FULL, alpha=0.85 * row.value, lw=0
        )
        colour = "white" if row.value > 0.6 else INK
        axes.text(x, y, f"{100 * row.value:.0f}", ha="center", va="center", color=colour)
    axes.set_yticks(range(len(names)), [literal(name, 24) for name in names])
    axes.set_xticks(
        range(len(sizes)), [f"{size:g}".replace("0.", ".") if size else "exact" for size in sizes]
    )
    axes.set(xlim=(-0.5, len(sizes) - 0.5), ylim=(len(names) - 0.5, -0.5))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


@styled
def draw_weights(frame: pd.DataFrame, axes: Axes, looks: Looks, *, gap: bool = False) -> None:
    """Draw shares of reference observations in bins of log r̂, or gaps of closure.

    Columns of the frame: `label, bin, value, error`, in percent. Gaps are relative to the weights
    in the bin.
    """
    if gap:
        axes.axhline(0, **SOLID)
    lines(frame, axes, looks, "bin")
    bins = len(RATIO_EDGES) + 1
    ends = [f"{edge:g}".replace("-", "−") for edge in RATIO_EDGES]
    axes.set_xticks(np.arange(1, bins) - 0.5, ends)
    axes.set(xlim=(-0.6, bins - 0.4), xlabel="log r̂", ylabel="gap (%)" if gap else "share (%)")


def weights(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield a figure for each leaderboard of held-out simulations, of methods with a reference."""
    frame = loaded.members
    for board, rows in tidy.boards(frame[frame["metric"] == ratio_histogram.name]):
        split = rows["key"].str.rsplit(" ", n=2, expand=True)
        rows = rows.assign(component=split[0], kind=split[1], bin=split[2].astype(int))
        keys = ["label", "component", "bin"]
        value, spread, count = (
            rows.pivot_table("value", keys, "kind", aggfunc=how) for how in ("mean", "std", "count")
        )
        alone = rows.pivot_table("error", keys, "kind")  # over contexts, of one network
        error = spread.div(count**0.5).where(count > 1, alone)
        scale = 100 / value["weighted"].where(value["weighted"] > _RARE / 100)
        share = pd.DataFrame({"value": value["reference"], "error": error["reference"]}) * 100
        gap = pd.DataFrame({"value": value["gap"] * scale, "error": error["gap"] * scale})
        panels = []
        for component in dict.fromkeys(rows["component"]):
            for part, is_gap in ((share, False), (gap, True)):
                one = part.reset_index()
                one = one[one["component"] == component]
                told = one.assign(at="bin " + one["bin"].astype(str))
                title = f"{component}, closure" if is_gap else f"{component}, reference"
                panels.append(Panel(draw_weights, one, title, {"gap": is_gap}, told))
        name, title = board.slug("weights"), f"Weights and their closure: {board.words}"
        caption = (
            "Left: share of reference observations in bins of log r̂ with marked edges. Right: "
            "number of simulations in a bin relative to the sum of the weights r̂ there, minus 1; 0 "
            "for exact ratios. "
            "Bars are standard errors over networks, or over contexts for one network. Bins with "
            f"less than {_RARE:g} % of the weights are left out."
        )
        layout: Any = {"columns": 2, "narrow": 2, "height": 1.6}
        layout |= {"methods": sorted(set(rows["label"]))}
        yield Figure(name, board.task, title, caption, tuple(panels), looks, **layout)


def powers(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield one figure with a panel for each kind of defect, of means over tasks."""
    frame = loaded.studies.get(STUDY, pd.DataFrame(columns=["power"]))
    frame = frame[frame["power"].between(0, 1)]
    if frame.empty:
        return
    keys = ["defect", "size", "diagnostic"]
    means = frame.groupby(keys, sort=False).agg(
        value=("power", "mean"), error=("power_error", _of_mean), repetitions=("repetitions", "sum")
    )
    rows = means.reset_index().rename(columns={"diagnostic": "label"})
    planted_only = rows[rows["defect"] != "none"]
    order = planted_only.groupby("label")["value"].mean().sort_values(ascending=False).index
    rows["label"] = pd.Categorical(rows["label"], list(order))
    rows = rows.dropna(subset=["label"]).sort_values(["label", "size"])
    rows["label"] = rows["label"].astype(str)
    panels = []
    for defect in ("none", *planted.SIZES):
        one = rows[rows["defect"] == defect]
        if len(one):
            told = one.assign(at="size " + one["size"].astype(str))
            panels.append(Panel(draw_power, one, _DEFECTS[defect], {}, told))
    tasks = ", ".join(sorted(set(frame["task"])))
    caption = (
        f"Share of repetitions, in percent, in which a diagnostic finds a planted defect at 5 % "
        f"false alarms; means over {tasks}. Columns are sizes of the defect; “exact” has none. "
        "The most powerful diagnostics come first."
    )
    layout: Any = {"columns": len(panels), "narrow": 2, "share": True}
    layout |= {"height": 0.4 + 0.2 * len(order)}
    yield Figure(
        STUDY,
        "",
        "Power of diagnostics against planted defects",
        caption,
        tuple(panels),
        looks,
        "validation",
        **layout,
    )


def _of_mean(errors: "pd.Series[float]") -> float:
    """Return the error of a mean of independent numbers."""
    return float(np.sqrt((errors**2).sum()) / len(errors))
