"""Figures of unusual results: few or many methods, hostile names, missing numbers, no data."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("pandas")

from figure_results import EVERYTHING, drawn, results, svg, texts
from matplotlib import cbook
from matplotlib.figure import Figure as Canvas

import bench
from bench.report.figures import (
    absent,
    bootstrap_k,
    budgets,
    calibration,
    contours,
    cost,
    draw_budgets,
    figures,
    members,
)
from bench.report.figures.style import repel
from bench.report.figures.words import literal

HOSTILE = r"a$x_{1^2$_<b>&\frac{1}--'é中" + '"'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "n"),
    [
        (["lre:tuned"], 1),
        (["lre:tuned", "exact"], 1),
        (["lre:tuned", "dle:tuned"], 30),
        ([f"method-{'long' * 9}-{i}:configuration" for i in range(10)] + ["exact"], 2),
        ([HOSTILE, f"_{HOSTILE}", f"ensemble({HOSTILE}:x,5)", "$", "_", "x\ny", "exact"], 2),
        (["exact"], 1),
    ],
    ids=["one member", "one method", "no exact", "ten methods", "hostile", "exact alone"],
)
def test_odd_results_are_drawn_whole(labels, n):
    found = results(labels, n, task="somewhere", budgets=(50_000,))
    made = list(figures(found))
    methods = [label for label in labels if label != "exact"]
    if methods:
        assert {f.name.split("-")[0] for f in made} >= {"coverage", "width", "contours"}
    for figure in made:
        canvas = drawn(figure)
        ElementTree.fromstring(svg(canvas))
        edge = canvas.bbox
        for text in texts(canvas):
            assert text.get_window_extent().x0 >= edge.x0 - 1.5, (figure.name, text.get_text())
            assert text.get_window_extent().x1 <= edge.x1 + 1.5, (figure.name, text.get_text())
    if methods == labels and made:
        assert not any("exact likelihood on the same" in f.caption for f in made)


def test_hostile_names_are_shown_as_they_are():
    found = results([HOSTILE, "exact"], 1, task=HOSTILE)
    figure = next(f for f in figures(found) if f.name.startswith("coverage"))
    assert re.fullmatch(r"[a-z0-9-]+", figure.name)
    canvas = Canvas(figsize=figure.size)
    figure.draw(canvas)
    labels = [text for text in texts(canvas) if "frac" in text.get_text()]
    assert labels
    text = labels[0].get_text()
    assert not cbook.is_math_text(text)
    assert text.replace("\\$", "$").replace("□", "中") == HOSTILE
    assert literal("_hidden") == "_hidden"


def test_results_without_numbers_are_named_as_absent():
    found = results(["lre:tuned", "exact"], 2, task="somewhere")
    for frame, columns in (
        (found.quantities, ["value", "error"]),
        (found.members, ["value", "error"]),
        (found.calibration, ["coverage", "error"]),
        (found.contours, ["fall"]),
        (found.curves, ["training", "validation"]),
    ):
        frame[columns] = math.nan
    for figure in figures(found):
        drawn(figure)
    reasons = dict(absent(found))
    assert set(reasons) >= {"Calibration", "Cost against quality", "Losses while training"}
    assert all("\n" not in f"{name}{reason}" and reason for name, reason in reasons.items())


def test_nothing_at_all():
    nothing = results([])
    assert list(figures(nothing)) == []
    assert len(absent(nothing)) >= 8


@pytest.mark.parametrize("module", [budgets, calibration, contours, cost, members])
def test_what_is_drawn_is_not_called_absent(module):
    assert module.absent(EVERYTHING) == []
    assert bootstrap_k.absent(results([]))[0][1]


def test_labels_do_not_collide():
    placed = repel([0.5, 0.5, 0.52, 0.1], 0.1, 0, 1)
    assert min(np.diff(sorted(placed))) >= 0.1 - 1e-9
    assert placed[3] == 0.1
    assert np.mean(placed[:3]) == pytest.approx(np.mean([0.5, 0.5, 0.52]))
    assert all(0 <= p <= 1 for p in repel([1.0] * 40, 0.1, 0, 1))


@pytest.mark.slow
def test_markers_of_close_budgets_stay_on_the_axes(made):
    """Budgets differ by a tenth, like those of a method and its calibrated form."""
    results = made()
    results.fit("gaussians-far", "exact")
    for number, budget in enumerate((45_000, 50_000)):
        results.budget = budget
        for other in range(5):
            results.fit("gaussians-far", "lre", f"c{number}{other}", 2)
    frame = bench.load(results.root).quantities.query("quantity == 'coverage/z'")
    axes = Canvas().subplots()
    draw_budgets(frame, axes)
    low, high = axes.get_xlim()
    drawn = np.concatenate([line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 1])
    assert len(drawn) >= 10
    assert low < drawn.min()
    assert drawn.max() < high
