"""Errors of plain means beside those of expectations over the exact posterior."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.boards.columns import parenthesised
from bench.boards.quantities import estimated
from bench.boards.render import markdown_table
from bench.errors import UsageError
from bench.stats.clustering import Estimate
from bench.studies.drawing import drawn
from bench.studies.numbers import code
from bench.studies.scored import Group, Scored

PAIRS = (("coverage", "expected_coverage"), ("interval_score", "expected_score"))
"""Metrics that are compared: plain, in expectation."""

_NAMES = {"coverage": "coverage gap", "interval_score": "score"}


@dataclass(frozen=True)
class Pair:
    """Comparison of a method with `exact`, by a plain metric and in expectation.

    Args:
        method: label of the method.
        quantity: gap of a coverage, or ratio of a score, with its parameter.
        plain: estimate from plain means.
        expected: estimate from expectations.
    """

    method: str
    quantity: str
    plain: Estimate
    expected: Estimate

    @property
    def saving(self) -> float:
        """Factor by which the plain estimate takes more members × datasets to the same error."""
        return (self.plain.error / self.expected.error) ** 2

    @property
    def saving_in_datasets(self) -> float:
        """The same factor for the members at hand, in datasets."""
        return (self.plain.set_error / self.expected.set_error) ** 2


def pairs(found: Sequence[Group]) -> list[tuple[Group, list[Pair]]]:
    """Compare every method of every group in both ways.

    Raises:
        UsageError: if no group has expectations.
    """
    out = [(group, [p for m in group.methods for p in _of_method(group, m)]) for group in found]
    out = [(group, rows) for group, rows in out if rows]
    if not out:
        raise UsageError(
            "nothing to compare: no method has expectations, which need `exact` and an "
            "independent plan of this version; run again or `bench score`"
        )
    return out


def _of_method(group: Group, method: Scored) -> Iterator[Pair]:
    if group.truth is None:
        return
    for name in sorted(method.scores.values):
        for plain, expected in PAIRS:
            metric, _, key = name.partition("/")
            other = f"{plain}/{key}"
            if metric != expected or other not in method.scores.values:
                continue
            both = [_estimate(group, method, n) for n in (other, name)]
            if both[0] and both[1] and both[1].error > 0:
                yield Pair(method.label, f"{_NAMES[plain]} {key}", both[0], both[1])


def _estimate(group: Group, method: Scored, name: str) -> Estimate | None:
    assert group.truth is not None
    own, exact = method.scores.values[name], group.truth.scores.values[name]
    units = group.units
    if "coverage" in name:
        return estimated(own - exact, units, units.headline).estimate
    return estimated(own, units, units.headline, exact).estimate


def markdown(found: Sequence[tuple[Group, Sequence[Pair]]]) -> str:
    """Render a table for each group."""
    head = ["method", "quantity", "plain", "expected", "saving", "in datasets"]
    parts = []
    for group, rows in found:
        cells = (
            [
                code(r.method),
                r.quantity,
                *(parenthesised(e.value, e.error) for e in (r.plain, r.expected)),
                f"{r.saving:.1f}",
                f"{r.saving_in_datasets:.1f}",
            ]
            for r in rows
        )
        parts.append(f"{group.heading}\n\n{markdown_table(head, cells)}")
    note = (
        "Saving: ratio of variances, the factor by which plain means take more members and "
        "datasets to the same error. In datasets: the same for the members at hand.\n"
    )
    return "\n".join([*parts, note])


def figure(found: Sequence[tuple[Group, Sequence[Pair]]]) -> dict[str, bytes]:
    """Draw errors of plain means against errors of expectations; nothing without matplotlib."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        marks = {"coverage gap": "o", "score": "s"}
        for name, mark in marks.items():
            points = [r for _, rows in found for r in rows if r.quantity.startswith(name)]
            axes.plot(
                [100 * r.plain.set_error for r in points],
                [100 * r.expected.set_error for r in points],
                mark,
                label=f"{name} ({'points' if name != 'score' else '%'})",
            )
        _, high = axes.get_xlim()
        for factor in (1, 2, 4):
            axes.plot([0, high], [0, high / factor], color="0.7", lw=0.8, zorder=0)
            axes.annotate(f"1/{factor}" if factor > 1 else "equal", (high, high / factor))
        axes.set(xlim=(0, high), ylim=(0, None))
        axes.set(xlabel="error from datasets, plain means")
        axes.set(ylabel="error from datasets, expectations")
        axes.legend(frameon=False)

    return drawn(draw, (6.0, 4.5))
