"""Figures of the report: what they draw is what the frames say, and all of it can be read."""

import io
import itertools
import math
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("pandas")

from matplotlib.colors import to_hex, to_rgb  # noqa: E402
from matplotlib.figure import Figure as Canvas  # noqa: E402
from matplotlib.text import Text  # noqa: E402

import bench  # noqa: E402
from bench.report.figures import (  # noqa: E402
    INK,
    absent,
    bootstrap_k,
    budgets,
    calibration,
    contours,
    cost,
    draw_arrows,
    draw_budgets,
    draw_calibration,
    draw_contours,
    draw_cost,
    draw_coverage_against_k,
    draw_equivalence,
    draw_example,
    draw_features,
    draw_members,
    draw_times,
    draw_training,
    equivalence,
    figures,
    looks,
    members,
    samples,
    scores,
)
from bench.report.figures.colours import PALETTE  # noqa: E402
from bench.report.figures.style import literal, spread  # noqa: E402
from bench.stages.registry import Registry  # noqa: E402

HOSTILE = r"a$x_{1^2$_<b>&\frac{1}--'é中" + '"'
LEVELS = [round(0.05 * i, 2) for i in range(1, 20)]
REGISTRY = Registry()


def keys(label, task="gaussians-near", budget=1000, plan="independent", **others):
    method, _, configuration = label.partition(":")
    return {
        "task": task,
        "budget": budget,
        "training_data": "fresh",
        "seed": 0,
        "plan": plan,
        "plan_folder": f"{plan}-1",
        "label": label,
        "method": method,
        "configuration": configuration or "default",
        "family": "",
        "ensemble": 0,
    } | others


def numbers(label, board, rng, n):
    """Quantities and members of one method on one board."""
    base = keys(label, **board)
    quantities, by_member = [], []
    for metric, centre in (("coverage", 0.65), ("width", 0.1), ("overlap_M", 0.9)):
        for key in ("mu", "z", "joint") if metric == "overlap_M" else ("mu", "z"):
            values = centre * (1 + 0.05 * rng.standard_normal(n))
            name = {"quantity": f"{metric}/{key}", "metric": metric, "key": key}
            for member, value in enumerate(values):
                row = {"member": member, "point": -1, "value": value, "error": 0.01, "sets": 100}
                by_member.append(base | name | row)
            told = {"statistic": "", "value": values.mean(), "error": 0.01}
            quantities.append(base | name | told)
            if metric == "width" and label != "exact":
                ratio = {"statistic": "ratio", "value": 1.1, "error": 0.02}
                quantities.append(base | name | ratio | {"quantity": f"width/{key}/ratio"})
    alone = {"score_ratio": 1 + rng.random(), "likelihood_ratio_error": rng.random()}
    for metric, value in alone.items() if label != "exact" else ():
        name = {"quantity": metric, "metric": metric, "key": "", "statistic": ""}
        quantities.append(base | name | {"value": value, "error": 0.05})
    for key, value in (("seconds", 10 * rng.random() + 1), ("calls", board["budget"])):
        name = {"quantity": f"cost/{key}", "metric": "cost", "key": key, "statistic": ""}
        quantities.append(base | name | {"value": float(value), "error": math.nan})
    return quantities, by_member


def window(label, board, shift):
    """A Gaussian likelihood on nodes, at two points."""
    base = keys(label, **board) | {"member": 0}
    x, y = np.linspace(0.05, 0.35, 33), np.linspace(0.5, 1.1, 33)
    grid = np.meshgrid(x, y, indexing="ij")
    fall = -0.5 * (((grid[0] - 0.2 - shift) / 0.05) ** 2 + ((grid[1] - 0.8) / 0.1) ** 2)
    frames, maxima = [], []
    for point in (0, 4):
        at = base | {"point": point, "dataset": point}
        values = {"x": grid[0].ravel(), "y": grid[1].ravel(), "fall": fall.ravel()}
        frames.append(pd.DataFrame(values).assign(**at, x_name="mu", y_name="z"))
        ends = {"x_true": 0.2, "y_true": 0.8, "x_mle": 0.2 + shift, "y_mle": 0.8}
        maxima.append(at | ends)
    return frames, maxima


class Made:
    """What `bench.load` would give, made up."""

    def __init__(self, **frames):
        vars(self).update(frames)


