"""Every heading of a table has a definition."""

import re
from pathlib import Path

import pytest

from bench.boards import Results, build
from bench.boards.columns import sections
from bench.boards.glossary import TERMS, definition, term
from bench.registry.registry import Registry
from bench.storage.store import Store

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "glossary.md").read_text()


@pytest.mark.parametrize("folder", ["densities", "peers"])
@pytest.mark.parametrize("plain", [False, True])
def test_every_heading_is_defined(folder, plain):
    boards = build(
        Results(Store.open(ROOT / "results" / folder)), Registry().metrics(), plain=plain
    )
    for board in boards:
        for title, columns in sections(board):
            for column in columns:
                if column.name not in board.parameters:
                    assert term(column.name, board.parameters), column.name
                assert definition(column.name, title, board.parameters)


def test_a_definition_is_that_of_the_column_and_not_of_a_parameter():
    assert term("threshold length", ["length", "nugget"]) == "threshold"
    assert term("length length /exact", ["length"]) == "length"
    title = "Divergence from the exact likelihood in the box, nats"
    assert TERMS["divergence"] in definition("joint", title, ["mu"])
    assert TERMS["joint"] not in definition("joint", title, ["mu"])


def test_terms_of_the_page_are_there_once():
    words = re.findall(r"(?m)^(\S.*)\n  \S", PAGE)
    assert len(words) == len(set(words)) > 25
    assert not TERMS.keys() & set(words)
    assert "{{ definitions() }}" in PAGE
