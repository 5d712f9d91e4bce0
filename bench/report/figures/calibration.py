"""Coverage against nominal level, with a simultaneous band for exact intervals at all levels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from bench.errors import counted
from bench.report.figures.boards import Board, boards, by_label, ordered, rows_of
from bench.report.figures.colours import INK, Style, looks
from bench.report.figures.style import FAINT, PAGE, Figure, key, laid_out, styled
from bench.report.figures.words import bare, literal, parameters, symbols, with_error, written
from bench.report.load import Loaded

_BAND = 0.13  # opacity
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@styled
def draw_calibration(
    frame: pd.DataFrame,
    axes: Axes,
    colours: Mapping[str, Style] | None = None,
    *,
    difference: bool = False,
) -> None:
    """Draw coverage against nominal level; above the diagonal intervals are too long.

    Args:
        frame: of `Loaded.calibration`, one parameter of one leaderboard.
        axes: to draw on.
        colours: styles of methods.
        difference: draw coverage − level, with error bars, in place of coverage.
    """
    shown = colours or looks(frame["label"])
    band = frame.drop_duplicates("level").sort_values("level")
    level = band["level"].to_numpy()
    base = level if difference else np.zeros_like(level)
    axes.fill_between(
        level, band["low"] - base, band["high"] - base, color=INK, alpha=_BAND, lw=0, zorder=0
    )
    zero = [0, 0] if difference else [0, 1]
    axes.plot([0, 1], zero, color=INK, alpha=FAINT, lw=0.7, zorder=0.5)
    labels = sorted(set(frame["label"]), key=lambda x: (x == "exact", x))
    for place, (label, one) in enumerate(by_label(frame.sort_values("level"), labels)):
        x, y, error = one[["level", "coverage", "error"]].to_numpy().T
        y = y - (x if difference else 0)
        axes.plot(x, y, **shown[label].line(1.0))
        if difference:  # errors at a few levels, different for each method
            few = slice(2 + place % 4, None, 4)
            axes.errorbar(x[few], y[few], error[few], elinewidth=0.7, **shown[label].points(3))
    axes.set_xlim(0, 1)
    axes.set_xticks(_TICKS, [f"{100 * t:g}" for t in _TICKS])
    axes.set_xlabel("nominal level (%)")
    if difference:
        axes.yaxis.set_major_formatter(
            lambda v, _: f"{100 * v:+.0f}".replace("-", "−").replace("+0", "0")
        )
        axes.set_ylabel("coverage −\nlevel (points)")
    else:
        axes.set_ylim(0, 1)
        axes.set_yticks(_TICKS, [f"{100 * t:g}" for t in _TICKS])
        axes.set_ylabel("coverage (%)")


def figures(loaded: Loaded, shown: Mapping[str, Style]) -> Iterator[Figure]:
    """Yield a figure for each leaderboard, with a column per parameter and one for both."""
    for board, rows in boards(loaded.calibration):
        found = rows.dropna(subset=["coverage"])
        if len(found):
            yield _figure(loaded, shown, board, found)


def _figure(loaded: Loaded, shown: Mapping[str, Style], board: Board, rows: pd.DataFrame) -> Figure:
    names = symbols(loaded.registry, board.task)
    order = ordered(rows["label"], rows_of(loaded.quantities, board))
    columns = parameters(rows["parameter"], list(names))

    def draw(axes: Any) -> None:
        for (above, below), parameter in zip(axes.T, columns, strict=True):
            one = rows[rows["parameter"] == parameter]
            draw_calibration(one, above, shown)
            draw_calibration(one, below, shown, difference=True)
            above.set_title(literal(_title(parameter, names)))
        band = Patch(facecolor=INK, alpha=_BAND, linewidth=0)
        key(axes, {label: shown[label] for label in order}, {"exact intervals, 95 %": band})

    datasets = int(rows["datasets"].max())
    return Figure(
        name=board.slug("calibration"),
        section="calibration",
        task=board.task,
        title=f"Calibration: {board.words}",
        caption=(
            f"Coverage of profile-likelihood intervals, and of regions in both parameters, inside "
            f"the box on {counted(datasets, 'dataset')}, members pooled. Below: the difference, "
            "with standard errors clustered by dataset. Below zero intervals are too short. The "
            "curve of exact intervals stays within the band at all levels at once in 95 % of "
            "repetitions."
        ),
        alternative=_alternative(rows, columns, names, order),
        size=(PAGE, 3.8),
        draw=laid_out(draw, 2, len(columns), sharex=True, sharey="row", height_ratios=(1.5, 1.1)),
    )


def _title(parameter: str, names: Mapping[str, str]) -> str:
    return "both parameters" if parameter == "joint" else bare(written(names, parameter))


def _alternative(
    rows: pd.DataFrame, columns: Sequence[str], names: Mapping[str, str], order: Sequence[str]
) -> str:
    sentences = []
    for parameter in columns:
        parts = []
        for label, one in by_label(rows[rows["parameter"] == parameter], order):
            near = one.iloc[(one["level"] - 0.7).abs().argmin()]
            outside = (one["coverage"] < one["low"]) | (one["coverage"] > one["high"])
            parts.append(
                f"{label} covers {with_error(near['coverage'], near['error'])} at a level of "
                f"{near['level']:.0%} and leaves the band at {int(outside.sum())} of {len(one)} "
                "levels"
            )
        sentences.append(f"For {_title(parameter, names)}: {'; '.join(parts)}.")
    return " ".join(sentences)


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Return the reason if there is no calibration."""
    reason = (
        "no scores of independent datasets with the statistics that scores keep since version 0.2"
    )
    return [] if loaded.calibration["coverage"].notna().any() else [("Calibration", reason)]
