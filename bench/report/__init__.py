"""Comparison report: saved results as frames, figures, tables and one page.

It only reads results and never trains. Drawing and writing need the optional extra
`nlbench[report]`.
"""

from importlib.util import find_spec

from bench.errors import BenchError

for _needed in ("pandas", "matplotlib", "jinja2"):
    if find_spec(_needed) is None:
        raise BenchError(f"reports need {_needed}: pip install 'nlbench[report]'")
