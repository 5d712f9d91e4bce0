"""Values in figures agree with the frames."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_results import (
    EVERYTHING,
    LEVELS,
    REGISTRY,
    bootstrap_table,
    equivalence_table,
    keys,
    window,
)
from matplotlib.figure import Figure as Canvas

from bench.report.drawings import PAGE, lay_out
from bench.report.examples import examples, settings
from bench.report.figures import (
    answers,
    contours,
    costs,
    draw_arrows,
    draw_budgets,
    draw_calibration,
    draw_contours,
    draw_cost,
    draw_coverage_against_k,
    draw_equivalence,
    draw_example,
    draw_features,
    draw_gaps,
    draw_members,
    draw_nuisances,
    draw_training,
    draw_verdicts,
    looks_of,
    nuisances,
    scores,
)
from bench.report.load import load
from bench.report.tidy import by_importance, front, member_means, pairs, times


@pytest.fixture
def axes():
    return Canvas().subplots()


def values(axes, marker, of="y"):
    """Return the coordinates of all points with a marker."""
    found = [line for line in axes.lines if getattr(line.get_marker(), "_marker", None) == marker]
    found = found or [line for line in axes.lines if line.get_marker() == marker]
    return [float(v) for line in found for v in getattr(line, f"get_{of}data")()]


def test_members_are_at_their_means_over_the_headline_datasets(axes):
    base = keys("lre:tuned") | {"quantity": "coverage/mu", "metric": "coverage", "key": "mu"}
    rows = [
        base | {"member": m, "point": p, "value": v, "error": 0.1, "sets": n}
        for m, p, v, n in ((0, 0, 0.2, 10), (0, 1, 0.8, 30), (1, 0, 0.4, 10), (1, 1, 0.4, 30))
    ]
    found = member_means(pd.DataFrame(rows))
    assert found["value"].tolist() == pytest.approx([0.65, 0.4])
    assert found["error"].tolist() == pytest.approx([math.hypot(1, 3) / 40] * 2)
    uniform = [row | {"point": -1, "value": 0.5} for row in rows[::2]]
    assert member_means(pd.DataFrame(rows + uniform))["value"].tolist() == [0.5, 0.5]

    summary = pd.DataFrame([{"label": "lre:tuned", "value": 0.6, "error": 0.05}])
    order = ["missing", "lre:tuned"]
    draw_members(pd.DataFrame(rows), axes, summary=summary, expected=0.6827, order=order)
    strip, bar = axes.collections[-2:]
    assert sorted(strip.get_offsets()[:, 0]) == pytest.approx([0.4, 0.65])
    assert bar.get_segments()[0] == pytest.approx(np.array([[0.55, 1], [0.65, 1]]))
    assert axes.lines[-1].get_xdata()[0] == pytest.approx(0.6827)
    assert [label.get_text() for label in axes.get_yticklabels()] == order


def test_contours_and_bands_are_where_the_likelihood_has_fallen(axes):
    assert pytest.approx(1.1479, abs=1e-4) == contours.SIGMA  # χ²₂ of 68.27 %
    members = [
        window("lre:tuned", {"task": "t", "budget": 1}, s, m)
        for m, s in enumerate((-0.01, 0, 0.01))
    ]
    frame = pd.concat([frames[0] for frames, _ in members])
    draw_contours(frame, axes, maxima=pd.DataFrame(members[0][1][:1]))
    band, line = axes.collections
    vertices = line.get_paths()[0].vertices
    radius = np.hypot((vertices[:, 0] - 0.2) / 0.05, (vertices[:, 1] - 0.8) / 0.1)
    assert radius == pytest.approx(math.sqrt(2 * contours.SIGMA), abs=0.1)
    across = band.get_paths()[0].vertices
    near = across[np.abs(across[:, 1] - 0.8) < 0.005, 0]
    half = 0.05 * math.sqrt(2 * contours.SIGMA)
    assert near.max() == pytest.approx(0.2 + half + 0.01, abs=0.003)
    assert near[near > 0.2].min() == pytest.approx(0.2 + half - 0.01, abs=0.003)
    assert axes.get_xlabel() == "μ"


def test_panels_of_contours_have_one_scale():
    boxes = np.array([[[0, 1], [0, 2]], [[0.2, 1.1], [0, 1]], [[0, 1], [0, 1]]], float)
    assert np.array_equal(contours.common_limits(boxes)[2], [[0, 1.1], [0, 2]])
    boxes[1, 0] += 5
    limits = np.array(contours.common_limits(boxes))
    assert np.ptp(limits, axis=2) == pytest.approx(np.array([[1, 2]] * 3))
    assert limits[1, 0].mean() == pytest.approx(5.65)


@pytest.mark.parametrize(
    ("difference", "expected"), [(False, np.array(LEVELS) - 0.03), (True, [-0.03] * 19)]
)
def test_calibration_is_coverage_over_level(axes, difference, expected):
    frame = EVERYTHING.calibration.query("label == 'lre:published' and budget == 1000")
    draw_calibration(frame[frame["parameter"] == "mu"], axes, difference=difference)
    line = next(x for x in axes.lines if len(x.get_xdata()) == 19)
    assert line.get_ydata() == pytest.approx(100 * np.asarray(expected))
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(10 if difference else 100)


def test_cost_is_at_its_seconds_and_calls_and_outliers_are_marked(axes):
    assert front([1.0, 2.0, 2.0, 3.0], [3.0, 2.0, 1.5, 1.6]) == [0, 2]
    assert front([], []) == []
    rows = costs(EVERYTHING.quantities)
    assert set(rows["label"]) == {"nler:tuned", "nler-sa:tuned", "lre:published"}
    rows.loc[0, "value"] = 1e4
    draw_cost(rows, axes, x="calls")
    places = {float(x) for line in axes.lines for x in line.get_xdata()}
    assert {1000.0, 10_000.0} <= places
    assert axes.get_ylim()[1] < 100
    assert 0.985 in values(axes, "^")


def test_gaps_are_drawn_with_their_intervals(axes):
    gap = {"gap mu": 0.02, "gap mu low": -0.01, "gap mu high": 0.05, "honest length": 1.2}
    far = {"gap mu": -0.6, "gap mu low": -0.7, "gap mu high": -0.5, "honest length": 1.1}
    rows = [{"label": "lre:tuned"} | gap, {"label": "dle:tuned"} | far]
    frame = pd.DataFrame(rows).assign(**{"honest length error": 0.05})
    draw_gaps(frame, axes, parameter="mu", tolerance=0.05)
    bar = axes.collections[0].get_segments()[0]
    assert bar == pytest.approx(np.array([[-1, 0], [5, 0]]))
    assert axes.get_xlim() == pytest.approx((-73.5, 73.5))
    lengths = Canvas().subplots()
    draw_gaps(frame, lengths)
    assert lengths.collections[0].get_segments()[0][:, 0] == pytest.approx([1.15, 1.25])


def test_arrows_lead_from_without_scores_to_with(axes):
    pair = ("nler:tuned", "nler-sa:tuned")
    assert pairs(EVERYTHING.quantities) == [pair]
    frame = EVERYTHING.quantities.query("quantity == 'score_ratio'")
    draw_arrows(frame, axes, pair=pair)
    value = frame.set_index(["label", "budget"])["value"]
    ends = sorted((arrow.xyann, arrow.xy) for arrow in axes.texts)
    for (start, end), budget in zip(ends, (1000, 10_000), strict=True):
        assert (start[1], end[1]) == (value[pair[0], budget], value[pair[1], budget])
        assert start[0] < budget < end[0]
    spent = times(EVERYTHING.fits).query("label == 'nler:tuned'")
    assert spent["value"].tolist() == [9.0, 9.0]  # 5 to 13 seconds


def test_scores_of_other_names_are_paired_with_the_same_network():
    labels = ["a-sa:3k", "a:3k", "a:tuned", "a-sa:fixed", "b-sa:tuned"]
    labels += ["lre:scores", "lre:tuned", "lre:scores-light"]
    frame = pd.DataFrame([keys(x) | {"quantity": "x", "value": 1.0} for x in labels])
    assert pairs(frame) == [
        *(("a:3k", "a-sa:3k"), ("a:tuned", "a-sa:fixed")),
        *(("lre:tuned", "lre:scores"), ("lre:tuned", "lre:scores-light")),
    ]


def test_every_method_is_drawn_once_before_its_variants():
    others = ["a-sa:3k", "a-sa:tuned", "a-sa:light", "b:scores", "b:scores-light", "c:scores"]
    plain = ["a:3k", "a:tuned", "a:tuned", "b:tuned", "b:tuned", "c:tuned"]
    placed = by_importance(list(zip(plain, others, strict=True)))
    assert [other for _, other in placed] == [
        *("a-sa:3k", "a-sa:tuned", "b:scores", "c:scores", "b:scores-light", "a-sa:light")
    ]


def test_the_best_epoch_is_marked(axes):
    frame = EVERYTHING.curves.query("label == 'lre:published' and budget == 1000 and member == 2")
    draw_training(frame, axes)
    assert (values(axes, "o", "x"), values(axes, "o")) == ([5], [pytest.approx(0.22)])


def test_factors_that_budgets_end_before_are_open(axes):
    draw_equivalence(equivalence_table(), axes)
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == "none" for line in marks] == [True, False]
    assert values(axes, "o", "x") == [10.0, 3.0]  # values that are not finite are not drawn
    assert len(axes.texts) == 1  # the arrow


def test_panels_of_factors_share_rows_and_markers():
    """A flow has no cross-entropy, and may have results at one budget only."""
    table = equivalence_table()
    flow = table[~table["metric"].str.startswith("bce")].assign(
        plain="dle:tuned", other="dle:scores", budget=10_000
    )
    studies = {"equivalence": pd.concat([flow, table], ignore_index=True)}
    loaded = type("Loaded", (), {"studies": studies, "registry": REGISTRY})()
    (figure,) = scores.equivalences(loaded, {})
    first, second = lay_out(figure, PAGE).axes[:2]
    assert first.get_title(loc="left") == "nler-sa:tuned"
    labels = [label.get_text() for label in first.get_yticklabels()]
    assert labels == ["score error outbreak λ", "held-out BCE outbreak", "MLE distance λ"]
    assert {round(y) for y in values(first, "o")} == {0, 1}
    assert {round(y) for y in values(second, "s")} == {0}
    assert values(second, "o") == []


def test_bootstrap_coverage_and_formula(axes):
    table = bootstrap_table()
    draw_coverage_against_k(table[table["quantity"] == "coverage/mu"], axes)
    assert axes.lines[0].get_ydata()[[0, -1]] == pytest.approx([0.5205, 0.6572], abs=1e-4)
    assert values(axes, "o") == pytest.approx([0.53, 0.66])


def test_learning_curves_go_through_their_quantities_and_stay_inside(axes):
    frame = EVERYTHING.quantities.query("quantity == 'coverage/mu' and label != 'nler:tuned'")
    close = frame.assign(budget=frame["budget"].replace({10_000: 1100}))
    draw_budgets(close, axes)
    found = {tuple(np.round(np.asarray(line.get_ydata(), float), 9)) for line in axes.lines}
    for label in ("nler-sa:tuned", "lre:published"):
        assert tuple(frame[frame["label"] == label]["value"].round(9)) in found
    low, high = axes.get_xlim()
    drawn = np.concatenate([line.get_xdata() for line in axes.lines[:2]])
    assert low < drawn.min()
    assert drawn.max() < high


def test_data_are_the_tasks_own(axes):
    task = REGISTRY.task("gaussians-near")
    frame = examples(task)
    at = settings(task)[:, 0].tolist()
    assert at == pytest.approx([0.15 * math.pi, 0.25 * math.pi, 0.35 * math.pi])
    assert frame.equals(examples(task))
    mean = frame[frame["panel"] == 0].groupby(["component", "element"])["value"].mean()
    assert mean["background", 0] == pytest.approx(0.5 * math.cos(0.15 * math.pi), abs=0.3)
    draw_features(frame, axes, task=task, panel=2)
    assert len(axes.lines) == 2
    assert len(axes.collections) == 2  # contours of both components
    assert [len(inset.collections) for inset in axes.child_axes] == [2, 2]  # marginals

    field, cells = REGISTRY.task("gp"), Canvas().subplots()
    draw_example(examples(field), cells, task=field)
    assert cells.collections[0].get_array().size == 256
    series, paths = REGISTRY.task("sis"), Canvas().subplots()
    draw_example(examples(series), paths, task=series)
    assert len(paths.lines) == 4


def test_a_cell_holds_only_if_all_parameters_do(axes):
    base = keys("lre:tuned") | {"plan": "independent", "honest length": 1.03}
    base |= {"honest length error": 0.01, "recommended": True, "likelihood rank": "1–2"}
    verdicts = {
        "holds": ("holds", "holds"),
        "undetermined": ("holds", "undetermined"),
        "fails": ("fails", "undetermined"),
        "": ("", ""),
    }
    rows = [
        base | {"label": f"m{i}", "verdict mu": mu, "verdict z": z}
        for i, (mu, z) in enumerate(verdicts.values())
    ]
    found = answers(pd.DataFrame(rows))
    assert found["verdict"].tolist() == ["holds", "undetermined", "fails"]
    assert found[["recommended", "likelihood_rank"]].to_numpy().tolist() == [[True, "1–2"]] * 3
    draw_verdicts(found, axes)
    words = [text.get_text() for text in axes.texts]
    assert words == [f"{word}\n1.030(10)" for word in ("✓ holds", "? undetermined", "✗ fails")]


def test_nuisances_are_rows_in_the_order_of_impacts(axes):
    rows = [
        {"label": label, "nuisance": name, "value": value, "error": 0.1}
        for label, values in {"lre": (0.5, -1.0), "exact": (0.0, 0.2)}.items()
        for name, value in zip(("small", "large"), values, strict=True)
    ]
    draw_nuisances(pd.DataFrame(rows), axes, order=["large", "small"], target=1.0)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["large", "small"]
    points = [tuple(xy) for line in axes.containers for xy in line.lines[0].get_xydata()]
    assert points == [(0.5, 0.75), (-1.0, -0.25), (0.0, 1.25), (0.2, 0.25)]


def test_committed_nuisances_have_a_figure():
    loaded = load(Path(__file__).parents[2] / "results" / "nuisances", tasks=["higgs-systematics"])
    (figure,) = nuisances.figures(loaded, looks_of(loaded))
    assert [panel.title for panel in figure.panels] == ["pull", "post-fit width", "impact on mu"]
    order = figure.panels[0].options["order"]
    impacts = loaded.quantities.query("metric == 'impact' and label == 'exact'")
    sizes = impacts.set_index(impacts["key"].str.removeprefix("mu by "))["value"].abs()
    assert {*order} == {*sizes.index}
    assert "background_scale" in figure.alternative
