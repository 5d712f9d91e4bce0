"""Training and validation losses of each member by epoch."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bench.errors import counted
from bench.report.figures.boards import by_label, groups, ordered
from bench.report.figures.colours import Style, looks
from bench.report.figures.style import PAGE, SMALL, Figure, joined, laid_out, styled
from bench.report.figures.words import calls, literal, slug
from bench.report.load import Loaded

_GROUP = ["task", "budget", "training_data", "seed"]
_MOST = 12  # panels per figure
_COLUMNS = 4


@styled
def draw_training(
    frame: pd.DataFrame, axes: Axes, colours: Mapping[str, Style] | None = None
) -> None:
    """Draw validation losses as lines, training losses faintly, and each member's best epoch.

    Args:
        frame: of `Loaded.curves`, one component of one task and budget.
        axes: to draw on.
        colours: styles of methods.
    """
    shown = colours or looks(frame["label"])
    settled = []
    for label, rows in groups(frame.sort_values("epoch"), "label"):
        colour = shown[label].colour
        members = [one for _, one in groups(rows, "member")]
        for loss, width, alpha in (("training", 0.5, 0.3), ("validation", 0.8, 0.9)):
            lines = joined(one[["epoch", loss]].to_numpy() for one in members)
            axes.plot(*lines, color=colour, lw=width, alpha=alpha)
        known = [found for one in members if len(found := _known(one))]
        best = [found[found[:, 1].argmin()] for found in known]
        axes.plot(*joined([dot] for dot in best), "o", ms=2.2, color=colour, zorder=3)
        settled += [found[:, 1] for found in known]
    if settled:
        axes.set_ylim(*_window(settled))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _known(one: pd.DataFrame) -> NDArray[np.float64]:
    """Return epochs and finite validation losses, (n, 2)."""
    values = one[["epoch", "validation"]].to_numpy(float)
    found: NDArray[np.float64] = values[np.isfinite(values[:, 1])]
    return found


def _window(curves: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Return limits of the loss axis, from the lowest loss to that after the first descent."""
    low = min(float(c.min()) for c in curves)
    ends = max(float(c[-1]) for c in curves)
    starts = max(float(np.quantile(c, 0.85)) for c in curves)
    high = max(ends, starts)
    margin = 0.06 * max(high - low, 1e-3 * abs(high), 1e-9)
    return low - margin, high + 2 * margin


def figures(loaded: Loaded, shown: Mapping[str, Style]) -> Iterator[Figure]:
    """Yield a figure for each task and budget, with a panel per method and component."""
    curves = loaded.curves.dropna(subset=["training", "validation"], how="all")
    several = curves.groupby("task")[_GROUP[1:]].nunique()
    for values, rows in groups(curves, _GROUP):
        task, budget, training, seed = values
        suffix: list[object] = [budget]
        suffix += [training] if several["training_data"][task] > 1 else []
        suffix += [f"seed-{seed}"] if several["seed"][task] > 1 else []
        order = ordered(rows["label"], loaded.quantities[loaded.quantities["task"] == task])
        panels_of = [
            ((label, component), one)
            for label, own in by_label(rows, order)
            for component, one in groups(own, "component")
        ]
        yield _figure(shown, str(task), int(budget), panels_of, suffix)


def _figure(
    shown: Mapping[str, Style],
    task: str,
    budget: int,
    panels_of: list[tuple[tuple[str, str], pd.DataFrame]],
    suffix: list[object],
) -> Figure:
    found = panels_of[:_MOST]
    columns = min(_COLUMNS, len(found))
    lines = -(-len(found) // columns)
    missing = [f"{label}, {component}" for (label, component), _ in panels_of[_MOST:]]

    def draw(axes: Any) -> None:
        for ax, ((label, component), one) in zip(axes.flat, found, strict=False):
            draw_training(one, ax, shown)
            ax.set_title(f"{literal(label, 20)}\n{literal(component, 20)}", fontsize=SMALL)
            ax.set(xlabel="epoch", ylabel="loss")

    more = f" Not drawn: {'; '.join(missing)}." if missing else ""
    return Figure(
        name=slug("training", task, *suffix),
        section="cost",
        task=task,
        title=f"Losses while training: {task}, {calls(budget)}",
        caption=(
            "Validation loss (lines) and training loss (faint) of each member; dots are the best "
            "epochs, which are kept. Losses of different methods are of different kinds. Axes "
            f"begin where most of the first descent is over.{more}"
        ),
        alternative=_alternative(found),
        size=(PAGE, 0.3 + 1.5 * lines),
        draw=laid_out(draw, lines, columns, used=len(found)),
    )


def _alternative(found: list[tuple[tuple[str, str], pd.DataFrame]]) -> str:
    parts = []
    for (label, component), one in found:
        best = one.dropna(subset=["validation"]).groupby("member")["validation"].min()
        if best.empty:
            continue
        epochs = one.groupby("member")["epoch"].max().max()
        spread = f" to {best.max():.4g}" if len(best) > 1 else ""
        parts.append(
            f"{label}, {component}: best validation loss {best.min():.4g}{spread} of "
            f"{counted(len(best), 'member')} in {counted(epochs, 'epoch')}"
        )
    return f"{'; '.join(parts)}."


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Return the reason if there are no curves."""
    missing = [("Losses while training", "no fit of these results has recorded losses")]
    return [] if loaded.curves["validation"].notna().any() else missing
