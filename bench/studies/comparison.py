"""Measured and expected coverage in the study of the bootstrap multiple."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf, isfinite

import numpy as np
from scipy import stats

from bench.boards.columns import parenthesised
from bench.boards.quantities import not_certain
from bench.stats.clustering import Estimate, mean
from bench.storage.store import Store
from bench.studies.bootstrap_k import Sample, is_done
from bench.studies.numbers import LEVEL


@dataclass(frozen=True)
class CoverageCheck:
    """A measured coverage and what it should be.

    Args:
        measured: mean over sets, its error clustered by set.
        expected: for sets made as these were.
        formula: for sets whose numbers of each component scatter too.
    """

    measured: Estimate
    expected: float
    formula: float


@dataclass(frozen=True)
class SampleCoverage:
    """One row of the table.

    Args:
        sample: what was measured on.
        coverage: by parameter, and by "" for the 95 % region in both.
        cut: share of 95 % regions that a bound of the parameter space cuts.
        unresolved: share of datasets that were evaluated more coarsely than asked.
    """

    sample: Sample
    coverage: dict[str, CoverageCheck]
    cut: float
    unresolved: float


def by_size(rows: Sequence[SampleCoverage]) -> list[list[SampleCoverage]]:
    """Group the rows by task and M."""
    groups = groupby(rows, key=lambda r: (r.sample.task, r.sample.observations))
    return [list(group) for _, group in groups]


def measured(wanted: Sequence[Sample], store: Store) -> list[SampleCoverage]:
    """Return the rows of finished samples: means over sets with clustered errors."""
    found = []
    for sample in (s for s in wanted if is_done(store, s)):
        record = store.record(sample.key) or {}
        by_set = {name: np.asarray(values) for name, values in record["by_set"].items()}
        compared = {
            name.partition("/")[2]: CoverageCheck(
                not_certain(mean(by_set[name][None], by_set["point"]), len(by_set["point"])),
                value,
                record["formula"][name],
            )
            for name, value in record["expected"].items()
        }
        found.append(
            SampleCoverage(
                sample,
                compared,
                float(by_set["cut/region"].mean()),
                float(by_set["unresolved/"].mean()),
            )
        )
    return found


@dataclass(frozen=True)
class Difference:
    """A measured coverage against an expectation.

    Args:
        where: what was measured, for people.
        measured: value and error as text.
        expectation: what it should be.
        pull: the difference in standard errors.
        p_value: two-sided, from Student's t; not adjusted.
    """

    where: str
    measured: str
    expectation: float
    pull: float
    p_value: float

    @property
    def text(self) -> str:
        """Write the difference in words."""
        return (
            f"{self.where}: {self.measured} against {self.expectation:.3f}, "
            f"{abs(self.pull):.1f} standard errors"
        )


def differences(
    rows: Sequence[SampleCoverage], expectation: Callable[[CoverageCheck], float]
) -> list[Difference]:
    """Compare every measured coverage of bootstraps that has an error with an expectation."""
    found = []
    for row in (r for r in rows if r.sample.multiple < inf):
        for name, compared in row.coverage.items():
            measured, value = compared.measured, expectation(compared)
            if isfinite(measured.error) and measured.error > 0:
                pull = (measured.value - value) / measured.error
                p_value = float(2 * stats.t.sf(abs(pull), measured.dof))
                shown = parenthesised(measured.value, measured.error)
                where = f"{row.sample.label}, {name or '95 % region'}"
                found.append(Difference(where, shown, value, pull, p_value))
    return found


def verdict(rows: Sequence[SampleCoverage]) -> list[str]:
    """Say in a sentence or two whether measured and expected coverages agree.

    Differences are significant at 5 % over all coverages of the table together (Bonferroni, which
    asks nothing of how the parameters' coverages depend on each other).
    """
    formula = differences(rows, lambda compared: compared.formula)
    if not formula:
        return []
    simple = _agreement("2 Φ(1/√(1 + 1/k)) − 1 and its analogue for regions", formula)
    if not any(row.sample.stratified for row in rows):
        return [simple]
    fixed = differences(rows, lambda compared: compared.expected)
    return [
        _agreement("the formula with fixed numbers of events of each component", fixed),
        simple.removesuffix(".") + "; it does not allow for the fixed numbers.",
    ]


def _agreement(what: str, found: list[Difference]) -> str:
    found = sorted(found, key=lambda d: d.p_value)
    significant = [d for d in found if d.p_value * len(found) < LEVEL]
    furthest = f"the furthest is {found[0].text}"
    adjusted = f"p = {min(1.0, found[0].p_value * len(found)):.2g} for the furthest of {len(found)}"
    if not significant:
        return f"Against {what} no difference is established; {furthest} ({adjusted})."
    return (
        f"Against {what} {len(significant)} of {len(found)} coverages differ at a simultaneous "
        f"level of {100 * LEVEL:g} %; {furthest} ({adjusted})."
    )
