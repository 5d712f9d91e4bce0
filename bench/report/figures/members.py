"""Overlap, coverage and width over members, by method, with the exact likelihood below.

After figures 4, 5 and 7 of Sluijter, Diefenbacher, Bhimji & Nachman (2025).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy import stats

from bench.leaderboard.build import expected_coverage
from bench.report.figures import words
from bench.report.figures.boards import (
    Board,
    boards,
    by_label,
    each,
    headline,
    is_exact,
    ordered,
    rows_of,
)
from bench.report.figures.colours import INK, Style, looks
from bench.report.figures.style import FAINT, PAGE, SMALL, Figure, joined, laid_out, styled
from bench.report.load import Loaded

_FEWEST = 8  # smallest number of members for a smooth density
_ROW = 0.24  # inches
_METRICS = {
    "overlap_kM": ("overlap", "Overlap with the exact likelihood of all k M observations"),
    "overlap_M": ("overlap", "Overlap with the exact likelihood"),
    "coverage": ("coverage", "Coverage of 68.27 % intervals"),
    "width": ("width", "Width of 68.27 % intervals"),
}


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Return each member's mean over the datasets in averages.

    Args:
        frame: of `Loaded.members`, one quantity of one leaderboard.

    Returns:
        Columns `label, member, value, error`.
    """
    found = headline(frame).dropna(subset=["value"])
    weighted = found.assign(
        value=found["value"] * found["sets"], error=(found["error"] * found["sets"]) ** 2
    )
    sums = weighted.groupby(["label", "member"], as_index=False).agg(
        value=("value", "sum"),
        error=("error", lambda squares: squares.sum(skipna=False)),
        sets=("sets", "sum"),
    )
    error = np.sqrt(sums["error"]) / sums["sets"]
    return sums[["label", "member"]].assign(value=sums["value"] / sums["sets"], error=error)


@styled
def draw_members(
    frame: pd.DataFrame,
    axes: Axes,
    colours: Mapping[str, Style] | None = None,
    *,
    summary: pd.DataFrame | None = None,
    expected: float | None = None,
    order: Sequence[str] = (),
) -> None:
    """Draw a row for each method: a tick per member, and the mean with its error.

    Args:
        frame: of `Loaded.members`, one quantity of one leaderboard.
        axes: to draw on.
        colours: styles of methods.
        summary: of `Loaded.quantities`, the same quantity: means and errors over members and
            datasets. Without it, an error is drawn only for a single member.
        expected: value of exact intervals, drawn as a dashed line.
        order: labels from top to bottom; others and exact follow.
    """
    found = means(frame)
    labels = [*order]  # adjacent panels have the same rows
    labels += [x for x in ordered(found["label"], frame.head(0)) if x not in order]
    shown = colours or looks(labels)
    for label, values in by_label(found, labels):
        row, look = labels.index(label), shown[label]
        centre, error = _centre(label, values, summary)
        if label == "exact":
            if math.isfinite(error):
                axes.axvspan(centre - error, centre + error, color=INK, alpha=0.1, lw=0, zorder=0)
            axes.axvline(centre, color=INK, alpha=FAINT, lw=0.8, zorder=0)
        elif len(values) > 1:
            _density(axes, row, values["value"].to_numpy(), look)
            ticks = joined([[v, row + 0.06], [v, row + 0.34]] for v in values["value"])
            axes.plot(*ticks, color=look.colour, lw=0.7, alpha=0.75)
        y = row - (0.12 if len(values) > 1 else 0)
        bar = error if math.isfinite(error) else None
        axes.errorbar(centre, y, xerr=bar, elinewidth=1.0, **look.points())
    if expected is not None:
        axes.axvline(expected, color=INK, lw=0.8, dashes=(4, 2), zorder=0)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), [words.literal(label) for label in labels])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.06)


def _centre(label: str, values: pd.DataFrame, summary: pd.DataFrame | None) -> tuple[float, float]:
    if summary is not None:
        for row in each(summary[summary["label"] == label].head(1)):
            if math.isfinite(row.value):
                return row.value, row.error
    alone = float(values["error"].iloc[0]) if len(values) == 1 else math.nan
    return float(values["value"].mean()), alone


def _density(axes: Axes, row: int, values: NDArray[np.float64], look: Style) -> None:
    """Draw a smooth density above a row if there are enough members."""
    if len(values) < _FEWEST or not np.ptp(values) > 1e-9 * np.abs(values).max():
        return
    kernel = stats.gaussian_kde(values)
    reach = 3 * float(np.sqrt(kernel.covariance[0, 0]))
    x = np.linspace(values.min() - reach, values.max() + reach, 40)
    height = kernel(x)
    top = row - 0.46 * height / height.max()
    axes.fill_between(x, row, top, color=look.colour, alpha=0.22, lw=0, zorder=0.5)


