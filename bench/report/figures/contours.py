"""1σ and 2σ contours of surrogates against the exact likelihood, of a few datasets.

After figures 6 and 8 of Sluijter, Diefenbacher, Bhimji & Nachman (2025).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy import stats

from bench.errors import counted
from bench.report.figures.boards import Board, boards, by_label, each, groups, ordered, rows_of
from bench.report.figures.colours import INK, Style, looks
from bench.report.figures.style import PAGE, Figure, key, laid_out, styled
from bench.report.figures.words import bare, listed, literal, symbols, valued, written
from bench.report.load import Loaded

SIGMAS = tuple(float(stats.chi2.ppf(stats.chi2.cdf(s**2, 1), 2) / 2) for s in (1, 2))
"""Decrease of the log-likelihood on contours with 68.27 % and 95.45 % in two parameters."""
_MOST = 4  # largest number of methods beside exact: more lines overlap


@styled
def draw_contours(
    frame: pd.DataFrame,
    axes: Axes,
    colours: Mapping[str, Style] | None = None,
    *,
    maxima: pd.DataFrame | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """Draw the 1σ contours as thick and the 2σ contours as thin lines, exact in ink.

    Args:
        frame: of `Loaded.contours`, one dataset of one leaderboard.
        axes: to draw on.
        colours: styles of methods.
        maxima: of `Loaded.maxima`, the same dataset: generating parameters and maxima.
        names: labels of parameters.
    """
    shown = colours or looks(frame["label"])
    labels = sorted(set(frame["label"]), key=lambda x: (x == "exact", x))
    for label, one in by_label(frame, labels):
        fall = _lattice(one)
        if min(fall.shape) < 2 or not np.isfinite(fall.to_numpy()).any():
            continue
        x, y = fall.columns.to_numpy(float), fall.index.to_numpy(float)
        drop = np.where(np.isfinite(fall.to_numpy()), -fall.to_numpy(), 40.0)
        for level, width in zip(SIGMAS, (1.2, 0.6), strict=True):
            line = shown[label].line(width)
            axes.contour(
                x,
                y,
                drop,
                [level],
                colors=[line["color"]],
                linewidths=[width],
                linestyles=[line["linestyle"]],
                zorder=2.5 if label == "exact" else 2,
            )
    if maxima is not None:
        for row in each(maxima):
            axes.plot(row.x_mle, row.y_mle, zorder=3, **shown[row.label].points(3))
        if len(maxima):
            first = maxima.iloc[0]
            axes.plot(first["x_true"], first["y_true"], "+", ms=8, mew=0.9, color=INK, zorder=4)
    if len(frame):
        x_name, y_name = map(literal, _axes(frame, names))
        axes.set(xlabel=x_name, ylabel=y_name)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def figures(loaded: Loaded, shown: Mapping[str, Style]) -> Iterator[Figure]:
    """Yield a figure for each leaderboard, with a panel per dataset."""
    for board, rows in boards(loaded.contours.dropna(subset=["fall"])):
        if (rows["label"] != "exact").any():
            yield _figure(loaded, shown, board, rows)


def _figure(loaded: Loaded, shown: Mapping[str, Style], board: Board, rows: pd.DataFrame) -> Figure:
    names = symbols(loaded.registry, board.task)
    rows, maxima = _first_members(rows), _first_members(rows_of(loaded.maxima, board))
    order = ordered(rows["label"], rows_of(loaded.quantities, board))
    methods = [label for label in order if label != "exact"]
    drawn = [*methods[:_MOST], *(label for label in order if label == "exact")]
    rows = rows[rows["label"].isin(drawn)]
    maxima = maxima[maxima["label"].isin(drawn)]
    datasets = sorted(set(rows["dataset"]))
    columns = min(3, len(datasets))
    lines = math.ceil(len(datasets) / columns)

    def draw(axes: Any) -> None:
        for ax, dataset in zip(axes.flat, datasets, strict=False):
            true = maxima[maxima["dataset"] == dataset]
            draw_contours(rows[rows["dataset"] == dataset], ax, shown, maxima=true, names=names)
            if len(true):
                ax.set_title(literal(_where(rows, true, names)))
        cross = Line2D([], [], color=INK, marker="+", ms=7, mew=0.9, ls="none")
        key(axes, {label: shown[label] for label in drawn}, {"generated at": cross})

    left = f" Not drawn, to keep lines apart: {listed(methods[_MOST:])}." if methods[_MOST:] else ""
    return Figure(
        name=board.slug("contours"),
        section="papers",
        task=board.task,
        title=f"Contours of the likelihood: {board.words}",
        caption=(
            "A few datasets, each method's first member: contours on "
            f"which the log-likelihood has fallen by {SIGMAS[0]:.2f} (1σ, thick) and "
            f"{SIGMAS[1]:.2f} (2σ, thin) from its maximum, the marker. Lines end at the "
            f"parameters' bounds.{left}"
        ),
        alternative=_alternative(maxima, rows, names, drawn),
        size=(PAGE, 0.45 + 1.95 * lines),
        draw=laid_out(draw, lines, columns, used=len(datasets)),
    )


def _first_members(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each method's first member."""
    return rows[rows["member"] == rows.groupby("label")["member"].transform("min")]


