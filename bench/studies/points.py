"""Intervals and regions at each evaluation point: coverage, and length against exact's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.boards.quantities import estimated
from bench.boards.render import markdown_table
from bench.contracts import Metric, Task
from bench.errors import UsageError
from bench.registry.registry import Registry, unknown
from bench.stats.clustering import Array, Estimate
from bench.studies.numbers import code, marked, number
from bench.studies.scored import Group, Scored, declared, is_ratio, is_share

_COMPARED = ("width", "percentile_width", "coverage")


@dataclass(frozen=True)
class Place:
    """Datasets at one evaluation point, or at all with one value of a parameter.

    Args:
        name: values of the parameters; "uniform" where they are drawn.
        used: the datasets, (S,).
    """

    name: str
    used: NDArray[np.bool_]


def places(task: Task, point: NDArray[np.int64], by: str = "") -> list[Place]:
    """List the evaluation points of datasets.

    Args:
        task: the task, which has the points.
        point: evaluation point of each dataset, −1 where parameters were drawn uniformly, (S,).
        by: a parameter whose values group the points; "" for every point by itself.
    """
    at = task.points.double().numpy()
    if not by:
        names = {i: ", ".join(f"{v:g}" for v in values) for i, values in enumerate(at)}
        found = [Place(name, point == i) for i, name in ({-1: "uniform"} | names).items()]
    else:
        values = at[:, task.space.names.index(by)]
        own = [np.isin(point, np.flatnonzero(values == v)) for v in np.unique(values)]
        found = [Place(f"{v:g}", used) for v, used in zip(np.unique(values), own, strict=True)]
    return [place for place in found if place.used.any()]


def of_truth(found: Sequence[Group]) -> list[Group]:
    """Return groups that have the truth alone, one for each task and plan."""
    first = {(group.task, group.plan): group for group in reversed(found) if group.truth}
    chosen = (replace(group, methods=(), budget=0) for group in first.values())
    return sorted(chosen, key=lambda group: (group.task, group.plan))


def markdown(found: Sequence[Group], registry: Registry, by: str = "") -> str:
    """Render coverage at each point, and methods against the exact likelihood.

    Args:
        found: the groups.
        registry: where the tasks are from.
        by: a parameter whose values group the points; its intervals alone are then shown.

    Raises:
        UsageError: if there is no such parameter, or there are no such datasets.
    """
    tasks = {group.task: registry.task(group.task) for group in found}
    if by and not any(by in task.space.names for task in tasks.values()):
        known = sorted({name for task in tasks.values() for name in task.space.names})
        raise UsageError(unknown("parameter", by, known))
    parts = []
    for group in found:
        task = tasks[group.task]
        parameters = [by] if by else list(task.space.names)
        if not set(parameters) <= set(task.space.names):
            continue
        here = places(task, group.units.point, by)
        names = [f"coverage/{name}" for name in parameters] + ["region_coverage/", "cut/region"]
        for make in (_coverage, _against):
            table = make(group, here, by or ", ".join(parameters), names)
            parts += [f"{group.heading}\n\n{table}"] if table else []
    if not parts:
        raise UsageError("no intervals are scored at evaluation points")
    return "\n".join(parts)


def _coverage(group: Group, here: Sequence[Place], at: str, names: Sequence[str]) -> str:
    """Render the coverage of each method's intervals and regions; "" where there is none.

    The last line of a method is of all its datasets together.
    """
    known = declared()
    shown = [n for n in names if any(n in m.scores.values for m in group.everything)]
    if not (here and shown):
        return ""
    rows = []
    every = Place("all", np.any([place.used for place in here], axis=0))
    for method in group.everything:
        for place in (*here, every):
            cells = [_share(method, n, group, place, known) for n in shown]
            rows.append([code(method.label), place.name, str(int(place.used.sum())), *cells])
    head = ["method", at, "datasets", *(name.rstrip("/") for name in shown)]
    return markdown_table(head, rows) + (
        "\n[ ]: 95 % interval (Clopper & Pearson 1934). uniform: θ drawn from the inner box. "
        "all: every dataset. cut/region: share of 95 % regions that a bound cuts.\n"
    )


def _share(
    method: Scored, name: str, group: Group, place: Place, known: Mapping[str, Metric]
) -> str:
    values = method.scores.values.get(name)
    if values is None:
        return "–"
    own = values[:, place.used]
    if len(own) == 1 and not group.units.shared and np.isin(own, (0.0, 1.0)).all():
        return share(own[0])
    found = estimated(values, group.units, place.used, share=is_share(known, name))
    return number(found.estimate)


def share(hits: Array) -> str:
    """Write a share of independent datasets with its 95 % interval (Clopper & Pearson 1934).

    >>> share(np.array([1.0] * 65 + [0.0] * 35))
    '65% [55%, 74%]'
    """
    found = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="exact")
    return f"{hits.mean():.0%} [{found.low:.0%}, {found.high:.0%}]"


def _against(group: Group, here: Sequence[Place], at: str, names: Sequence[str]) -> str:
    """Render each method against the truth; "" where there is nothing to compare."""
    parameters = [n.partition("/")[2] for n in names if n.startswith("coverage/")]
    found = {
        (method.label, place.name, name): _compare(group, method, place, name)
        for method in group.methods
        for place in here
        for name in (f"{metric}/{p}" for p in parameters for metric in _COMPARED)
    }
    compared = list(dict.fromkeys(key[2] for key, estimate in found.items() if estimate))
    if not compared:
        return ""
    known, n = declared(), sum(estimate is not None for estimate in found.values())
    lines = []
    for method in group.methods:
        for place in here:
            cells = []
            for name in compared:
                estimate = found[method.label, place.name, name]
                equal = float(is_ratio(known, name))
                cells.append(marked(estimate, n, equal) if estimate else "–")
            of = [code(method.label), str(len(method.scores.members)), place.name]
            lines.append([*of, *cells])
    head = [f"{name} {'/' if is_ratio(known, name) else '−'} exact" for name in compared]
    note = f"{n} comparisons. Bold: the 95 % interval, widened for their number, excludes equality."
    return f"{markdown_table(['method', 'networks', at, *head], lines)}\n{note}\n"


def _compare(group: Group, method: Scored, place: Place, name: str) -> Estimate | None:
    """Return a ratio to the truth or a difference, as the metric declares; None without one."""
    truth = group.truth.scores.values.get(name) if group.truth else None
    own = method.scores.values.get(name)
    if own is None or truth is None:
        return None
    known = declared()
    if is_ratio(known, name):
        return estimated(own, group.units, place.used, truth).estimate
    return estimated(own - truth, group.units, place.used, share=is_share(known, name)).estimate