def results(labels, n=3, task="gaussians-near", budgets=(1000,), predictions=True, studies=None):
    rng = np.random.default_rng(1)
    quantities, by_member, fits, curves, levels = [], [], [], [], []
    grids, maxima = [], []
    for label, budget in itertools.product(labels, budgets):
        board = {"task": task, "budget": budget}
        more = numbers(label, board, rng, 1 if label == "exact" else n)
        quantities += more[0]
        by_member += more[1]
        of_fit = {k: v for k, v in keys(label, **board).items() if not k.startswith("plan")}
        for member in range(n if label != "exact" else 0):
            spent = {"status": "done", "seconds": 5.0 + member, "calls": budget}
            fits.append(of_fit | {"member": member} | spent)
            for epoch in range(1, 6):
                losses = {"training": 1 / epoch, "validation": 1 / epoch + 0.01 * member}
                at = {"member": member, "component": "signal", "epoch": epoch}
                curves.append(of_fit | at | losses)
        if predictions:
            for parameter, level in itertools.product(("mu", "z", "joint"), LEVELS):
                told = {"parameter": parameter, "level": level, "coverage": level - 0.03}
                band = {"low": max(level - 0.1, 0), "high": min(level + 0.1, 1)}
                levels.append(keys(label, **board) | told | band | {"error": 0.02, "datasets": 100})
            found = window(label, board, 0.01 * len(label) if label != "exact" else 0.0)
            grids += found[0]
            maxima += found[1]
    plain = list(keys("exact"))
    of_fits = [k for k in plain if not k.startswith("plan")]

    def frame(rows, columns):
        return pd.DataFrame(rows, columns=None if rows else columns)

    by_quantity = ["quantity", "metric", "key", "statistic", "value", "error"]
    where = ["member", "point", "quantity", "metric", "key", "value", "error", "sets"]
    by_level = ["parameter", "level", "coverage", "error", "low", "high", "datasets"]
    by_node = ["member", "point", "dataset", "x_name", "y_name", "x", "y", "fall"]
    losses = ["member", "component", "epoch", "training", "validation"]
    return Made(
        quantities=frame(quantities, plain + by_quantity),
        members=frame(by_member, plain + where),
        fits=frame(fits, [*of_fits, "member", "status", "seconds", "calls"]),
        curves=frame(curves, of_fits + losses),
        calibration=frame(levels, plain + by_level),
        contours=pd.concat(grids) if grids else frame([], plain + by_node),
        maxima=frame(maxima, [*plain, "point", "x_true", "y_true", "x_mle", "y_mle"]),
        studies=studies or {},
        registry=REGISTRY,
        boards=[],
        results=SimpleNamespace(fits=[], plans={}),
    )


def bootstrap_table(task="gaussians-near"):
    rows = []
    for quantity, (k, value) in itertools.product(
        ("coverage/mu", "region_coverage"), ((1, 0.53), (9, 0.66), (math.nan, 0.68))
    ):
        independent = math.isnan(k)
        rows.append(
            {
                "task": task,
                "plan": "independent" if independent else "bootstrap",
                "observations": 1000,
                "multiple": k,
                "stratified": not independent,
                "quantity": quantity,
                "value": value + (0.25 if quantity.startswith("region") else 0),
                "error": 0.01,
                "expected": value,
            }
        )
    return pd.DataFrame(rows)


def equivalence_table():
    base = {"task": "sis", "plan": "independent-1", "plain": "nler:tuned", "other": "nler-sa:tuned"}
    base |= {"members": 5, "plain_members": 5, "largest": 100_000}
    rows = [
        {"metric": "score_error/outbreak.lambda", "value": 10.0, "low": 8.0, "beyond": ">"},
        {"metric": "bce/outbreak", "value": 3.0, "low": 0.0, "beyond": ""},
        {"metric": "mle_distance/lambda", "value": math.nan, "low": math.nan, "beyond": ""},
    ]
    high = {"high": math.inf, "budget": 1000}
    return pd.DataFrame([base | row | high for row in rows])


def drawn(figure):
    canvas = Canvas(figsize=figure.size)
    figure.draw(canvas)
    return canvas


def svg(canvas):
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "nlbench"}):
        canvas.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return buffer.getvalue()


