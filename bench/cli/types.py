"""Types of options. Beyond these bounds a slip of the keyboard is likelier than a wish."""

from typing import Any

import click

MOST = 10**6
COUNT = click.IntRange(1, MOST)
CALLS = click.IntRange(1, 10**12)


class _Folder(click.Path):
    """A folder, which has a name: an empty one comes from a shell's variable that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("a folder's name cannot be empty", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = _Folder()
