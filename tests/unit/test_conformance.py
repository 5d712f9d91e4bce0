"""Conformance kit: each check finds its broken plugin, and sound plugins pass."""

import importlib.util
import math
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from bench.tasks.linear_gaussian import linear_gaussian

from bench.contracts import Parameter, ParameterSpace
from bench.registry.registry import Registry
from bench.testing import (
    METHOD_CHECKS,
    TASK_CHECKS,
    Inaccurate,
    check_method,
    check_task,
    density_checks,
    method_checks,
    task_checks,
)
from bench.testing.asymmetric import asymmetric
from bench.testing.four_components import four_components
from bench.testing.model import grid

PLUGINS = Path(__file__).parents[1] / "plugins"


def plugin(name):
    spec = importlib.util.spec_from_file_location(name, PLUGINS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


METHODS, TASKS = plugin("zoo_methods"), plugin("zoo_tasks")
BROKEN_METHODS = tuple(m for m in METHODS.Sound.__subclasses__() if m.caught_by)
INACCURATE_METHODS = tuple(m for m in METHODS.Sound.__subclasses__() if m.warned_by)
BROKEN_TASKS = (*TASKS.Sound.__subclasses__(), *TASKS.Idle.__subclasses__())
REGISTRY = Registry()
CHEAP_TASKS = ("exponential", "gaussians-far", "gaussians-near", "higgs")
CHEAP_METHODS = ("exact", "histogram")
DEAR_METHODS = ("dle-nflows", "sbi-nle", "sbi-nre")  # take a minute or more each


def shorter(method):
    """Return the method with a short training, which its contract does not depend on."""
    settings = method.Config.model_validate(next(iter(method.configurations.values()))).model_dump()
    limit(settings, {"epochs": 3, "steps": 100})
    return type(method.__name__, (method,), {"configurations": {"shorter": settings}})


def limit(settings, limits):
    for name, value in settings.items():
        if isinstance(value, dict):
            limit(value, limits)
        elif name in limits:
            settings[name] = min(value, limits[name])


@pytest.fixture
def fewer(monkeypatch):
    """Reduce the number of simulations, to save time."""
    monkeypatch.setattr(density_checks, "SIMULATIONS", {True: 20_000, False: 1000})


def test_every_check_has_something_to_catch():
    assert {m.caught_by for m in BROKEN_METHODS} == set(METHOD_CHECKS)
    assert {t.caught_by for t in BROKEN_TASKS} == set(TASK_CHECKS)


@pytest.mark.slow
@pytest.mark.parametrize("broken", BROKEN_METHODS, ids=lambda m: m.name)
def test_a_broken_method_is_caught_by_its_own_check(broken):
    report = check_method(broken)
    failed = {r.check for r in report.failures}
    assert broken.caught_by in failed, str(report)
    assert failed <= {broken.caught_by, *broken.also}, str(report)
    for result in report.failures:
        assert result.expected, report
        assert result.came, report
        assert result.where, report


@pytest.mark.parametrize("inaccurate", INACCURATE_METHODS, ids=lambda m: m.name)
def test_an_inaccurate_method_that_keeps_its_contract_is_warned_of(inaccurate):
    report = check_method(inaccurate)
    assert report.ok, str(report)
    report.raise_for_failures()
    assert {r.check for r in report.warnings} >= {inaccurate.warned_by}, str(report)
    assert {r.check for r in report.warnings} <= {"finite", "shared-term"}, str(report)
    (shown, *_) = [r for r in report.warnings if r.check == inaccurate.warned_by]
    assert re.search(
        r"warned .*\n    accurate  .*\n    came      .*\n    look at   how ", str(shown)
    )
    assert f" 0 failed, {len(report.warnings)} warned" in report.summary()


def test_a_warning_is_one_of_python_in_a_test():
    (check,) = [c for c in method_checks(METHODS.Timid) if c.name == "shared-term"]
    with pytest.warns(Inaccurate, match=r"expected log-odds .* came intercept"):
        check()


@pytest.mark.parametrize("broken", BROKEN_TASKS, ids=lambda t: t.name)
def test_a_broken_task_is_caught_by_its_own_check(broken, fewer):
    report = check_task(broken())
    failed = {r.check for r in report.failures}
    assert broken.caught_by in failed, str(report)
    assert failed <= {broken.caught_by, *broken.also}, str(report)


def test_a_sound_method_passes_and_the_table_says_so():
    report = check_method(METHODS.Sound)
    assert report.ok, report
    assert [r.check for r in report] == list(METHOD_CHECKS)
    assert "shared-term    passed" in str(report)
    report.raise_for_failures()
    skipped = {r.check: r.note for r in report if r.status == "skipped"}
    assert "log_ratio can be differentiated" in skipped["pairs"]


def test_sound_pairs_pass():
    report = check_method(METHODS.SoundPairs)
    report.raise_for_failures()
    (pairs,) = [r for r in report if r.check == "pairs"]
    assert pairs.status == "passed"
    assert pairs.note.startswith("gradients within")


def test_sound_samples_pass():
    report = check_method(METHODS.SoundSamples)
    report.raise_for_failures()
    (samples,) = [r for r in report if r.check == "samples"]
    assert samples.status == "passed"


def test_a_sound_task_passes(fewer):
    check_task(TASKS.Sound()).raise_for_failures()


@pytest.mark.parametrize("check", method_checks(METHODS.Sound), ids=str)
def test_a_line_of_pytest_does_for_methods(check):
    check()


def test_a_failed_check_raises_what_the_table_shows():
    (check,) = [c for c in method_checks(METHODS.Squeezes) if c.name == "shapes"]
    with pytest.raises(AssertionError, match=r"expected \(members, components, events, contexts\)"):
        check()
    with pytest.raises(AssertionError, match="look at   the surrogate's log_ratio"):
        check_method(METHODS.Squeezes).raise_for_failures()


def test_what_a_plugin_raises_is_a_failure_too():
    class Raises(METHODS.Sound):
        name = "raises"

        def solve(self, fit_context, data):
            raise KeyError("two\nlines")

    report = check_method(Raises)
    assert {r.check: r.came for r in report}["shapes"] == r"KeyError: 'two\nlines'"
    # The line is reported, and a shared reason only once.
    first, *rest = report.failures
    assert re.fullmatch(r'.*test_conformance\.py:\d+: raise KeyError\("two\\nlines"\)', first.at)
    assert len(rest) > 10
    assert {(r.came, r.at, r.same) for r in rest} == {(first.came, first.at, first.check)}
    assert str(report).count("    at        ") == str(report).count("    came  ") == 1
    assert str(report).count(f"for the same reason as {first.check}") == len(rest)


def test_the_line_of_an_exception_is_the_plugins_own_not_that_of_what_it_calls(fewer):
    class Divides(TASKS.Sound):
        name = "divides"

        def weights(self, theta):
            return self.mixed(theta)

        def mixed(self, theta):
            return theta @ torch.zeros(7)  # torch raises

    (failed,) = [r for r in check_task(Divides()) if r.check == "weights"]
    assert re.fullmatch(r".*test_conformance\.py:\d+: return theta @ .*# torch raises", failed.at)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEAP_METHODS)
