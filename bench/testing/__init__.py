"""Conformance kit: checks of the contracts of tasks, methods and other plugins, and of accuracy.

It is for authors of plugins. `bench check` runs the same checks.

Example:
    >>> from bench.testing import task_checks
    >>> from bench.testing.asymmetric import asymmetric
    >>> first, *_ = task_checks(asymmetric)
    >>> print(first, first.result().status)
    contract passed
"""

from bench.testing.diagnostic import DIAGNOSTIC_CHECKS, check_diagnostic, diagnostic_checks
from bench.testing.method import METHOD_CHECKS, check_method, method_checks
from bench.testing.metric import METRIC_CHECKS, check_metric, metric_checks
from bench.testing.report import Check, ConformanceReport, Failed, Inaccurate, Result, Skipped
from bench.testing.task import TASK_CHECKS, check_task, task_checks
from bench.testing.wrapper import WRAPPER_CHECKS, check_wrapper, wrapper_checks

__all__ = [
    "DIAGNOSTIC_CHECKS",
    "METHOD_CHECKS",
    "METRIC_CHECKS",
    "TASK_CHECKS",
    "WRAPPER_CHECKS",
    "Check",
    "ConformanceReport",
    "Failed",
    "Inaccurate",
    "Result",
    "Skipped",
    "check_diagnostic",
    "check_method",
    "check_metric",
    "check_task",
    "check_wrapper",
    "diagnostic_checks",
    "method_checks",
    "metric_checks",
    "task_checks",
    "wrapper_checks",
]
