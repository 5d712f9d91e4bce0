"""Tables of comparisons with the papers, and of calibration."""

from collections import Counter
from collections.abc import Sequence
from math import isfinite

import pandas as pd

from bench.boards.columns import parenthesised
from bench.errors import counted
from bench.report.papers import Comparison
from bench.report.tables import Cell, Table

SHOWN_LEVELS = (0.5, 0.7, 0.9)
"""Levels in the table of calibration; its file and figures have all levels."""

_ORDER = {"missed": 0, "compatible": 1, "better": 2, "n/a": 3}


def against_papers(found: Sequence[Comparison]) -> Table:
    """Return a table of the papers' numbers with a counterpart in the results, and ours."""
    rows = []
    for one in found:
        if not one.where and not (one.reason and one.published.kind == "claim"):
            continue
        number = one.published
        of = " ".join(filter(None, (number.task, number.method, number.note)))
        rows.append(
            [
                Cell(of or number.source),
                Cell(number.quantity),
                Cell(one.label, method=one.label),
                Cell(one.where or "–"),
                Cell(number.value, sort=float(number.value)),
                Cell(one.ours, sort=one.value if isfinite(one.value) else None, note=one.reason),
                Cell(_range(one.low, one.high)),
                Cell(f"{one.detectable:.2g}" if isfinite(one.detectable) else "–"),
                Cell(f"{one.target:.3g}" if isfinite(one.target) else "–"),
                Cell(one.verdict, sort=_ORDER[one.verdict], note=one.reason),
            ]
        )
    columns = ["paper's", "quantity", "ours", "where", "paper", "here", "range", "detectable"]
    columns += ["exact", "verdict"]
    notes = [
        "range: where 95 % of single networks on other sets of events would lie, with what "
        "printing rounds off; of averages and claims our own 95 % interval.",
        "exact: what is ideal: an overlap of 1, the coverage and width of the exact likelihood.",
        "compatible: the paper's number is in the range. Otherwise better, if ours is nearer to "
        "exact, or missed.",
        "detectable: smallest difference between the numbers that would leave the range in 80 % of "
        "cases. Compatible says nothing about smaller ones.",
        "overlap_kM is the overlap for all k M events: our reading of the paper's.",
        *_reasons(found),
    ]
    return Table("papers", "Against the papers", columns, rows, notes, words=4)


def _range(low: float, high: float) -> str:
    return f"{low:.3g} to {high:.3g}".replace("inf", "∞") if low == low else "–"


def _reasons(found: Sequence[Comparison]) -> list[str]:
    """Return the reasons of missing comparisons, each once, with the number of cases."""
    missing = dict.fromkeys((c.reason, c.published.key) for c in found if c.verdict == "n/a")
    numbers = Counter(reason for reason, _ in missing)
    return [f"n/a for {counted(n, 'number')}: {reason}" for reason, n in numbers.items()]


def tally(found: Sequence[Comparison], configuration: str) -> str:
    """Return a sentence with the counts of verdicts for one configuration."""
    own = [c for c in found if c.label.endswith(f":{configuration}")]
    counts = {verdict: sum(c.verdict == verdict for c in own) for verdict in _ORDER}
    said = ", ".join(f"{counts[v]} {v}" for v in ("compatible", "better", "missed"))
    return f"Configuration {configuration}: {said}, {counts['n/a']} n/a of {len(own)} numbers."


def calibration(frame: pd.DataFrame) -> Table:
    """Return a table of coverage at a few levels, with the number of levels outside the band."""
    rows = []
    keys = ["task", "budget", "training_data", "seed", "plan_folder", "label", "parameter"]
    for key, curve in frame.groupby(keys, sort=True):
        task, budget, *_, label, parameter = key
        outside = ~curve["coverage"].between(curve["low"] - 1e-12, curve["high"] + 1e-12)
        at = curve.set_index("level")
        cells = [
            Cell(parenthesised(value, error), sort=value)
            for value, error in at[["coverage", "error"]].loc[list(SHOWN_LEVELS)].to_numpy()
        ]
        datasets = int(curve["datasets"].iloc[0])
        rows.append(
            [
                Cell(str(task)),
                Cell(str(label), method=str(label)),
                Cell(str(parameter)),
                Cell(f"{budget:,}", sort=int(curve["budget"].iloc[0])),
                Cell(f"{datasets:,}", sort=datasets),
                *cells,
                Cell(f"{outside.sum()} of {len(curve)}", sort=float(outside.sum())),
            ]
        )
    levels = [f"{100 * level:.0f} %" for level in SHOWN_LEVELS]
    columns = ["task", "method", "parameter", "calls", "datasets", *levels, "outside the band"]
    notes = [
        "Share of datasets whose profile-likelihood interval of the level, inside the box, holds "
        "the generating parameter; jointly, whose region does. Members are pooled; errors are over "
        "members and datasets.",
        "outside the band: levels from 5 to 95 % at which coverage leaves the simultaneous 95 % "
        "band that exact intervals of as many datasets stay in.",
    ]
    return Table("calibration", "Coverage against nominal level", columns, rows, notes, words=3)


def frame(found: Sequence[Comparison]) -> pd.DataFrame:
    """Return a frame with every number of the papers and ours, for a file."""
    columns = ("key", "source", "task", "method", "quantity", "kind", "paper", "note")
    own = (
        *("label", "where", "ours", "value", "error", "low", "high", "detectable"),
        *("target", "verdict", "reason"),
    )
    records = [
        tuple(vars(one.published).values()) + tuple(getattr(one, name) for name in own)
        for one in found
    ]
    return pd.DataFrame.from_records(records, columns=[*columns, *own])