def test_cheap_methods_pass(name):
    check_method(REGISTRY.method(name)).raise_for_failures()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*REGISTRY.names("methods")} - {*CHEAP_METHODS}))
def test_methods_pass(name):
    if name in DEAR_METHODS and "NLBENCH_ALL_TESTS" not in os.environ:
        pytest.skip("takes a minute or more; runs where NLBENCH_ALL_TESTS is set")
    check_method(shorter(REGISTRY.method(name))).raise_for_failures()


def test_the_task_of_the_kit_passes(fewer):
    check_task(asymmetric).raise_for_failures()


@pytest.mark.parametrize("name", CHEAP_TASKS)
def test_cheap_tasks_pass(name, fewer):
    check_task(REGISTRY.task(name)).raise_for_failures()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*REGISTRY.names("tasks")} - {*CHEAP_TASKS}))
def test_tasks_pass(name):
    check_task(REGISTRY.task(name)).raise_for_failures()


def test_checks_of_a_task_are_named_after_it():
    assert {c.subject for c in task_checks(asymmetric)} == {"task asymmetric"}


@pytest.mark.parametrize("parameters", [1, 3, 7, 20])
def test_tasks_of_any_number_of_parameters_pass(parameters, fewer):
    report = check_task(linear_gaussian(parameters))
    report.raise_for_failures()
    skipped = {r.check for r in report if r.status == "skipped"}
    assert ("gradients" in skipped) == (parameters == 1)


def test_four_components_pass():
    check_task(four_components()).raise_for_failures()


@pytest.mark.parametrize("dimensions", [0, 1, 2, 3, 4, 7, 20])
def test_a_grid_has_the_middle_and_the_bounds_of_every_coordinate(dimensions):
    unit = grid(dimensions)
    assert unit.shape[1] == dimensions
    assert len(unit) <= max(27, 11 + 2 * dimensions)
    assert {*unit.flatten().tolist()} <= {0.0, 0.5, 1.0}
    rows = {tuple(row) for row in unit.tolist()}
    assert {(value,) * dimensions for value in (0.0, 0.5, 1.0)} <= rows
    for j in range(dimensions):
        for bound in (0.0, 1.0):
            assert tuple(bound if i == j else 0.5 for i in range(dimensions)) in rows


def test_a_task_whose_parameters_only_mix_components_passes(fewer):
    class Mixed(TASKS.Sound):
        name = "mixed"
        space = ParameterSpace([Parameter("mu", 0.0, 1.0, "interest", (0.2, 0.8))], context=[])
        nominal = torch.zeros(0)
        points = torch.tensor([[0.3], [0.6]], dtype=torch.float64)

        class part:
            size = None

            def __init__(self, factor):
                self.factor = factor

            def simulate(self, context, generator):
                return self.factor + torch.randn(*context.shape[:-1], 1, generator=generator)

            def log_prob(self, x, context):
                pull = (x.double() - self.factor)[..., 0] + 0 * context.sum(-1)
                return -0.5 * pull.square() - 0.5 * math.log(2 * math.pi)

    check_task(Mixed()).raise_for_failures()


def test_an_idle_parameter_is_named():
    (failed,) = [r for r in check_task(TASKS.Idle()) if r.check == "parameters"]
    assert failed.came == (
        "parameter 'x7' changes neither the weights, nor the rate, nor the density of any component"
    )


def test_a_density_that_is_nan_in_between_is_named_with_its_context(fewer):
    class Holed(TASKS.Sound):
        name = "holed"

        class part(TASKS.Bell):
            def log_prob(self, x, context):
                hole = (context[..., 0] > 1.6) & (context[..., 0] < 1.7)
                return super().log_prob(x, context).masked_fill(hole, torch.nan)

    (failed,) = [r for r in check_task(Holed()) if r.check == "finite"]
    assert re.fullmatch(r"finite log-densities of up simulated at z = 1\.6\d+", failed.expected)
    assert re.fullmatch(r"not finite there and at \d+ of 1000 random contexts", failed.came)
