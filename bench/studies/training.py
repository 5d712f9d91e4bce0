"""Uncertainty of training: as experiments quote it, as it is, and the error that it should cover.

An experiment quotes the spread of networks that are initialised anew on its training set, of
networks trained on bootstraps of the set (arXiv:2505.19156), or of weighted ensembles with drawn
weights (arXiv:2506.00113). Fresh training sets have the true spread, and the exact likelihood has
the true estimate.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan, sqrt
from typing import Literal

import numpy as np

from bench.boards.judgement import NOMINAL
from bench.boards.render import csv_of, markdown_table
from bench.boards.results import Results
from bench.errors import UsageError
from bench.metrics.expected import DRAWS
from bench.stats.clustering import Array, Estimate
from bench.storage.fit_spec import label, wrappings
from bench.studies.numbers import both, code, number
from bench.studies.scored import Group, Scored, groups

NAME = "training"
Way = Literal["shared", "bootstrap", "weights"]
QUOTED: Mapping[Way, str] = {
    "shared": "initialised anew",
    "bootstrap": "bootstraps",
    "weights": "weights",
}
"""Ways to quote the uncertainty: the training data of networks, or drawn weights."""
COLUMNS: Mapping[str, type] = (
    dict.fromkeys(("task", "method", "parameter"), str)
    | {
        f"{name}{end}": float
        for name in (
            *("spread", "error", "gap"),
            *(f"{way}_{name}" for way in QUOTED for name in ("spread", "gap", "length")),
        )
        for end in ("", "_error")
    }
    | {"budget": int}
)
"""Columns of the table as CSV."""

_POINTS = 100.0
_Key = tuple[str, int, str, str]
_Run = tuple[int, str]  # seed and plan: runs with equal ones have the same datasets
_Draw = tuple[_Run, int]


@dataclass(frozen=True)
class Estimates:
    """Estimates and intervals of one parameter by the networks of one run.

    All are relative to the exact estimates, in half-widths of exact intervals. NaN is undefined.

    Args:
        own: estimates, (members, D).
        lower: lower ends, (members, D).
        upper: upper ends, (members, D).
        draws: equally probable parameters given each dataset, (D, Q).
    """

    own: Array
    lower: Array
    upper: Array
    draws: Array

    def member(self, number: int) -> "Estimates":
        """Return the estimates of one network."""
        one = slice(number, number + 1)
        return Estimates(self.own[one], self.lower[one], self.upper[one], self.draws)

    @property
    def spread(self) -> Array:
        """Standard deviation of the networks' estimates, (D,)."""
        found: Array = self.own.std(0, ddof=1)
        return found

    def coverage(self, spread: Array | float = 0.0) -> float:
        """Return the mean posterior probability of intervals widened by a spread, (D,)."""
        lower, upper = self._widened(spread)
        inside = (self.draws >= lower[..., None]) & (self.draws <= upper[..., None])
        return float(inside[np.isfinite(upper - lower)].mean())

    def length(self, spread: Array | float = 0.0) -> float:
        """Return the mean length of intervals widened by a spread, (D,)."""
        lower, upper = self._widened(spread)
        return float(np.nanmean(upper - lower))

    def _widened(self, spread: Array | float) -> tuple[Array, Array]:
        """Add a spread in quadrature to the distance of each end from the estimate."""
        below, above = self.own - self.lower, self.upper - self.own
        return self.own - np.hypot(below, spread), self.own + np.hypot(above, spread)


@dataclass(frozen=True)
class Quote:
    """Uncertainty that is quoted in one way, averaged over training sets.

    Args:
        spread: root mean square spread, in half-widths of exact intervals.
        gap: coverage of the intervals widened by it, minus 68.27 %, in points.
        length: their length, relative to those as delivered.
        sets: number of training sets; of ensembles, for drawn weights.
    """

    spread: Estimate
    gap: Estimate
    length: Estimate
    sets: int


@dataclass(frozen=True)
class Uncertainty:
    """One line of the table: one parameter of a method.

    Args:
        task, budget, method, parameter: the estimates.
        spread: true spread over fresh training sets, in half-widths of exact intervals.
        error: root mean square distance to the exact estimate.
        gap: coverage as delivered minus 68.27 %, in points.
        quoted: the ways to quote.
    """

    task: str
    budget: int
    method: str
    parameter: str
    spread: Estimate
    error: Estimate
    gap: Estimate
    quoted: Mapping[Way, Quote]


