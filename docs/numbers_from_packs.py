"""Numbers and tables of pages, read from the packs in `results/` when the site is built.

A page of results says `{{ number("higgs", "higgs", "lre:tuned", "score_ratio") }}`.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

import bench
from bench.boards.columns import parenthesised
from bench.boards.glossary import TERMS
from bench.boards.render import markdown_table
from bench.report.load import Loaded
from bench.studies.decomposition import Part
from bench.studies.decomposition import table as decomposition_table
from bench.studies.equivalence import EquivalenceFactor, Point, shown
from bench.studies.equivalence_tables import Count, counts
from bench.studies.parameters import EvaluationCost
from bench.studies.parameters import markdown as parameters_table

RESULTS = Path(__file__).parents[1] / "results"


@cache
def loaded(folder: str) -> Loaded:
    """Return the results of a committed folder, as :func:`bench.load` does."""
    return bench.load(RESULTS / folder)


@cache
def leaderboard(folder: str) -> pd.DataFrame:
    """Return the leaderboards of a committed folder."""
    return loaded(folder).leaderboard()


@cache
def study(name: str, folder: str = "studies") -> pd.DataFrame:
    """Return a committed table of a folder in `results/`."""
    return pd.read_csv(RESULTS / folder / f"{name}.csv").fillna({"beyond": ""})


def _only(found: pd.DataFrame, folder: str, **key: object) -> pd.Series:
    for column, value in key.items():
        if value is not None:
            found = found[found[column] == value]
    if len(found) != 1:
        raise LookupError(f"{len(found)} records in results/{folder} of {key}")
    return found.iloc[0]


def number(
    folder: str,
    task: str,
    method: str,
    quantity: str,
    *,
    budget: int | None = None,
    plan: str = "independent",
) -> str:
    """Return a quantity with its standard error in brackets, as in 1.005(3).

    Coverage gaps are in points.

    Args:
        folder: folder in `results/`.
        task, method, quantity: as in the frame `quantities` of :func:`bench.load`.
        budget: simulator calls; may be left out if the folder has one budget.
        plan: "independent", "bootstrap" or "heldout".

    Raises:
        LookupError: if the folder does not have exactly one such record.
    """
    key = {"task": task, "label": method, "quantity": quantity, "budget": budget, "plan": plan}
    found = _only(loaded(folder).quantities, folder, **key)
    unit = 100 if quantity.startswith("coverage/") and quantity.endswith("/gap") else 1
    return parenthesised(unit * found.value, unit * found.error).replace("-", "−")


def table(
    folder: str,
    tasks: Sequence[str],
    methods: Sequence[str],
    columns: Mapping[str, str | tuple[str, str]],
    *,
    budget: int | None = None,
    plan: str = "independent",
) -> str:
    """Return a Markdown table, a row for each task and method.

    Args:
        folder: folder in `results/`.
        tasks: tasks, in order; a single one gets no column.
        methods: methods, in order.
        columns: heading → quantity, or (quantity, plan) for a column of another plan. The quantity
            "verdict/z" is :func:`verdict` on z.
        budget, plan: as for :func:`number`.
    """
    heads = [*(["task"] if len(tasks) > 1 else []), "method", *columns]
    rows = []
    for task in tasks:
        for method in methods:
            cells = [f"`{task}`"] if len(tasks) > 1 else []
            cells += [f"`{method}`"]
            for column in columns.values():
                quantity, its_plan = (column, plan) if isinstance(column, str) else column
                kind, _, parameter = quantity.partition("/")
                show, name = (verdict, parameter) if kind == "verdict" else (number, quantity)
                cells.append(show(folder, task, method, name, budget=budget, plan=its_plan))
            rows.append(cells)
    return markdown_table(heads, rows)


def verdict(
    folder: str,
    task: str,
    method: str,
    parameter: str,
    *,
    budget: int | None = None,
    plan: str = "independent",
) -> str:
    """Return the verdict on a coverage: "holds", "fails" or "undetermined".

    Args:
        folder, task, method, budget, plan: as for :func:`number`.
        parameter: name of the parameter.
    """
    key = {"task": task, "label": method, "budget": budget, "plan": plan}
    return str(_only(leaderboard(folder), folder, **key)[f"verdict {parameter}"])


def equivalence(
    task: str,
    metric: str,
    *budgets: int,
    method: str = "nler-sa:tuned",
    folder: str = "studies",
) -> str:
    """Return data-equivalence factors with their 95 % intervals, a cell for each budget.

    Args:
        task, metric, method: as in `equivalence.csv` of the folder.
        budgets: simulator calls of the method with scores.
        folder: folder in `results/`.
    """
    found = study("equivalence", folder)
    key = {"task": task, "metric": metric, "other": method}
    rows = [_only(found, folder, **key, budget=budget) for budget in budgets]
    return " | ".join(shown(EquivalenceFactor(**row)) for row in rows)


@cache
def _counts() -> list[Count]:
    factors = [EquivalenceFactor(**row) for row in study("equivalence").to_dict("records")]
    points = [Point(**row) for row in study("equivalence-curves").to_dict("records")]
    return counts(factors, points)


def comparisons(method: str) -> str:
    """Return cells on a method with scores against itself without: number, better, worse, chance.

    Args:
        method: as in `results/studies/equivalence.csv`.
    """
    (count,) = (found for found in _counts() if found.other == method)
    return f"{count.comparisons} | {count.better} | {len(count.worse)} | {count.chance:.1f}"


def score_time(task: str, calls: int, quantity: str) -> str:
    """Return a number of `results/studies/score-times.csv`, with its error if it has one.

    Args:
        task, calls: the line.
        quantity: "simulations_s", "scores_s", "ratio" (of training seconds) or another column.
    """
    row = _only(study("score-times"), "studies", task=task, calls=calls)
    error = row.get(f"{quantity}_error")
    return f"{row[quantity]:.2g}" if error is None else parenthesised(row[quantity], error)


def decomposition() -> str:
    """Return a Markdown table of `results/studies/decomposition.csv`, a row for each fit."""
    rows = [Part(**row) for row in study("decomposition").to_dict("records")]
    return decomposition_table(rows)


def evaluators() -> str:
    """Return a Markdown table of `results/studies/evaluators.csv`, a row for each method."""
    heads = ["task", "method", "datasets", "ends within 1 %", "unresolved", "lattice off"]
    heads += ["gradient off", "passes"]
    rows = []
    for row in study("evaluators").itertuples():
        off = (f"{100 * v:.1f} %" for v in (row.lattice_off, row.gradient_off))
        shares = (f"{100 * v:.1f} %" for v in (row.within_1, row.unresolved))
        passes = f"{row.passes:.0f}"
        off = off if row.scanned else ("–", "–")
        rows.append([f"`{row.task}`", f"`{row.method}`", str(row.datasets), *shares, *off, passes])
    return markdown_table(heads, rows)


def parameters() -> str:
    """Return a Markdown table of `results/studies/parameters.csv`, a row for each method."""
    return parameters_table([EvaluationCost(**r) for r in study("parameters").to_dict("records")])


def growth() -> str:
    """Return a Markdown table of `results/scaling/exponents.csv`."""
    heads = ["cost of", "grows with", "from", "to", "seconds at the largest", "exponent"]
    rows = []
    for row in pd.read_csv(RESULTS / "scaling" / "exponents.csv").itertuples():
        exponent = parenthesised(row.upper, row.upper_error)
        sizes = [f"{row.low:,}", f"{row.high:,}", f"{row.seconds:.2g}"]
        rows.append([row.what, row.size, *sizes, exponent])
    return markdown_table(heads, rows)


def definitions() -> str:
    """Return the terms of table headings with their definitions, as the glossary needs them."""
    return "\n\n".join(f"{term}\n  {definition}" for term, definition in TERMS.items())
