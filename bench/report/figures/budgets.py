"""Learning curves: quantities of leaderboards against the budget."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bench.leaderboard.quantities import parts
from bench.report.figures import words
from bench.report.figures.boards import across_budgets, by_label, each, is_exact, ordered, reference
from bench.report.figures.colours import INK, Style, looks
from bench.report.figures.style import FAINT, PAGE, Figure, key, laid_out, log_axis, reach, styled
from bench.report.load import Loaded

_CURVES = ("score_ratio", "overlap_M", "coverage", "width")
_WORDS = {"overlap_M": "overlap", "coverage": "coverage of", "width": "width / exact,"}


@styled
def draw_budgets(
    frame: pd.DataFrame, axes: Axes, colours: Mapping[str, Style] | None = None
) -> None:
    """Draw learning curves: a quantity of each method against the budget.

    Args:
        frame: of `Loaded.quantities`, one task and quantity.
        axes: to draw on.
        colours: styles of methods.
    """
    shown = colours or looks(frame["label"])
    found = frame[frame["value"].notna() & (frame["budget"] > 0)]
    budgets = sorted(set(found["budget"]))
    methods = [x for x in dict.fromkeys(found["label"]) if x != "exact"]
    # Offsets separate error bars at one budget and keep budgets apart.
    closest = min((b / a for a, b in pairwise(budgets)), default=math.inf)
    step = min(1.06, closest ** (0.6 / max(len(methods), 1)))
    places = [np.array(budgets, float)]
    for place, (label, one) in enumerate(by_label(found.sort_values("budget"), methods)):
        x = one["budget"].to_numpy(float) * step ** (place - (len(methods) - 1) / 2)
        places.append(x)
        axes.plot(x, one["value"], **shown[label].line())
        axes.errorbar(x, one["value"], one["error"], elinewidth=0.8, **shown[label].points())
    exact = found[found["label"] == "exact"]
    if len(exact):
        axes.axhline(float(exact["value"].mean()), color=INK, lw=0.8, alpha=0.7, zorder=0)
    log_axis(axes.xaxis, np.concatenate(places))
    if len(budgets) < 6:
        axes.set_xticks(budgets, [words.number(b) for b in budgets])
    axes.set_xlabel("simulator calls")


def figures(loaded: Loaded, shown: Mapping[str, Style]) -> Iterator[Figure]:
    """Yield a figure for each task with at least two budgets, with a panel per quantity."""
    for task, suffix, rows in across_budgets(loaded.quantities):
        names = words.symbols(loaded.registry, task)
        learned = rows[rows["value"].notna() & (rows["label"] != "exact")]
        budgets = learned.groupby("quantity", sort=False)["budget"].nunique()
        titles = {str(q): _curve(str(q), names, reference(loaded, task)) for q in budgets.index}
        chosen = {q: title for q, title in titles.items() if title and budgets[q] > 1}
        if chosen:
            yield _budget_figure(shown, task, suffix, rows, chosen, list(names))


def _budget_figure(
    shown: Mapping[str, Style],
    task: str,
    suffix: Sequence[object],
    rows: pd.DataFrame,
    chosen: Mapping[str, str],
    names: Sequence[str],
) -> Figure:
    keys = ["", *words.parameters({parts(q)[1] for q in chosen if "/" in q}, names)]
    wanted = sorted(chosen, key=lambda q: (_CURVES.index(parts(q)[0]), keys.index(parts(q)[1])))
    rows = rows[rows["quantity"].isin(wanted)]
    order = ordered(rows["label"], rows)
    rows = rows.assign(place=rows["label"].map(order.index)).sort_values("place")
    columns = min(4, len(wanted))
    lines = math.ceil(len(wanted) / columns)

    def draw(axes: Any) -> None:
        for ax, quantity in zip(axes.flat, wanted, strict=False):
            one = rows[rows["quantity"] == quantity]
            draw_budgets(one, ax, shown)
            ax.set_title(words.literal(chosen[quantity]))
            if quantity == "score_ratio" or quantity.startswith("width"):
                log_axis(ax.yaxis, [1.0, *reach(one["value"], one["error"])])
                ax.axhline(1, color=INK, lw=0.8, alpha=0.7, zorder=0)
            if quantity.startswith("coverage"):
                ax.axhline(0.6827, color=INK, lw=0.8, dashes=(4, 2), alpha=FAINT, zorder=0)
        exact = {"exact": Line2D([], [], color=INK, lw=0.8, alpha=0.7)}
        key(axes, {label: shown[label] for label in order if label != "exact"}, exact)

    return Figure(
        name=words.slug("budgets", task, *suffix),
        section="cost",
        task=task,
        title=f"Learning curves against the budget: {task}",
        caption=(
            "Quantities of leaderboards against simulator calls, with standard errors over "
            "members and datasets; markers are moved aside so that errors can be told apart. "
            "Full line: the exact likelihood; dashed: nominal coverage."
        ),
        alternative=_budget_alternative(rows, wanted, chosen, order),
        size=(PAGE, 0.5 + 1.85 * lines),
        draw=laid_out(draw, lines, columns, used=len(wanted)),
    )


def _curve(quantity: str, names: Mapping[str, str], relative_to: str) -> str:
    """Return the title of a learning curve; empty for quantities without a curve."""
    metric, parameter, statistic = parts(quantity)
    if metric not in _CURVES or statistic != ("ratio" if metric == "width" else ""):
        return ""
    if metric == "score_ratio":
        return f"interval score / {relative_to}"
    return f"{_WORDS[metric]} {words.bare(words.written(names, parameter))}"


def _budget_alternative(
    rows: pd.DataFrame, wanted: Sequence[str], titles: Mapping[str, str], order: Sequence[str]
) -> str:
    sentences = []
    for quantity in wanted:
        found = rows[rows["quantity"] == quantity].dropna(subset=["value"])
        parts = []
        for label, one in by_label(found.sort_values("budget"), order):
            told = [
                f"{words.with_error(r.value, r.error)} at {words.calls(r.budget)}"
                for r in each(one)
            ]
            parts.append(f"{label} {told[0] if label == 'exact' else ', '.join(told)}")
        sentences.append(f"{words.capital(titles[quantity])}: {'; '.join(parts)}.")
    return " ".join(sentences)


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Return the reason if there are no learning curves."""
    learned = loaded.quantities[~is_exact(loaded.quantities)].groupby("task")["budget"]
    missing = [("Learning curves against the budget", "no task has results at two budgets")]
    return [] if (learned.nunique() > 1).any() else missing
