"""Scores of methods on the same datasets, as studies of a results folder compare them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from bench.boards.results import Results, SavedFit, Scores
from bench.boards.units import ResamplingUnits
from bench.contracts import Metric
from bench.errors import UsageError
from bench.registry.registry import Registry, select, unknown
from bench.stats.clustering import Array
from bench.storage.fit_spec import truth_among

_ANY = ("*",)


@dataclass(frozen=True)
class Scored:
    """One method's scores on the plan of a group.

    Args:
        label: the method and its configuration, unique in the group.
        fit: the fit that was scored.
        scores: its scores.
    """

    label: str
    fit: SavedFit
    scores: Scores


@dataclass(frozen=True)
class Group:
    """Methods of one task at one budget that are scored on the same datasets.

    Args:
        task: name of the task.
        budget: simulator calls of one network; 0 where only the truth is scored.
        plan: folder of the plan.
        methods: the methods that were asked for, in the order of patterns and labels.
        truth: the exact likelihood; None where it is not scored.
        units: the datasets as units of resampling.
    """

    task: str
    budget: int
    plan: str
    methods: tuple[Scored, ...]
    truth: Scored | None
    units: ResamplingUnits

    @property
    def everything(self) -> tuple[Scored, ...]:
        """Scored truth, if any, and the methods."""
        return (*([self.truth] if self.truth else []), *self.methods)

    @property
    def heading(self) -> str:
        """Title of the group's table."""
        calls = f", {self.budget:,} simulator calls" if self.budget else ""
        return f"### {self.task}{calls}, {self.plan}"


def groups(results: Results, tasks: Sequence[str] = (), methods: Sequence[str] = ()) -> list[Group]:
    """Read the scores of a results folder, grouped by task, budget and plan.

    Args:
        results: the folder.
        tasks: patterns of names of tasks; all where empty.
        methods: patterns of labels, as `lre:*`; all where empty.

    Raises:
        UsageError: if a pattern matches nothing, or nothing is scored.
    """
    fits = results.fits
    names = select(tasks or _ANY, sorted({fit.task for fit in fits}), "task") if fits else []
    fits = [fit for fit in fits if fit.task in names]
    known = sorted({fit.label for fit in fits})
    labels: dict[str, None] = {}
    for pattern in methods or _ANY:
        matching = [label for label in known if _any(label, [pattern])]
        if not matching and methods:
            raise UsageError(unknown("method", pattern, known))
        labels |= dict.fromkeys(matching)
    order = list(labels)
    runs: defaultdict[tuple[str, int, str, int], list[SavedFit]] = defaultdict(list)
    for fit in fits:
        if not fit.oracle:
            run = str(fit.identity["training_data"]), int(fit.identity["seed"])
            runs[fit.task, fit.budget, *run].append(fit)
    for task in set(names) - {task for task, *_ in runs}:
        runs[task, 0, "none", 0] = []
    found = []
    for (task, budget, _, seed), trained in sorted(runs.items()):
        oracle = truth_among(fit for fit in fits if fit.task == task)
        for plan, record in sorted(results.plans.items()):
            if trained and record["seed"] != seed:
                continue
            truth = _scored(results, [oracle] if oracle else [], plan)
            wanted = [fit for fit in trained if fit.label in labels]
            wanted.sort(key=lambda fit: order.index(fit.label))
            chosen = _scored(results, wanted, plan)
            if not (chosen or truth):
                continue
            scores = (chosen or truth)[0].scores
            units = ResamplingUnits.of(record, scores)
            exact = truth[0] if truth else None
            found.append(Group(task, budget, plan, tuple(chosen), exact, units))
    if not found:
        raise UsageError("nothing is scored; `bench status` says what is there")
    return found


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def _scored(results: Results, fits: Sequence[SavedFit], plan: str) -> list[Scored]:
    labels = [fit.label for fit in fits]
    found = []
    for fit in fits:
        scores = results.scores(fit, plan)
        if scores is not None:
            version = f" #{fit.folder.rsplit('-', 1)[1][:6]}" if labels.count(fit.label) > 1 else ""
            found.append(Scored(fit.label + version, fit, scores))
    return found


def metrics_of(found: Iterable[Scores], patterns: Sequence[str], must: bool = False) -> list[str]:
    """Choose metrics with their keys by patterns, in the patterns' order.

    Args:
        found: scores that have them.
        patterns: patterns of "metric/key", or of metrics with all their keys.
        must: whether every pattern must match.

    Raises:
        UsageError: if a pattern must match and does not.
    """
    known = sorted({name for scores in found for name in scores.values})
    chosen: dict[str, None] = {}
    for pattern in patterns:
        here = [name for name in known if _any(name, [pattern]) or _any(_metric(name), [pattern])]
        if must and not here:
            raise UsageError(unknown("metric", pattern, sorted({_metric(name) for name in known})))
        chosen |= dict.fromkeys(here)
    return list(chosen)


def _metric(name: str) -> str:
    return name.partition("/")[0]


@cache
def declared() -> Mapping[str, Metric]:
    """Return the suite's metrics by name, which declare how means are compared."""
    return {metric.name: metric for metric in Registry().metrics()}


def is_share(known: Mapping[str, Metric], name: str) -> bool:
    """Return whether contributions to a metric with its key are yes or no."""
    metric = known.get(_metric(name))
    return metric is not None and metric.share


def is_ratio(known: Mapping[str, Metric], name: str) -> bool:
    """Return whether means of a metric with its key are compared by their ratio."""
    metric = known.get(_metric(name))
    return metric is not None and metric.against == "ratio"


def common(first: Scores, second: Scores, name: str) -> tuple[Array, Array]:
    """Return the values of the members that both have, (members, S) each."""
    members = [m for m in first.members if m in second.members]
    one, two = (s.values[name][[s.members.index(m) for m in members]] for s in (first, second))
    return one, two
