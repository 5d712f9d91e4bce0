"""Wrappers of users: in runs, nested, on boards, and as a library."""

import shutil
from pathlib import Path

import pytest
import torch

import bench
from bench.boards import FORMATS, Results, build
from bench.contracts import Wrapped, Wrapper
from bench.errors import PluginError, UsageError
from bench.experiment.preset import Preset
from bench.experiment.schedule import schedule
from bench.registry.registry import Registry
from bench.stages.members import open_fit
from bench.storage.entries import JobContext
from bench.storage.fit_spec import FitSpec, Wrapping, wrappings
from bench.storage.store import Store

PLUGINS = Path(__file__).parents[1] / "plugins"
CPU = torch.device("cpu")
TINY = {
    "tasks": ("gaussians-far",),
    "methods": ("temper(simple:default,0.25)",),
    "members": 4,
    "budgets": (800,),
    "plans": ({"kind": "independent", "uniform": 4, "per_point": 0, "observations": 50},),
}


@pytest.fixture
def plugins(tmp_path):
    return [shutil.copy(PLUGINS / name, tmp_path) for name in ("simple.py", "temper.py")]


def planned(root, plugins, **changes):
    return schedule(Registry(plugins), Preset.model_validate(TINY | changes), Store(root))


def inline(run):
    run.record(["bench", "run"])
    for job in run.jobs:
        job.perform(lambda **fields: None)
    return {spec.label: spec for spec in run.specs}


def opened(run, spec):
    return open_fit(JobContext(str(run.store.root), run.registry.plugins, "cpu", 0.0), spec)


def test_a_wrapper_of_a_plugin_runs_beside_what_it_wraps(tmp_path, plugins):
    run = planned(tmp_path / "r", plugins)
    specs = inline(run)
    assert set(specs) == {"exact", "simple", "temper(simple,0.25)"}
    fit = opened(run, specs["temper(simple,0.25)"])
    x, context = torch.randn(5, 2), fit.task.space.draw_context(3, torch.Generator())
    inner = fit.base.restore([0, 3], CPU)
    torch.testing.assert_close(
        fit.restore([0, 3], CPU).log_ratio(x, context), 0.25 * inner.log_ratio(x, context)
    )
    assert not planned(tmp_path / "r", plugins).jobs
    boards = build(Results(run.store), run.registry.metrics())
    assert {row.label for row in boards[0].rows} == set(specs)
    for form in FORMATS.values():
        assert "temper" in form(boards)


def test_defaults_are_left_out_of_labels_and_settings_may_be_named(tmp_path, plugins):
    for written in (
        "temper(simple:default)",
        "temper(simple:default,0.5)",
        "temper( simple:default, power=.5 )",
    ):
        run = planned(tmp_path / "r", plugins, methods=(written,))
        assert [spec.label for spec in run.specs] == ["exact", "simple", "temper(simple)"]
    run = planned(tmp_path / "r", plugins, methods=("temper(simple:default,1e-1)",))
    assert run.specs[-1].label == "temper(simple,0.1)"


def test_budgets_of_nested_wrappers_add_up(tmp_path, plugins):
    """Wrappers that learn spend their share of what those around them leave."""
    nested = "centre(ensemble(temper(centre(simple:default),2),2))"
    run = planned(tmp_path / "r", plugins, methods=(nested,))
    labels = [spec.label for spec in (*run.specs, *run.bases)]
    assert labels == [
        "exact",
        "centre(ensemble(temper(centre(simple),2),2))",
        "ensemble(temper(centre(simple),2),2)",
        "temper(centre(simple),2)",
        "centre(simple)",
        "simple",
    ]
    spec = run.specs[-1]
    budgets, seeds = [], []
    while True:
        budgets.append(spec.identity["budget"])
        seeds.append(spec.seed)
        if not spec.wrappings:
            break
        spec = spec.base
    assert budgets == [800, 600, 600, 600, 450]
    assert (seeds[0], seeds[3]) == (2**31, 0)  # those of the two that learn
    inline(run)
    record = run.store.record(run.specs[-1].fit_key(0))
    assert record["calls"] == 2 * 600 + 200
    assert not planned(tmp_path / "r", plugins, methods=(nested,)).jobs
    fit = opened(run, run.specs[-1])
    x, context = torch.randn(5, 2), fit.task.space.draw_context(3, torch.Generator())
    values = fit.restore([0, 1], CPU).log_ratio(x, context)
    assert values.shape == (2, 2, 5, 3)
    for member in (0, 1):
        two = [2 * member, 2 * member + 1]
        inner = opened(run, run.specs[-1].base.base.base)
        state = opened(run, run.specs[-1])._state([member], CPU)
        expected = (2 * inner.restore(two, CPU).log_ratio(x, context)).mean(0, keepdim=True)
        torch.testing.assert_close(values[member], (expected - state["mean"])[0])


