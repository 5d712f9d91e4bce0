"""Conformance kit of tasks."""

from collections.abc import Callable
from functools import partial

from bench.contracts import Task
from bench.errors import NotApplicable
from bench.testing import declared_checks, density_checks
from bench.testing.report import (
    Check,
    ConformanceReport,
    Function,
    Result,
    Skipped,
    checks_of,
    run_checks,
)

_CHECKS: dict[str, tuple[Function, str]] = {
    "contract": (declared_checks.contract, declared_checks.CONTRACT),
    "bounds": (declared_checks.bounds, declared_checks.SPACE),
    "weights": (declared_checks.weights, declared_checks.CONTRACT),
    "rate": (declared_checks.rate, declared_checks.RATE),
    "parameters": (declared_checks.parameters, declared_checks.SPACE),
    "simulations": (declared_checks.simulations, declared_checks.SIMULATE),
    "seeds": (declared_checks.seeds, declared_checks.SIMULATE),
    "transform": (declared_checks.transform, declared_checks.CONTRACT),
    "finite": (density_checks.finite, density_checks.DENSITY),
    "broadcasting": (density_checks.broadcasting, density_checks.DENSITY),
    "references": (declared_checks.references, declared_checks.CONTRACT),
    "simulator": (density_checks.simulator, density_checks.DENSITY),
    "normalisation": (density_checks.normalisation, density_checks.DENSITY),
    "slopes": (density_checks.slopes, density_checks.SCORE),
    "gradients": (density_checks.gradients, density_checks.DENSITY),
    "mean-score": (density_checks.mean_score, density_checks.SCORE),
}
TASK_CHECKS = tuple(_CHECKS)
"""Names of the checks of a task."""


def task_checks(task: Task) -> list[Check]:
    """Return the checks of a task, each a callable that raises AssertionError on failure.

    They are used in pytest as those of `bench.testing.method_checks`.
    """
    ready = {name: (partial(_ready, f), where) for name, (f, where) in _CHECKS.items()}
    return checks_of(task, f"task {task.name}", type(task).__module__, ready)


def _ready(function: Function, task: Task) -> str | None:
    try:
        task.check()
        return function(task)
    except NotApplicable as reason:  # of the task, or of a simulation at a chosen context
        raise Skipped(str(reason)) from reason


def check_task(task: Task, *, report: Callable[[Result], None] | None = None) -> ConformanceReport:
    """Run the checks of a task.

    Args:
        task: the task.
        report: called with every result as it comes.
    """
    return run_checks(task_checks(task), report)
