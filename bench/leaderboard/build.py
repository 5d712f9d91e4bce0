"""Leaderboards from scores: means with clustered errors, paired comparisons, rank intervals."""

import fnmatch
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, nan
from typing import Any

import numpy as np

from bench.contracts import Metric
from bench.leaderboard.quantities import Quantity, quantities_of
from bench.leaderboard.results import Results, SavedFit, Scores, of_training
from bench.leaderboard.units import ResamplingUnits
from bench.stats.clustering import Array, Estimate
from bench.stats.ranking import rank
from bench.storage.fit_spec import truth_among

_Key = tuple[str, int, str, int]  # task, budget, training data, seed
PLANS = ("independent", "bootstrap", "heldout")
"""Kinds of plans, in the order of leaderboards."""

_EXPECTED = {
    "coverage": "expected_coverage",
    "interval_score": "expected_score",
    "width": "box_width",
    "region_coverage": "expected_region",
}
"""Metrics in expectation over the exact posterior, by the plain ones that they replace."""


@dataclass
class Row:
    """Row of a leaderboard: one method.

    Args:
        label: method and configuration.
        fit: the fit of the method.
        members: number of members.
        quantities: numbers by name, such as "coverage/mu".
        rank: rank interval; None for the reference itself.
        cost: of one member: calls, calls_made where known, seconds, seconds_to_best, parameters,
            device.
        failures: reasons of failures, by the failed job.
    """

    label: str
    fit: SavedFit
    members: int
    quantities: dict[str, Quantity]
    rank: tuple[int, int] | None
    cost: dict[str, Any]
    failures: dict[str, str] = field(default_factory=dict)

    def estimate(self, name: str) -> Estimate | None:
        """Return a number with its errors; None if it is not defined."""
        return self.quantities.get(name, Quantity()).estimate


@dataclass
class Leaderboard:
    """Methods of one task at one budget on one plan, best first.

    Args:
        task, budget, training_data, seed: identity of the run.
        plan: the plan's kind and settings.
        plan_folder: name of the plan's folder.
        parameters: names of the parameters.
        reference: denominator of interval scores: "exact", "histogram" or "" (none).
        rows: the methods.
        absent: reasons of methods that cannot run, by label.
        expected: coverage of exact intervals under this plan.
        blocks: number of disjoint blocks of observations, where these are finite.
        asked: the plan before it was shrunk to finite observations.
        metrics: metrics of the quantities.
        simulated: simulator calls of all results of the task, by purpose, where the task
            declares that they are expensive.
        plain: whether headline numbers are plain means, and not expectations in the box.
    """

    task: str
    budget: int
    training_data: str
    seed: int
    plan: dict[str, Any]
    plan_folder: str
    parameters: tuple[str, ...]
    reference: str
    rows: list[Row]
    absent: dict[str, str]
    expected: float
    blocks: int | None = None
    asked: dict[str, Any] | None = None
    metrics: tuple[Metric, ...] = ()
    simulated: dict[str, int] | None = None
    plain: bool = True

    def headline(self, metric: str) -> str:
        """Return the metric that tables show for a plain one."""
        return metric if self.plain else _EXPECTED[metric]

    @property
    def ranks(self) -> bool:
        """Return whether its methods have ranks."""
        return any(row.rank is not None for row in self.rows)


def build(
    results: Results,
    metrics: Sequence[Metric],
    tasks: Sequence[str] = ("*",),
    *,
    plain: bool = False,
) -> list[Leaderboard]:
    """Build all leaderboards of a results folder.

    Args:
        results: the folder.
        metrics: metrics of the tables.
        tasks: patterns of the tasks' names.
        plain: whether to show plain means even where there are expectations.
    """
    chosen = [f for f in results.fits if any(fnmatch.fnmatchcase(f.task, t) for t in tasks)]
    groups: defaultdict[_Key, list[SavedFit]] = defaultdict(list)
    for fit in chosen:
        if not fit.oracle:
            run = (fit.identity["training_data"], fit.identity["seed"])
            groups[fit.task, fit.budget, *run].append(fit)
    for task in {fit.task for fit in chosen} - {task for task, *_ in groups}:
        groups[task, 0, "none", 0] = []
    plans = sorted(results.plans.items(), key=lambda p: (PLANS.index(p[1]["plan"]["kind"]), p[0]))
    boards = (
        _board(results, metrics, key, fits, folder, plan, plain)
        for key, fits in sorted(groups.items())
        for folder, plan in plans
        if key[3] == plan["seed"] or not fits
    )
    return [board for board in boards if board is not None]


