"""Errors that the suite raises on purpose.

A message is one line: the problem, its place, and what is allowed.
"""

import linecache
import os
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import entry_points
from traceback import walk_tb

_LONGEST = 120  # characters shown of a source line
_KINDS = ("tasks", "methods", "wrappers", "metrics", "diagnostics")  # of entry points
_PLUGINS = ("nlbench_plugin_", "bench.tasks.", "bench.methods.")  # prefixes of module names


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text without terminal control characters and characters that reverse its direction.

    Args:
        text: the text.
        lines: whether its line breaks and spaces stay; otherwise it is put on one line.

    Example:
        >>> printable("two\nlines, \x1b[31mred")
        'two lines, \\x1b[31mred'
    """
    kept = text.split("\n") if lines else [" ".join(text.split())]
    shown = ("".join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in kept)
    return "\n".join(shown)


def counted(count: int, noun: str) -> str:
    """Return a number and a noun, in the plural by an s unless the number is 1.

    Example:
        >>> counted(1, "worker"), counted(1000, "worker")
        ('1 worker', '1,000 workers')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours.

    Example:
        >>> duration(12.3), duration(600), duration(9000)
        ('12 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def message_of(error: BaseException) -> str:
    """Return an exception's message on one line, also if the exception's `__str__` fails."""
    try:
        return " ".join(str(error).split())
    except Exception:  # a plugin's `__str__` may raise anything
        return "(its message cannot be shown)"


def raised_at(error: BaseException, module: str = "") -> str:
    """Return file, line and source of the deepest call in a plugin that led to an exception.

    Args:
        error: the exception, or one that was raised from it.
        module: name of a module that belongs to the plugin. Plugin files, packages with an entry
            point of the suite, and the suite's own tasks and methods are known without.

    Returns:
        "FILE:LINE: SOURCE", or an empty text if no plugin was called.
    """
    groups = (entry_points(group=f"nlbench.{kind}") for kind in _KINDS)
    names = (module, *(point.value.partition(":")[0] for group in groups for point in group))
    packages = {name.partition(".")[0] for name in names} - {"bench"}
    cause: BaseException | None = error
    with suppress(Exception):  # a plugin may have broken what this reads
        while cause is not None:
            frames = [
                (frame, line)
                for frame, line in walk_tb(cause.__traceback__)
                if (name := str(frame.f_globals.get("__name__"))).startswith(_PLUGINS)
                or name.partition(".")[0] in packages
            ]
            if frames:
                frame, line = frames[-1]
                file = frame.f_code.co_filename
                below = file.startswith(os.getcwd() + os.sep)
                shown = os.path.relpath(file) if below else os.path.basename(file)
                source = printable(linecache.getline(file, line, frame.f_globals))
                source = source if len(source) <= _LONGEST else f"{source[: _LONGEST - 3]}..."
                return f"{printable(shown)}:{line}: {source}"
            cause = cause.__cause__
    return ""


class BenchError(Exception):
    """Base class of the suite's errors, printed by the command line without traceback (exit 1)."""

    exit_code = 1


class UsageError(BenchError):
    """Request for something that does not exist or is not allowed (exit 2)."""

    exit_code = 2


class PluginError(BenchError):
    """Violation of a contract by a plugin: wrong signature, wrong shape or duplicate name."""


class BudgetExceeded(BenchError):
    """Request of a method for more simulator calls than its budget has left."""


class NonFiniteError(BenchError):
    """NaN returned by a method, or a loss that diverged."""


class NotApplicable(BenchError):
    """Reason why a method cannot run on a task; tables show n/a with this reason."""


class DataError(BenchError):
    """Data of a task that cannot be obtained or are not as expected."""


class StoreError(BenchError):
    """Failure to read or write the result store."""


class LimitExceeded(BenchError):
    """Job beyond its time or memory limit, or death of its worker process."""


def assigned(names: Iterable[str], values: Iterable[float]) -> str:
    """Format values by name.

    Example:
        >>> assigned(["mu", "z"], [0.25, 1.0])
        'mu = 0.25, z = 1'
    """
    return ", ".join(f"{name} = {value:.4g}" for name, value in zip(names, values, strict=True))
