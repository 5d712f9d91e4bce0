"""The glossary has every heading of a table."""

import re
from pathlib import Path

import pytest

from bench.leaderboard import Results, build
from bench.leaderboard.columns import sections
from bench.registry.registry import Registry
from bench.storage.store import Store

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "glossary.md").read_text()
TERMS = set(re.findall(r"(?m)^(\S.*)\n  \S", PAGE))


@pytest.mark.parametrize("folder", ["densities", "peers"])
@pytest.mark.parametrize("plain", [False, True])
def test_every_heading_is_a_term(folder, plain):
    boards = build(
        Results(Store.open(ROOT / "results" / folder)), Registry().metrics(), plain=plain
    )
    missing = set()
    for board in boards:
        if "length" in board.parameters:  # a parameter of fields, and the word for intervals
            continue
        keys = {*board.parameters, "region", "joint"}
        names = [*board.parameters, *Registry().task(board.task).component_names]
        words = re.compile(rf"\b({'|'.join(names)})\b")
        for _, columns in sections(board):
            for column in columns:
                heading = re.sub(r" /(exact|hist\.)$", "", column.name)
                heading = " ".join(words.sub("", re.sub(r"\.\w+", "", heading)).split())
                if heading and column.name not in keys and heading not in TERMS:
                    missing.add(heading)
    assert missing == set()


def test_terms_are_there_once():
    assert len(TERMS) == len(re.findall(r"(?m)^(\S.*)\n  \S", PAGE)) > 40
