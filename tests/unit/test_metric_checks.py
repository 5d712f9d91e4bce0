"""Conformance kit of metrics: built-in metrics pass, and every planted defect is caught."""

import numpy as np
import pytest

from bench.contracts import Metric
from bench.registry.registry import Registry
from bench.testing import METRIC_CHECKS, check_metric

pytestmark = pytest.mark.slow
REGISTRY = Registry()


@pytest.mark.parametrize("name", REGISTRY.names("metrics"))
def test_built_in_metrics_pass(name):
    report = check_metric(REGISTRY.get("metrics", name))
    report.raise_for_failures()
    assert not report.warnings
    assert [result.check for result in report] == list(METRIC_CHECKS)


def length(own, truth):
    """Return lengths of intervals, the sound metric that the others spoil."""
    return {"": (own.curves.upper - own.curves.lower)[:, 0]}


def covered(own, truth):
    i = own.reported[0]
    theta = own.datasets.theta[:, i]
    return {"": ((own.curves.lower[:, 0] <= theta) & (theta <= own.curves.upper[:, 0])) * 1.0}


def distance(own, truth):
    return {"": np.abs(own.curves.mle - truth.curves.mle)[:, 0]}


def infinite(own, truth):
    return {"": np.full(len(own.datasets), np.inf)}


def few(own, truth):
    return {"": length(own, truth)[""][1:]}


def alone(own, truth):
    values = length(own, truth)[""]
    return {"": values if len(values) > 1 else np.full(1, -np.inf)}


def raises(own, truth):
    return {"": own.no_such_field}


def text(own, truth):
    return {"": np.array(["long"] * len(own.datasets))}


def misplaced(own, truth):
    apart = own.curves.mle - own.datasets.theta[:, list(own.reported)]
    return {name: apart[:, i] for i, name in enumerate(own.reported_names)}


def slashed(own, truth):
    return {"mu/gap": length(own, truth)[""]}


def noisy(own, truth):
    return {"": length(own, truth)[""] + np.random.default_rng().normal(size=len(own.datasets))}


def folded(own, truth):
    values = length(own, truth)[""]
    fold = np.arange(len(values)) % 2
    return {"": values - np.array([values[fold == f].mean() for f in (0, 1)])[fold]}


def spoils(own, truth):
    own.curves.mle[:] = 0
    return length(own, truth)


def seeds(own, truth):
    np.random.seed(0)  # noqa: NPY002
    return length(own, truth)


def silent(own, truth):
    values = length(own, truth)[""]
    return {"": values if truth is None else values / length(truth, None)[""]}


DEFECTS = [
    (infinite, {}, "contributions", "infinite values for ''"),
    (few, {}, "contributions", "shape ("),
    (alone, {}, "contributions", "in 1 of 1 datasets"),
    (raises, {}, "contributions", "no attribute 'no_such_field'"),
    (text, {}, "contributions", "they must be real numbers"),
    (misplaced, {}, "contributions", "could not be broadcast"),
    (slashed, {}, "contributions", "the key 'mu/gap'"),
    (noisy, {}, "deterministic", "np.random.default_rng(a fixed seed)"),
    (folded, {}, "order", "a hash of datasets.set"),
    (spoils, {}, "inputs", "changed arrays"),
    (seeds, {}, "inputs", "numpy's global random numbers"),
    (silent, {}, "truth", "others"),
    (length, {"share": True}, "share", "["),
    (covered, {}, "share", "share=False"),
    (distance, {"needs_truth": True, "better": "higher"}, "direction", "worse in it of the"),
]


@pytest.mark.parametrize(("compute", "declared", "check", "came"), DEFECTS)
def test_defects_are_caught(compute, declared, check, came):
    metric = Metric("planted", "planted", "Planted.", ("independent",), compute, **declared)
    found = {result.check: result for result in check_metric(metric)}
    bad = found[check]
    assert bad.status == ("warned" if check == "direction" or compute is covered else "failed")
    assert came in bad.came


def test_a_sound_metric_passes():
    metric = Metric("length", "length", "Length.", ("independent", "bootstrap"), length)
    report = check_metric(metric)
    report.raise_for_failures()
    assert not report.warnings


def test_a_metric_of_one_kind_of_plan_says_where_it_is_not_defined():
    metric = Metric(
        "area",
        "area",
        "Area.",
        ("independent",),
        lambda own, _: {} if own.window is None else {"": own.window.area},
    )
    note = check_metric(metric).results[0].note
    assert note == 'keys ""; not defined for the independent plan, 7 parameters'
