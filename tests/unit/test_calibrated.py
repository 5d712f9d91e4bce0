"""Calibration: corrects distorted ratios, keeps exact ones; budgets and identities."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bench.tasks.gaussians import near

from bench.boards import FORMATS, Results, build
from bench.boards.status import status_lines
from bench.contracts import FitContext
from bench.errors import NotApplicable, UsageError
from bench.experiment.preset import Preset
from bench.experiment.schedule import schedule
from bench.experiment.selection import MethodPattern
from bench.nn.calibration import Calibration, pairwise
from bench.registry.registry import Registry
from bench.stages.members import open_fit
from bench.stages.simulate import SimulationBank, features_of
from bench.storage.entries import JobContext
from bench.storage.store import Store
from bench.testing import asymmetric
from bench.wrappers.calibrated import Calibrated

PLUGINS = Path(__file__).parents[1] / "plugins"
PLUGIN = PLUGINS / "distorted.py"
ASYMMETRIC = asymmetric.__file__
CPU = torch.device("cpu")


def gaussian_scores(n, seed=0):
    """Draw log-ratios of N(1, 1) to N(0, 1), n from each."""
    rng = torch.Generator().manual_seed(seed)
    apart = torch.randn(2, n, generator=rng, dtype=torch.float64)
    return apart[0] + 0.5, apart[1] - 0.5


DISTORTIONS = {
    "none": lambda s: s,
    "line": lambda s: 3 * s - 2,
    "bent": lambda s: torch.sinh(1.5 * s),
    "flat": lambda s: s / 10,
}


@pytest.mark.parametrize("name", DISTORTIONS)
def test_isotonic_puts_any_monotone_map_right(name):
    distort = DISTORTIONS[name]
    joint, reference = gaussian_scores(20_000)
    found = Calibration.fit("isotonic", distort(joint), distort(reference), 20_000)
    s = torch.linspace(-2, 2, 41, dtype=torch.float64)
    error = found(distort(s)) - s
    assert error.abs().mean() < 0.06
    assert error.abs().max() < 0.3
    assert bool((found.values.diff() >= 0).all())


@pytest.mark.parametrize("name", ["none", "line", "flat"])
def test_a_line_puts_a_line_right_within_its_error(name):
    distort = DISTORTIONS[name]
    errors = []
    s = torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64)
    for seed in range(8):
        joint, reference = gaussian_scores(5_000, seed)
        found = Calibration.fit("platt", distort(joint), distort(reference), 5_000)
        errors.append(found(distort(s)) - s)
    errors = torch.stack(errors)
    spread = errors.std(0)
    assert bool((spread < 0.12).all())
    assert bool((errors.mean(0).abs() < 3.5 * spread / 8**0.5).all())


def test_a_line_cannot_unbend():
    joint, reference = gaussian_scores(20_000)
    distort = DISTORTIONS["bent"]
    found = Calibration.fit("platt", distort(joint), distort(reference), 20_000)
    s = torch.tensor([2.0], dtype=torch.float64)
    assert abs(float(found(distort(s)) - s)) > 0.25


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_classes_that_do_not_overlap_stay_finite_and_in_order(kind):
    joint = torch.tensor([1.0, 2.0, 3.0])
    found = Calibration.fit(kind, joint, -joint, 3)
    values = found(torch.tensor([-1e4, -1.0, 1.0, 1e4]))
    assert bool(values.isfinite().all())
    assert bool((values.diff() > 0).all())


def test_ties_and_few_values():
    joint, reference = torch.tensor([1.0] * 30 + [0.0] * 10), torch.tensor([1.0] * 5 + [0.0] * 15)
    found = Calibration.fit("isotonic", joint, reference, 40)
    values = found(torch.tensor([0.0, 1.0, 2.0]))
    expected = torch.tensor([np.log(0.25 / 0.75), np.log(0.75 / 0.25), np.log(3.0) + 1.0])
    torch.testing.assert_close(values, expected.float())


def test_stacked_maps_are_those_that_were_stacked():
    joint, reference = gaussian_scores(500)
    single = [Calibration.fit(kind, joint, reference, 500) for kind in ("platt", "isotonic")]
    assert len(single[0].nodes) < len(single[1].nodes)
    stack = Calibration.stack([Calibration.stack(single)])
    restored = Calibration(**stack.state())
    x = 4 * torch.randn(1, 2, 7, 3, dtype=torch.float64)
    expected = torch.stack([single[k](x[0, k]) for k in range(2)])[None]
    torch.testing.assert_close(restored(x), expected)
    assert restored(x.float()).dtype == torch.float32


def test_pairs_are_each_with_its_own_and_with_others():
    x, context = torch.arange(10.0)[:, None], 100 * torch.arange(10.0)[:, None]

    def table(x, context):
        return (x[:, 0, None] + context[None, :, 0])[None]

    own, others = pairwise(table, x, context, rows=4)
    assert own[0].tolist() == [101.0 * i for i in range(10)]
    expected = [i + 100.0 * j for i in range(10) for j in range(10) if i != j and i // 4 == j // 4]
    assert sorted(others[0].tolist()) == sorted(expected)


def calibrated(surrogate, task, bank, kind):
    wrapper = Calibrated(Calibrated.Config.model_validate({"kind": kind}))
    rng = torch.Generator().manual_seed(1)
    features = features_of(task, bank.simulations)
    context = FitContext(task, bank, features, CPU, lambda *_: rng, lambda **_: None)
    return wrapper.restore([surrogate], wrapper.fit([surrogate], context))


def surrogate(registry, configuration, task):
    method = registry.method("distorted")
    config = method.Config.model_validate(method.configurations[configuration])
    return method(config).restore(task, None, {"nothing": torch.zeros(1, 1)})


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["exact", "stretched", "bent", "fixed"])
@pytest.mark.parametrize("name", ["gaussians-far", "asymmetric"])
def test_known_distortions_of_a_task_are_put_right(tmp_path, configuration, name):
    registry = Registry([PLUGIN, ASYMMETRIC])
    task = registry.task(name)
    kind = "isotonic" if configuration == "bent" else "platt"
    fitted = surrogate(registry, configuration, task)
    if configuration == "fixed":  # the exact ratio to the same reference
        exact = surrogate(registry, "fixed", task)
        exact.config = exact.config.model_copy(update={"slope": 1.0, "offset": 0.0})
    else:
        exact = surrogate(registry, "exact", task)
    bank = SimulationBank(task, Store(tmp_path), 9_000, [0])
    made = calibrated(fitted, task, bank, kind)
    assert bank.spent == 9_000
    assert (made.reference, made.has_density) == (fitted.reference, False)
    rng = torch.Generator().manual_seed(2)
    context = task.space.draw_context(5, rng)
    components = task.components("test").values()
    x = torch.cat(
        [c.simulate(context[i % 5].expand(200, -1), rng) for i, c in enumerate(components)]
    )
    truth = exact.log_ratio(x, context)[0]
    near_it = truth.abs() < 2  # isotonic regression is inaccurate in the tails
    error = (made.log_ratio(x, context)[0] - truth)[near_it]
    before = (fitted.log_ratio(x, context)[0] - truth)[near_it]
    assert error.square().mean().sqrt() < 0.13
    if configuration != "exact":
        assert before.square().mean().sqrt() > 3 * error.square().mean().sqrt()


def test_what_cannot_be_calibrated(tmp_path):
    registry, task = Registry([PLUGIN]), near()
    bank = SimulationBank(task, Store(tmp_path), 5, [0])
    density, fixed = (surrogate(registry, name, task) for name in ("density", "fixed"))
    with pytest.raises(NotApplicable, match="reference"):
        calibrated(density, task, bank, "platt")
    with pytest.raises(NotApplicable, match="too few"):
        calibrated(fixed, task, bank, "platt")


TINY = {
    "tasks": ("gaussians-far",),
    "methods": ("ensemble(calibrated(distorted:stretched),2)", "distorted:stretched"),
    "members": 2,
    "budgets": (4000,),
    "plans": ({"kind": "heldout", "contexts": 2, "events": 4},),
}


def benchmark(root, **changes):
    return schedule(Registry([PLUGIN]), Preset.model_validate(TINY | changes), Store(root))


def inline(run):
    run.record(["bench", "run"])
    keys = [p.key for p in run.jobs]
    for p in run.jobs:
        assert all(keys.index(before) < keys.index(p.key) for before in p.after)
        p.perform(lambda **fields: None)


def test_a_calibrated_cell_has_the_budget_and_its_base_what_is_left(tmp_path):
    run = benchmark(tmp_path)
    labels = {spec.label: spec for spec in run.specs}
    assert set(labels) == {
        "exact",
        "distorted:stretched",
        "calibrated(distorted:stretched)",
        "ensemble(calibrated(distorted:stretched),2)",
    }
    spec = labels["calibrated(distorted:stretched)"]
    (base,) = run.bases
    assert base == spec.base
    assert (spec.identity["budget"], base.identity["budget"]) == (4000, 3600)
    assert base.key != labels["distorted:stretched"].key
    assert labels["ensemble(calibrated(distorted:stretched),2)"].base == spec
    inline(run)

    store = Store.open(tmp_path)
    assert store.record(base.fit_key(0))["calls"] == 3600
    assert store.record(spec.fit_key(0))["calls"] == 4000
    ensemble = labels["ensemble(calibrated(distorted:stretched),2)"]
    assert store.record(ensemble.fit_key(0))["calls"] == 8000
    assert not store.keys(f"predictions/{base.folder}")
    again = benchmark(tmp_path)
    assert again.jobs == []

    place = JobContext(str(tmp_path), again.registry.plugins, "cpu", 0.0)
    task = open_fit(place, spec).task
    x, context = torch.randn(20, 2), task.space.draw_context(3, torch.Generator())

    def values(of, member):
        return open_fit(place, of).restore([member], CPU).log_ratio(x, context)

    # Calibration is per member, before averaging.
    both = [values(spec, m) for m in (0, 1)]
    assert not torch.equal(*both)
    torch.testing.assert_close(values(ensemble, 0), sum(both) / 2)
    exact = surrogate(again.registry, "exact", task).log_ratio(x, context)
    assert (both[0] - exact).abs().mean() < 0.5 * (values(base, 0) - exact).abs().mean()


def test_another_kind_trains_nothing_more(tmp_path):
    inline(benchmark(tmp_path, methods=("calibrated(distorted:stretched)",)))
    run = benchmark(tmp_path, methods=("calibrated(distorted:stretched,isotonic)",))
    assert {p.spec.label for p in run.jobs} == {"calibrated(distorted:stretched,isotonic)"}
    kinds = [p.spec.wrappings[0].config["kind"] for p in run.jobs if p.stage == "fit"]
    assert kinds == ["isotonic"] * 2
    # Both the kind and the calls identify a fit.
    kinds = [benchmark(tmp_path, methods=(m,)).specs[-1] for m in TINY["methods"][:1]]
    assert len({c.key for c in [*run.specs, *kinds]}) == len(run.specs) + 1


@pytest.mark.slow
def test_tables_know_calibrated_rows_and_not_their_bases(tmp_path):
    plan = {"kind": "independent", "uniform": 2, "per_point": 0, "observations": 20}
    inline(benchmark(tmp_path, plans=(plan,)))
    registry, results = Registry([PLUGIN]), Results(Store.open(tmp_path))
    boards = build(results, registry.metrics())
    assert {board.budget for board in boards} == {4000}
    for board in boards:
        assert sorted(row.label for row in board.rows) == [
            "calibrated(distorted:stretched)",
            "distorted:stretched",
            "ensemble(calibrated(distorted:stretched),2)",
            "exact",
        ]
    for form in FORMATS.values():
        text = form(boards).replace("\\", "")
        assert "calibrated(distorted:stretched)" in text or "platt" in text
    assert "spends 400 of its 4,000 simulator calls" in FORMATS["md"](boards)
    assert not any("budget 3,600" in line for line in status_lines(results))
    # A base that was requested itself is a row like others.
    inline(benchmark(tmp_path, methods=("distorted:stretched",), budgets=(3600,), plans=(plan,)))
    assert {b.budget for b in build(Results(Store.open(tmp_path)), [])} == {3600, 4000}
    benchmark(tmp_path).record(["bench", "run"])
    assert {b.budget for b in build(Results(Store.open(tmp_path)), [])} == {3600, 4000}


def test_what_has_no_reference_is_absent_with_its_reason(tmp_path):
    run = benchmark(tmp_path, methods=("calibrated(distorted:density)",), members=1)
    with pytest.raises(NotApplicable, match="reference"):
        inline(run)
    run = benchmark(tmp_path, budgets=(30,))
    assert ["too few" in a.reason for a in run.absent] == [True, True]


def test_patterns():
    for pattern, expected in {
        "calibrated( lre:tuned )": ("lre", "tuned", (("calibrated", ()),)),
        "calibrated(lre, isotonic)": ("lre", None, (("calibrated", ("isotonic",)),)),
        "ensemble(calibrated(lre),3)": ("lre", None, (("calibrated", ()), ("ensemble", ("3",)))),
    }.items():
        assert MethodPattern.parse(pattern) == MethodPattern(*expected)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("calibrated(distorted", "is written"),
        ("calibrated(distorted,linear)", "isotonic"),
        ("calibrated(distrted)", "did you mean distorted"),
        ("calibrated(exact)", "is the exact likelihood"),
    ],
)
def test_bad_patterns(tmp_path, pattern, message):
    with pytest.raises(UsageError, match=message):
        benchmark(tmp_path, methods=(pattern,))
