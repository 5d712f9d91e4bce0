"""Results as frames: numbers of known likelihoods, keys, order, and missing parts."""

import re

import numpy as np
import pandas as pd
import pytest

import bench
from bench.errors import UsageError
from bench.inference.profile import fall_at
from bench.report.frames import FIT_KEYS, KEYS, LEVELS, METHOD_KEYS
from bench.report.words import unique_slug
from bench.stats.reliability import simultaneous_band

TASK = "gaussians-far"


@pytest.fixture
def results(made):
    results = made()
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", width=1.1, shift=0.2, failed=(1,))
    results.fit(TASK, "dle", "published", 1, width=0.4)
    return results


@pytest.fixture
def loaded(results):
    return bench.load(results.root)


def test_every_frame_has_its_keys_and_is_sorted(loaded):
    for name in ("quantities", "members", "calibration", "contours", "maxima"):
        frame = getattr(loaded, name)
        assert list(frame.columns[: len(KEYS)]) == list(KEYS), name
        assert set(frame.label) == {"exact", "lre:tuned", "dle:published"}, name
        ordered = frame.sort_values(list(KEYS), kind="stable", ignore_index=True)
        pd.testing.assert_frame_equal(frame, ordered)
    for name in ("fits", "curves"):
        assert list(getattr(loaded, name).columns[:9]) == [*FIT_KEYS, *METHOD_KEYS], name
    assert set(loaded.quantities.family) == {"oracle", "discriminative", "generative"}
    assert set(loaded.quantities.training_data) == {"fresh"}  # exact is listed with the others


def test_empty_folders_give_empty_frames_with_their_columns(made, results):
    full, empty = bench.load(results.root), bench.load(made("empty").root)
    for name in ("fits", "curves", "quantities", "members", "calibration", "contours", "maxima"):
        assert getattr(empty, name).empty
        assert list(getattr(empty, name).columns) == list(getattr(full, name).columns)
    assert empty.studies == {}
    assert empty.boards == []


def test_fits_say_what_failed_and_what_members_cost(loaded):
    lre = loaded.fits[loaded.fits.label == "lre:tuned"].set_index("member")
    assert list(lre.status) == ["done", "failed", "done"]
    assert lre.reason[1] == "the loss is <NaN>"
    assert lre.seconds[2] == 10.0
    assert lre.seconds_to_best[0] == 12.0  # sum of both components
    assert lre.fit[0] == f"{TASK}/lre-tuned"
    curve = loaded.curves.query("label == 'lre:tuned' and member == 2 and component == 'signal'")
    assert list(curve.epoch) == [1, 2, 3]
    assert list(curve.validation) == [0.71, 0.64, 0.622]


def test_quantities_are_those_of_leaderboards(loaded):
    (board,) = loaded.boards
    row = next(row for row in board.rows if row.label == "lre:tuned")
    frame = loaded.quantities.query("label == 'lre:tuned'").set_index("quantity")
    for name, quantity in row.quantities.items():
        if quantity.estimate is None:
            assert np.isnan(frame.value[name])
            assert frame.reason[name] == quantity.reason != ""
        else:
            assert frame.value[name] == quantity.estimate.value
    said = frame.loc["width/z/ratio", ["metric", "key", "statistic"]]
    assert tuple(said) == ("width ratio", "z", "ratio")
    assert frame.value["width/z/ratio"] == pytest.approx(1.1)
    assert (frame.rank_low["width/z"], frame.rank_high["width/z"]) == row.rank
    assert frame.value["cost/calls"] == 1000


def test_gaps_are_to_exact_and_inside_their_intervals(loaded):
    (board,) = loaded.boards
    frame = loaded.leaderboard().set_index("label")
    for row in board.rows:
        for name, verdict in row.verdicts.items():
            gap = row.quantities[f"coverage/{name}/gap"].estimate.value
            assert frame.loc[row.label, f"gap {name}"] == gap
            assert verdict.low <= gap <= verdict.high
    assert frame.loc["exact"].filter(regex="^gap").isna().all()


def test_a_pivot_of_quantities_averages_nothing(loaded):
    (board,) = loaded.boards
    table = loaded.quantities.pivot_table(index="label", columns=["metric", "key"], values="value")
    for row in board.rows:
        coverage = row.quantities["coverage/mu"].estimate.value
        assert table.loc[row.label, ("coverage", "mu")] == pytest.approx(coverage, rel=1e-12)
    lre = next(row for row in board.rows if row.label == "lre:tuned")
    for metric, quantity in {
        "coverage gap": "coverage/mu/gap",
        "coverage gap at worst point": "coverage/mu/worst",
        "width": "width/mu",
        "width ratio": "width/mu/ratio",
        "likelihood_ratio_error": "likelihood_ratio_error/",
        "likelihood_ratio_error median": "likelihood_ratio_error//median",
    }.items():
        key = "mu" if "mu" in quantity else ""
        value = lre.quantities[quantity].estimate.value
        assert table.loc["lre:tuned", (metric, key)] == pytest.approx(value, rel=1e-12)
    assert not loaded.quantities.duplicated(["label", "metric", "key"]).any()


