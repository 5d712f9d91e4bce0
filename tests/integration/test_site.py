"""Pages of the site: links lead somewhere, numbers are in the packs, pages of results are short.

Warnings of the build itself are errors of `tox -e docs`.
"""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from jinja2 import Environment, StrictUndefined

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if not {"_build", "_gallery"} & {*p.parts})
RESULTS = sorted((DOCS / "results").glob("*.md"))


@pytest.fixture(scope="module")
def names():
    """Return what pages of results may call."""
    spec = importlib.util.spec_from_file_location("packs", DOCS / "numbers_from_packs.py")
    sys.modules["packs"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield {name: value for name, value in vars(module).items() if callable(value)}
    del sys.modules["packs"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http", "{")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            heads = re.findall(r"(?m)^#+ (.*)", file.read_text())
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in heads}


@pytest.mark.slow
@pytest.mark.parametrize("page", RESULTS, ids=lambda p: p.stem)
def test_a_page_of_results_is_short_and_its_numbers_are_in_the_packs(page, names):
    text = Environment(undefined=StrictUndefined).from_string(page.read_text()).render(**names)
    assert "{{" not in text
    assert "n/a" not in text
    text = re.sub(r"(?s)```.*?```", "", text)
    tables = re.findall(r"(?m)(?:^\|.*\n)+", text)
    assert all(table.count("\n") - 2 <= 10 for table in tables)
    prose = re.sub(r"(?m)^(\||#|!\[).*\n", "", text)
    assert len(prose.split()) <= 300
    assert text.count("![") <= 1