def test_identities_of_calibrations_and_ensembles_are_those_of_older_results():
    plain = FitSpec("t", "m", "default", {"budget": 100, "seed": 0}, False)
    calibrated = plain.wrapped(Wrapping("calibrated", (), {"kind": "platt"}, 1, 10, 1))
    both = calibrated.wrapped(Wrapping("ensemble", ("3",), {"members": 3}, 3))
    assert both.identity == {
        "budget": 100,
        "seed": 0,
        "calibration": {"kind": "platt", "calls": 10, "version": 1},
        "ensemble": 3,
    }
    assert both.label == "ensemble(calibrated(m),3)"
    assert both.folder.startswith("t/ensemble-3-calibrated-m-")
    assert both.base.identity == calibrated.identity
    assert both.trained.identity == {"budget": 90, "seed": 0}
    other = both.wrapped(Wrapping("calibrated", ("isotonic",), {"kind": "isotonic"}, 1, 10, 1))
    assert other.label == "calibrated(ensemble(calibrated(m),3),isotonic)"
    assert other.base.identity == both.identity | {"budget": 90}
    assert [one.name for one in wrappings(other.identity)] == [
        "calibrated",
        "ensemble",
        "calibrated",
    ]


def test_calibrated_ensembles_and_isotonic_members_of_different_length(tmp_path, plugins):
    written = "calibrated(ensemble(lre:published,2),isotonic)"
    surrogate = bench.fit(
        "gaussians-far", written, budget=2000, members=2, folder=tmp_path / "r", quiet=True
    )
    assert surrogate.label == written
    x, context = torch.randn(4, 2), surrogate.task.space.draw_context(2, torch.Generator())
    values = surrogate.log_ratio(x, context)
    assert values.shape == (2, 2, 4, 2)
    pairs = surrogate.log_ratio_paired(x[:2], context)
    torch.testing.assert_close(pairs, values[:, :, :2].diagonal(dim1=2, dim2=3))


def test_a_wrapper_of_a_notebook():
    class Flat(Wrapper):
        name = "flat"

        def restore(self, surrogates, state):
            return Wrapped(surrogates, lambda log_ratio: 0 * log_ratio)

    surrogate = bench.fit(
        "gaussians-far", "flat(histogram)", budget=4000, objects=[Flat], quiet=True
    )
    assert surrogate.label == "flat(histogram)"
    assert not surrogate.log_ratio(torch.randn(3, 2), torch.ones(1, 1)).any()
    assert bench.evaluate("gaussians-far", surrogate, datasets=2, quiet=True).coverage() is not None


BROKEN = """
from bench.contracts import Wrapped, Wrapper

class Broken(Wrapper):
    name = "broken"
    {body}
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("pass", "it does not define restore"),
        ("def restore(self, surrogates): pass", "restore.* has a wrong signature"),
        (
            "def restore(self, surrogates, state): pass\n    def calls(self, budget): return 1",
            "both of calls and fit",
        ),
        ("def restore(self, surrogates, state): pass\n    members = 0", "must take 1 to 9999"),
        ("def restore(self, surrogates, state): pass\n    Config = dict", "its Config is not"),
        (
            "def restore(self, surrogates, state): pass\n    def fit(self, s, f): return {}\n"
            "    def calls(self, budget): return budget + 1",
            "it spends 801 of 800",
        ),
    ],
)
def test_broken_wrappers_say_in_one_line_why(tmp_path, plugins, body, message):
    path = tmp_path / "broken.py"
    path.write_text(BROKEN.format(body=body))
    with pytest.raises((PluginError, UsageError), match=message) as caught:
        planned(tmp_path / "r", [*plugins, path], methods=("broken(simple)",))
    assert "\n" not in str(caught.value)


DEFINED = """
import torch
from bench.contracts import Wrapped, Wrapper
from bench.methods.histogram import Histogram

