"""Gain from exact scores: arrows from a plain method to its score-augmented form.

After figures 2 to 13 of Shen & Kuusela (2026): over network sizes and budgets, metric by metric,
and training times.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.report.figures import words
from bench.report.figures.boards import each, groups
from bench.report.figures.colours import INK, Style, looks
from bench.report.figures.style import COLUMN, PAGE, Figure, key, laid_out, log_axis, reach, styled
from bench.report.load import Loaded

_METRICS = {
    "score_ratio": "interval score / exact",
    "likelihood_ratio_error": "LR error",
    "mle_distance": "MLE distance",
    "overlap_M": "overlap",
    "bce": "held-out BCE",
    "score_error": "score error",
}
_LINEAR = ("overlap_M", "bce")
_ASIDE = 1.07
_ARROW: dict[str, Any] = {
    "arrowstyle": "-|>,head_length=0.3,head_width=0.13",
    "lw": 0.8,
    "color": INK,
    "alpha": 0.75,
    "shrinkA": 3,
    "shrinkB": 3.5,
}
_MOST = 4  # columns
_ROW = 1.35  # inches

Pair = tuple[str, str]


def pairs(frame: pd.DataFrame) -> list[Pair]:
    """Return pairs of labels without and with scores, for the same network, small to large.

    `NAME-sa` is paired with `NAME` in the same configuration, or with "tuned" where there is none.
    A configuration "scores…" is paired with "tuned".
    """
    known = frame.drop_duplicates("label")
    known = known[known["ensemble"] == 0]
    by_parts = {(row.method, row.configuration): str(row.label) for row in each(known)}
    found = []
    for (method, configuration), label in by_parts.items():
        name = method.removesuffix("-sa")
        plain = by_parts.get((name, "tuned"))
        if name != method:
            plain = by_parts.get((name, configuration), plain)
        if plain is not None and (name != method or configuration.startswith("scores")):
            found.append((plain, label))
    size = frame[frame["quantity"] == "cost/parameters"].groupby("label")["value"].max()
    return sorted(found, key=lambda p: (size.get(p[0], np.inf), not same_configuration(p), p))


def same_configuration(pair: Pair) -> bool:
    """Return whether both labels have the same configuration; such pairs come first."""
    return pair[0].partition(":")[2] == pair[1].partition(":")[2]


@styled
def draw_arrows(
    frame: pd.DataFrame,
    axes: Axes,
    colours: Mapping[str, Style] | None = None,
    *,
    pair: Pair,
    linear: bool = False,
) -> None:
    """Draw an arrow at each budget, from the method without scores to the one with scores.

    Args:
        frame: of `Loaded.quantities`, one task and quantity.
        axes: to draw on.
        colours: styles of methods.
        pair: the labels without and with scores.
        linear: whether values are on a linear scale.
    """
    shown = colours or looks(frame["label"])
    found = frame[frame["label"].isin(pair) & frame["value"].notna() & (frame["budget"] > 0)]
    budgets = sorted(set(found["budget"]))
    ends: dict[int, dict[str, tuple[float, float]]] = {}
    for label, aside in zip(pair, (1 / _ASIDE, _ASIDE), strict=True):
        one = found[found["label"] == label]
        x = one["budget"].to_numpy(float) * aside
        axes.errorbar(x, one["value"], one["error"], elinewidth=0.7, **shown[label].points(3.5))
        for budget, place, value in zip(one["budget"], x, one["value"], strict=True):
            ends.setdefault(int(budget), {})[label] = (float(place), float(value))
    for both in ends.values():
        if len(both) == 2:
            axes.annotate("", both[pair[1]], both[pair[0]], arrowprops=_ARROW)
    log_axis(axes.xaxis, np.array(budgets, float))
    axes.set_xticks(budgets, [words.number(b) for b in budgets])
    if not linear and (found["value"] > 0).all():
        log_axis(axes.yaxis, reach(found["value"], found["error"]))


@styled
def draw_times(
    frame: pd.DataFrame,
    axes: Axes,
    colours: Mapping[str, Style] | None = None,
    *,
    pair: Pair,
) -> None:
    """Draw the training time of a member against the budget, without and with scores.

    Args:
        frame: of `Loaded.fits`, one task: means over members, bars from the fastest to the slowest.
        axes: to draw on.
        colours: styles of methods.
        pair: the labels without and with scores.
    """
    shown = colours or looks(frame["label"])
    found = frame[frame["label"].isin(pair) & (frame["seconds"] > 0)]
    budgets = sorted(set(found["budget"]))
    for label, aside in zip(pair, (1 / _ASIDE, _ASIDE), strict=True):
        one = (
            found[found["label"] == label].groupby("budget")["seconds"].agg(["mean", "min", "max"])
        )
        x = one.index.to_numpy(float) * aside
        bars = [one["mean"] - one["min"], one["max"] - one["mean"]]
        axes.plot(x, one["mean"], **shown[label].line(0.8))
        axes.errorbar(x, one["mean"], bars, elinewidth=0.7, **shown[label].points(3.5))
    log_axis(axes.xaxis, np.array(budgets, float))
    axes.set_xticks(budgets, [words.number(b) for b in budgets])
    log_axis(axes.yaxis, found["seconds"].to_numpy(float))
    axes.set_xlabel("simulator calls")


def figures(loaded: Loaded, shown: Mapping[str, Style]) -> Iterator[Figure]:
    """Yield a figure for each task and metric, with a column per size, and one of times."""
    for task, rows in groups(loaded.quantities, "task"):
        every = pairs(rows)
        if not every:
            continue
        found, more = every[:_MOST], [other for _, other in every[_MOST:]]
        left = f" Not drawn: {words.listed(more)}." if more else ""
        names = words.symbols(loaded.registry, str(task))
        for metric, title in _METRICS.items():
            one = rows[rows["metric"] == metric]
            one = one[one["value"].notna() & (one["plan"] != "bootstrap")]
            used = [pair for pair in found if _complete(one, pair)]
            if used:
                yield _arrow_figure(shown, str(task), one, used, metric, title, names, left)
        times = loaded.fits[(loaded.fits["task"] == task) & (loaded.fits["seconds"] > 0)]
        used = [pair for pair in found if _complete(times, pair)]
        if used:
            yield _time_figure(shown, str(task), times, used, left)


def _complete(rows: pd.DataFrame, pair: Pair) -> bool:
    """Return whether both labels have results at a common budget."""
    budgets = [set(rows[rows["label"] == label]["budget"]) for label in pair]
    return bool(budgets[0] & budgets[1])


def _arrow_figure(
    shown: Mapping[str, Style],
    task: str,
    rows: pd.DataFrame,
    used: Sequence[Pair],
    metric: str,
    title: str,
    names: Mapping[str, str],
    left: str,
) -> Figure:
    keys = words.parameters(rows["key"], list(names))

    linear = metric in _LINEAR

    def draw(axes: Any) -> None:
        for line, name in zip(axes, keys, strict=True):
            one = rows[rows["key"] == name]
            for ax, pair in zip(line, used, strict=True):
                draw_arrows(one, ax, shown, pair=pair, linear=linear)
                ax.set(xlabel="simulator calls", ylabel=words.literal(_named(title, name, names)))
            if not linear:
                one = one[one["label"].isin(_labels(used))]
                log_axis(line[0].yaxis, reach(one["value"], one["error"]))
        for ax, pair in zip(axes[0], used, strict=True):
            ax.set_title(column(pair))
        key(axes, {label: shown[label] for label in _labels(used)}, lines=False)

    return Figure(
        name=words.slug("scores", metric, task),
        section="scores",
        task=task,
        title=f"What exact scores add, {title}: {task}",
        caption=(
            "Arrows lead from the method without scores to the one with them, at the same network "
            "and budget. Standard errors over members and datasets. "
            + ("Higher is better." if metric == "overlap_M" else "Lower is better.")
            + left
        ),
        alternative=_alternative(rows, used, keys, title, names),
        size=(_width(used), 0.75 + _ROW * len(keys)),
        draw=laid_out(draw, len(keys), len(used), sharey="row", sharex="col"),
    )


def _labels(used: Sequence[Pair]) -> list[str]:
    return list(dict.fromkeys([plain for plain, _ in used] + [other for _, other in used]))


def _width(used: Sequence[Pair]) -> float:
    return min(PAGE, max(COLUMN, 0.4 + 2.2 * len(used)))


def column(pair: Pair) -> str:
    """Return the title of a column: the configuration of the method with scores.

    It is the whole label where both have the same method, or where there is no configuration.
    """
    name, _, configuration = pair[1].partition(":")
    alone = pair[0].partition(":")[0] != name and configuration
    return words.literal(configuration if alone else pair[1], 18)


def _named(title: str, name: str, names: Mapping[str, str]) -> str:
    return title if not name else f"{title}, {words.bare(words.written(names, name))}"


def _alternative(
    rows: pd.DataFrame,
    used: Sequence[Pair],
    keys: Sequence[str],
    title: str,
    names: Mapping[str, str],
) -> str:
    sentences = []
    for name in keys:
        one = rows[rows["key"] == name].drop_duplicates(["label", "budget"])
        known = {(r.label, r.budget): words.with_error(r.value, r.error) for r in each(one)}
        parts = [
            f"at {words.calls(budget)} {plain} {known[plain, budget]} "
            f"and {other} {known[other, budget]}"
            for plain, other in used
            for budget in sorted(set(rows["budget"]))
            if (plain, budget) in known and (other, budget) in known
        ]
        sentences.append(f"{_named(title, name, names)}: {'; '.join(parts)}.")
    return " ".join(sentences)


def _time_figure(
    shown: Mapping[str, Style], task: str, rows: pd.DataFrame, used: Sequence[Pair], left: str
) -> Figure:
    def draw(axes: Any) -> None:
        for ax, pair in zip(axes.flat, used, strict=True):
            draw_times(rows, ax, shown, pair=pair)
            ax.set_title(column(pair))
            ax.set_ylabel("training time (s)")
        found = rows[rows["label"].isin(_labels(used))]
        log_axis(axes[0, 0].yaxis, found["seconds"].to_numpy(float))
        key(axes, {label: shown[label] for label in _labels(used)})

    parts = []
    for pair in used:
        for label in pair:
            own = rows[rows["label"] == label]
            means = own.groupby("budget", as_index=False)[["seconds"]].mean()
            told = [f"{words.number(r.seconds)} s at {words.calls(r.budget)}" for r in each(means)]
            parts.append(f"{label} {', '.join(told)}")
    return Figure(
        name=words.slug("scores", "time", task),
        section="scores",
        task=task,
        title=f"Training time without and with scores: {task}",
        caption=(
            "Seconds that one member took, means over members with bars from the fastest to the "
            f"slowest. What else ran on the machine is in these times.{left}"
        ),
        alternative=f"Mean training time of a member: {'; '.join(parts)}.",
        size=(_width(used), 2.1),
        draw=laid_out(draw, 1, len(used), sharey=True),
    )


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Return the reason if there are no arrows."""
    drawn = any(pairs(rows) for _, rows in groups(loaded.quantities, "task"))
    reason = "no method stands beside its score-augmented form; `bench run score` makes both"
    return [] if drawn else [("What exact scores add", reason)]
