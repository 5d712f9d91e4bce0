"""What a figure is: its words, its size, and how it is drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure as Canvas

Section = Literal["papers", "calibration", "cost", "scores", "tasks"]


@dataclass(frozen=True)
class Figure:
    """A figure of the report, drawn when it is asked for.

    Args:
        name: name of its files, unique within a report.
        section: where the report shows it.
        task: the task that it is about, empty if it is about several.
        title: what it shows, in a few words.
        caption: how to read it.
        alternative: what it says, from the numbers, for those who do not see it.
        size: width and height in inches; no text in it is smaller than 7 points at that size.
        draw: draws on an empty matplotlib figure of that size.
    """

    name: str
    section: Section
    task: str
    title: str
    caption: str
    alternative: str
    size: tuple[float, float]
    draw: Callable[[Canvas], None]
