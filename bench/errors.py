"""Every error that the suite raises on purpose.

A message is one line: what is wrong, where, and what is allowed.
"""

import linecache
import os
from contextlib import suppress
from importlib.metadata import entry_points
from traceback import walk_tb

_LONGEST = 120  # characters of a line of source that are shown
_PLUGINS = ("nlbench_plugin_", "bench.tasks.", "bench.methods.")  # beginnings of names of modules


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text without characters that steer a terminal or turn its direction.

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
    """Return a number with a noun whose plural takes an s.

    Example:
        >>> counted(1, "worker"), counted(1000, "worker")
        ('1 worker', '1,000 workers')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def message_of(error: BaseException) -> str:
    """An exception's message on one line; a plugin's may be one that fails to give it."""
    try:
        return " ".join(str(error).split())
    except Exception:  # whatever its __str__ raises
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
    groups = (entry_points(group=f"nlbench.{kind}") for kind in ("tasks", "methods", "metrics"))
    names = (module, *(point.value.partition(":")[0] for group in groups for point in group))
    packages = {name.partition(".")[0] for name in names} - {"bench"}
    cause: BaseException | None = error
    with suppress(Exception):  # a plugin may have broken whatever this takes
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
    """Base of the suite's errors; the command line prints it without a traceback (exit 1)."""

    exit_code = 1


class UsageError(BenchError):
    """The user asked for something that does not exist or is not allowed (exit 2)."""

    exit_code = 2


class PluginError(BenchError):
    """A plugin breaks its contract: wrong signature, wrong shape, duplicate name."""


class BudgetExceeded(BenchError):
    """A method asked for more simulator calls than its budget has left."""


class NonFiniteError(BenchError):
    """A method returned NaN, or a loss diverged."""


class NotApplicable(BenchError):
    """A method cannot run on a task; the cell is n/a, with this reason."""


class DataError(BenchError):
    """A task's data cannot be had, or are not what they should be."""


class StoreError(BenchError):
    """The result store cannot be read or written."""


class LimitExceeded(BenchError):
    """A cell ran past its time or memory limit, or its worker process died."""
