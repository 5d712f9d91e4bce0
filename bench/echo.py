"""Printing for commands; texts that may contain words of users or plugins are sanitised here."""

import logging
from collections.abc import Mapping, Sequence

import click

from bench.errors import printable


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print lines without terminal control characters.

    Args:
        text: the lines.
        err: whether to print to standard error.
        nl: whether to end with a line break.
    """
    click.echo(printable(str(text), lines=True), err=err, nl=nl)


def tell(message: object) -> None:
    """Print a message to standard error, always on one line."""
    click.echo(printable(str(message)), err=True)


def tell_each(what: str, found: Sequence[str] | Mapping[str, str]) -> bool:
    """Print one message per item to standard error; return whether there are any.

    Args:
        what: prefix of every message.
        found: the messages, or reasons by name.
    """
    lines = [f"{n}: {why}" for n, why in found.items()] if isinstance(found, Mapping) else found
    for line in lines:
        tell(f"{what}: {line}")
    return bool(lines)


class Formatter(logging.Formatter):
    """Formatter of log records and tracebacks that removes terminal control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)
