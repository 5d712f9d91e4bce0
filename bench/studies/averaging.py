"""Averages of networks: the part of an error that they can remove.

An average removes only what differs between networks. The squared distance of each estimate from
the exact one splits into the variance between networks and what all of them have in common.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.boards.quantities import estimated
from bench.boards.render import markdown_table
from bench.errors import UsageError
from bench.stats.clustering import Estimate
from bench.studies.numbers import code, number
from bench.studies.scored import Group

_BIAS = "bias/"  # estimates, from the generating parameters in half-widths of exact's intervals


@dataclass(frozen=True)
class Split:
    """The error of a method's estimates of one parameter.

    Args:
        method: its label.
        members: number of networks.
        parameter: name of the parameter.
        error: root mean square distance to the exact estimate, in half-widths of exact's intervals.
        share: variance between networks over the mean square; its error is over datasets.
    """

    method: str
    members: int
    parameter: str
    error: float
    share: Estimate | None


def splits(found: Sequence[Group]) -> list[tuple[Group, list[Split]]]:
    """Split the errors of every method with at least two networks, group by group.

    Raises:
        UsageError: if there is none.
    """
    out = [(group, list(_split(group))) for group in found]
    if not any(rows for _, rows in out):
        raise UsageError(
            "nothing to average: it takes a method with at least two networks, and the exact "
            "likelihood on the same datasets"
        )
    return [(group, rows) for group, rows in out if rows]


def _split(group: Group) -> Iterator[Split]:
    truth = group.truth.scores.values if group.truth else {}
    for method in group.methods:
        own, members = method.scores.values, len(method.scores.members)
        for name in (n for n in own if n.startswith(_BIAS) and n in truth and members > 1):
            error = own[name] - truth[name]
            used = group.units.headline & np.isfinite(error).all(0)
            if not used.any():
                continue
            between, square = error.var(0, ddof=1)[None], (error**2).mean(0)[None]
            share = estimated(between, group.units, used, square).estimate
            root = float(square[:, used].mean() ** 0.5)
            yield Split(method.label, members, name.removeprefix(_BIAS), root, share)


def markdown(found: Sequence[tuple[Group, Sequence[Split]]]) -> str:
    """Render a table for each group: methods down, parameters across."""
    parts = []
    for group, rows in found:
        parameters = list(dict.fromkeys(row.parameter for row in rows))
        by = {(row.method, row.parameter): row for row in rows}
        lines = []
        for method, members in dict.fromkeys((row.method, row.members) for row in rows):
            cells = [code(method), str(members)]
            for parameter in parameters:
                row = by.get((method, parameter))
                cells += [f"{row.error:.2f}", number(row.share)] if row else ["–", "–"]
            lines.append(cells)
        head = [f"{what} {name}" for name in parameters for what in ("error", "share")]
        table = markdown_table(["method", "networks", *head], lines)
        parts.append(f"{group.heading}\n\n{table}")
    note = (
        "error: root mean square distance of the estimate from exact's, in half-widths of exact's "
        "intervals. share: variance between networks over the mean square, which an average of "
        "many removes.\n"
    )
    return "\n".join([*parts, note])
