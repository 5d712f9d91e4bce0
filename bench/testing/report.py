"""Results of checks: expected value, actual value, and where to look."""

import time
import unittest
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

from torch import Tensor

from bench.errors import BenchError, printable, raised_at
from bench.registry.validate import one_line

Function = Callable[[Any], str | None]
"""Function of a check; takes a method, task or metric and returns a note."""
Status = Literal["passed", "failed", "warned", "skipped"]


class _Finding(Exception):
    """Difference between an expected and an actual value.

    Args:
        expected: value promised by the contract, or given by an accurate method.
        came: actual value.
        where: function to correct, or page with an explanation.
    """

    def __init__(self, expected: str, came: str, where: str) -> None:
        super().__init__(printable(f"expected {expected}; came {came}; look at {where}"))
        self.expected, self.came, self.where = expected, came, where


class Failed(_Finding, AssertionError):
    """Breach of the contract."""


def expect(holds: object, expected: str, came: object, where: str) -> None:
    """Raise :class:`Failed` unless the condition holds."""
    if not holds:
        raise Failed(expected, str(came), where)


def expect_tensor(value: object, shape: tuple[int, ...], what: str, where: str) -> None:
    """Raise :class:`Failed` unless a value is a tensor of a shape; `what` says of what."""
    tensor = isinstance(value, Tensor)
    came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    expect(tensor and came == shape, f"{what}: a torch.Tensor of shape {shape}", came, where)


class Inaccurate(_Finding, UserWarning):
    """Inaccurate numbers from a plugin that keeps its contract."""


class Skipped(unittest.SkipTest):
    """Signal that a check does not apply, with the reason; test runners show it as skipped."""


@dataclass(frozen=True)
class Result:
    """Result of one check.

    Args:
        subject: the checked method, task or metric, such as "method my-method".
        check: name of the check.
        status: outcome; "warned" is inaccurate without a breach of the contract.
        expected, came, where: see :class:`Failed`; empty unless it failed or warned.
        at: file, line and source of the plugin that raised an exception; empty without one.
        note: reason of a skipped check, or measurement of a passed check.
        seconds: duration.
        same: earlier check that failed for the same reason; only that one shows the reason.
    """

    subject: str
    check: str
    status: Status
    expected: str = ""
    came: str = ""
    where: str = ""
    at: str = ""
    note: str = ""
    seconds: float = 0.0
    same: str = ""

    def __str__(self) -> str:
        note = f"for the same reason as {self.same}" if self.same else printable(self.note)
        lines = [f"{self.check:<14} {self.status:<7} {self.seconds:5.1f} s  {note}".rstrip()]
        expected = "accurate" if self.status == "warned" else "expected"
        told = {expected: self.expected, "came": self.came, "at": self.at, "look at": self.where}
        if not self.same:
            lines += [f"    {what:<8}  {printable(text)}" for what, text in told.items() if text]
        return "\n".join(lines)


@dataclass(frozen=True)
class Check:
    """Callable check that raises :class:`Failed` or :class:`Skipped`.

    An :class:`Inaccurate` plugin gets a Python warning of that category. Checks of one method or
    task share trained surrogates and simulations; any check can run alone.

    Args:
        subject: the method, task or metric.
        name: name of the check.
        function: runs the check and returns a note.
        where: where to look if the plugin's code raises.
        module: name of the module that defines the subject.
    """

    subject: str
    name: str
    function: Callable[[], str | None]
    where: str
    module: str = ""

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> None:
        try:
            self._run()
        except Inaccurate as finding:
            warnings.warn(finding, stacklevel=2)

    def _run(self) -> str:
        try:
            return self.function() or ""
        except (Failed, Inaccurate, Skipped):
            raise
        except (Exception, SystemExit) as error:
            message = str(error) if isinstance(error, BenchError) else one_line(error)
            raise Failed("no exception", " ".join(message.split()), self.where) from error

    def result(self) -> Result:
        """Run the check and return its result."""
        begin = time.perf_counter()
        fields: dict[str, Any]
        try:
            fields = {"status": "passed", "note": self._run()}
        except (Failed, Inaccurate) as finding:
            fields = {
                "status": "failed" if isinstance(finding, Failed) else "warned",
                "expected": finding.expected,
                "came": finding.came,
                "where": finding.where,
                "at": raised_at(finding.__cause__, self.module) if finding.__cause__ else "",
            }
        except Skipped as reason:
            fields = {"status": "skipped", "note": str(reason)}
        seconds = time.perf_counter() - begin
        return Result(self.subject, self.name, seconds=seconds, **fields)


@dataclass(frozen=True)
class ConformanceReport:
    """Results of all checks of one method, task or metric; true if none failed.

    `print(report)` shows a table.
    """

    subject: str
    results: tuple[Result, ...]

    @property
    def failures(self) -> tuple[Result, ...]:
        """Results of failed checks."""
        return tuple(r for r in self.results if r.status == "failed")

    @property
    def warnings(self) -> tuple[Result, ...]:
        """Results of checks that warn of inaccurate numbers."""
        return tuple(r for r in self.results if r.status == "warned")

    @property
    def ok(self) -> bool:
        """Return whether no check failed."""
        return not self.failures

    def __bool__(self) -> bool:
        return self.ok

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def raise_for_failures(self) -> None:
        """Raise AssertionError with the table if a check failed.

        A plugin's test can be this one call.
        """
        if not self.ok:
            raise AssertionError(str(self))

    def summary(self) -> str:
        """Return one line with the numbers of passed, failed, warned and skipped checks."""
        counts = {s: sum(r.status == s for r in self.results) for s in get_args(Status)}
        said = [f"{n} {s}" for s, n in counts.items() if n or s in ("passed", "failed")]
        return f"{printable(self.subject)}: {', '.join(said)}"

    def __str__(self) -> str:
        return "\n".join([self.subject, *map(str, self.results), self.summary()])


def checks_of(
    subject: Any, what: str, module: str, functions: Mapping[str, tuple[Function, str]]
) -> list[Check]:
    """Return the checks of a method, task or metric.

    Args:
        subject: argument of the functions.
        what: name of the subject in results.
        module: name of the module that defines the subject.
        functions: functions by name, each with where to look if the plugin's code raises.
    """
    return [
        Check(what, name, partial(function, subject), where, module)
        for name, (function, where) in functions.items()
    ]


def run_checks(
    checks: Sequence[Check], report: Callable[[Result], None] | None
) -> ConformanceReport:
    """Run the checks of one subject in order; `report` is called with each result as it comes."""
    results: list[Result] = []
    first: dict[tuple[str, str], str] = {}
    for check in checks:
        result = check.result()
        earlier = first.setdefault((result.came, result.at), result.check)
        if result.at and earlier != result.check:
            result = replace(result, same=earlier)
        results.append(result)
        if report is not None:
            report(result)
    return ConformanceReport(checks[0].subject, tuple(results))