def _lattice(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the log-likelihood relative to its maximum, by y (rows) and x (columns)."""
    return rows.drop_duplicates(["x", "y"]).pivot(index="y", columns="x", values="fall")


def _where(rows: pd.DataFrame, true: pd.DataFrame, names: Mapping[str, str]) -> str:
    x, y = _axes(rows, names)
    return f"{valued(x, true['x_true'].iloc[0])}, {valued(y, true['y_true'].iloc[0])}"


def _axes(rows: pd.DataFrame, names: Mapping[str, str] | None) -> list[str]:
    """Return the labels of the x and y parameters."""
    return [written(names, str(rows[axis].iloc[0])) for axis in ("x_name", "y_name")]


def _alternative(
    maxima: pd.DataFrame, rows: pd.DataFrame, names: Mapping[str, str], drawn: Sequence[str]
) -> str:
    """Return sentences on distances of estimates from exact's, and areas relative to exact's."""
    exact = maxima[maxima["label"] == "exact"].set_index("dataset")
    area = _areas(rows)
    none = pd.Series(dtype=float)
    x, y = map(bare, _axes(rows, names))
    sentences = [f"{counted(len(set(rows['dataset'])), 'dataset')} in {x} and {y}."]
    for label in (x for x in drawn if x != "exact"):
        if exact.empty:
            sentences.append(f"{label} is drawn, without an exact likelihood to compare with.")
            continue
        own = maxima[maxima["label"] == label].set_index("dataset")
        away = (own[["x_mle", "y_mle"]] - exact[["x_mle", "y_mle"]]).abs().median()
        relative = (area.get(label, none) / area.get("exact", none)).dropna()
        size = (
            f", the median 1σ area {relative.median():.2f} times exact's" if len(relative) else ""
        )
        sentences.append(
            f"{label}: estimates differ from exact's by a median of {away['x_mle']:.2g} in {x} and "
            f"{away['y_mle']:.2g} in {y}{size}."
        )
    return " ".join(sentences)


def _areas(rows: pd.DataFrame) -> dict[str, "pd.Series[float]"]:
    """Return areas inside the 1σ contour by label and dataset, as sums over grid cells."""
    out: dict[str, dict[int, float]] = {}
    for (label, dataset), one in groups(rows, ["label", "dataset"]):
        fall = _lattice(one)
        if min(fall.shape) > 1:
            cell = np.outer(*(np.gradient(axis.to_numpy(float)) for axis in fall.axes))
            inside = (fall >= -SIGMAS[0]).to_numpy()
            out.setdefault(label, {})[dataset] = float(cell[inside].sum())
    return {label: pd.Series(found, dtype=float) for label, found in out.items()}


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Return the reason if there are no contours."""
    reason = (
        "no likelihoods of a method around their maxima: they are read from saved predictions, or "
        "from packs that have them"
    )
    drawn = loaded.contours.dropna(subset=["fall"])["label"] != "exact"
    return [] if drawn.any() else [("Contours of the likelihood", reason)]
