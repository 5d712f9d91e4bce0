"""Configuration of the documentation site: `sphinx-build -W docs docs/_build/html`."""

import sys
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))
import numbers_from_packs

import bench

project = "nlbench"
author = copyright = "the nlbench authors"
release = version = bench.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery/*", "_gallery/**.py", "_gallery/**.ipynb"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 120

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "_gallery",
    "filename_pattern": r"/plot_",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
}
suppress_warnings = ["config.cache"]

html_theme = "pydata_sphinx_theme"
html_title = "nlbench"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": {
        f"{kind}/*": ["page-toc"] for kind in ("tutorials", "guides", "reference", "explanation")
    },
    "footer_start": ["copyright"],
    "footer_end": [],
}


def fill_in_numbers(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace `{{ … }}` on a page with results by numbers and tables of the packs."""
    others = ("index", "explanation/likelihood", "explanation/scaling", "reference/glossary")
    if page.startswith("results/") or page in others:
        names = ("number", "table", "verdict", "equivalence", "comparisons", "score_time")
        names += ("decomposition", "evaluators", "parameters", "growth", "definitions")
        functions = {name: getattr(numbers_from_packs, name) for name in names}
        template = Environment(undefined=StrictUndefined).from_string(source[0])
        source[0] = template.render(**functions)


def setup(app: Sphinx) -> None:
    """Connect the pages of results to the packs."""
    app.connect("source-read", fill_in_numbers)