def texts(canvas):
    """Every text that is drawn: labels of ticks beyond the limits and of hidden axes are not."""
    canvas.draw_without_rendering()
    hidden = {
        label
        for axes in canvas.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in [*axis.majorTicks, *axis.minorTicks]
        for label in (tick.label1, tick.label2)
        if not axes.get_visible() or not _within(tick.get_loc(), axis.get_view_interval())
    }
    for axes in canvas.axes:
        hidden |= set() if axes.get_visible() else set(axes.findobj(Text))
    found = (t for t in canvas.findobj(Text) if t.get_visible() and t.get_text().strip())
    return [text for text in found if text not in hidden]


def _within(place, interval):
    low, high = sorted(interval)
    return low - 1e-9 <= place <= high + 1e-9


EVERYTHING = results(
    ["nler:tuned", "nler-sa:tuned", "lre:published", "exact"],
    n=9,
    budgets=(1000, 10_000),
    studies={"bootstrap-k": bootstrap_table(), "equivalence": equivalence_table()},
)


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


# Colours


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
    """Björn Ottosson's OKLab (2020) of a colour as seen."""
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
    assert apart >= (0.14 if vision == "normal" else 0.08)  # 0.02 is just noticeable


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


# What is drawn is what the frames say


def test_members_are_ticks_at_their_means_over_the_headline_datasets():
    base = keys("lre:tuned") | {"quantity": "coverage/mu", "metric": "coverage", "key": "mu"}
    rows = [
        base | {"member": m, "point": p, "value": v, "error": 0.1, "sets": n}
        for m, p, v, n in ((0, 0, 0.2, 10), (0, 1, 0.8, 30), (1, 0, 0.4, 10), (1, 1, 0.4, 30))
    ]
    found = members.means(pd.DataFrame(rows))
    assert found["value"].tolist() == pytest.approx([0.65, 0.4])
    assert found["error"].tolist() == pytest.approx([math.hypot(1, 3) / 40] * 2)
    uniform = [row | {"point": -1, "value": 0.5} for row in rows[::2]]
    assert members.means(pd.DataFrame(rows + uniform))["value"].tolist() == [0.5, 0.5]

    axes = Canvas().subplots()
    summary = pd.DataFrame([{"label": "lre:tuned", "value": 0.6, "error": 0.05}])
    draw_members(pd.DataFrame(rows), axes, summary=summary, expected=0.6827)
    bar = axes.collections[0].get_segments()
    ticks = np.asarray(axes.lines[0].get_xdata(), float)  # one line, broken by NaN
    assert sorted(set(ticks[np.isfinite(ticks)])) == pytest.approx([0.4, 0.65])
    assert sorted(p[0] for p in bar[0]) == pytest.approx([0.55, 0.65])
    assert axes.lines[-1].get_xdata()[0] == pytest.approx(0.6827)


def test_panels_side_by_side_have_the_same_rows():
    frame = EVERYTHING.members.query("quantity == 'coverage/mu' and budget == 1000")
    axes = Canvas().subplots()
    order = ["nler:tuned", "missing", "lre:published"]
    draw_members(frame[frame["label"].isin(order)], axes, order=order)
    assert [label.get_text() for label in axes.get_yticklabels()] == order
    places = {float(y) for line in axes.lines for y in np.atleast_1d(line.get_ydata())}
    assert not any(0.5 < y < 1.5 for y in places)


def test_contours_are_where_the_likelihood_has_fallen():
    one, other = contours.SIGMAS
    assert (one, other) == pytest.approx((1.1479, 3.0900), abs=1e-4)  # χ²₂ of 68.27 and 95.45 %
    frames, maxima = window("lre:tuned", {"task": "t", "budget": 1}, 0.0)
    axes = Canvas().subplots()
    draw_contours(frames[0], axes, maxima=pd.DataFrame(maxima[:1]))
    found = [c.get_paths()[0].vertices for c in axes.collections]
    for sigma, vertices in zip((one, other), found, strict=True):
        radius = np.hypot((vertices[:, 0] - 0.2) / 0.05, (vertices[:, 1] - 0.8) / 0.1)
        assert radius == pytest.approx(math.sqrt(2 * sigma), abs=0.03)
    assert axes.get_xlabel() == "μ"


