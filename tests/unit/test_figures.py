"""Figures of the report: complete, named, legible, reproducible; unusual results; colours."""

import itertools
import math
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from figure_results import EVERYTHING, results, texts
from matplotlib import cbook
from matplotlib.colors import to_hex, to_rgb

from bench.report.colours import DARK, INK, PALETTE, Style, looks
from bench.report.drawings import COLUMN, PAGE, drawn, lay_out
from bench.report.figures import absent, figures
from bench.report.words import literal

KINDS = (
    *("verdicts", "gaps", "features", "members", "contours", "bootstrap-k", "calibration", "cost"),
    *("budgets", "training", "scores-score-ratio", "scores-time", "equivalence"),
)


@pytest.fixture(scope="module")
def shown():
    """Return a figure of each kind with its canvas at both widths."""
    made = list(figures(EVERYTHING))
    chosen = [next(f for f in made if f.name.startswith(kind)) for kind in KINDS]
    return [(f, lay_out(f, width)) for f in chosen for width in (PAGE, COLUMN)]


def outside(canvas):
    """Return the texts that end outside the canvas."""
    edge = canvas.bbox.padded(1.5)
    boxes = {text.get_text(): text.get_window_extent() for text in texts(canvas)}
    return [t for t, box in boxes.items() if not edge.contains(box.x0, box.y0)] + [
        t for t, box in boxes.items() if not edge.contains(box.x1, box.y1)
    ]


@pytest.mark.slow
def test_figures_are_complete_and_named_as_files():
    made = list(figures(EVERYTHING))
    names = [figure.name for figure in made]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]{1,120}", name) for name in names)
    assert absent(EVERYTHING) == []
    assert {(f.section, bool(f.task)) for f in made} == {
        *(("answer", False), ("papers", False), ("task", True))
    }
    for figure in made:
        assert figure.title
        assert figure.caption.endswith(".")
        assert re.search(r"\d", figure.alternative), figure.name
        assert figure.alternative.endswith("."), figure.name
        assert "nan" not in figure.alternative.lower(), figure.name


@pytest.mark.slow
def test_everything_is_legible_and_inside(shown):
    for figure, canvas in shown:
        assert outside(canvas) == [], figure.name
        for text in texts(canvas):
            assert text.get_fontsize() >= 8, (figure.name, text.get_text())
            assert to_hex(text.get_color()) == INK, (figure.name, text.get_text())


@pytest.mark.slow
def test_files_are_the_same_each_time_and_have_colours_for_dark_pages():
    figure = next(f for f in figures(EVERYTHING) if f.name.startswith("gaps"))
    drawing = drawn(figure)
    assert drawing == drawn(figure)
    name = figure.name
    assert [*drawing.files] == [
        *(f"{name}.{form}" for form in ("svg", "pdf", "png")),
        *(f"{name}-column.{form}" for form in ("svg", "pdf")),
    ]
    assert [size[0] for size in drawing.sizes.values()] == [504, 244.8]
    for file, (width, _) in drawing.sizes.items():
        svg = drawing.files[file].decode()
        ElementTree.fromstring(svg)
        rules, _, body = svg.partition("</style>")
        assert f'viewBox="0 0 {width:g} ' in rules
        assert "<image" not in body
        assert "<text" in body
        assert "sans-serif" in body
        used = {*re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", body)}
        assert f"fill: {INK}" in used
        for style in used:
            assert f'[style*="{style}"]' in rules, style


def test_panels_in_a_row_share_their_axis():
    figure = next(f for f in figures(EVERYTHING) if f.name.startswith("scores-score-ratio"))
    limits = {axes.get_ylim() for axes in lay_out(figure, PAGE).axes}
    assert len(limits) == 1


HOSTILE = r"a$x_{1^2$_<b>&\frac'é中" + '"'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "n"),
    [
        (["lre:tuned"], 1),
        (["lre:tuned", "dle:tuned"], 30),
        ([f"method-{'long' * 9}-{i}:configuration" for i in range(10)] + ["exact"], 2),
        ([HOSTILE, f"_{HOSTILE}", f"ensemble({HOSTILE}:x,5)", "$", "_", "x\ny", "exact"], 2),
        (["exact"], 1),
    ],
    ids=["one member", "no exact", "ten methods", "hostile", "exact alone"],
)
def test_odd_results_are_drawn_whole(labels, n):
    made = list(figures(results(labels, n, task=HOSTILE, budgets=(50_000,))))
    if labels != ["exact"]:
        assert {f.name.split("-")[0] for f in made} >= {"members", "gaps", "contours"}
    for figure in made:
        canvas = lay_out(figure, COLUMN)
        assert outside(canvas) == [], figure.name
        assert not any(cbook.is_math_text(text.get_text()) for text in texts(canvas))


def test_hostile_names_are_shown_as_they_are():
    assert literal(HOSTILE).replace("\\$", "$").replace("□", "中") == HOSTILE
    assert literal("_hidden") == "_hidden"
    assert literal("x" * 50, 7) == "xxx…xxx"


def test_missing_figures_have_reasons():
    assert len(absent(results([]))) >= 8
    found = results(["lre:tuned", "exact"], 2, task="somewhere")
    for frame, columns in (
        (found.quantities, ["value", "error"]),
        (found.members, ["value", "error"]),
        (found.calibration, ["coverage", "error"]),
        (found.contours, ["fall"]),
        (found.curves, ["training", "validation"]),
    ):
        frame[columns] = math.nan
    assert not any(f.name.startswith(("members", "cost", "budgets")) for f in figures(found))
    reasons = dict(absent(found))
    assert set(reasons) >= {"Calibration", "Cost against quality", "Losses while training"}
    assert all("\n" not in f"{name}{reason}" and reason for name, reason in reasons.items())
    fair = results(["lre:tuned"], task="higgs-fair", predictions=False)
    assert "download" in dict(absent(fair))["Data of higgs-fair"]


def linear(colour):
    c = np.asarray(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    values = [float(linear(c) @ [0.2126, 0.7152, 0.0722]) + 0.05 for c in (one, other)]
    return max(values) / min(values)


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
    seen = np.clip(np.asarray(vision) @ linear(colour), 0, 1)
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


def test_colours_stand_out_from_pages():
    for light, dark in DARK.items():
        assert contrast(light, "#ffffff") >= (4.5 if light == INK else 3)
        assert contrast(dark, "#111111") >= 4.5
    assert Style(PALETTE[0], "o").dark == DARK[PALETTE[0]]


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("palette", [PALETTE, [DARK[c] for c in PALETTE]], ids=["light", "dark"])
def test_colours_can_be_told_apart(vision, palette):
    seen = [oklab(colour, VISION[vision]) for colour in palette]
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


FORKED = """
import pandas as pd, torch
from bench.report import drawings
from bench.report.colours import looks
from bench.report.figures.style import Figure, Panel

def draw(frame, axes, looks):
    axes.plot(torch.rand(100_000).cos()[:3])

torch.rand(100_000).cos()  # starts threads, which child processes do not have
frame = pd.DataFrame({"label": ["exact"], "value": [1.0], "error": [0.1]})
panels, styles = (Panel(draw, frame),), looks(["exact"])
figures = [Figure(f"f{i}", "", "t", "c", panels, styles) for i in range(16)]
print(len(list(drawings.draw_all(figures))))
"""


@pytest.mark.slow
def test_processes_draw_after_threads_have_run():
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", FORKED]
    drawn = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert drawn.stdout == "16\n"
