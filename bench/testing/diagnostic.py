"""Conformance kit of diagnostics.

A diagnostic is computed for evidence of exact surrogates, which `bench.testing.evidence` makes.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from math import isfinite, isnan
from numbers import Real
from typing import Any

import numpy as np
import torch
from scipy import stats

from bench.contracts import Diagnostic, Evidence, Finding
from bench.errors import NotApplicable
from bench.testing.evidence import CASES, Case, evidence
from bench.testing.guard import guarded
from bench.testing.report import (
    Check,
    ConformanceReport,
    Function,
    Result,
    Skipped,
    checks_of,
    expect,
    run_checks,
)

COMPUTE = "the diagnostic's compute"
DECLARED = "what the diagnostic declares"

_EVIDENCES = 40  # with p-values
_LEVEL = 0.05  # of these p-values
_FALSE_ALARM = 1e-3  # probability that a sound diagnostic fails


def _found(diagnostic: Diagnostic, given: Evidence) -> Finding:
    with guarded():
        found: Any = diagnostic.compute(given)
    came = type(found).__name__
    expect(isinstance(found, Finding), "a bench.contracts.Finding", came, COMPUTE)
    for value in (found.statistic, found.p_value):
        expect(isinstance(value, Real), "numbers of type float", type(value).__name__, COMPUTE)
    return Finding(float(found.statistic), float(found.p_value))


def _cases(diagnostic: Diagnostic) -> Iterator[Case]:
    """Yield the cases that a diagnostic is applicable to.

    Raises:
        Skipped: if there is none.
    """
    reasons = []
    for case in CASES[diagnostic.takes]:
        try:
            with guarded():
                diagnostic.compute(evidence(case, 0))
        except NotApplicable as error:
            reasons.append(str(error))
            continue
        yield case
    if len(reasons) == len(CASES[diagnostic.takes]):
        raise Skipped("; ".join(dict.fromkeys(reasons)))


def _finding(diagnostic: Diagnostic) -> str:
    """Return a finite statistic and the p-value that `null` promises, or say why there is none."""
    missing, said = [], ""
    for case in CASES[diagnostic.takes]:
        try:
            found = _found(diagnostic, evidence(case, 0))
        except NotApplicable as error:
            reason = str(error)
            expect(reason.strip(), f"NotApplicable with a reason ({case.what})", "none", COMPUTE)
            missing.append(f"{case.what}: {reason}")
            continue
        expect(
            isfinite(found.statistic),
            f"a finite statistic ({case.what})",
            found.statistic,
            COMPUTE,
        )
        _expect_p_value(diagnostic, found, case)
        said = said or f"statistic {found.statistic:.3g}, p-value {found.p_value:.2g}"
    if not said:
        raise Skipped("not applicable to " + "; ".join(missing))
    return said + "".join(f"; not applicable to {reason}" for reason in missing)


def _expect_p_value(diagnostic: Diagnostic, found: Finding, case: Case) -> None:
    if diagnostic.null == "none":
        expected = f"a p-value of NaN, as null='none' says ({case.what})"
        expect(isnan(found.p_value), expected, found.p_value, DECLARED)
    else:
        expected = f"a p-value from 0 to 1, or null='none' ({case.what})"
        expect(0 <= found.p_value <= 1, expected, found.p_value, COMPUTE)


def _deterministic(diagnostic: Diagnostic) -> None:
    """Return equal findings for equal seeds of the evidence's generator."""
    for case in _cases(diagnostic):
        pair = []
        for seed in (0, 1):
            with guarded():
                np.random.seed(seed)  # noqa: NPY002 - a diagnostic may use it
                random.seed(seed)
                torch.manual_seed(seed)
                found = _found(diagnostic, evidence(case, 0))
            pair.append([found.statistic, found.p_value])
        expect(
            np.array_equal(pair[0], pair[1], equal_nan=True),
            f"the same finding from the same evidence ({case.what})",
            "another; random numbers come from evidence.rng",
            COMPUTE,
        )


def _inputs(diagnostic: Diagnostic) -> None:
    """Leave the evidence and the process unchanged."""
    for case in _cases(diagnostic):
        given = evidence(case, 0)
        before = [*_contents(given)]
        with guarded():
            np.random.random()  # noqa: NPY002 - so that a seed set earlier shows
            with guarded() as changed:
                diagnostic.compute(given)
        change = ", ".join(f"{what}: {how}" for what, how in changed.items())
        expect(not changed, "no change of the process's global state", change, COMPUTE)
        expect(
            before == [*_contents(given)],
            f"the evidence unchanged ({case.what})",
            "changed arrays",
            COMPUTE,
        )


def _contents(value: object) -> Iterator[bytes]:
    """Yield the contents of all arrays in dataclasses and lists."""
    if isinstance(value, np.ndarray):
        yield value.tobytes()
    elif isinstance(value, list):
        for part in value:
            yield from _contents(part)
    elif is_dataclass(value):
        yield from _contents([*vars(value).values()])


def _p_values(diagnostic: Diagnostic) -> str:
    """Return few small p-values for exact surrogates."""
    if diagnostic.null == "none":
        return "has no p-values"
    if diagnostic.takes == "members":
        raise Skipped("networks of one training differ, so that none is exact")
    case = next(_cases(diagnostic))
    p_values = []
    for seed in range(_EVIDENCES):
        found = _found(diagnostic, evidence(case, seed))
        _expect_p_value(diagnostic, found, case)
        p_values.append(found.p_value)
    small = sum(p <= _LEVEL for p in p_values)
    most = int(stats.binom.isf(_FALSE_ALARM, _EVIDENCES, _LEVEL))
    expect(
        small <= most,
        f"at most {most} of {_EVIDENCES} p-values up to {_LEVEL} for exact surrogates",
        small,
        COMPUTE,
    )
    return f"{small} of {_EVIDENCES} p-values up to {_LEVEL} for exact surrogates"


_CHECKS: dict[str, tuple[Function, str]] = {
    "finding": (_finding, COMPUTE),
    "deterministic": (_deterministic, COMPUTE),
    "inputs": (_inputs, COMPUTE),
    "p-values": (_p_values, COMPUTE),
}
DIAGNOSTIC_CHECKS = tuple(_CHECKS)
"""Names of the checks of a diagnostic."""


def diagnostic_checks(diagnostic: Diagnostic) -> list[Check]:
    """Return the checks of a diagnostic, each a callable that raises AssertionError on failure.

    They are used in pytest as those of `bench.testing.method_checks`.
    """
    module = getattr(diagnostic.compute, "__module__", "")
    return checks_of(diagnostic, f"diagnostic {diagnostic.name}", module, _CHECKS)


def check_diagnostic(
    diagnostic: Diagnostic, *, report: Callable[[Result], None] | None = None
) -> ConformanceReport:
    """Run the checks of a diagnostic.

    Args:
        diagnostic: the diagnostic.
        report: called with every result as it comes.
    """
    return run_checks(diagnostic_checks(diagnostic), report)