def test_calibration_is_coverage_over_level():
    frame = EVERYTHING.calibration.query("label == 'lre:published' and budget == 1000")
    frame = frame[frame["parameter"] == "mu"]
    for difference, expected in ((False, np.array(LEVELS) - 0.03), (True, np.full(19, -0.03))):
        axes = Canvas().subplots()
        draw_calibration(frame, axes, difference=difference)
        line = next(x for x in axes.lines if len(x.get_xdata()) == 19)
        assert line.get_ydata() == pytest.approx(expected)
        band = axes.collections[0].get_paths()[0].vertices
        assert band[:, 1].max() == pytest.approx(0.1 if difference else 1.0)


def test_the_front_is_what_nothing_beats():
    x, y = [1.0, 2.0, 2.0, 3.0], [3.0, 2.0, 1.5, 1.6]
    assert cost.front(x, y) == [0, 2]
    assert cost.front([], []) == []


def test_cost_stands_at_its_seconds_and_calls():
    rows = cost.points(EVERYTHING.quantities)
    assert set(rows["label"]) == {"nler:tuned", "nler-sa:tuned", "lre:published"}
    axes = Canvas().subplots()
    draw_cost(rows, axes, x="calls")
    places = {float(x) for line in axes.lines for x in line.get_xdata()}
    assert {1000.0, 10_000.0} <= places
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_arrows_lead_from_without_scores_to_with():
    pair = ("nler:tuned", "nler-sa:tuned")
    assert scores.pairs(EVERYTHING.quantities) == [pair]
    frame = EVERYTHING.quantities.query("quantity == 'score_ratio'")
    axes = Canvas().subplots()
    draw_arrows(frame, axes, pair=pair)
    values = frame.set_index(["label", "budget"])["value"]
    ends = sorted((arrow.xyann, arrow.xy) for arrow in axes.texts)
    assert len(ends) == 2
    for (start, end), budget in zip(ends, (1000, 10_000), strict=True):
        assert start[1] == values[pair[0], budget]
        assert end[1] == values[pair[1], budget]
        assert start[0] < budget < end[0]


def test_scores_of_other_names_are_paired_with_the_same_network():
    labels = ["a-sa:3k", "a:3k", "a:tuned", "a-sa:fixed", "b-sa:tuned"]
    labels += ["lre:scores", "lre:tuned", "lre:scores-light"]
    frame = pd.DataFrame([keys(x) | {"quantity": "x", "value": 1.0} for x in labels])
    assert scores.pairs(frame) == [
        *(("a:3k", "a-sa:3k"), ("a:tuned", "a-sa:fixed")),
        *(("lre:tuned", "lre:scores"), ("lre:tuned", "lre:scores-light")),
    ]


def test_every_method_is_drawn_once_before_its_variants():
    others = ["a-sa:3k", "a-sa:tuned", "a-sa:light", "b:scores", "b:scores-light", "c:scores"]
    plain = ["a:3k", "a:tuned", "a:tuned", "b:tuned", "b:tuned", "c:tuned"]
    every = list(zip(plain, others, strict=True))
    placed = sorted(every, key=lambda pair: equivalence._place(pair, every))
    assert [other for _, other in placed] == [
        *("a-sa:3k", "a-sa:tuned", "b:scores", "c:scores", "b:scores-light", "a-sa:light")
    ]


def test_panels_that_share_an_axis_share_its_limits(shown):
    for name in ("scores-score-ratio-gaussians-near", "cost-gaussians-near"):
        first, *others = shown[name][1].axes
        for ax in others:
            assert ax.get_ylim() == first.get_ylim()


def test_the_best_epoch_is_marked():
    axes = Canvas().subplots()
    frame = EVERYTHING.curves.query("label == 'lre:published' and budget == 1000 and member == 2")
    draw_training(frame, axes)
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [(d.get_xdata()[0], d.get_ydata()[0]) for d in dots] == [(5, pytest.approx(0.22))]
    assert np.isnan(dots[0].get_xdata()[1:]).all()


def test_factors_that_budgets_end_before_are_open():
    axes = Canvas().subplots()
    draw_equivalence(equivalence_table(), axes)
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == "none" for line in marks] == [True, False]
    assert [float(np.ravel(line.get_xdata())[0]) for line in marks] == [10.0, 3.0]
    assert len(marks) == 2  # what is not finite is not drawn
    assert len(axes.texts) == 1  # the arrow


