"""Every error that the suite raises on purpose.

A message is one line: what is wrong, where, and what is allowed.
"""


def printable(text: str) -> str:
    """Text on one line, without characters that steer a terminal.

    Example:
        >>> printable("two\\nlines, \\x1b[31mred")
        'two lines, \\\\x1b[31mred'
    """
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def message_of(error: BaseException) -> str:
    """An exception's message on one line; a plugin's may be one that fails to give it."""
    try:
        return " ".join(str(error).split())
    except Exception:  # whatever its __str__ raises
        return "(its message cannot be shown)"


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
