"""1σ contours of surrogates against the exact likelihood, with a band over members.

After figures 6 and 8 of Sluijter, Diefenbacher, Bhimji & Nachman (2025).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy import stats
from scipy.interpolate import RegularGridInterpolator

from bench.report import tidy
from bench.report.colours import INK
from bench.report.figures.style import Figure, Looks, Panel, styled
from bench.report.load import Loaded
from bench.report.words import literal, symbols, valued, written

SIGMA = float(stats.chi2.ppf(stats.chi2.cdf(1, 1), 2) / 2)
"""Decrease of the log-likelihood on the contour with 68.27 % in two parameters."""
_FLOOR = -40.0  # of log-likelihoods, relative to their maximum
_METHODS, _DATASETS = 3, 4  # methods beside exact: more bands overlap
_Array = np.ndarray[Any, Any]


@styled
def draw_contours(
    frame: pd.DataFrame,
    axes: Axes,
    looks: Looks,
    *,
    maxima: pd.DataFrame | None = None,
    names: Mapping[str, str] | None = None,
    limits: _Array | None = None,
) -> None:
    """Draw the 1σ contour of the mean over members of each method, with their 16 to 84 % band.

    The frame is of `Loaded.contours`, one dataset of one leaderboard; the last method is on top.
    With `maxima`, of `Loaded.maxima`, the generating parameters are a cross. `names` are labels of
    parameters, `limits` those of x and y, (2, 2).
    """
    box = _box(frame) if limits is None else limits
    nodes = np.meshgrid(*(np.linspace(low, high, 120) for low, high in box))
    for label, rows in frame.groupby("label", sort=False):
        falls = np.array([_fall(one, nodes) for _, one in tidy.groups(rows, "member")])
        line = looks[str(label)].line(1.2)
        if len(falls) > 1:
            share = (falls >= -SIGMA).mean(0)
            axes.contourf(*nodes, share, [0.16, 0.84], colors=[line["color"]], alpha=0.2)
        style: Any = {"linewidths": [line["linewidth"]], "linestyles": [line["linestyle"]]}
        axes.contour(*nodes, falls.mean(0), [-SIGMA], colors=[line["color"]], **style)
    for row in tidy.each(maxima.head(1)) if maxima is not None else ():
        axes.plot(row.x_true, row.y_true, "+", ms=8, mew=0.9, color=INK, zorder=4)
    for name, axis, ends in zip("xy", (axes.xaxis, axes.yaxis), box, strict=True):
        axis.set_major_locator(MaxNLocator(3))
        label = literal(written(names, str(frame[f"{name}_name"].iloc[0])))
        axes.set(**{f"{name}label": label, f"{name}lim": ends})


def _fall(rows: pd.DataFrame, nodes: Sequence[_Array]) -> _Array:
    """Interpolate the log-likelihood of a member onto nodes."""
    table = rows.drop_duplicates(["x", "y"]).pivot(index="x", columns="y", values="fall")
    values = np.nan_to_num(table.to_numpy(float), nan=_FLOOR, neginf=_FLOOR).clip(_FLOOR)
    places = (table.index.to_numpy(float), table.columns.to_numpy(float))
    at = RegularGridInterpolator(places, values, bounds_error=False, fill_value=_FLOOR)
    return np.asarray(at(tuple(nodes)))


def _box(rows: pd.DataFrame) -> _Array:
    """Return limits around the exact 1σ region of a dataset, or around all where there is none."""
    exact = rows[rows["label"] == "exact"]
    shown, margin = (exact, 0.6) if len(exact) else (rows, 0.12)
    inside = shown[shown["fall"] >= -1.3 * SIGMA][["x", "y"]].agg(["min", "max"]).to_numpy().T
    return np.asarray(inside + (margin * np.ptp(inside, axis=1) + 1e-6)[:, None] * [-1, 1])


def common_limits(boxes: _Array) -> _Array:
    """Return common limits where boxes (n, 2, 2) overlap, else limits of one scale around each."""
    size = np.ptp(boxes, axis=2).max(0)
    union = np.stack([boxes[..., 0].min(0), boxes[..., 1].max(0)], 1)
    if (np.ptp(union, axis=1) <= 1.5 * size).all():
        return np.broadcast_to(union, boxes.shape)
    return np.asarray(boxes.mean(2, keepdims=True) + np.stack([-size, size], 1) / 2)


def figures(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield a figure for each leaderboard, with a panel per dataset."""
    lattices = loaded.contours.dropna(subset=["fall"])
    several = lattices.groupby(["label", "member", "dataset"])[["x", "y"]].transform("nunique") > 1
    for board, rows in tidy.boards(lattices[several.all(axis=1)]):
        rows, shown, left = tidy.best(rows, tidy.rows_of(loaded.quantities, board), _METHODS)
        maxima = tidy.select(tidy.rows_of(loaded.maxima, board), shown)
        names = symbols(loaded.registry, board.task)
        x, y = (written(names, str(rows[name].iloc[0])) for name in ("x_name", "y_name"))
        found = [one for _, one in tidy.groups(rows, "dataset") if one["fall"].max() > -SIGMA]
        if not found or shown == ["exact"]:
            continue
        limits = common_limits(np.array([*map(_box, found[:_DATASETS])]))
        panels = []
        for one, box in zip(found, limits, strict=False):
            true = maxima[maxima["dataset"] == one["dataset"].iloc[0]]
            told = true.groupby("label")["x_mle"].agg(value="mean", error="std").reset_index()
            told["label"] = f"estimate of {x} by " + told["label"]
            ends = true[["x_true", "y_true"]].head(1).to_numpy(float)
            title = "\n".join(map(valued, (x, y), *ends))
            options = {"maxima": true, "names": names, "limits": box}
            panels.append(Panel(draw_contours, one, title, options, told))
        name, title = board.slug("contours"), f"Contours of the likelihood: {board.words}"
        caption = (
            f"Where the mean log-likelihood of members has fallen by {SIGMA:.2f} (1σ), a dataset "
            "per panel, around the exact contour. Bands hold the contours of the middle 68 % of "
            f"members.{left}"
        )
        cross = Line2D([], [], color=INK, marker="+", ms=7, mew=0.9, ls="none")
        layout: Any = {"columns": min(4, len(panels)), "narrow": 2, "height": 2.1}
        layout |= {"methods": shown, "legend": {"generated at": cross}}
        yield Figure(name, board.task, title, caption, tuple(panels), looks, **layout)
