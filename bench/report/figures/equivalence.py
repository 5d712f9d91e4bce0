"""Figures of data equivalence: factor in simulations that a method without scores needs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bench.errors import UsageError
from bench.report.figures.boards import each, groups
from bench.report.figures.colours import INK, Style, looks
from bench.report.figures.scores import Pair, column, same_configuration
from bench.report.figures.style import FAINT, PAGE, Figure, key, laid_out, log_axis, styled
from bench.report.figures.words import bare, calls, literal, slug, symbols, written
from bench.report.load import Loaded
from bench.studies.equivalence import NAME, EquivalenceFactor, order, rows, shown

_WORDS = {
    "score_error": "score error",
    "bce": "held-out BCE",
    "likelihood_ratio_error": "LR error",
    "mle_distance": "MLE distance",
    "interval_score": "interval score",
}
_MARKERS = "osD^vPX"
_CLAIM = 10  # Shen & Kuusela (2026)
_ARROW = "<-,head_length=0.2,head_width=0.12"
_MOST = 5


@lru_cache(maxsize=1)
def table(loaded: Loaded) -> pd.DataFrame:
    """Return the study's table if it is among the folders, else compute it from scores."""
    saved = loaded.studies.get(NAME)
    columns = list(EquivalenceFactor.__dataclass_fields__)
    if saved is not None and set(columns) <= set(saved.columns):
        beyond = saved["beyond"].map(lambda v: v if isinstance(v, str) else "")  # "" in CSV
        return saved.assign(beyond=beyond)
    try:
        return pd.DataFrame([asdict(row) for row in rows(loaded.results)], columns=columns)
    except UsageError:
        return pd.DataFrame(columns=columns)


@styled
def draw_equivalence(
    frame: pd.DataFrame,
    axes: Axes,
    colours: Mapping[str, Style] | None = None,
    *,
    names: Mapping[str, str] | None = None,
    metrics: Sequence[str] = (),
    budgets: Sequence[int] = (),
) -> None:
    """Draw factors with intervals, a row per metric; arrows show bounds at the last budget.

    Args:
        frame: of the study "equivalence", one pair of methods of one task.
        axes: to draw on.
        colours: styles of methods.
        names: labels of parameters.
        metrics: the rows, from top to bottom; those of the frame where empty.
        budgets: budgets in the order of markers; those of the frame where empty.
    """
    look = (colours or looks(frame["other"]))[str(frame["other"].iloc[0])]
    metrics = list(metrics) or list(dict.fromkeys(frame["metric"]))
    budgets = list(budgets) or sorted(set(frame["budget"]))
    finite: list[float] = [1.0, _CLAIM]
    step = 0.7 / max(len(budgets), 1)
    for row in each(frame):
        value, low, high = float(row.value), float(row.low), float(row.high)
        if not (math.isfinite(value) and value > 0):
            continue
        y = metrics.index(row.metric) + step * (budgets.index(row.budget) - (len(budgets) - 1) / 2)
        ends = [max(low, 1e-9), min(high, 1e9)]  # infinite intervals reach the edge
        finite += [value, *(e for e in (low, high) if 0.03 <= e <= 300)]
        bounded = not isinstance(row.beyond, str) or not row.beyond
        axes.plot(ends, [y, y], color=look.colour, lw=0.9, alpha=0.8)
        axes.plot(
            value,
            y,
            _MARKERS[budgets.index(row.budget) % len(_MARKERS)],
            ms=4,
            color=look.colour,
            markerfacecolor=look.colour if bounded else "none",
            mew=0.9,
        )
        if not bounded:
            side = 1 if ">" in row.beyond else -1
            axes.annotate(
                "",
                (value, y),
                xytext=(11 * side, 0),
                textcoords="offset points",
                arrowprops={"arrowstyle": _ARROW, "lw": 0.8, "color": look.colour},
            )
    axes.axvline(1, color=INK, lw=0.6, alpha=0.7, zorder=0)
    axes.axvline(_CLAIM, color=INK, lw=0.8, alpha=FAINT, dashes=(4, 2), zorder=0)
    log_axis(axes.xaxis, np.array(finite))
    axes.set_ylim(len(metrics) - 0.45, -0.55)
    axes.set_yticks(range(len(metrics)), [literal(_metric(m, names)) for m in metrics])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("data equivalence")