@dataclass
class Found:
    """Estimates of one parameter by a method.

    Args:
        fresh: estimates of networks with training sets of their own.
        delivered: what users report, by run.
        quotes: by way, estimates whose spread is quoted, and the delivered ones.
    """

    fresh: list[Estimates] = field(default_factory=list)
    delivered: dict[_Run, Estimates] = field(default_factory=dict)
    quotes: dict[Way, list[tuple[Estimates, Estimates]]] = field(default_factory=dict)


def uncertainties(folders: Sequence[Results]) -> list[Uncertainty]:
    """Compare the uncertainties of all methods with fresh training sets and a quoted spread.

    Args:
        folders: folders of runs with the training data "fresh", and "shared" or "bootstrap"; the
            last two have a seed for every training set, and need "shared" runs of equal seeds.
            Drawn weights need fresh data only: `weighted(METHOD,N)` and its draws.

    Raises:
        UsageError: if there is nothing to compare.
    """
    data: defaultdict[_Key, defaultdict[str, dict[_Draw, Estimates]]]
    data = defaultdict(lambda: defaultdict(dict))
    for results in folders:
        for group in groups(results):
            for method in group.methods:
                kind = str(method.fit.identity["training_data"])
                run = int(method.fit.identity["seed"]), group.plan
                name, draw = _undrawn(method)
                for parameter, own in _estimates(group, method):
                    data[group.task, group.budget, name, parameter][kind][run, draw] = own
    lines = [line(key, found) for key, own in sorted(data.items()) if (found := paired(own)).quotes]
    if not lines:
        raise UsageError(
            "nothing to compare: it takes runs of one method with training data fresh and shared, "
            "or fresh runs of a weighted ensemble and its draws; two networks or more; and the "
            "exact likelihood"
        )
    return lines


def _undrawn(method: Scored) -> tuple[str, int]:
    """Return a method's label without the number of a draw of weights, and this number."""
    identity = method.fit.identity
    *_, outermost = wrappings(identity) or (None,)
    draw = outermost.config.get("draw", 0) if outermost and outermost.name == "weighted" else 0
    if not draw:
        return method.label, 0
    *others, last = identity["wrappers"]
    fitted = {**last, "arguments": last["arguments"][:1]}
    plain = {**identity, "wrappers": [*others, fitted]}
    return label(method.fit.method, method.fit.configuration, plain), draw


def paired(data: Mapping[str, Mapping[_Draw, Estimates]]) -> Found:
    """Pair estimates whose spread is quoted with delivered ones.

    Args:
        data: estimates by training data, and by run and draw of weights; draw 0 is the fitted one.
    """
    fresh = data.get("fresh", {})
    if not fresh:
        return Found()
    fitted = {run: own for (run, draw), own in fresh.items() if not draw}
    shared = {run: own for (run, _), own in data.get("shared", {}).items()}
    found = Found([*fitted.values()], shared)
    for way in ("shared", "bootstrap"):
        runs = [(own, run) for (run, _), own in data.get(way, {}).items() if run in shared]
        if runs:
            found.quotes[way] = [(own, shared[run]) for own, run in runs]
    drawn: defaultdict[_Run, list[Estimates]] = defaultdict(list)
    for (run, draw), own in fresh.items():
        if draw and run in fitted and len(own.own) == len(fitted[run].own):
            drawn[run].append(own)
    pairs = [
        (_stacked([own.member(m) for own in some]), fitted[run].member(m))
        for run, some in drawn.items()
        if len(some) > 1
        for m in range(len(fitted[run].own))
    ]
    if pairs:
        found.quotes["weights"] = pairs
        found.delivered = found.delivered or {(m, ""): own for m, (_, own) in enumerate(pairs)}
    return found


def _stacked(parts: Sequence[Estimates]) -> Estimates:
    """Join networks with the same datasets."""
    own, lower, upper = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("own", "lower", "upper")
    )
    return Estimates(own, lower, upper, parts[0].draws)


def _estimates(group: Group, method: Scored) -> Iterable[tuple[str, Estimates]]:
    """Yield the estimates of each parameter; nothing for one network, or without exact draws."""
    if group.truth is None or len(method.scores.members) < 2:
        return
    own, truth = method.scores.values, group.truth.scores.values
    for name in (key.removeprefix("posterior/")[:-2] for key in truth if _is_first(key)):
        wanted = [f"estimate/{name}", *(f"profile_{end}/{name} 1" for end in ("lower", "upper"))]
        if not all(key in own and key in truth for key in wanted):
            continue
        draws = np.stack([truth[f"posterior/{name} {i + 1}"][0] for i in range(DRAWS)], -1)
        exact, below, above = (truth[key][0] for key in wanted)
        arrays = [own[key] for key in wanted]
        used = np.isfinite([*draws.T, exact]).all(0) & group.units.headline & (above > below)
        half = (0.5 * (above - below))[used]
        estimate, lower, upper = ((array[:, used] - exact[used]) / half for array in arrays)
        relative = (draws[used] - exact[used, None]) / half[:, None]
        yield name, Estimates(estimate, lower, upper, relative)


