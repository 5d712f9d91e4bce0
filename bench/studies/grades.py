"""Grades of diagnostics: power on planted defects, and prediction of failures of trainings."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from scipy import stats

from bench.boards.render import csv_of, markdown_table
from bench.contracts import Diagnostic
from bench.stats.clustering import Array, Estimate
from bench.studies.diagnostics import Examined
from bench.studies.numbers import both, code, number

FALSE_ALARMS = 0.05
TOLERANCE = 0.05
"""Largest gap of the expected coverage to exact's that is within the tolerance."""

_LEAST = 19  # networks within the tolerance of a task that is graded
_BOOTSTRAPS = 200
_OUTSIDE = 10  # networks outside it
_MEMBERS = 4  # of a method, for a rank correlation within it

COLUMNS: Mapping[str, type] = (
    dict.fromkeys(("diagnostic", "level"), str)
    | dict.fromkeys(("networks", "tasks", "calls"), int)
    | {
        f"{name}{end}": float
        for name in ("false_alarms", "power", "area", "between", "within")
        for end in ("", "_error")
    }
    | {"seconds": float}
)
"""Columns of the table of grades as CSV."""
POWERS: Mapping[str, type] = (
    dict.fromkeys(("task", "defect", "diagnostic"), str)
    | dict.fromkeys(("size", "gap", "divergence", "power", "power_error"), float)
    | {"repetitions": int}
)
"""Columns of the table of powers as CSV."""


@dataclass(frozen=True)
class Power:
    """Power of a diagnostic against one planted defect.

    Args:
        task, defect, size: the defect.
        diagnostic: the diagnostic.
        repetitions: number of repetitions.
        power: share of them in which it finds the defect, at 5 % false alarms.
        gap: mean gap of the coverage that the defect makes.
        divergence: mean divergence from the exact posterior, nats per dataset.
    """

    task: str
    defect: str
    size: float
    diagnostic: str
    repetitions: int
    power: Estimate
    gap: float
    divergence: float


@dataclass(frozen=True)
class Grade:
    """Worth of a diagnostic on trained networks. Estimates are means over tasks.

    Args:
        diagnostic: the diagnostic.
        networks: number of networks to which it applies.
        tasks: number of tasks with enough networks on both sides of the tolerance.
        false_alarms: share of p-values below 5 % among networks within the tolerance.
        power: share of networks outside the tolerance that exceed 95 % of those within.
        area: area under the curve for "outside the tolerance".
        between: rank correlation with the divergence over methods and budgets.
        within: the same over the trainings of one method and budget.
        calls: median of simulator calls.
        seconds: median time.
    """

    diagnostic: Diagnostic
    networks: int
    tasks: int
    false_alarms: Estimate | None
    power: Estimate | None
    area: Estimate | None
    between: Estimate | None
    within: Estimate | None
    calls: float
    seconds: float


def share(found: Array) -> Estimate:
    """Return the mean of yes and no, whose error is that of two more trials, one of them yes.

    Example:
        >>> number(share(np.zeros(38)))
        '0.000(25)'
    """
    n = len(found)
    middle = (found.sum() + 1) / (n + 2)
    return Estimate(float(found.mean()), sqrt(middle * (1 - middle) / (n + 2)), nan, nan, nan)


def over_tasks(
    of: Callable[[Sequence[Examined], Diagnostic], float],
    tasks: Iterable[Sequence[Examined]],
    diagnostic: Diagnostic,
) -> Estimate | None:
    """Return the mean of a number over tasks; None if no task has one.

    Tasks are the units of its error. The error of one task is by the bootstrap, and its units are
    methods at budgets.
    """
    found = [(value, own) for own in tasks if np.isfinite(value := of(own, diagnostic))]
    if not found:
        return None
    values = np.array([value for value, _ in found])
    if len(found) > 1:
        error = values.std(ddof=1) / sqrt(len(found))
    else:
        rng, groups = np.random.default_rng(0), list(_trainings(found[0][1]).values())
        drawn = [
            of(
                [one for g in rng.integers(len(groups), size=len(groups)) for one in groups[g]],
                diagnostic,
            )
            for _ in range(_BOOTSTRAPS)
        ]
        known = np.array([value for value in drawn if np.isfinite(value)])
        error = known.std(ddof=1) if len(known) > _BOOTSTRAPS / 2 else nan
    return Estimate(float(values.mean()), float(error), nan, nan, nan)


