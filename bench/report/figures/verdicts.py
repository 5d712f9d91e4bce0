"""Methods against tasks: whether coverage holds, and the price of honest intervals."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from bench.leaderboard.columns import parenthesised
from bench.leaderboard.verdict import SIGNS
from bench.report.figures.boards import each, groups
from bench.report.figures.colours import INK, Style
from bench.report.figures.style import PAGE, SMALL, Figure, laid_out, styled
from bench.report.figures.words import calls, literal, slug
from bench.report.load import Loaded

_FILL = {"holds": ("#2da578", 0.3), "fails": ("#c30069", 0.25), "undetermined": (INK, 0.06)}
_WORDS = 6  # tasks beside each other whose cells have room for words
_RUN = ["budget", "training_data", "seed"]


def answers(leaderboard: pd.DataFrame) -> pd.DataFrame:
    """Return one verdict and price for each task and method.

    Args:
        leaderboard: of `Loaded.leaderboard`; independent plans count.

    Returns:
        `task, label`, the run's `budget, training_data, seed`, `verdict` and the honest length
        relative to exact as `value` and `error`. The verdict is "holds" if the coverage of all
        parameters holds, "fails" if one fails, else "undetermined".
    """
    found = leaderboard[(leaderboard["plan"] == "independent") & (leaderboard["budget"] > 0)]
    verdicts = found.filter(like="verdict ")
    found = found.assign(
        verdict=[_worst(row.dropna().tolist()) for _, row in verdicts.iterrows()],
        value=found.get("honest length", math.nan),
        error=found.get("honest length error", math.nan),
    )
    kept = found[found["verdict"] != ""]
    return kept[["task", "label", *_RUN, "verdict", "value", "error"]].reset_index(drop=True)


def _worst(verdicts: Sequence[str]) -> str:
    known = [word for word in verdicts if word in _FILL]
    return next((word for word in ("fails", "undetermined", "holds") if word in known), "")


@styled
def draw_verdicts(frame: pd.DataFrame, axes: Axes) -> None:
    """Draw a matrix of methods and tasks, with the verdict and the price in each cell.

    Args:
        frame: of `answers`, one run.
        axes: to draw on.
    """
    methods, tasks = (list(dict.fromkeys(frame[name])) for name in ("label", "task"))
    spelled = len(tasks) <= _WORDS
    for row in each(frame):
        x, y = tasks.index(row.task), methods.index(row.label)
        colour, alpha = _FILL[row.verdict]
        box = (x - 0.48, y - 0.45)
        axes.add_patch(Rectangle(box, 0.96, 0.9, facecolor=colour, alpha=alpha, linewidth=0))
        word = f"{SIGNS[row.verdict]} {row.verdict if spelled else ''}".rstrip()
        for text, height in ((word, -0.18), (_price(row), 0.2)):
            axes.text(x, y + height, text, ha="center", va="center", fontsize=SMALL, color=INK)
    axes.set(xlim=(-0.5, len(tasks) - 0.5), ylim=(len(methods) - 0.5, -0.5))
    axes.set_xticks(range(len(tasks)), [literal(task, 14) for task in tasks])
    axes.set_yticks(range(len(methods)), [literal(method) for method in methods])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _price(row: Any) -> str:
    return parenthesised(row.value, row.error) if math.isfinite(row.value) else ""


def figures(loaded: Loaded, shown: Mapping[str, Style]) -> Iterator[Figure]:
    """Yield a matrix for each budget of the results."""
    for (budget, *_), rows in groups(answers(loaded.leaderboard()), _RUN):
        yield _figure(int(budget), rows)


def _figure(budget: int, rows: pd.DataFrame) -> Figure:
    def draw(axes: Any) -> None:
        draw_verdicts(rows, axes[0, 0])

    told = [f"{r.label} on {r.task}: {r.verdict} {_price(r)}".strip() for r in each(rows)]
    return Figure(
        name=slug("verdicts", budget),
        section="answer",
        task="",
        title=f"Coverage and price of intervals, {calls(budget)}",
        caption=(
            "Whether the coverage of all parameters holds within the tolerance, fails, or is "
            "undetermined; below it the length of honest intervals relative to exact ones."
        ),
        alternative="; ".join(told) + ".",
        size=(PAGE, 0.4 + 0.4 * rows["label"].nunique()),
        draw=laid_out(draw, 1, 1),
    )


def absent(loaded: Loaded) -> list[tuple[str, str]]:
    """Return the reason if no method has a verdict."""
    if answers(loaded.leaderboard()).empty:
        return [("Coverage and price of intervals", "no method has a verdict on its coverage")]
    return []
