"""Output of commands: every text that may hold a user's or a plugin's words leaves through here."""

import logging
from collections.abc import Mapping, Sequence

import click

from bench.errors import printable


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print lines as they are, without characters that steer a terminal.

    Args:
        text: the lines.
        err: whether to print to standard error.
        nl: whether to end with a line break.
    """
    click.echo(printable(str(text), lines=True), err=err, nl=nl)


def tell(message: object) -> None:
    """Print a message to standard error, on one line whatever is in it."""
    click.echo(printable(str(message)), err=True)


def tell_each(what: str, found: Sequence[str] | Mapping[str, str]) -> bool:
    """Print a message for each of these; return whether there are any.

    Args:
        what: how messages begin.
        found: what they say, or reasons by name.
    """
    lines = [f"{n}: {why}" for n, why in found.items()] if isinstance(found, Mapping) else found
    for line in lines:
        tell(f"{what}: {line}")
    return bool(lines)


class Formatter(logging.Formatter):
    """Log records with their tracebacks, without characters that steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)