class Own(Histogram):
    name = "own"
    configurations = {"default": {}, "coarse": {"degree": 2}}

class Flat(Wrapper):
    name = "flat"
    def restore(self, surrogates, state):
        return Wrapped(surrogates, lambda log_ratio: 0 * log_ratio)
"""


def test_saved_surrogates_of_objects_are_loaded_with_them(tmp_path):
    """The names of the saved and the new objects are equal; the program vouches for them."""
    first, second = {"__name__": "first"}, {"__name__": "second"}
    exec(DEFINED, first)
    exec(DEFINED, second)
    objects = [first["Own"], first["Flat"]]
    written = "flat(own:coarse)"
    surrogate = bench.fit("gaussians-far", written, budget=4000, objects=objects, quiet=True)
    assert surrogate.label == written
    surrogate.save(tmp_path / "saved")
    with pytest.raises(UsageError, match="or pass it in objects"):
        bench.load_surrogate(tmp_path / "saved")
    again = bench.load_surrogate(tmp_path / "saved", objects=[second["Own"], second["Flat"]])
    x = torch.randn(3, 2)
    torch.testing.assert_close(
        again.log_ratio(x, torch.ones(1, 1)), surrogate.log_ratio(x, torch.ones(1, 1))
    )


def test_a_wrapper_alone_is_no_method(tmp_path, plugins):
    with pytest.raises(UsageError, match=r"'temper' is a wrapper: write 'temper\(METHOD\)'"):
        planned(tmp_path / "r", plugins, methods=("temper",))
    names = {"__name__": "mine"}
    exec(DEFINED, names)
    with pytest.raises(UsageError, match=r"write 'flat\(METHOD\)', and pass it in objects"):
        bench.fit("gaussians-far", names["Flat"])


def test_a_wrapper_must_return_what_it_learned(tmp_path, plugins):
    (path := tmp_path / "silent.py").write_text(
        BROKEN.format(
            body="def restore(self, surrogates, state): pass\n"
            "    def calls(self, budget): return 9\n"
            "    def fit(self, surrogates, fit_context): pass"
        )
    )
    run = planned(tmp_path / "r", [*plugins, path], methods=("broken(simple:default)",), members=1)
    with pytest.raises(PluginError, match="returned NoneType; it must return tensors by name"):
        inline(run)


def test_critical_values_come_from_toys_within_the_budget(tmp_path):
    run = planned(
        tmp_path / "r",
        [],
        tasks=("exponential",),
        methods=("neyman(ensemble(histogram,2))", "neyman(histogram,0.75)"),
        budgets=(4000,),
        plans=({"kind": "independent", "uniform": 8, "per_point": 0},),
    )
    specs = inline(run)
    one, other = specs["neyman(ensemble(histogram,2))"], specs["neyman(histogram,0.75)"]
    assert [spec.trained.identity["budget"] for spec in (one, other)] == [2000, 1000]
    record = run.store.record(one.fit_key(0))
    assert 5900 < record["calls"] <= 2 * 2000 + 2000  # a histogram spends whole bins
    assert len(opened(run, one).restore([0, 1], CPU).critical_values) == 2
    boards = build(Results(run.store), run.registry.metrics())
    assert {one.label, other.label} <= {row.label for row in boards[0].rows}


def test_nothing_goes_around_critical_values(tmp_path):
    with pytest.raises(UsageError, match=r"^neyman must be the outermost wrapper"):
        planned(tmp_path / "r", [], methods=("ensemble(neyman(lre),2)",))
