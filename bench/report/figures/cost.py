"""Cost against quality: interval scores against time and simulator calls."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from bench.report.figures.boards import SERIES, across_budgets, by_label, each, ordered, reference
from bench.report.figures.colours import INK, Style, looks
from bench.report.figures.style import (
    FAINT,
    PAGE,
    Figure,
    label_ends,
    laid_out,
    log_axis,
    reach,
    styled,
)
from bench.report.figures.words import calls, literal, number, slug, with_error
from bench.report.load import Loaded

_AXES = {"seconds": "training time of one member (s)", "calls": "simulator calls of one member"}


def points(quantities: pd.DataFrame) -> pd.DataFrame:
    """Return cost and interval score of every method at each budget.

    Args:
        quantities: of `Loaded.quantities`.

    Returns:
        Keys, `value` and `error` of the interval score relative to the reference, `seconds` and
        `calls` of one member.
    """
    scores = quantities[(quantities["quantity"] == "score_ratio") & quantities["value"].notna()]
    keys = [*SERIES, "budget", "label"]
    cost = quantities[quantities["metric"] == "cost"]
    table = cost.pivot_table(index=keys, columns="key", values="value", aggfunc="first")
    for name in set(_AXES) - set(table):
        table[name] = math.nan
    return scores.merge(table.reset_index(), on=keys, how="left")


def front(x: Sequence[float], y: Sequence[float]) -> list[int]:
    """Return the indices of the Pareto front of points, by x; small x and y are better.

    Example:
        >>> front([1, 2, 3, 4], [5, 3, 4, 1])
        [0, 1, 3]
    """
    best, out = math.inf, []
    for place in sorted(range(len(x)), key=lambda i: (x[i], y[i])):
        if y[place] < best:
            best = y[place]
            out.append(place)
    return out


@styled
def draw_cost(
    frame: pd.DataFrame,
    axes: Axes,
    colours: Mapping[str, Style] | None = None,
    *,
    x: str = "seconds",
    reference: str = "exact",
) -> None:
    """Draw methods at their cost; budgets of a method are joined, the Pareto front is stepped.

    Args:
        frame: of `points`, one task.
        axes: to draw on.
        colours: styles of methods.
        x: "seconds" or "calls".
        reference: name of the reference of scores.
    """
    shown = colours or looks(frame["label"])
    found = frame[(frame[x] > 0) & (frame["value"] > 0)].reset_index(drop=True)
    for label, one in by_label(found.sort_values("budget"), sorted(set(found["label"]))):
        look = shown[label]
        axes.plot(one[x], one["value"], **(look.line(0.8) | {"alpha": 0.8}))
        axes.errorbar(one[x], one["value"], one["error"], elinewidth=0.8, **look.points())
    log_axis(axes.xaxis, found[x].to_numpy())
    log_axis(axes.yaxis, [1.0, *reach(found["value"], found["error"])])
    if len(found) > 1:
        edge = found.iloc[front(found[x].tolist(), found["value"].tolist())]
        axes.step(
            [*edge[x], axes.get_xlim()[1]],
            [*edge["value"], edge["value"].iloc[-1]],
            where="post",
            color=INK,
            alpha=FAINT,
            lw=3.0,
            zorder=0,
            solid_joinstyle="miter",
        )
    axes.axhline(1, color=INK, lw=0.6, alpha=0.7, zorder=0)
    axes.set_xlabel(_AXES[x])
    axes.set_ylabel(f"interval score / {literal(reference)}")


def figures(loaded: Loaded, shown: Mapping[str, Style]) -> Iterator[Figure]:
    """Yield a figure for each task, with a panel for time and one for calls."""
    for task, suffix, rows in across_budgets(loaded.quantities):
        found = points(rows)
        if found["seconds"].notna().any():
            yield _cost_figure(loaded, shown, task, found, suffix)


def _cost_figure(
    loaded: Loaded,
    shown: Mapping[str, Style],
    task: str,
    rows: pd.DataFrame,
    suffix: Sequence[object],
) -> Figure:
    relative_to = reference(loaded, task)
    order = ordered(rows["label"], rows)
    rows = rows.assign(place=rows["label"].map(order.index)).sort_values("place")
    used = [x for x in _AXES if rows[x].gt(0).any()]

    def draw(axes: Any) -> None:
        for ax, x in zip(axes.flat, used, strict=True):
            draw_cost(rows, ax, shown, x=x, reference=relative_to)
        last = rows.sort_values("budget").groupby("label")["value"].last()
        label_ends(axes[0, -1], {label: float(last[label]) for label in order}, shown)

    return Figure(
        name=slug("cost", task, *suffix),
        section="cost",
        task=task,
        title=f"Cost against quality: {task}",
        caption=(
            f"Interval score relative to {relative_to} (geometric mean over parameters, standard "
            "errors over members and datasets; 1 is as good) against what one member costs. "
            "Budgets of a method are joined. The broad step is the Pareto front of these means, in "
            "which differences within the errors may be chance. Times are of the "
            "machines named under provenance, and compare on one machine alone."
        ),
        alternative=_cost_alternative(rows, order, used, relative_to),
        size=(PAGE, 2.9),
        draw=laid_out(draw, 1, len(used), sharey=True),
    )


def _cost_alternative(
    rows: pd.DataFrame, order: Sequence[str], used: Sequence[str], reference: str
) -> str:
    parts = [
        f"{r.label} {with_error(r.value, r.error)} at {calls(r.budget)} and "
        + (f"{number(r.seconds)} s" if r.seconds > 0 else "unknown time")
        for _, one in by_label(rows.sort_values("budget"), order)
        for r in each(one)
    ]
    text = f"Interval score relative to {reference}: {'; '.join(parts)}."
    for x in used:
        found = rows[rows[x] > 0]
        edge = found.iloc[front(found[x].tolist(), found["value"].tolist())]
        names = ", ".join(f"{r.label} at {calls(r.budget)}" for r in each(edge))
        what = "time" if x == "seconds" else "calls"
        text += f" Pareto front in {what}: {names}."
    return text


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Return the reason if there is no figure of costs."""
    reason = "no interval scores relative to a reference on independent datasets"
    missing = [("Cost against quality", reason)]
    return [] if points(loaded.quantities)["seconds"].notna().any() else missing