def badness(examined: Examined, diagnostic: Diagnostic) -> float:
    """Return the number of a diagnostic with the sign for which large is bad; NaN without one."""
    found = examined.statistics.get(diagnostic.name, nan)
    return found if diagnostic.better == "lower" else -found


def powers(found: Sequence[Examined], diagnostics: Sequence[Diagnostic]) -> list[Power]:
    """Return the powers against all planted defects; "none" are false alarms.

    A diagnostic without p-values is compared with its own numbers on exact ratios.
    """
    groups: defaultdict[tuple[str, str, float], list[Examined]] = defaultdict(list)
    for one in found:
        if not one.budget:
            groups[one.task, one.label, one.size].append(one)
    rows = []
    for (task, defect, size), own in sorted(groups.items()):
        for diagnostic in diagnostics:
            name = diagnostic.name
            if diagnostic.null != "none":
                values = np.array([one.p_values.get(name, nan) for one in own])
                values = values[np.isfinite(values)] <= FALSE_ALARMS
            else:
                values = _beyond(groups.get((task, "none", 0.0), []), own, diagnostic)
            if len(values):
                gap, divergence = (
                    float(np.mean([getattr(one, what) for one in own]))
                    for what in ("gap", "divergence")
                )
                power = share(values)
                rows.append(Power(task, defect, size, name, len(values), power, gap, divergence))
    return rows


def _beyond(exact: Sequence[Examined], own: Sequence[Examined], diagnostic: Diagnostic) -> Array:
    """Return whether numbers exceed 95 % of those of exact ratios."""
    usual = np.array([badness(one, diagnostic) for one in exact])
    values = np.array([badness(one, diagnostic) for one in own])
    if len(usual) < _LEAST or not np.isfinite(usual).all():
        return np.zeros(0, bool)
    return np.asarray(values > _limit(usual))


def _limit(usual: Array) -> float:
    """Return the number that another of the same distribution exceeds with at most 5 %.

    Example:
        >>> _limit(np.arange(19.0)), _limit(np.arange(40.0))
        (18.0, 38.0)
    """
    beyond = int(FALSE_ALARMS * (len(usual) + 1))
    return float(np.sort(usual)[-beyond])


def grades(found: Sequence[Examined], diagnostics: Sequence[Diagnostic]) -> list[Grade]:
    """Grade diagnostics on trained networks."""
    by_task: defaultdict[str, list[Examined]] = defaultdict(list)
    for one in found:
        if one.budget:
            by_task[one.task].append(one)
    rows = []
    for diagnostic in diagnostics:
        known = {
            task: [one for one in own if diagnostic.name in one.statistics]
            for task, own in by_task.items()
        }

        def mean(
            of: Callable[[Sequence[Examined], Diagnostic], float],
            known: Mapping[str, Sequence[Examined]] = known,
            diagnostic: Diagnostic = diagnostic,
        ) -> Estimate | None:
            return over_tasks(of, known.values(), diagnostic)

        every = [one for own in known.values() for one in own]
        if not every:
            continue
        rows.append(
            Grade(
                diagnostic,
                len(every),
                sum(_sides(own, diagnostic) is not None for own in known.values()),
                mean(_false_alarms),
                mean(_power),
                mean(_area),
                mean(_between),
                mean(_within),
                float(np.median([one.calls[diagnostic.name] for one in every])),
                float(np.median([one.seconds[diagnostic.name] for one in every])),
            )
        )
    return sorted(rows, key=lambda row: -(row.area.value if row.area else -1))


def _sides(own: Sequence[Examined], diagnostic: Diagnostic) -> tuple[Array, Array] | None:
    """Return numbers of networks within and outside the tolerance; None if there are few."""
    inside = np.array([abs(one.gap) <= TOLERANCE for one in own], dtype=bool)
    values = np.array([badness(one, diagnostic) for one in own])
    within, outside = values[inside], values[~inside]
    few = len(within) < _LEAST or len(outside) < _OUTSIDE
    return None if few else (within, outside)


def _power(own: Sequence[Examined], diagnostic: Diagnostic) -> float:
    if (both := _sides(own, diagnostic)) is None:
        return nan
    within, outside = both
    return float((outside > _limit(within)).mean())


