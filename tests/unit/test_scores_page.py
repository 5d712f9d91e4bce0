"""docs/scores.md agrees with the committed study."""

import importlib.util
import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "docs" / "scores.md").read_text().split())
STUDIES = ROOT / "results" / "studies"


@pytest.fixture(scope="module")
def script():
    """Return the module `results/scores.py`, which makes the tables of the page."""
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


def test_comparisons_are_counted_and_chance_is_students(script):
    points = pd.read_csv(STUDIES / "equivalence-curves.csv")
    made = [[cell.strip() for cell in row.split("|")[1:6]] for row in rows(script.worse(points))]
    sizes = [row for row in made if row[0].endswith("parameters")]
    count, better, worse, chance = (sum(float(row[i]) for row in sizes) for i in range(1, 5))
    assert f"In {count:.0f} comparisons" in PAGE
    assert f"in {better:.0f} and worse in {worse:.0f} (score error of τ²" in PAGE
    assert f"chance alone would make about {chance:.0f} worse" in PAGE
    by_name = {row[0]: row for row in made}
    for name, sentence in {
        "`nler-sa:adaptive`": "they are better in {} and worse in {}, beyond two errors",
        "`nler-sa:10k-adaptive`": "better in {} and worse in {} of 99",
        "`nler-sa:3k-adaptive`": "and better in {} and worse in {}, most of the worse",
    }.items():
        assert sentence.format(*by_name[name][2:4]) in PAGE
    expected = re.findall(r"Chance alone would make about (\d+) worse", PAGE)
    assert expected == [
        f"{float(by_name[name][4]):.0f}" for name in ("`nler-sa:adaptive`", "`nler-sa:3k-adaptive`")
    ]
