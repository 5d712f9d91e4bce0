"""Figures of the report: complete, named, legible, reproducible; unusual results; colours."""

import itertools
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from figure_results import EVERYTHING, drawn, results, svg, texts
from matplotlib import cbook
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure as Canvas

import bench
from bench.report.figures import (
    INK,
    absent,
    bootstrap_k,
    budgets,
    calibration,
    contours,
    cost,
    draw_budgets,
    figures,
    looks,
    members,
)
from bench.report.figures.colours import PALETTE
from bench.report.figures.style import repel
from bench.report.figures.words import literal


@pytest.fixture(scope="module")
def shown():
    return {figure.name: (figure, drawn(figure)) for figure in figures(EVERYTHING)}


@pytest.mark.slow
def test_there_is_every_kind_of_figure(shown):
    kinds = {name.split("-gaussians-near")[0].removesuffix("-sis") for name in shown}
    assert kinds >= {
        *("features", "overlap", "coverage", "width", "contours", "bootstrap-k", "calibration"),
        *(
            "verdicts-1000",
            "cost",
            "budgets",
            "training",
            "scores-score-ratio",
            "scores-time",
            "equivalence",
        ),
    }
    assert [name for name, _ in absent(EVERYTHING)] == []


@pytest.mark.slow
def test_figures_can_be_told_apart_and_named_as_files(shown):
    names = [figure.name for figure in figures(EVERYTHING)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]{1,120}", name) for name in names)
    assert {f.section for f, _ in shown.values()} == {
        *("answer", "papers", "calibration", "cost", "scores", "tasks")
    }


@pytest.mark.slow
def test_words_are_complete(shown):
    for figure, _ in shown.values():
        assert figure.title
        assert figure.caption.endswith(".")
        assert re.search(r"\d", figure.alternative), figure.name
        assert figure.alternative.endswith("."), figure.name
        assert "nan" not in figure.alternative.lower(), figure.name


@pytest.mark.slow
def test_everything_is_legible_and_inside(shown):
    for figure, canvas in shown.values():
        assert figure.size[0] <= 7.0
        edge = canvas.bbox
        for text in texts(canvas):
            assert text.get_fontsize() >= 7, (figure.name, text.get_text())
            assert to_hex(text.get_color()) == INK, (figure.name, text.get_text())
            box = text.get_window_extent()
            assert box.x0 >= edge.x0 - 1.5, (figure.name, text.get_text())
            assert box.y0 >= edge.y0 - 1.5, (figure.name, text.get_text())
            assert box.x1 <= edge.x1 + 1.5, (figure.name, text.get_text())
            assert box.y1 <= edge.y1 + 1.5, (figure.name, text.get_text())


@pytest.mark.slow
def test_drawings_are_vectors_in_known_colours(shown):
    for figure, canvas in shown.values():
        text = svg(canvas)
        ElementTree.fromstring(text)
        assert "<image" not in text, figure.name
        used = {c.lower() for c in re.findall(r"(?:fill|stroke): (#[0-9a-fA-F]{6})", text)}
        assert used <= {INK, *PALETTE}, figure.name
        assert INK in used


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes():
    found = [f for f in figures(EVERYTHING) if f.name.startswith(("coverage", "features"))]
    for figure in found:
        assert svg(drawn(figure)) == svg(drawn(figure))


@pytest.mark.slow
def test_panels_that_share_an_axis_share_its_limits(shown):
    for name in ("scores-score-ratio-gaussians-near", "cost-gaussians-near"):
        first, *others = shown[name][1].axes
        for ax in others:
            assert ax.get_ylim() == first.get_ylim()


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


def luminance(colour):
    c = np.asarray(to_rgb(colour))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


# Machado, Oliveira & Fernandes, IEEE Trans. Vis. Comput. Graph. 15 (2009) 1291, severity 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def oklab(colour, vision):
    """Return the OKLab coordinates (Björn Ottosson, 2020) of a colour as seen."""
    c = np.asarray(to_rgb(colour))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(vision) @ linear, 0, 1)
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.asarray(lab) @ np.cbrt(cones @ seen)


@pytest.mark.parametrize("colour", PALETTE)
@pytest.mark.parametrize("page", ["#ffffff", "#111111"])
def test_colours_stand_out_from_light_and_dark_pages(colour, page):
    assert contrast(colour, page) >= 3


@pytest.mark.parametrize("vision", VISION)
def test_colours_can_be_told_apart(vision):
    seen = [oklab(colour, VISION[vision]) for colour in PALETTE]
    apart = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
    assert apart >= (0.14 if vision == "normal" else 0.08)  # 0.02 is a just noticeable difference


def test_built_ins_keep_their_colours_in_any_company():
    alone, together = looks(["lre:tuned"]), looks(["zzz", "lre:tuned", "dle", "aaa", "exact"])
    assert alone["lre:tuned"] == together["lre:tuned"]
    assert together["exact"].colour == INK


def test_configurations_share_a_colour_and_differ_otherwise():
    labels = ["lre:tuned", "lre:published", "lre:unnormalised", "ensemble(lre:tuned,5)"]
    found = looks(labels)
    assert len({look.colour for look in found.values()}) == 1
    assert len({(look.fill, look.dashes) for look in found.values()}) == len(labels)
    assert found["lre:tuned"].fill == "full"


def test_strangers_get_colours_of_their_own_while_there_are_some():
    labels = [f"method-{i}" for i in range(8)]
    assert len({look.colour for look in looks(labels).values()}) == 8
    assert looks(labels) == looks(reversed(labels))
    many = looks([f"method-{i}" for i in range(16)])
    assert len({(look.colour, look.marker) for look in many.values()}) == 16
