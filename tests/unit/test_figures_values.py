"""Values in figures agree with the frames."""

import math

import numpy as np
import pandas as pd
import pytest
from figure_results import (
    EVERYTHING,
    LEVELS,
    REGISTRY,
    bootstrap_table,
    drawn,
    equivalence_table,
    keys,
    results,
    window,
)
from matplotlib.figure import Figure as Canvas

from bench.report.figures import (
    absent,
    answers,
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
    draw_verdicts,
    equivalence,
    figures,
    members,
    samples,
    scores,
)


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
    placed = sorted(every, key=lambda pair: equivalence.place(pair, every))
    assert [other for _, other in placed] == [
        *("a-sa:3k", "a-sa:tuned", "b:scores", "c:scores", "b:scores-light", "a-sa:light")
    ]


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
    assert len(marks) == 2  # values that are not finite are not drawn
    assert len(axes.texts) == 1  # the arrow


def test_panels_of_factors_share_rows_and_markers():
    """A flow has no cross-entropy, and may have results at one budget only."""
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


def test_a_cell_holds_only_if_all_parameters_do():
    base = keys("lre:tuned") | {"plan": "independent", "honest length": 1.03}
    base |= {"honest length error": 0.01}
    pairs = {
        "holds": ("holds", "holds"),
        "undetermined": ("holds", "undetermined"),
        "fails": ("fails", "undetermined"),
        "": ("", ""),
    }
    rows = [
        base | {"label": f"m{i}", "verdict mu": mu, "verdict z": z}
        for i, (mu, z) in enumerate(pairs.values())
    ]
    found = answers(pd.DataFrame(rows))
    assert found["verdict"].tolist() == ["holds", "undetermined", "fails"]
    axes = Canvas().subplots()
    draw_verdicts(found, axes)
    shown = [text.get_text() for text in axes.texts]
    assert shown == ["✓ holds", "1.030(10)", "? undetermined", "1.030(10)", "✗ fails", "1.030(10)"]