def _is_first(key: str) -> bool:
    return key.startswith("posterior/") and key.endswith(" 1")


def line(key: _Key, found: Found) -> Uncertainty:
    """Compare the uncertainties of one parameter.

    Args:
        key: task, budget, method and parameter.
        found: the estimates, with one fresh run or more and one quote or more.
    """
    quoted: dict[Way, Quote] = {}
    for way, pairs in found.quotes.items():
        gaps = [base.coverage(own.spread) for own, base in pairs]
        lengths = [base.length(own.spread) / base.length() for own, base in pairs]
        squares = [float(np.nanmean(own.spread**2)) for own, _ in pairs]
        quoted[way] = Quote(_root(_mean(squares)), _gap(gaps), _mean(lengths), len(pairs))
    own = max((one.own for one in found.fresh), key=len)  # one run, whose members share datasets
    spread = _over_members(own, lambda some: float(np.nanmean(some.var(0, ddof=1))))
    error = _over_members(own, lambda some: float(np.nanmean(some**2)))
    gap = _gap([base.coverage() for base in found.delivered.values()])
    return Uncertainty(*key, _root(spread), _root(error), gap, quoted)


def _estimate(value: float, error: float, n: int) -> Estimate:
    """Return an estimate from n independent units."""
    return Estimate(value, error, n - 1 if n > 1 else nan, error, nan)


def _mean(values: Sequence[float] | Array) -> Estimate:
    """Return the mean of independent numbers; its error is unknown for one."""
    n = len(values)
    error = float(np.std(values, ddof=1) / sqrt(n)) if n > 1 else nan
    return _estimate(float(np.mean(values)), error, n)


def _gap(coverages: Sequence[float]) -> Estimate:
    """Return a mean coverage minus the nominal one, in points."""
    return _mean([_POINTS * (one - NOMINAL) for one in coverages])


def _over_members(own: Array, statistic: Callable[[Array], float]) -> Estimate:
    """Return a statistic of members' estimates (members, D), with its jackknife error."""
    n = len(own)
    if n < 3:
        return _estimate(statistic(own), nan, n)
    without = np.array([statistic(np.delete(own, m, 0)) for m in range(n)])
    error = sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    return _estimate(statistic(own), error, n)


def _root(square: Estimate) -> Estimate:
    """Return the square root of an estimate."""
    root = sqrt(square.value)
    return replace(square, value=root, error=square.error / (2 * root) if root else nan)


def markdown(found: Sequence[Uncertainty]) -> str:
    """Render two tables: the sizes of uncertainties, and the intervals that they widen."""
    names = list(QUOTED.values())
    sizes, intervals = [], []
    for one in found:
        head = [code(one.task), f"{one.budget:,}", code(one.method), code(one.parameter)]
        ways = [one.quoted.get(way) for way in QUOTED]
        spreads = [number(way.spread if way else None) for way in ways]
        sets = "/".join(str(way.sets) for way in ways if way)
        sizes.append([*head, sets, *spreads, number(one.spread), number(one.error)])
        widened = [
            text
            for way in ways
            for text in (
                number(way.gap if way else None, "+"),
                number(way.length if way else None),
            )
        ]
        intervals.append([*head, number(one.gap, "+"), *widened])
    start = ["task", "budget", "method", "parameter"]
    first = markdown_table(
        [*start, "training sets", *(f"quoted: {n}" for n in names), "true spread", "true error"],
        sizes,
    )
    columns = [text for n in names for text in (f"gap, widened by {n}", f"length, {n}")]
    second = markdown_table([*start, "gap, points", *columns], intervals)
    note = (
        "Spreads and errors are root mean squares in half-widths of exact intervals. Gaps are "
        "coverages minus 68.27 %, in points; lengths are relative to those as delivered.\n"
    )
    return "\n".join([first, second, note])


def csv(found: Sequence[Uncertainty]) -> str:
    """Render all lines as CSV."""
    return csv_of(
        [
            {
                "task": one.task,
                "budget": one.budget,
                "method": one.method,
                "parameter": one.parameter,
                **both("spread", one.spread),
                **both("error", one.error),
                **both("gap", one.gap),
                **{
                    key: value
                    for way in QUOTED
                    for name in ("spread", "gap", "length")
                    for key, value in both(
                        f"{way}_{name}",
                        getattr(one.quoted[way], name) if way in one.quoted else None,
                    ).items()
                },
            }
            for one in found
        ]
    )
