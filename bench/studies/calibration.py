"""Calibrated classifiers against the same networks uncalibrated, on the same datasets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.boards.quantities import estimated
from bench.boards.render import markdown_table
from bench.boards.results import Results, SavedFit
from bench.contracts import Metric
from bench.errors import UsageError
from bench.stats.clustering import Estimate
from bench.studies.numbers import code, number
from bench.studies.scored import (
    Group,
    Scored,
    common,
    declared,
    is_ratio,
    is_share,
    metrics_of,
)

METRICS = ("coverage", "interval_score", "overlap_M")
"""Metrics that are compared unless others are asked for."""


@dataclass(frozen=True)
class Change:
    """Change of one metric by calibration.

    Args:
        without: mean of the networks as they are.
        change: with minus without, or with over without, paired.
        is_ratio: whether it is a ratio.
    """

    without: float
    change: Estimate | None
    is_ratio: bool

    @property
    def text(self) -> str:
        """Write the change for a table; a difference follows the number without calibration."""
        if self.is_ratio:
            return f"× {number(self.change)}"
        return f"{self.without:.3f} {number(self.change, '+')}".replace("-", "−")


@dataclass(frozen=True)
class Calibrated:
    """One line of the table.

    Args:
        group: the group of the calibrated fit.
        method: label of the networks.
        kind: the map.
        members: networks that are scored with and without.
        changes: by metric.
    """

    group: Group
    method: str
    kind: str
    members: int
    changes: dict[str, Change]


def changes(
    results: Results, found: Sequence[Group], metrics: Sequence[str] = ()
) -> list[Calibrated]:
    """Compare every calibrated fit with its networks.

    Args:
        results: the folder, which has the networks' own scores.
        found: the groups with calibrated fits.
        metrics: patterns of metrics; those of `METRICS` where empty.

    Raises:
        UsageError: if a pattern matches no metric, or there is nothing to compare.
    """
    calibrated = [(g, m) for g in found for m in g.methods if m.fit.identity.get("calibration")]
    names = metrics_of([m.scores for _, m in calibrated], metrics or METRICS, must=bool(metrics))
    known = declared()
    rows = [
        row
        for group, method in calibrated
        if (row := _row(results, group, method, names, known)) is not None and row.changes
    ]
    if not rows:
        raise UsageError(
            "nothing to compare: it takes calibrated methods, and the networks that they "
            "calibrate with scores of their own (a preset with the budget that these have)"
        )
    return rows


def _row(
    results: Results,
    group: Group,
    method: Scored,
    names: Sequence[str],
    known: Mapping[str, Metric],
) -> Calibrated | None:
    wanted = _base(method.fit)
    base = next((fit for fit in results.fits if fit.identity == wanted), None)
    without = results.scores(base, group.plan) if base else None
    if base is None or without is None:
        return None
    rows, members = {}, 0
    for name in names:
        if name not in method.scores.values or name not in without.values:
            continue
        own, old = common(method.scores, without, name)
        if members := len(own):
            used, ratio = group.units.headline, is_ratio(known, name)
            if ratio:
                found = estimated(own, group.units, used, old)
            else:
                found = estimated(own - old, group.units, used, share=is_share(known, name))
            rows[name] = Change(float(old[:, used].mean()), found.estimate, ratio)
    kind = method.fit.identity["calibration"]["kind"]
    return Calibrated(group, base.label, kind, members, rows)


def _base(fit: SavedFit) -> dict[str, Any]:
    """Return the identity of the networks that a fit calibrates."""
    calls = fit.identity["calibration"]["calls"]
    rest = {k: v for k, v in fit.identity.items() if k != "calibration"}
    return rest | {"budget": fit.budget - calls}


def markdown(rows: Sequence[Calibrated]) -> str:
    """Render a table for each plan: tasks and networks down, metrics across."""
    parts = []
    for plan in dict.fromkeys(row.group.plan for row in rows):
        here = [row for row in rows if row.group.plan == plan]
        names = list(dict.fromkeys(name for row in here for name in row.changes))
        lines = []
        for row in here:
            shown = [row.changes[n].text if n in row.changes else "–" for n in names]
            of = [row.group.task, f"{row.group.budget:,}", code(row.method), row.kind]
            lines.append([*of, str(row.members), *shown])
        head = ["task", "calls", "calibrated", "by", "networks", *(n.rstrip("/") for n in names)]
        parts.append(f"### {plan}\n\n{markdown_table(head, lines)}")
    note = (
        "× is the mean with the map over that without. Elsewhere the mean without is followed by "
        "the change.\n"
    )
    return "\n".join([*parts, note])
