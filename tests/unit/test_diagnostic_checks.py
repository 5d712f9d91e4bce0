"""Conformance kit of diagnostics: built-in ones pass, and every planted defect is caught."""

import random
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from bench.contracts import Diagnostic, Finding
from bench.contracts.diagnostic import Part
from bench.diagnostics.two_sample import p_value, pooled
from bench.errors import NotApplicable
from bench.registry.registry import Registry
from bench.testing import DIAGNOSTIC_CHECKS, check_diagnostic
from bench.testing.evidence import CASES, evidence

REGISTRY = Registry()


@pytest.mark.slow
@pytest.mark.parametrize("name", REGISTRY.names("diagnostics"))
def test_built_in_diagnostics_pass(name):
    report = check_diagnostic(REGISTRY.get("diagnostics", name))
    report.raise_for_failures()
    assert all(result.status == "passed" for result in report)
    assert [result.check for result in report] == list(DIAGNOSTIC_CHECKS)


def test_there_is_evidence_of_every_part():
    assert set(CASES) == set(get_args(Part))
    for part, cases in CASES.items():
        for case in cases:
            given = evidence(case, 0)
            assert [n for n, value in vars(given).items() if value is not None] == ["rng", part]


def difference(evidence):
    """Compare means by permutation, the sound diagnostic that the others spoil."""
    both = pooled(evidence.samples.simulated, evidence.samples.generated, evidence.rng, 99)
    found = abs((both.first - both.second) @ both.rows[:, 0])
    return Finding(found[0], p_value(found))


def number(evidence):
    return difference(evidence).statistic


def texts(evidence):
    return Finding("0.1", 0.5)


def infinite(evidence):
    return replace(difference(evidence), statistic=np.inf)


def beyond(evidence):
    return replace(difference(evidence), p_value=1.5)


def undefined(evidence):
    return replace(difference(evidence), p_value=np.nan)


def toys(evidence):
    return Finding(len(evidence.toys.datasets), 0.5)


def silent(evidence):
    raise NotApplicable("")


def seedless(evidence):
    return Finding(np.random.default_rng().random(), 0.5)


def of_numpy(evidence):
    return Finding(np.random.random(), 0.5)  # noqa: NPY002


def of_python(evidence):
    return Finding(random.random(), 0.5)


def spoils(evidence):
    evidence.samples.simulated[:] = 0
    return difference(evidence)


def significant(evidence):
    found = difference(evidence)
    return replace(found, p_value=found.p_value / 20)


DEFECTS = [
    (number, {}, "finding", "float"),
    (texts, {}, "finding", "str"),
    (infinite, {}, "finding", "inf"),
    (beyond, {}, "finding", "1.5"),
    (undefined, {}, "finding", "nan"),
    (difference, {"null": "none"}, "finding", "0."),
    (toys, {}, "finding", "AttributeError"),
    (silent, {}, "finding", "none"),
    (seedless, {}, "deterministic", "another; random numbers come from evidence.rng"),
    (of_numpy, {}, "deterministic", "another"),
    (of_numpy, {}, "inputs", "numpy's global random numbers"),
    (of_python, {}, "inputs", "Python's global random numbers"),
    (spoils, {}, "inputs", "changed arrays"),
    (significant, {}, "p-values", "40"),
]


def planted(compute, **declared):
    fields = {"level": "event", "takes": "samples", "null": "permutation"} | declared
    return Diagnostic("planted", "planted", "Planted.", compute=compute, **fields)


@pytest.mark.parametrize(("compute", "declared", "check", "came"), DEFECTS)
def test_defects_are_caught(compute, declared, check, came):
    found = {result.check: result for result in check_diagnostic(planted(compute, **declared))}
    assert found[check].status == "failed"
    assert came in found[check].came


def test_a_sound_diagnostic_passes():
    seen = []
    report = check_diagnostic(planted(difference), report=seen.append)
    report.raise_for_failures()
    assert seen == list(report.results)
    assert "p-values up to 0.05 for exact surrogates" in report.results[-1].note


def test_a_diagnostic_may_be_not_applicable_with_a_reason():
    def never(evidence):
        raise NotApplicable("there is no such thing")

    report = check_diagnostic(planted(never))
    assert report.ok
    assert {result.status for result in report} == {"skipped"}
    assert all("there is no such thing" in result.note for result in report)


def test_p_values_of_several_trainings_are_not_counted():
    last = check_diagnostic(planted(lambda evidence: Finding(0, 0.01), takes="members")).results[-1]
    assert (last.check, last.status) == ("p-values", "skipped")
    assert "none is exact" in last.note
