"""Figures as data, and their style."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from importlib.resources import files
from typing import Any, Literal

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes

from bench.boards.columns import parenthesised
from bench.report.colours import Style, looks
from bench.report.tidy import each

_TOLD = 24  # numbers of a panel that are read aloud
STYLE = mpl.rc_params_from_file(
    str(files("bench.report.figures") / "publication.mplstyle"), use_default_template=False
)
Section = Literal["answer", "task", "papers", "validation"]
"""Place in the report: the matrix of all tasks, the page of a task, comparisons with
papers, or diagnostics."""
Looks = Mapping[str, Style]  # by the label of a method
Draw = Callable[..., None]  # draw(frame, axes, looks=None, **options)


@dataclass(frozen=True)
class Panel:
    """Panel of a figure.

    Args:
        draw: function that draws its frame on axes.
        frame: tidy numbers; its columns `label`, `value`, `error` and `at` are read aloud.
        title: above the panel.
        options: of the function.
        numbers: frame that is read aloud instead.
    """

    draw: Draw
    frame: pd.DataFrame
    title: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    numbers: pd.DataFrame | None = None

    @property
    def alternative(self) -> str:
        """Numbers in a sentence."""
        found = (self.frame if self.numbers is None else self.numbers).dropna(subset=["value"])
        told = [
            f"{row.label} {parenthesised(row.value, row.error)}"
            + (f" at {row.at}" if "at" in found else "")
            for row in each(found.head(_TOLD))
        ]
        more = [f"{len(found) - _TOLD} more"] if len(found) > _TOLD else []
        numbers = "; ".join([*told, *more]) or "0 numbers"
        title = " ".join(self.title.split())
        return f"{title}: {numbers}." if title else f"{numbers}."


@dataclass(frozen=True)
class Figure:
    """Figure of the report, drawn on demand.

    Args:
        name: name of its files, unique within a report.
        task: the task, empty for several tasks.
        title: content in a few words.
        caption: how to read it.
        panels: its panels, row by row; None leaves a place empty at page width.
        section: place in the report.
        columns: number of panels beside each other at page width.
        narrow: the same at column width.
        downwards: whether panels fill columns first at page width.
        height: of a row of panels in inches.
        share: whether panels share their vertical axis, all or those in a row.
        methods: labels in the legend.
        legend: further handles by name.
    """

    name: str
    task: str
    title: str
    caption: str
    panels: tuple[Panel | None, ...]
    looks: Looks
    section: Section = "task"
    columns: int = 1
    narrow: int = 1
    downwards: bool = False
    height: float = 1.9
    share: bool | Literal["row"] = False
    methods: Sequence[str] = ()
    legend: Mapping[str, Any] = field(default_factory=dict)

    @property
    def alternative(self) -> str:
        """Main content in words and numbers, for screen readers."""
        return " ".join(panel.alternative for panel in self.panels if panel)


def styled(draw: Callable[..., None]) -> Draw:
    """Make a draw function use the report's style, independent of the caller's settings."""

    @wraps(draw)
    def inside(frame: pd.DataFrame, axes: Axes, given: Looks | None = None, **options: Any) -> None:
        given = options.pop("looks", given) or looks(frame.get("label", frame.get("other", ())))
        with mpl.rc_context(STYLE):
            for axis in (axes.xaxis, axes.yaxis):
                axis.reset_ticks()
            axes.spines[["top", "right"]].set_visible(False)
            draw(frame, axes, given, **options)

    return inside