def test_members_are_means_over_the_sets_of_a_point(results, loaded):
    frame = loaded.members.query("label == 'lre:tuned' and quantity == 'coverage/mu'")
    assert sorted(set(frame.member)) == [0, 2]
    assert sorted(set(frame.point)) == [-1, *range(9)]
    entry = results.store.read(f"scores/{TASK}/lre-tuned/independent-made/member-002")
    used = entry.arrays["coverage/mu"][entry.arrays["point"] == -1]
    one = frame.query("member == 2 and point == -1").iloc[0]
    assert one.value == pytest.approx(used.mean())
    assert one.error == pytest.approx(used.std(ddof=1) / np.sqrt(60))
    assert one.sets == 60


def test_what_no_set_defines_is_nan_and_one_set_has_no_error(made):
    results = made(per_point=1)
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 1)
    key = f"scores/{TASK}/lre-tuned/independent-made/member-000"
    entry = results.store.read(key)
    values = entry.arrays["bias/mu"].copy()
    values[0] = values[entry.arrays["point"] == 3] = np.nan
    results.store.write(key, {"status": "done"}, entry.arrays | {"bias/mu": values})
    frame = bench.load(results.root).members
    frame = frame.query("label == 'lre:tuned' and quantity == 'bias/mu'").set_index("point")
    assert np.isnan(frame.value[3])
    assert frame.sets[3] == 0
    assert np.isfinite(frame.value[2])
    assert np.isnan(frame.error[2])
    assert frame.sets[-1] == 59
    assert np.isfinite(frame.error[-1])


@pytest.mark.slow
def test_exact_likelihoods_are_calibrated_and_narrow_ones_are_not(made):
    results = made(uniform=600, per_point=0)
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 2, width=0.5)
    frame = bench.load(results.root).calibration
    assert set(frame.parameter) == {"mu", "z", "joint"}
    assert set(frame.level) == set(LEVELS)
    assert set(frame.datasets) == {600}
    inside = frame.coverage.between(frame.low, frame.high)
    assert inside[frame.label == "exact"].all()
    middle = frame.level.between(0.2, 0.9)
    assert not inside[(frame.label != "exact") & middle].any()
    level = frame.query("label == 'lre:tuned' and parameter == 'z' and level == 0.7").iloc[0]
    # Φ at half the number of standard deviations; members share datasets.
    assert level.coverage == pytest.approx(0.396, abs=4 * 0.02)
    assert level.error == pytest.approx(0.02, rel=0.1)


def test_contours_are_in_the_parameters_own_units(results, loaded):
    frame = loaded.contours.query("label == 'lre:tuned' and member == 2 and point == 3")
    assert len(frame) == 33 * 33
    assert (frame.x_name.iloc[0], frame.y_name.iloc[0]) == ("mu", "z")
    best = frame.loc[frame.fall.idxmax()]
    at = loaded.maxima.query("label == 'lre:tuned' and member == 2 and point == 3").iloc[0]
    assert at.dataset == results.uniform + 3 * results.per_point
    assert (best.x, best.y) == pytest.approx((at.x_mle, at.y_mle))
    assert best.fall == pytest.approx(0, abs=1e-6)
    task = results.registry.task(TASK)
    assert (at.x_true, at.y_true) == pytest.approx(tuple(task.points[3].tolist()))
    # x is mu: one standard deviation from the maximum the log-likelihood is lower by 1/2.
    high = task.space.parameters[0].high
    sigma = 1.1 * results.spread * high
    across = frame[np.isclose(frame.y, best.y)]
    assert np.interp(at.x_mle + sigma, across.x, across.fall) == pytest.approx(-0.5, abs=0.03)


def test_predictions_of_other_parameters_are_refused(results):
    key = f"predictions/{TASK}/lre-tuned/independent-made/member-000"
    entry = results.store.read(key)
    moved = entry.arrays | {"curves.origin": entry.arrays["curves.origin"] + 0.5}
    results.store.write(key, {"status": "done"}, moved)
    loaded = bench.load(results.root)
    assert set(loaded.contours.query("label == 'lre:tuned'").member) == {2}


def test_windows_are_of_all_members_and_of_a_few_datasets(made, results, loaded):
    lre = loaded.maxima.query("label == 'lre:tuned'")
    assert {(row.member, row.point) for row in lre.itertuples()} == {
        (member, point) for member in (0, 2) for point in (0, 3, 5, 8)
    }
    uniform = made("uniform", per_point=0)
    uniform.fit(TASK, "lre", "tuned", 1)
    assert list(bench.load(uniform.root).maxima.dataset) == [0, 1, 2, 3]


