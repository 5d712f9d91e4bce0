"""Draws example data of the processes: `python results/examples.py`, to results/studies.

An epidemic's counts with the numbers of infected behind them, and fields at three length scales.
"""

from pathlib import Path
from typing import Any

import torch
from bench.tasks.gaussian_process import gp, student_t
from bench.tasks.sis import Outbreak

from bench.contracts import Task
from bench.seeds import generator
from bench.studies.drawing import drawn

OUTBREAKS = ((0.6, 0.6), (1.0, 0.4), (1.4, 0.2))
FIELDS: tuple[tuple[Task, str, float], ...] = ((gp(), "τ²", 0.2), (student_t(), "ν", 4.0))
LENGTHS = (0.1, 0.2, 0.3)
OUT = Path(__file__).parent / "studies"


def epidemic(axes: Any, outbreak: Outbreak, rates: tuple[float, float]) -> None:
    """Draws one trajectory: the hidden state, and the counts of it."""
    rng = generator("examples", "outbreak", *map(str, rates))
    infected = outbreak.path(torch.tensor([rates]), rng)[0]
    seen = torch.full_like(infected, outbreak.detection)
    counts = torch.binomial(infected, seen, generator=rng)
    times = outbreak.interval * torch.arange(1, outbreak.times + 1)
    axes.step(times, infected, where="mid", color="0.6", label="infected (hidden)")
    axes.plot(times, counts, "o", color="C0", markersize=3, label="counted")
    axes.set(title=f"λ = {rates[0]}, γ = {rates[1]}", xlabel="time", ylim=(-1, outbreak.population))


def draw(figure: Any) -> None:
    """Draws a row for every task."""
    panels = figure.subplots(3, 3)
    for axes, rates in zip(panels[0], OUTBREAKS, strict=True):
        epidemic(axes, Outbreak(), rates)
    panels[0, 0].set_ylabel("individuals")
    panels[0, 0].legend(loc="upper left", frameon=False)
    for row, (task, symbol, value) in zip(panels[1:], FIELDS, strict=True):
        (field,) = task.components("test").values()
        drawings = []
        for axes, length in zip(row, LENGTHS, strict=True):
            # The same noise in every panel, so that the length scale alone changes.
            x = field.simulate(torch.tensor([[length, value]]), generator("examples", task.name))
            drawings.append(axes.imshow(x[0], cmap="RdBu_r", origin="lower", vmin=-3, vmax=3))
            axes.set(title=f"ℓ = {length}, {symbol} = {value:g}", xticks=[], yticks=[])
        row[0].set_ylabel(task.name)
        figure.colorbar(drawings[-1], ax=list(row), extend="both", shrink=0.9)


if __name__ == "__main__":
    for form, content in drawn(draw, (9, 8)).items():
        (OUT / f"examples.{form}").write_bytes(content)