def _area(own: Sequence[Examined], diagnostic: Diagnostic) -> float:
    if (both := _sides(own, diagnostic)) is None:
        return nan
    within, outside = both
    pairs = len(within) * len(outside)
    return float(stats.mannwhitneyu(outside, within).statistic / pairs)


def _false_alarms(own: Sequence[Examined], diagnostic: Diagnostic) -> float:
    found = [
        one.p_values[diagnostic.name] <= FALSE_ALARMS
        for one in own
        if diagnostic.name in one.p_values and abs(one.gap) <= TOLERANCE
    ]
    return float(np.mean(found)) if len(found) >= _LEAST else nan


def _between(own: Sequence[Examined], diagnostic: Diagnostic) -> float:
    means = [
        (
            float(np.mean([badness(one, diagnostic) for one in some])),
            float(np.mean([one.divergence for one in some])),
        )
        for some in _trainings(own).values()
    ]
    return _correlation(means)


def _within(own: Sequence[Examined], diagnostic: Diagnostic) -> float:
    found = [
        _correlation([(badness(one, diagnostic), one.divergence) for one in some])
        for some in _trainings(own).values()
        if len(some) >= _MEMBERS
    ]
    known = [value for value in found if np.isfinite(value)]
    return float(np.mean(known)) if known else nan


def _trainings(own: Sequence[Examined]) -> dict[tuple[str, int], list[Examined]]:
    groups: defaultdict[tuple[str, int], list[Examined]] = defaultdict(list)
    for one in own:
        groups[one.label, one.budget].append(one)
    return groups


def _correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Return Spearman's rank correlation; NaN for fewer than 4 pairs, or without differences."""
    first, second = np.array(pairs).reshape(-1, 2).T
    if len(pairs) < _MEMBERS or not (np.ptp(first) > 0 and np.ptp(second) > 0):
        return nan
    return float(stats.spearmanr(first, second).statistic)


def markdown(found: Sequence[Grade]) -> str:
    """Render the table of grades."""
    head = [
        "diagnostic",
        "level",
        "networks",
        "false alarms",
        "power",
        "area",
        "between methods",
        "within",
        "calls",
        "seconds",
    ]
    rows = [
        [
            code(one.diagnostic.name),
            one.diagnostic.level,
            str(one.networks),
            *(number(v) for v in (one.false_alarms, one.power, one.area, one.between, one.within)),
            f"{one.calls:,.0f}",
            f"{one.seconds:.2g}",
        ]
        for one in found
    ]
    return markdown_table(head, rows)


def markdown_powers(found: Sequence[Power]) -> str:
    """Render powers, a line for each diagnostic and a column for each defect, over tasks."""
    defects = sorted({(one.defect, one.size) for one in found}, key=lambda d: (d[0] != "none", d))
    cells: defaultdict[tuple[str, str, float], list[float]] = defaultdict(list)
    for one in found:
        cells[one.diagnostic, one.defect, one.size].append(one.power.value)
    names = list(dict.fromkeys(one.diagnostic for one in found))
    head = ["diagnostic", *(f"{d} {size:g}" if size else d for d, size in defects)]
    rows = [
        [
            code(name),
            *(
                f"{np.mean(own):.2f}" if (own := cells.get((name, *defect))) else "–"
                for defect in defects
            ),
        ]
        for name in names
    ]
    return markdown_table(head, rows)


def csv(found: Sequence[Grade]) -> str:
    """Render grades as CSV."""
    return csv_of(
        [
            {
                "diagnostic": one.diagnostic.name,
                "level": one.diagnostic.level,
                "networks": one.networks,
                "tasks": one.tasks,
                **both("false_alarms", one.false_alarms),
                **both("power", one.power),
                **both("area", one.area),
                **both("between", one.between),
                **both("within", one.within),
                "calls": int(one.calls),
                "seconds": one.seconds,
            }
            for one in found
        ]
    )


def csv_powers(found: Sequence[Power]) -> str:
    """Render powers as CSV."""
    return csv_of(
        [
            {
                "task": one.task,
                "defect": one.defect,
                "size": one.size,
                "gap": one.gap,
                "divergence": one.divergence,
                "repetitions": one.repetitions,
                "diagnostic": one.diagnostic,
                "power": one.power.value,
                "power_error": one.power.error,
            }
            for one in found
        ]
    )
