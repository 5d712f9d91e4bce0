"""Figures of the report: complete, named, described, legible and reproducible."""

import re
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("pandas")

from figure_results import EVERYTHING, drawn, svg, texts
from matplotlib.colors import to_hex

from bench.report.figures import INK, absent, figures
from bench.report.figures.colours import PALETTE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shown():
    return {figure.name: (figure, drawn(figure)) for figure in figures(EVERYTHING)}


def test_there_is_every_kind_of_figure(shown):
    kinds = {name.split("-gaussians-near")[0].removesuffix("-sis") for name in shown}
    assert kinds >= {
        *("features", "overlap", "coverage", "width", "contours", "bootstrap-k", "calibration"),
        *("cost", "budgets", "training", "scores-score-ratio", "scores-time", "equivalence"),
    }
    assert [name for name, _ in absent(EVERYTHING)] == []


def test_figures_can_be_told_apart_and_named_as_files(shown):
    names = [figure.name for figure in figures(EVERYTHING)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]{1,120}", name) for name in names)
    assert {f.section for f, _ in shown.values()} == {
        *("papers", "calibration", "cost", "scores", "tasks")
    }


def test_words_are_complete(shown):
    for figure, _ in shown.values():
        assert figure.title
        assert figure.caption.endswith(".")
        assert re.search(r"\d", figure.alternative), figure.name
        assert figure.alternative.endswith("."), figure.name
        assert "nan" not in figure.alternative.lower(), figure.name


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


def test_drawings_are_vectors_in_known_colours(shown):
    for figure, canvas in shown.values():
        text = svg(canvas)
        ElementTree.fromstring(text)
        assert "<image" not in text, figure.name
        used = {c.lower() for c in re.findall(r"(?:fill|stroke): (#[0-9a-fA-F]{6})", text)}
        assert used <= {INK, *PALETTE}, figure.name
        assert INK in used


def test_the_same_results_give_the_same_bytes():
    found = [f for f in figures(EVERYTHING) if f.name.startswith(("coverage", "features"))]
    for figure in found:
        assert svg(drawn(figure)) == svg(drawn(figure))


def test_panels_that_share_an_axis_share_its_limits(shown):
    for name in ("scores-score-ratio-gaussians-near", "cost-gaussians-near"):
        first, *others = shown[name][1].axes
        for ax in others:
            assert ax.get_ylim() == first.get_ylim()