def test_several_folders_are_read_as_one(made, results):
    other = made("other")
    other.fit(TASK, "exact")
    other.fit(TASK, "histogram", members=2, width=1.3)
    other.fit(TASK, "lre", "tuned", 4, width=1.1, shift=0.2)
    other.run(absent=[{"task": TASK, "label": "dle:published", "reason": "was not there"}])
    loaded = bench.load(results.root, other.root)
    (board,) = loaded.boards
    rows = {row.label: row for row in board.rows}
    assert set(rows) == {"exact", "lre:tuned", "dle:published", "histogram"}
    assert rows["lre:tuned"].members == 4  # includes the member that failed in the first folder
    assert board.absent == {}
    for label, root in (("histogram", other.root), ("exact", results.root)):
        assert loaded.folders.where(f"fits/{rows[label].fit.folder}/fit") == root


def test_tasks_and_methods_are_chosen(made, results):
    results.fit("gaussians-near", "histogram")
    results.fit("gaussians-near", "lre", "tuned", 2)
    assert set(bench.load(results.root, tasks=["*-near"]).fits.task) == {"gaussians-near"}
    chosen = bench.load(results.root, methods=["lre"])
    assert set(chosen.fits[chosen.fits.task == TASK].label) == {"exact", "lre:tuned"}
    near = chosen.fits[chosen.fits.task == "gaussians-near"]
    assert set(near.label) == {"histogram", "lre:tuned"}  # scores are relative to the histogram
    with pytest.raises(
        UsageError, match=r"unknown method in these results 'lre:none'; did you mean lre:tuned\?"
    ):
        bench.load(results.root, methods=["lre:none"])
    with pytest.raises(UsageError, match="unknown task 'nothing'"):
        bench.load(results.root, tasks=["nothing"])


def test_tables_of_studies_are_read(tmp_path, results):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "features.csv").write_text("task,value\nt,0.5\n")
    loaded = bench.load(results.root, tmp_path / "studies")
    assert loaded.studies["features"].value[0] == 0.5
    (tmp_path / "studies" / "broken.csv").write_text("")
    with pytest.raises(UsageError, match="is not a table"):
        bench.load(tmp_path / "studies").studies  # noqa: B018


def test_what_is_no_results_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        bench.load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"it has no run\.json and no tables"):
        bench.load(tmp_path)


def test_the_parent_of_results_is_refused(results):
    parent = results.root.parent
    (parent / "afterwards.csv").write_text("a\n1\n")
    with pytest.raises(UsageError, match="is not a results folder: name one of those in it: resu"):
        bench.load(parent)


def test_the_band_holds_what_it_promises():
    low, high = simultaneous_band(80, LEVELS)
    uniform = np.random.default_rng(5).uniform(size=(4000, 80))
    coverage = (uniform[..., None] <= np.array(LEVELS)).mean(1)
    inside = ((low <= coverage) & (coverage <= high)).all(1).mean()
    assert 0.945 <= inside <= 0.975  # counts are integers
    assert simultaneous_band(400, LEVELS)[1][9] < high[9]


def test_the_statistic_is_read_off_a_profile():
    nodes = np.linspace(-3.4641, 3.4641, 33)
    profile = (-0.5 * nodes**2).astype(np.float32)
    unit = np.array([0.3, 0.35, 0.3 + 0.0999 * 3.46, 0.9, -0.4])
    found = fall_at(np.tile(profile, (5, 1)), np.full(5, -0.04641), np.full(5, 0.02165), unit)
    assert found[:3] == pytest.approx([0, 0.25, 11.95], abs=0.01)
    assert np.isinf(found[3:]).all()


def test_the_package_knows_no_other_lazy_name():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bench.nothing  # noqa: B018


def test_the_tolerance_and_the_absent_are_those_of_the_run(made):
    results = made(uniform=30, per_point=0)
    results.fit(TASK, "exact")
    results.fit(TASK, "lre", "tuned", 3)
    run = results.store.record("run") or {}
    known = {k: v for k, v in run.items() if k not in ("key", "record_sha256")}
    absent = {"task": TASK, "label": "dle:tuned", "reason": "no sun", "broken": False}
    preset = known.get("preset", {}) | {"tolerance": 10.0}
    results.store.write(
        "run", {"command": ["bench"], **known, "preset": preset, "absent": [absent]}
    )
    (board,) = bench.load(results.root).boards
    assert (board.tolerance, board.absent) == (0.1, {"dle:tuned": "no sun"})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("equivalence", "a\n1", "it has no column 'task'"),
        ("bootstrap-k", "task,plan\ngp,bootstrap", "it has no column 'quantity'"),
    ],
)
def test_tables_with_other_columns_are_refused(tmp_path, name, text, message):
    (tmp_path / f"{name}.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        bench.load(tmp_path).studies  # noqa: B018


def test_names_of_files_are_unique_and_safe():
    names = ["My-Task", "my_task", "my.task", "my-task", "/../x", "<b>", "ü" * 300]
    found = [unique_slug(name) for name in names]
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[a-z0-9-]{1,70}", name) for name in found)