def _metric(metric: str, names: Mapping[str, str] | None) -> str:
    name, _, parameter = metric.partition("/")
    word = _WORDS.get(name, name)
    return f"{word}, {bare(written(names, parameter))}" if parameter else word


def figures(loaded: Loaded, colours: Mapping[str, Style]) -> Iterator[Figure]:
    """Yield a figure for each task, with a panel per pair of methods."""
    found = table(loaded)
    for task, one in groups(found, "task"):
        yield _figure(loaded, colours, str(task), one)


def place(pair: Pair, every: Sequence[Pair]) -> tuple[bool, int]:
    """Return a sort key: networks of all sizes first, then each method once, then the rest."""
    number, others = every.index(pair), [other.partition(":")[0] for _, other in every]
    return not same_configuration(pair), others[:number].count(others[number])


def _figure(loaded: Loaded, colours: Mapping[str, Style], task: str, frame: pd.DataFrame) -> Figure:
    names = symbols(loaded.registry, task)
    every = list(dict.fromkeys(zip(frame["plain"], frame["other"], strict=True)))
    pairs = sorted(every, key=lambda pair: place(pair, every))[:_MOST]
    known = dict(colours) | looks(set(frame["other"]) - set(colours))
    of_pairs = [(frame["plain"] == plain) & (frame["other"] == other) for plain, other in pairs]
    drawn = frame[np.any(of_pairs, axis=0)]
    budgets = sorted(set(drawn["budget"]))
    metrics = sorted(set(drawn["metric"]), key=order)
    left_out = [other for plain, other in every if (plain, other) not in pairs]

    def draw(axes: Any) -> None:
        for ax, pair, here in zip(axes.flat, pairs, of_pairs, strict=True):
            draw_equivalence(frame[here], ax, known, names=names, metrics=metrics, budgets=budgets)
            ax.set_title(column(pair))
        shapes = {
            calls(b): Line2D([], [], color=INK, marker=_MARKERS[i % len(_MARKERS)], ms=4, ls="none")
            for i, b in enumerate(budgets)
        }
        claimed = Line2D([], [], color=INK, alpha=FAINT, lw=0.8, dashes=(4, 2))
        key(axes, {}, shapes | {"claimed: 10": claimed})

    return Figure(
        name=slug("equivalence", task),
        section="scores",
        task=task,
        title=f"Data equivalence of scores: {task}",
        caption=(
            "How many times the simulations the method without scores needs for what the one with "
            "scores reaches, with 95 % bootstrap intervals over training sets. Open markers with "
            "arrows: the factor is beyond the budgets without scores. Dashed: the factor of ten "
            "that Shen & Kuusela (2026) claim."
            + (f" Not drawn: {', '.join(left_out)}." if left_out else "")
        ),
        alternative=_alternative(frame, pairs, names),
        size=(PAGE, 0.75 + len(metrics) * max(0.1 * len(budgets), 0.22)),
        draw=laid_out(draw, 1, len(pairs), sharey=True),
    )


def _alternative(
    frame: pd.DataFrame, pairs: Sequence[tuple[str, str]], names: Mapping[str, str]
) -> str:
    sentences = []
    for plain, other in pairs:
        one = frame[(frame["plain"] == plain) & (frame["other"] == other)]
        parts = []
        for metric, lines in one.groupby("metric", sort=False):
            told = [f"{shown(line)} at {calls(line.budget)}" for line in each(lines)]
            parts.append(f"{_metric(str(metric), names)} {', '.join(told)}")
        sentences.append(f"{other} against {plain}: {'; '.join(parts)}.")
    return " ".join(sentences)


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Return the reason if there is no figure of data equivalence."""
    reason = "it takes a method without scores at two budgets, and the same network with scores"
    return [] if len(table(loaded)) else [("Data equivalence of scores", reason)]