def test_panels_of_factors_share_rows_and_markers():
    """A flow has no cross-entropy, and may be there at one budget alone."""
    table = equivalence_table()
    flow = table[~table["metric"].str.startswith("bce")].assign(
        plain="dle:tuned", other="dle:scores", budget=10_000
    )
    studies = {"equivalence": pd.concat([flow, table], ignore_index=True)}
    loaded = type("Loaded", (), {"studies": studies, "registry": REGISTRY})()
    (figure,) = equivalence.figures(loaded, {})
    canvas = drawn(figure)
    first, second = canvas.axes[:2]
    assert [ax.get_title(loc="left") or ax.get_title() for ax in (first, second)] == [
        "tuned",
        "dle:scores",
    ]
    labels = [label.get_text() for label in first.get_yticklabels()]
    assert [label.partition(",")[0] for label in labels] == [
        "score error",
        "held-out BCE",
        "MLE distance",
    ]
    rows = [
        {round(float(np.ravel(line.get_ydata())[0])) for line in ax.lines if line.get_marker() == m}
        for ax, m in ((first, "o"), (second, "s"))
    ]
    assert rows == [{0, 1}, {0}]
    assert not any(line.get_marker() == "o" for line in second.lines)


def test_bootstrap_coverage_and_formula():
    axes = Canvas().subplots()
    table = bootstrap_table()
    draw_coverage_against_k(table[table["quantity"] == "coverage/mu"], axes)
    formula = axes.lines[0]
    assert formula.get_ydata()[[0, -1]] == pytest.approx([0.5205, 0.6572], abs=1e-4)
    points = next(line for line in axes.lines if line.get_marker() == "o")
    assert points.get_ydata() == pytest.approx([0.53, 0.66])


def test_learning_curves_go_through_their_quantities():
    frame = EVERYTHING.quantities.query("quantity == 'coverage/mu' and label != 'nler:tuned'")
    axes = Canvas().subplots()
    draw_budgets(frame, axes)
    found = {tuple(np.round(np.asarray(line.get_ydata(), float), 9)) for line in axes.lines}
    for label in ("nler-sa:tuned", "lre:published"):
        assert tuple(frame[frame["label"] == label]["value"].round(9)) in found


def test_times_are_means_over_members():
    axes = Canvas().subplots()
    draw_times(EVERYTHING.fits, axes, pair=("nler:tuned", "nler-sa:tuned"))
    assert axes.lines[0].get_ydata() == pytest.approx([9.0, 9.0])  # 5 to 13 seconds


def test_data_are_the_tasks_own():
    task = REGISTRY.task("gaussians-near")
    frame = samples.drawn(task)
    settings = samples.settings(task)
    assert settings[:, 0].tolist() == pytest.approx(
        [0.15 * math.pi, 0.25 * math.pi, 0.35 * math.pi]
    )
    assert frame.equals(samples.drawn(task))
    mean = frame[frame["panel"] == 0].groupby(["component", "element"])["value"].mean()
    assert mean["background", 0] == pytest.approx(0.5 * math.cos(0.15 * math.pi), abs=0.3)
    axes = Canvas().subplots()
    draw_features(frame, axes, task=task, panel=2)
    assert len(axes.lines) == 2
    assert len(axes.collections) == 2  # contours of both components

    field = REGISTRY.task("gp")
    cells = draw_example(samples.drawn(field), Canvas().subplots(), task=field)
    assert cells.get_array().size == 256


def test_data_that_are_a_download_are_not_drawn():
    found = results(["lre:tuned"], task="higgs-fair", predictions=False)
    assert not [f for f in figures(found) if f.section == "tasks"]
    assert "download" in dict(absent(found))["Data of higgs-fair"]


# Odd results


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
    text, is_math = labels[0]._preprocess_math(labels[0].get_text())
    assert not is_math
    assert text.replace("□", "中") == HOSTILE
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
    placed = spread([0.5, 0.5, 0.52, 0.1], 0.1, 0, 1)
    assert min(np.diff(sorted(placed))) >= 0.1 - 1e-9
    assert placed[3] == 0.1
    assert np.mean(placed[:3]) == pytest.approx(np.mean([0.5, 0.5, 0.52]))
    assert all(0 <= p <= 1 for p in spread([1.0] * 40, 0.1, 0, 1))


def test_markers_of_close_budgets_stay_on_the_axes(made):
    """Budgets a tenth apart, as of a method and its calibrated form."""
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
