"""Single networks of a method: mean and standard deviation between them."""

from collections.abc import Sequence
from math import floor, isfinite, log10

import numpy as np
from numpy.typing import NDArray

from bench.boards.render import markdown_table
from bench.errors import UsageError
from bench.studies.numbers import code
from bench.studies.scored import Group, Scored, metrics_of

METRICS = ("overlap_M", "overlap_kM", "coverage", "width")
"""Metrics that are shown unless others are asked for."""


def by_network(method: Scored, name: str, used: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Return each network's mean over the datasets that are used and defined, (members,).

    Args:
        method: the method.
        name: a metric and its key.
        used: the datasets, (S,).
    """
    values = method.scores.values.get(name)
    if values is None:
        return None
    defined = used & np.isfinite(values).all(0)
    return values[:, defined].mean(1) if defined.any() else None


_NOTE = "± is the standard deviation between single networks, not the error of the mean.\n"


def markdown(found: Sequence[Group], metrics: Sequence[str] = ()) -> str:
    """Render a table for each group: methods down, metrics across.

    Args:
        found: the groups.
        metrics: patterns of metrics; those of `METRICS` where empty.

    Raises:
        UsageError: if a pattern matches no metric, or there is none.
    """
    scores = [method.scores for group in found for method in group.everything]
    metrics_of(scores, metrics, must=True)
    parts = []
    for group in found:
        names = metrics_of([m.scores for m in group.everything], metrics or METRICS)
        if not names:
            continue
        used = group.units.headline
        rows = (
            [code(method.label), str(len(method.scores.members))]
            + [spread(by_network(method, name, used)) for name in names]
            for method in group.everything
        )
        head = ["method", "networks", *(name.rstrip("/") for name in names)]
        parts.append(f"{group.heading}\n\n{markdown_table(head, rows)}\n{_NOTE}")
    if not parts:
        raise UsageError(f"no scores of {', '.join(METRICS)}; name other metrics by --metric")
    return "\n".join(parts)


def spread(values: NDArray[np.float64] | None) -> str:
    """Write the mean and the standard deviation of single networks.

    >>> spread(np.array([0.652, 0.664])), spread(np.array([0.5])), spread(None)
    ('0.6580 ± 0.0085', '0.500', '–')
    """
    if values is None:
        return "–"
    mean = float(values.mean())
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    if not isfinite(deviation) or deviation <= 0:
        return f"{mean:#.3g}".rstrip(".").replace("-", "−")
    digits = max(0, 1 - floor(log10(deviation)))
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}".replace("-", "−")
