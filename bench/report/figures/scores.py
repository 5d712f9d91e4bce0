"""Gain from exact scores: arrows to the score-augmented form, and data equivalence.

After figures 2 to 13 of Shen & Kuusela (2026).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bench.report import tidy
from bench.report.colours import INK
from bench.report.figures.marks import DASHED, SOLID, budget_axis, log_axis, method_rows, typical
from bench.report.figures.style import Figure, Looks, Panel, styled
from bench.report.load import Loaded
from bench.report.words import bare, calls, left_out, parameters, slug, symbols
from bench.studies.equivalence import NAME, order

_METRICS = {
    "score_ratio": "interval score / exact",
    "likelihood_ratio_error": "LR error",
    "mle_distance": "MLE distance",
    "overlap_M": "overlap",
    "bce": "held-out BCE",
    "score_error": "score error",
    "time": "training time (s)",
    "interval_score": "interval score",
}
_ASIDE = 1.07
_ARROW: Any = {"arrowstyle": "-|>,head_length=0.3,head_width=0.13", "lw": 0.8, "color": INK}
_ARROW |= {"alpha": 0.75, "shrinkA": 3, "shrinkB": 3.5}
_MOST, _CLAIM = 4, 10  # pairs of a figure, factor of Shen & Kuusela (2026)


@styled
def draw_arrows(
    frame: pd.DataFrame, axes: Axes, looks: Looks, *, pair: tidy.Pair, linear: bool = False
) -> None:
    """Draw an arrow at each budget, from the method without scores to the one with scores.

    The frame has columns `label, budget, value, error` of one task and quantity. The vertical axis
    is logarithmic unless it is linear, and holds all methods of the frame beside the pair.
    """
    known = frame[frame["value"].notna() & (frame["budget"] > 0)]
    found = known[known["label"].isin(pair)]
    aside = np.where(found["label"] == pair[0], 1 / _ASIDE, _ASIDE)
    found = found.assign(x=found["budget"] * aside).sort_values("x")
    for label, one in tidy.groups(found, "label"):
        axes.errorbar(one["x"], one["value"], one["error"], elinewidth=0.7, **looks[label].points())
    for _, both in tidy.groups(found, "budget"):
        if len(both) == 2:
            start, end = both[["x", "value"]].to_numpy()
            axes.annotate("", tuple(end), tuple(start), arrowprops=_ARROW)
    budget_axis(axes, found["budget"], found["x"])
    if not linear:
        log_axis(axes.yaxis, typical(known["value"], 30))


def arrows(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield a figure for each task and metric and for times, with a panel per network."""
    spent = tidy.times(loaded.fits).assign(metric="time", key="")
    for task, quantities in tidy.groups(loaded.quantities, "task"):
        every, names = tidy.pairs(quantities), symbols(loaded.registry, task)
        found = quantities[(quantities["plan"] != "bootstrap") & (quantities["statistic"] == "")]
        found = pd.concat([found, spent[spent["task"] == task]]).dropna(subset=["value"])
        found = found.assign(at=found["budget"].map(calls)).sort_values("budget")
        for metric, words in _METRICS.items():
            rows = found[found["metric"] == metric]
            budgets = {label: set(one["budget"]) for label, one in tidy.groups(rows, "label")}
            common = [p for p in every if budgets.get(p[0], set()) & budgets.get(p[1], set())]
            used = common[:_MOST]
            labels = [*dict.fromkeys(np.ravel(used, "F").tolist())]
            panels = []
            for parameter in parameters(rows["key"], names):
                one = rows[(rows["key"] == parameter) & rows["label"].isin(labels)]
                key = bare(names, parameter)
                for pair in used:
                    options = {"pair": pair, "linear": metric in ("overlap_M", "bce")}
                    told = one[one["label"].isin(pair)]
                    panels.append(Panel(draw_arrows, one, f"{pair[1]}\n{key}", options, told))
            name, title = slug("scores", metric, task), f"Gain from exact scores, {words}: {task}"
            caption = (
                "Arrows lead from the method without scores to the one with them, at the same "
                "network and budget, with standard errors. "
                f"{'Higher' if metric == 'overlap_M' else 'Lower'} is better."
                f"{left_out([other for _, other in common[_MOST:]])}"
            )
            layout: Any = {"columns": len(used), "narrow": min(2, len(used)), "height": 1.65}
            layout |= {"share": "row", "methods": labels}
            if panels:
                yield Figure(name, task, title, caption, tuple(panels), looks, **layout)