def figures(loaded: Loaded, shown: Mapping[str, Style]) -> Iterator[Figure]:
    """Yield a figure for each leaderboard and metric, with a panel per parameter."""
    for board, rows in boards(loaded.members, "independent", "bootstrap"):
        has_km = (rows["metric"] == "overlap_kM").any()
        for metric, (kind, title) in _METRICS.items():
            if metric == "overlap_M" and has_km:
                continue
            found = rows[rows["metric"] == metric].dropna(subset=["value"])
            if kind == "overlap":  # exact has overlap 1 with itself
                found = found[~is_exact(found)]
            if not is_exact(found).all():
                yield _figure(loaded, shown, board, found, metric, kind, title)


def _figure(
    loaded: Loaded,
    shown: Mapping[str, Style],
    board: Board,
    rows: pd.DataFrame,
    metric: str,
    kind: str,
    title: str,
) -> Figure:
    names = words.symbols(loaded.registry, board.task)
    quantities = rows_of(loaded.quantities, board)
    order = ordered(rows["label"], quantities)
    keys = words.parameters(rows["key"], list(names))
    expected = _expected(loaded, board) if metric == "coverage" else None

    def draw(axes: Any) -> None:
        for ax, name in zip(axes.flat, keys, strict=True):
            one, summary = (f[f["quantity"] == f"{metric}/{name}"] for f in (rows, quantities))
            draw_members(one, ax, shown, summary=summary, expected=expected, order=order)
            if kind == "overlap":
                ax.axvline(1, color=INK, alpha=FAINT, lw=0.8, zorder=0)
            ax.set_xlabel(_axis(metric, words.literal(words.written(names, name))))
        if expected is not None:
            word = "nominal" if board.plan == "independent" else "expected"
            _above(axes[0, 0], expected, f"{word} {100 * expected:.1f} %")
        elif kind == "overlap":
            _above(axes[0, 0], 1, "exact")

    return Figure(
        name=board.slug(kind),
        section="papers",
        task=board.task,
        title=f"{title}: {board.words}",
        caption=_caption(metric, board, expected, "exact" in order),
        alternative=_alternative(rows, quantities, metric, keys, names, order, expected),
        size=(PAGE, 0.75 + _ROW * max(len(order), 2)),
        draw=laid_out(draw, 1, len(keys), sharey=True),
    )


def _above(axes: Axes, x: float, text: str) -> None:
    """Label a vertical line, on the side with more space."""
    axes.annotate(
        text,
        (x, 1),
        (0, 1),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        fontsize=SMALL,
        va="bottom",
        ha="left" if x < sum(axes.get_xlim()) / 2 else "right",
    )


def _axis(metric: str, name: str) -> str:
    if metric == "coverage":
        return f"coverage of {words.bare(name)}"
    if metric == "width":
        return f"width in {name}"
    return f"overlap {name}" if name == "jointly" else f"overlap in {words.bare(name)}"


def _expected(loaded: Loaded, board: Board) -> float:
    same = (b for b in loaded.boards if (b.task, b.plan_folder) == (board.task, board.plan_folder))
    return next((b.expected for b in same), expected_coverage({"kind": "independent"}))


def _caption(metric: str, board: Board, expected: float | None, exact: bool) -> str:
    parts = [
        "Each tick is one member's mean over datasets, each point the mean over members with its "
        "standard error over members and datasets."
    ]
    if metric.startswith("overlap"):
        parts.append("1 is the exact likelihood.")
    elif exact:
        parts.append("The line and band: the exact likelihood on the same datasets, ± 1 error.")
    if expected is not None and board.plan == "bootstrap":
        parts.append(
            f"Dashed: {100 * expected:.1f} %, what exact intervals cover on bootstraps, "
            "2 Φ(1/√(1 + 1/k)) − 1."
        )
    elif expected is not None:
        parts.append("Dashed: the nominal 68.27 %.")
    if metric == "overlap_kM":
        parts.append("This is our reading of the paper's overlap.")
    return " ".join(parts)


def _alternative(
    rows: pd.DataFrame,
    quantities: pd.DataFrame,
    metric: str,
    keys: Sequence[str],
    names: Mapping[str, str],
    order: Sequence[str],
    expected: float | None,
) -> str:
    sentences = []
    for name in keys:
        one, summary = (f[f["quantity"] == f"{metric}/{name}"] for f in (rows, quantities))
        parts = [_said(label, v, summary) for label, v in by_label(means(one), order)]
        title = words.capital(_axis(metric, words.written(names, name)))
        sentences.append(f"{title}: {'; '.join(parts)}.")
    if expected is not None:
        sentences.append(f"Expected of exact intervals: {expected:.3f}.")
    return " ".join(sentences)


def _said(label: str, values: pd.DataFrame, summary: pd.DataFrame) -> str:
    text = f"{label} {words.with_error(*_centre(label, values, summary))}"
    if len(values) > 1:
        low, high = values["value"].min(), values["value"].max()
        text += f", {len(values)} members from {low:.3g} to {high:.3g}"
    return text


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Return the missing ones of these figures, with reasons."""
    found = set(loaded.members[loaded.members["label"] != "exact"]["metric"])
    known = (
        ({"coverage", "width"}, "Coverage and width", "no member of a method has scores"),
        ({"overlap_M", "overlap_kM"}, "Overlap", "no overlaps: that takes an exact likelihood"),
    )
    return [(f"{what} over members", why) for metrics, what, why in known if not found & metrics]
