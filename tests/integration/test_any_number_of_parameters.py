"""Averaged and calibrated surrogates of many parameters, from a run to its board and report."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import optimize
from whole_runs import PLUGINS, benchmark, inline

import bench
from bench.report.write import contents
from bench.stages.datasets import sets
from bench.stages.predict import load

METHODS = "ensemble(stretched,2)", "calibrated(stretched)", "ensemble(calibrated(stretched),2)"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run them on five parameters, two of them constrained, and random numbers of events."""
    plugins = [str(PLUGINS / "many_parameters.py")]
    plan = {"kind": "independent", "uniform": 3, "per_point": 0}
    made = benchmark(
        tmp_path_factory.mktemp("many"),
        plugins,
        tasks=("counted-5-1",),
        methods=METHODS,
        budgets=(4000,),
        plans=(plan,),
    )
    inline(made)
    assert made.absent == []
    loaded = bench.load(Path(made.context.root), plugins=plugins)
    return SimpleNamespace(schedule=made, loaded=loaded)


def prediction_of(run, label):
    """Return the fit, and the task, the plan and the prediction of its first member."""
    made = run.schedule
    (spec,) = [s for s in made.specs if s.label == label]
    job = next(j for j in made.jobs if j.stage == "predict" and j.spec == spec)
    arrays = made.store.read(spec.prediction_key(job.folder, 0)).arrays
    return spec, made.tasks[0], job.plan, load(made.tasks[0], job.plan, arrays)


def test_boards_and_reports_have_all_rows(run):
    (board,) = run.loaded.boards
    rows = {row.label: row for row in board.rows}
    assert rows.keys() == {"exact", "stretched", *METHODS}
    for label in METHODS:
        assert not rows[label].failures
        for column in ("width/t0/ratio", "divergence/joint"):
            estimate = rows[label].estimate(column)
            assert estimate is not None
            assert np.isfinite(estimate.value)
    assert contents(run.loaded, ["bench", "report"])


def test_averages_have_the_likelihood_of_scipy(run):
    """The average of Gaussians of different means, with the factors of constraints and rate."""
    spec, task, plan, found = prediction_of(run, "ensemble(stretched,2)")
    shifts = [run.schedule.store.read(key).arrays["shift"][0] for key in spec.base_keys(0)]
    assert np.abs(shifts[0] - shifts[1]).max() > 0.01
    datasets = list(sets(task, plan, 0))
    assert len({len(events.x) for events in datasets}) > 1
    for row, events in enumerate(datasets):
        x, measured = events.x.double().numpy(), events.measured.numpy()

        def statistic(theta, x=x, measured=measured):
            of_events = sum(((x - shift - theta) ** 2).sum() for shift in shifts)
            pulls, rate = (measured - theta[3:]) / [0.1, 0.3], 50 * np.exp(0.3 * theta[0])
            return of_events + (pulls**2).sum() + 2 * (rate - len(x) * np.log(rate))

        best = optimize.minimize(statistic, np.zeros(5), tol=1e-7)
        np.testing.assert_allclose(found.curves.mle[row], best.x, atol=1e-4)
        for end in (found.curves.lower[row, 0], found.curves.upper[row, 0]):

            def at_end(others, end=end, statistic=statistic):
                return statistic(np.append(end, others))

            rest = optimize.minimize(at_end, best.x[1:], tol=1e-7)
            assert rest.fun - best.fun == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("label", METHODS[1:])
def test_calibration_finds_the_exact_likelihood_again(run, label):
    """Log-ratios of the surrogate are twice the exact ones, plus a constant."""
    found, exact = (prediction_of(run, name)[-1].curves for name in (label, "exact"))
    half = (exact.upper - exact.lower)[:, 0] / 2
    width = (found.upper - found.lower)[:, 0] / 2
    np.testing.assert_allclose(width, half, rtol=0.15)
    assert (np.abs(found.mle - exact.mle)[:, 0] < 0.2 * half).all()