def expected_coverage(plan: dict[str, Any]) -> float:
    """Return the coverage of exact 68.27 % intervals under a plan.

    It is nominal except for bootstraps of k M events. A bootstrap scatters around the estimate of
    one, and the coverage is 2 Φ(1 / √(1 + 1/k)) − 1.

    Example:
        >>> round(expected_coverage({"kind": "bootstrap", "multiple": 9}), 3)
        0.657
    """
    from scipy.stats import norm

    spread = 1 + 1 / plan["multiple"] if plan["kind"] == "bootstrap" else 1.0
    return float(2 * norm.cdf(spread**-0.5) - 1)


def _board(
    results: Results,
    metrics: Sequence[Metric],
    key: _Key,
    fits: Sequence[SavedFit],
    folder: str,
    plan: dict[str, Any],
    plain: bool,
) -> Leaderboard | None:
    kind = plan["plan"]["kind"]
    oracle = truth_among(fit for fit in results.fits if fit.task == key[0])

    def scores_of(fit: SavedFit) -> Scores | None:
        found = results.scores(fit, folder)
        return None if found is None else found.current(metrics)

    truth = scores_of(oracle) if oracle is not None else None
    candidates: list[tuple[SavedFit, Scores | None]] = (
        [(oracle, truth)] if oracle is not None and truth is not None else []
    )
    candidates += [(fit, scores_of(fit)) for fit in fits]
    scored = [(f, s) for f, s in candidates if s is not None]
    if not scored:
        return None
    used = [m for m in metrics if kind in m.plans]
    units = ResamplingUnits.of(plan, scored[0][1])
    rows = [_row(results, fit, scores, truth, used, units) for fit, scores in scored]
    rows += [
        Row(fit.label, fit, 0, {}, None, {}, failures)
        for fit, scores in candidates
        if scores is None and (failures := results.failures(fit))
    ]
    _tell_apart(rows)
    parameters = tuple(
        name.partition("/")[2] for name in scored[0][1].values if name.startswith("width/")
    )
    # One table compares like with like: older scores have no expectations.
    wanted = {
        f"{_EXPECTED[name]}/{p}"
        for name in ("coverage", "interval_score", "width")
        for p in parameters
    }
    plain = plain or not wanted or any(not wanted <= scores.values.keys() for _, scores in scored)
    score = "interval_score" if plain else _EXPECTED["interval_score"]
    reference = "" if kind == "heldout" else _rank(rows, scored, parameters, units, score)
    rows.sort(key=lambda r: (not r.fit.oracle, _order(r), r.label))
    # Results from a run on another machine may exist.
    there = {row.fit.label for row in rows}
    absent = {
        a["label"]: a["reason"]
        for a in results.run.get("absent", [])
        if a["task"] == key[0] and a["label"] not in there
    }
    expensive = scored[0][0].identity.get("task", {}).get("expensive")
    return Leaderboard(
        *key,
        plan["plan"],
        folder,
        parameters,
        reference,
        rows,
        absent,
        expected_coverage(plan["plan"]),
        plan.get("blocks"),
        plan.get("asked"),
        tuple(used),
        results.simulated(key[0]) if expensive else None,
        plain,
    )


def _tell_apart(rows: Sequence[Row]) -> None:
    """Add the fit's hash to labels that several rows share, as versions of an edited plugin do."""
    labels = [row.label for row in rows]
    for row in rows:
        if labels.count(row.label) > 1:
            row.label += f" #{row.fit.folder.rsplit('-', 1)[1][:6]}"


