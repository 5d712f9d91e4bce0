"""Leaderboards from scores: means with clustered errors, verdicts, prices and rank intervals."""

import fnmatch
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.boards.board import EXPECTED, Leaderboard, Row
from bench.boards.compare import Comparison
from bench.boards.quantities import Quantity, fair_universe, quantities_of
from bench.boards.results import Results, SavedFit, Scores, of_training
from bench.boards.units import ResamplingUnits
from bench.contracts import Metric
from bench.storage.fit_spec import truth_among

_Key = tuple[str, int, str, int]  # task, budget, training data, seed
PLANS = ("independent", "bootstrap", "heldout")
"""Kinds of plans, in the order of leaderboards."""


class _Settings(NamedTuple):
    """Settings of leaderboards, as in `build`."""

    plain: bool
    tolerance: float
    level: float


def build(
    results: Results,
    metrics: Sequence[Metric],
    tasks: Sequence[str] = ("*",),
    *,
    plain: bool = False,
    tolerance: float | None = None,
    level: float = 0.95,
) -> list[Leaderboard]:
    """Build all leaderboards of a results folder.

    Args:
        results: the folder.
        metrics: metrics of the comparisons.
        tasks: patterns of the tasks' names.
        plain: whether to show plain means even where there are expectations.
        tolerance: largest coverage gap that holds; None for that of the preset, or 0.05.
        level: confidence level of all verdicts of a leaderboard together, and of its ranks.
    """
    if tolerance is None:
        tolerance = results.run.get("preset", {}).get("tolerance", 5.0) / 100
    settings = _Settings(plain, tolerance, level)
    chosen = [f for f in results.fits if any(fnmatch.fnmatchcase(f.task, t) for t in tasks)]
    groups: defaultdict[_Key, list[SavedFit]] = defaultdict(list)
    for fit in chosen:
        if not fit.oracle:
            run = (fit.identity["training_data"], fit.identity["seed"])
            groups[fit.task, fit.budget, *run].append(fit)
    for task in {fit.task for fit in chosen} - {task for task, *_ in groups}:
        groups[task, 0, "none", 0] = []
    whole = {k: plan for k, plan in results.plans.items() if plan["plan"].get("first") is None}
    plans = sorted(whole.items(), key=lambda p: (PLANS.index(p[1]["plan"]["kind"]), p[0]))
    boards = (
        _board(results, metrics, key, fits, folder, plan, settings)
        for key, fits in sorted(groups.items())
        for folder, plan in plans
        if key[3] == plan["seed"] or not fits
    )
    found = [board for board in boards if board is not None]
    _add_capacities(found)
    return found


def _add_capacities(boards: Sequence[Leaderboard]) -> None:
    """Add to rows of the smallest datasets what their networks hold at larger ones."""
    groups: defaultdict[_Key, list[Leaderboard]] = defaultdict(list)
    for board in boards:
        if board.plan["kind"] == "independent":
            groups[board.task, board.budget, board.training_data, board.seed].append(board)
    for group in groups.values():
        group.sort(key=lambda board: board.plan.get("multiple", 1))
        several = len({board.plan.get("multiple", 1) for board in group}) > 1
        for row in group[0].rows if several else ():
            for board in group:
                same = [r for r in board.rows if r.fit is row.fit and r.verdicts]
                if same:
                    row.at_multiples[board.plan.get("multiple", 1)] = same[0].word


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
    settings: _Settings,
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
    # One comparison compares like with like: older scores have no expectations.
    wanted = {
        f"{EXPECTED[name]}/{p}"
        for name in ("coverage", "interval_score", "width")
        for p in parameters
    }
    plain = settings.plain or not wanted
    plain = plain or any(not wanted <= scores.values.keys() for _, scores in scored)
    reference = ""
    if kind != "heldout":
        names = EXPECTED if not plain else {name: name for name in EXPECTED}
        comparison = Comparison(rows, scored, parameters, units, settings.tolerance, settings.level)
        reference = comparison.rank_scores(names["interval_score"])
        comparison.judge(names["coverage"], expected_coverage(plan["plan"]))
        if not plain:
            comparison.rank_likelihoods()
            comparison.rank_lengths()
            comparison.localise(expected_coverage(plan["plan"]))
        comparison.recommend()
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
        settings.tolerance,
        settings.level,
    )


def _tell_apart(rows: Sequence[Row]) -> None:
    """Add the fit's hash to labels that several rows share, as versions of an edited plugin do."""
    labels = [row.label for row in rows]
    for row in rows:
        if labels.count(row.label) > 1:
            row.label += f" #{row.fit.folder.rsplit('-', 1)[1][:6]}"


def _order(row: Row) -> float:
    estimate = row.estimate("price") or row.estimate("score_ratio")
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
    parameters = [n.partition("/")[2] for n in scores.values if n.startswith("width/")]
    quantities |= dict(fair_universe(scores, parameters, units))
    return Row(
        fit.label,
        fit,
        len(scores.members),
        quantities,
        None,
        _cost(fit, scores.members),
        results.failures(fit),
    )


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