@styled
def draw_equivalence(
    frame: pd.DataFrame,
    axes: Axes,
    looks: Looks,
    *,
    names: Mapping[str, str] | None = None,
    metrics: Sequence[str] = (),
    budgets: Sequence[int] = (),
) -> None:
    """Draw factors with intervals, a row per metric; arrows show bounds at the last budget.

    The frame is of the study "equivalence", one pair of methods of one task; `names` are labels of
    parameters. Metrics, from top to bottom, and budgets, in the order of markers, are those of the
    frame by default.
    """
    metrics = list(metrics) or list(dict.fromkeys(frame["metric"]))
    budgets = list(budgets) or sorted(set(frame["budget"]))
    found = frame[np.isfinite(frame["value"]) & (frame["value"] > 0)]
    for row in tidy.each(found):
        place, colour = budgets.index(row.budget), looks[row.other].colour
        y = metrics.index(row.metric) + 0.7 * ((place + 0.5) / len(budgets) - 0.5)
        ends = [max(row.low, 1e-9), min(row.high, 1e9)]  # infinite intervals reach the edge
        axes.plot(ends, [y, y], color=colour, lw=0.9, alpha=0.8)
        beyond = row.beyond if isinstance(row.beyond, str) else ""  # "" in CSV
        style = {"color": colour, "mfc": "none" if beyond else colour}
        axes.plot(row.value, y, **_marker(place) | style)
        if beyond:
            arrow: Any = {"arrowstyle": "<-,head_length=0.2,head_width=0.12", "color": colour}
            away: Any = {"xytext": (11 if ">" in beyond else -11, 0), "arrowprops": arrow}
            axes.annotate("", (row.value, y), textcoords="offset points", **away)
    axes.axvline(1, zorder=0, **SOLID)
    axes.axvline(_CLAIM, zorder=0, **DASHED)
    shown = found[["low", "high"]].to_numpy(float).clip(0.03, 300).ravel()
    log_axis(axes.xaxis, [1, _CLAIM, *found["value"], *shown[(shown > 0.03) & (shown < 300)]])
    method_rows(axes, [_named(metric, names) for metric in metrics])


def _named(metric: str, names: Mapping[str, str] | None) -> str:
    name, _, key = metric.partition("/")
    return f"{_METRICS.get(name, name)} {bare(names, key)}".strip()


def _marker(number: int) -> dict[str, Any]:
    """Return the marker of a budget, numbered from the smallest."""
    return {"marker": "osD^vPX"[number % 7], "ms": 4, "mew": 0.9, "ls": "none", "color": INK}


def equivalences(loaded: Loaded, looks: Looks) -> Iterator[Figure]:
    """Yield a figure for each task, with a panel per pair of methods."""
    for task, frame in tidy.groups(loaded.studies.get(NAME, pd.DataFrame({"task": []})), "task"):
        names = symbols(loaded.registry, task)
        several = frame[["plain", "other"]].drop_duplicates().to_numpy()
        every = tidy.by_importance([(str(plain), str(other)) for plain, other in several])
        found = [frame[(frame["plain"] == p) & (frame["other"] == o)] for p, o in every[:_MOST]]
        drawn = pd.concat(found)
        budgets, metrics = sorted(set(drawn["budget"])), sorted(set(drawn["metric"]), key=order)
        options = {"names": names, "metrics": metrics, "budgets": budgets}
        panels = []
        for one in found:
            told = one.assign(
                label=[_named(metric, names) for metric in one["metric"]],
                error=(one["high"] - one["low"]) / 4,
                at=one["budget"].map(calls),
            )
            panels.append(Panel(draw_equivalence, one, one["other"].iloc[0], options, told))
        name, title = slug("equivalence", task), f"Data equivalence of scores: {task}"
        caption = (
            "Factor of simulations that the method without scores needs to be as good, with 95 % "
            "bootstrap intervals. Open markers with arrows: beyond the budgets without scores."
            f"{left_out([other for _, other in every[_MOST:]])}"
        )
        legend = {calls(b): Line2D([], [], **_marker(i)) for i, b in enumerate(budgets)}
        layout: Any = {"columns": len(panels), "share": "row"}
        layout |= {"height": 0.5 + len(metrics) * max(0.1 * len(budgets), 0.22)}
        layout |= {"legend": legend | {"claimed: 10": Line2D([], [], **DASHED)}}
        yield Figure(name, task, title, caption, tuple(panels), looks, **layout)
