"""Fixtures for tests of the registry."""

import textwrap

import pytest


@pytest.fixture
def plugin(tmp_path):
    """Return a function that writes a plugin file."""

    def write(content, name="plugin.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(content), encoding="utf-8")
        return path

    return write
