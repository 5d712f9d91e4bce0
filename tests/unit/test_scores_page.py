"""docs/scores.md says what the committed study says."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "docs" / "scores.md").read_text().split())
STUDIES = ROOT / "results" / "studies"


@pytest.fixture(scope="module")
def script():
    """`results/scores.py`, which makes the tables of the page."""
    spec = importlib.util.spec_from_file_location("scores_page", ROOT / "results" / "scores.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(table):
    return [line for line in table.splitlines()[2:] if line]


@pytest.mark.parametrize("table", ["factors", "sizes", "families"])
def test_factors_are_those_of_the_study(script, table):
    found = pd.read_csv(STUDIES / "equivalence.csv", keep_default_na=False, na_values=["nan"])
    made = rows(getattr(script, table)(found))
    assert made
    assert [row for row in made if row not in PAGE] == []
