"""Power of diagnostics against planted defects."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.report import tidy
from bench.report.colours import INK
from bench.report.figures.style import Figure, Looks, Panel, styled
from bench.report.load import Loaded
from bench.report.words import literal
from bench.studies import planted

STUDY = "diagnostics-planted"
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
    axes.set_xticks(range(len(sizes)), [f"{size:g}" if size else "exact" for size in sizes])
    axes.set(xlim=(-0.5, len(sizes) - 0.5), ylim=(len(names) - 0.5, -0.5))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


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
