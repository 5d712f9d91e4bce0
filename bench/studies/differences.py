"""Paired differences between methods, on the same training sets and datasets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from bench.boards.quantities import estimated
from bench.boards.render import markdown_table
from bench.contracts import Metric
from bench.errors import UsageError
from bench.registry.registry import unknown
from bench.stats.clustering import Estimate
from bench.studies.numbers import code, marked, p_value
from bench.studies.scored import Group, Scored, common, declared, is_share, metrics_of

METRICS = (
    *("interval_score", "coverage", "width", "overlap_M/joint", "overlap_kM/joint"),
    *("likelihood_ratio_error", "mle_distance", "bce", "score_error"),
)
"""Metrics that are compared unless others are asked for."""


@dataclass(frozen=True)
class PairedDifference:
    """The mean of one method minus that of another.

    Args:
        first, second: labels of the two.
        members: networks that both have, each on the training set of the other's.
        metric: its name and, after a slash, its key.
        estimate: the difference; None where no dataset has it.
    """

    first: str
    second: str
    members: int
    metric: str
    estimate: Estimate | None


def differences(
    found: Sequence[Group], metrics: Sequence[str] = (), against: str = ""
) -> list[tuple[Group, list[PairedDifference]]]:
    """Compare every pair of methods that share training sets, group by group.

    Args:
        found: the groups.
        metrics: patterns of metrics; those of `METRICS` where empty.
        against: label of the one method that all others are compared with, which may be the exact
            likelihood; "" for every pair without it.

    Raises:
        UsageError: if there is no such method, a pattern matches no metric, or there is no pair.
    """
    learned = [method.scores for group in found for method in group.methods]
    names = metrics_of(learned, metrics or METRICS, must=bool(metrics))
    labels = sorted({method.label for group in found for method in group.everything})
    if against and against not in labels:
        raise UsageError(unknown("method", against, labels))
    known = declared()
    out = [(group, list(_compare(group, names, known, against))) for group in found]
    if not any(rows for _, rows in out):
        raise UsageError(
            "nothing to compare: it takes two methods with networks on the same training sets, "
            "scored on the same datasets"
        )
    return [(group, rows) for group, rows in out if rows]


def _compare(
    group: Group, names: Sequence[str], known: Mapping[str, Metric], against: str
) -> Iterator[PairedDifference]:
    for one, other in _pairs(group, against):
        for name in names:
            if name not in one.scores.values or name not in other.scores.values:
                continue
            if other is group.truth:  # which has no training set
                first, second = one.scores.values[name], other.scores.values[name]
            else:
                first, second = common(one.scores, other.scores, name)
            if len(first):
                units, share = group.units, is_share(known, name)
                found = estimated(first - second, units, units.headline, share=share)
                of = one.label, other.label, len(first), name
                yield PairedDifference(*of, found.estimate)


def _pairs(group: Group, against: str) -> list[tuple[Scored, Scored]]:
    if against:
        others = [method for method in group.everything if method.label == against]
        pairs = [(method, other) for other in others for method in group.methods]
    else:
        pairs = list(combinations(group.methods, 2))
    return [
        (one, other)
        for one, other in pairs
        if one is not other and (other is group.truth or _training(one) == _training(other))
    ]


def _training(method: Scored) -> tuple[object, ...]:
    """Return what decides, beside the group, on which simulations a member was trained."""
    calibration = method.fit.identity.get("calibration") or {}
    return method.fit.size, calibration.get("calls", 0)


def markdown(found: Sequence[tuple[Group, Sequence[PairedDifference]]]) -> str:
    """Render a table for each group."""
    parts = []
    for group, rows in found:
        n = len(rows)
        cells = (
            [
                f"{code(r.first)} − {code(r.second)}",
                *(str(r.members), r.metric.rstrip("/"), marked(r.estimate, n)),
                f"{p_value(r.estimate, n):.2g}",
            ]
            for r in rows
        )
        head = ["difference", "networks", "metric", "first − second", "p"]
        note = (
            f"{n} comparisons. Networks: pairs trained on the same simulations. p is corrected for "
            "the number of comparisons (Bonferroni). Bold: the 95 % interval, widened for it, "
            "excludes 0.\n"
        )
        parts.append(f"{group.heading}\n\n{markdown_table(head, cells)}\n{note}")
    return "\n".join(parts)