def _order(row: Row) -> float:
    estimate = row.estimate("score_ratio")
    return estimate.value if estimate else np.inf


def _row(
    results: Results,
    fit: SavedFit,
    scores: Scores,
    truth: Scores | None,
    metrics: Sequence[Metric],
    units: ResamplingUnits,
) -> Row:
    quantities: dict[str, Quantity] = {}
    own_truth = None if fit.oracle else truth
    for metric in metrics:
        if metric.kept or (fit.oracle and metric.needs_truth and metric.against == "nothing"):
            continue  # the latter compares the truth with itself
        names = [n for n in scores.values if n.partition("/")[0] == metric.name]
        if not names and not fit.oracle:
            reason = scores.undefined.get(metric.name, "not computed; run `bench score`")
            quantities[metric.name] = Quantity(reason=reason)
        for name in names:
            quantities |= dict(quantities_of(metric, name, scores, own_truth, units))
    return Row(
        fit.label,
        fit,
        len(scores.members),
        quantities,
        None,
        _cost(fit, scores.members),
        results.failures(fit),
    )


def _rank(
    rows: Sequence[Row],
    scored: Sequence[tuple[SavedFit, Scores]],
    parameters: Sequence[str],
    units: ResamplingUnits,
    score: str,
) -> str:
    """Rank the methods by an interval score relative to the reference, in place.

    Returns:
        Name of the reference; "" if there is none.
    """
    known = [("exact", s) for f, s in scored if f.oracle]
    known += [("histogram", s) for f, s in scored if f.method == "histogram"]
    if not known:
        return ""
    name, reference = known[0]
    used = units.headline
    found = units[used]
    keys = [f"{score}/{p}" for p in parameters]
    if int(used.sum()) < 2 or not keys or not all(k in reference.values for k in keys):
        return name

    def table(values: Array) -> Array:
        return found.average(values[..., used])

    base = np.stack([table(reference.values[k].mean(0)) for k in keys], -1)
    ranked = [
        (row, np.stack([table(s.values[k]) for k in keys], -1))
        for row, (fit, s) in zip(rows, scored, strict=False)
        if not fit.oracle and all(k in s.values for k in keys)
    ]
    # Intervals of zero length have no ratio.
    ranked = [(row, s) for row, s in ranked if s.mean((0, 1)).all() and base.mean(0).all()]
    if not ranked:
        return name
    if not found.enough:  # too few blocks to estimate an error
        for row, scores in ranked:
            value = exp(float(np.log(scores.mean((0, 1)) / base.mean(0)).mean()))
            row.quantities["score_ratio"] = Quantity(Estimate(value, nan, nan, nan, nan))
        return name
    ranking = rank([scores for _, scores in ranked], base, found.strata)
    for i, (row, _) in enumerate(ranked):
        value = exp(float(ranking.log_ratio[i]))
        error = value * float(ranking.error[i])
        row.quantities["score_ratio"] = Quantity(Estimate(value, error, nan, nan, nan))
        if bool((units.point < 0).any()):
            row.rank = (int(ranking.low[i]), int(ranking.high[i]))
    return name


def _cost(fit: SavedFit, members: Sequence[int]) -> dict[str, Any]:
    records = [fit.members[m] for m in members]
    trained = [r for r in records if r["curves"]]
    names = ("seconds_to_best", "seconds", "steps")
    to_best, spent, steps = ([of_training(r, name) for r in trained] for name in names)
    made = records[0].get("calls_made")  # missing in older records, and for recorded observations
    return {
        "calls": records[0]["calls"],
        **({} if made is None else {"calls_made": made}),
        "parameters": records[0]["parameters"],
        "seconds": float(np.mean([r["seconds"] for r in records])),
        "seconds_to_best": float(np.mean(to_best)) if trained else None,
        "seconds_per_step": float(np.sum(spent) / np.sum(steps)) if trained else None,
        "device": records[0]["environment"]["device"],
    }
