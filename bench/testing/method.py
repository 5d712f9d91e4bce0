"""Conformance kit of methods."""

from collections.abc import Callable

from bench.contracts import Method, Task
from bench.testing import fit_checks, sample_checks, surrogate_checks
from bench.testing.method_under_test import MethodUnderTest
from bench.testing.report import (
    Check,
    ConformanceReport,
    Function,
    Result,
    checks_of,
    run_checks,
)

_CHECKS: dict[str, tuple[Function, str]] = {
    "contract": (fit_checks.contract, fit_checks.CONTRACT),
    "kinds": (fit_checks.kinds, fit_checks.CONTRACT),
    "small-budgets": (fit_checks.small_budgets, fit_checks.FIT),
    "budget": (fit_checks.budget, fit_checks.FIT),
    "sources": (fit_checks.sources, fit_checks.FIT),
    "determinism": (fit_checks.determinism, fit_checks.FIT),
    "independent": (fit_checks.independent, fit_checks.FIT),
    "distinct": (fit_checks.distinct, fit_checks.FIT),
    "process": (fit_checks.process, fit_checks.FIT),
    "shapes": (surrogate_checks.shapes, surrogate_checks.RATIO),
    "dtype": (surrogate_checks.dtype, surrogate_checks.RATIO),
    "device": (surrogate_checks.device, surrogate_checks.RATIO),
    "batching": (surrogate_checks.batching, surrogate_checks.RATIO),
    "order": (surrogate_checks.order, surrogate_checks.RATIO),
    "pairs": (surrogate_checks.pairs, surrogate_checks.PAIRS),
    "inputs": (surrogate_checks.inputs, surrogate_checks.RATIO),
    "state": (surrogate_checks.state, surrogate_checks.RESTORE),
    "finite": (surrogate_checks.finite, surrogate_checks.RATIO),
    "shared-term": (surrogate_checks.shared_term, surrogate_checks.RATIO),
    "density": (surrogate_checks.density, surrogate_checks.RATIO),
    "samples": (sample_checks.samples, sample_checks.SAMPLES),
}
METHOD_CHECKS = tuple(_CHECKS)
"""Names of the checks of a method."""


def method_checks(
    method: type[Method], *, configuration: str | None = None, task: Task | None = None
) -> list[Check]:
    """Return the checks of a method, each a callable that raises AssertionError on failure.

    They share trained surrogates, and any check can run alone. In pytest:

    .. code-block:: python

        @pytest.mark.parametrize("check", method_checks(MyMethod), ids=str)
        def test_my_method(check):
            check()

    Args:
        method: the method.
        configuration: name of the configuration; the first where None.
        task: task of the checks; where None the first of the asymmetric task and the toy tasks that
            the method accepts.
    """
    subject = MethodUnderTest(method, configuration, task)
    what = f"method {method.name}" + (f":{configuration}" if configuration else "")
    return checks_of(subject, what, method.__module__, _CHECKS)


def check_method(
    method: type[Method],
    *,
    configuration: str | None = None,
    task: Task | None = None,
    report: Callable[[Result], None] | None = None,
) -> ConformanceReport:
    """Run the checks of a method; see `method_checks`.

    Args:
        method: the method.
        configuration: name of the configuration; the first where None.
        task: task of the checks; see `method_checks`.
        report: called with every result as it comes.
    """
    return run_checks(method_checks(method, configuration=configuration, task=task), report)
