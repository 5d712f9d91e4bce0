"""Comparison of the papers' numbers with ours: compatible, better, or missed.

`published.csv` holds tables 1 and 2 of Sluijter, Diefenbacher, Bhimji & Nachman (2025,
arXiv:2503.07962) and numbers of its text, and claims of Shen & Kuusela (2026, arXiv:2605.12118) and
of Dudley & Eisenberg (2025, arXiv:2509.18990). The first paper shows single networks without
errors. A further network on other sets of events has the same scatter as ours, so its number should
lie within

    t · √((1 + 1/n) σ²_network + 2 σ²_sets)

of our mean over n networks, plus the rounding of the printed number; t is of Student's distribution
at 95 %. An average over networks should lie within the 95 % interval of our mean.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from math import inf, isfinite, isinf, isnan, nan, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from bench.boards import Leaderboard, Quantity, Row
from bench.boards.columns import parenthesised
from bench.boards.results import SavedFit, of_training
from bench.errors import UsageError, counted
from bench.report.load import Loaded
from bench.stats.clustering import Array, Estimate, effective_dof
from bench.studies import equivalence

Verdict = Literal["compatible", "better", "missed", "n/a"]

LEVEL = 0.95
WIDEST = 0.5
"""Largest useful range of a share; a wider range contains almost any number."""
FEWEST = 3
"""Smallest number of networks for an estimate of their scatter."""

POWER = 0.8
"""Probability with which a comparison shows the difference that it calls detectable."""

CONFIGURATIONS = ("published", "tuned")
_HIGGS = ("higgs-fair", "higgs")  # the paper's events; the mixture is a model of them


@dataclass(frozen=True)
class Published:
    """Number of a paper.

    Args:
        key: its place in the papers' tables.
        source: the paper, and the place in it.
        task, method: task and method of the number; empty for claims about several.
        quantity: as in leaderboards, "overlap_kM/z"; or "equivalence", "training_time", …
        kind: of a single "network", an "average" over several, or a "claim".
        value: as printed.
        note: comment of the paper.
    """

    key: str
    source: str
    task: str
    method: str
    quantity: str
    kind: str
    value: str
    note: str

    @property
    def rounding(self) -> float:
        """Largest rounding error of the printed value."""
        return 0.5 * 10.0 ** -len(self.value.partition(".")[2])


@dataclass(frozen=True)
class Comparison:
    """Number of a paper with our counterpart.

    Args:
        published: the paper's number.
        label: our method.
        where: our task, plan and networks, in words.
        ours: our number, with its error.
        value, error: the same as numbers; NaN where there is none.
        low, high: 95 % range of the paper's number if ours are right.
        target: ideal value: an overlap of 1, exact's coverage and width.
        verdict: result of the comparison.
        reason: reason of a missing verdict, or a caveat.
    """

    published: Published
    label: str = ""
    where: str = ""
    ours: str = "n/a"
    value: float = nan
    error: float = nan
    low: float = nan
    high: float = nan
    target: float = nan
    verdict: Verdict = "n/a"
    reason: str = ""

    @property
    def detectable(self) -> float:
        """Smallest difference that would not be called compatible in 80 % of cases, or NaN."""
        reach = max(self.high - self.value, self.value - self.low)
        return reach * (1 + float(stats.norm.ppf(POWER) / stats.norm.ppf((1 + LEVEL) / 2)))


def published() -> list[Published]:
    """Return the papers' numbers."""
    text = files("bench.report").joinpath("published.csv").read_text(encoding="utf-8")
    return [Published(**row) for row in csv.DictReader(text.splitlines())]


def comparisons(loaded: Loaded) -> list[Comparison]:
    """Compare every number of the papers with the results, once per configuration."""
    out: list[Comparison] = []
    for number in published():
        if number.kind != "claim":
            out += [beside(loaded, number, name) for name in CONFIGURATIONS]
        elif number.quantity == "equivalence":
            out += _equivalence(loaded, number)
        elif number.quantity == "training_time":
            out += _training_time(loaded, number)
        else:
            reason = "the suite estimates parameters; it does not select models"
            out.append(Comparison(number, reason=reason))
    return out


def beside(loaded: Loaded, number: Published, configuration: str) -> Comparison:
    """Compare a published number with a configuration's result on the same task and plan."""
    label = f"{number.method}:{configuration}"
    found = _row(loaded.boards, number, configuration)
    if found is None:
        tasks = " or ".join(_tasks(number))
        return Comparison(number, label, reason=f"no results of {label} on {tasks}")
    board, row = found
    bootstrap = board.plan["kind"] == "bootstrap"
    plan = "bootstrap plan" if bootstrap else "independent datasets"
    networks = counted(row.members, "network")
    where = f"{board.task}, {plan}, {counted(board.budget, 'call')}, {networks}"
    quantity = row.quantities.get(number.quantity, Quantity(reason="not computed"))
    estimate = quantity.estimate
    if estimate is None:
        return Comparison(number, label, where, reason=quantity.reason)
    ours = parenthesised(estimate.value, estimate.error)
    target = _target(board, number.quantity)
    said = Comparison(number, label, where, ours, estimate.value, estimate.error, target=target)
    if row.members < FEWEST:
        do = "does" if row.members == 1 else "do"
        return replace(said, reason=f"{networks} {do} not tell how networks scatter")
    if not bootstrap and number.quantity.startswith("coverage/"):
        return replace(said, reason="another plan: exact intervals cover 68.3 % there, not 65.7 %")
    low, high = expected_interval(estimate, row.members, number)
    if isnan(low):
        return replace(said, reason="our error is not known")
    if not number.quantity.startswith("width/") and high - low > WIDEST:
        return replace(said, low=low, high=high, reason="our networks scatter too much to tell")
    verdict = judge(float(number.value), estimate.value, low, high, target)
    return replace(said, low=low, high=high, verdict=verdict)


def judge(paper: float, ours: float, low: float, high: float, target: float) -> Verdict:
    """Return "compatible" within [low, high], else "better" if ours is nearer to the target."""
    if low <= paper <= high:
        return "compatible"
    if isinf(target):
        return "better" if ours > paper else "missed"
    return "better" if abs(ours - target) < abs(paper - target) else "missed"


def expected_interval(estimate: Estimate, networks: int, number: Published) -> tuple[float, float]:
    """Return the 95 % interval of a number like the published one, given ours.

    A published average has the error of ours; that of one network varies from network to network.
    """
    parts, degrees = [estimate.error**2], [estimate.dof]
    if number.kind != "average":
        one = estimate.member_error**2 * networks
        parts = [one * (1 + 1 / networks), 2 * estimate.set_error**2]
        degrees = [networks - 1.0, estimate.dof]
    total = sum(parts)
    if not isfinite(total):
        return nan, nan
    half = _quantile(parts, degrees, total) * sqrt(total) + number.rounding
    low, high = estimate.value - half, estimate.value + half
    share = not number.quantity.startswith("width/")
    return max(low, 0.0), min(high, 1.0) if share else high


def _quantile(parts: ArrayLike, degrees: ArrayLike, total: ArrayLike, most: float = inf) -> float:
    """Return half of a 95 % interval in units of the error, for variances with these degrees."""
    dof = float(effective_dof(np.asarray(parts), np.asarray(degrees), np.asarray(total)))
    return float(stats.t.ppf((1 + LEVEL) / 2, min(dof, most)))


def _tasks(number: Published) -> tuple[str, ...]:
    return _HIGGS if number.task == "higgs" else (number.task,)


def _row(
    boards: Sequence[Leaderboard], number: Published, configuration: str
) -> tuple[Leaderboard, Row] | None:
    """Return our closest row: the paper's plan, one training set, the largest budget."""
    found = [
        (board, row)
        for board in boards
        if board.task in _tasks(number) and board.plan["kind"] in ("bootstrap", "independent")
        for row in board.rows
        if (row.fit.method, row.fit.configuration) == (number.method, configuration)
        and row.members
        and row.fit.size == 1
        and (board.plan["kind"] == "bootstrap" or not number.quantity.startswith("overlap_kM"))
    ]

    def closeness(item: tuple[Leaderboard, Row]) -> tuple[bool, bool, int, int]:
        board, _ = item
        return (
            board.plan["kind"] == "bootstrap",
            board.training_data == "shared",
            -_tasks(number).index(board.task),
            board.budget,
        )

    return max(found, key=closeness, default=None)


def _target(board: Leaderboard, quantity: str) -> float:
    if quantity.startswith("overlap"):
        return 1.0
    exact = next((row for row in board.rows if row.fit.oracle), None)
    if exact is not None and quantity in exact.quantities:
        estimate = exact.estimate(quantity)
        return estimate.value if estimate else nan
    return board.expected if quantity.startswith("coverage") else nan


def _equivalence(loaded: Loaded, number: Published) -> Iterator[Comparison]:
    try:
        rows = [r for r in equivalence.rows(loaded.results) if r.metric.startswith("likelihood")]
    except UsageError as error:
        yield Comparison(number, reason=str(error))
        return
    for row in rows:
        where = (
            f"{row.task}, likelihood-ratio error, {counted(row.budget, 'call')}, "
            f"{counted(row.members, 'network')}"
        )
        said = Comparison(
            number, f"{row.other} / {row.plain}", where, equivalence.shown(row), row.value
        )
        claim = float(number.value)
        # Beyond the budgets only a bound of the factor is known.
        low = min(row.low, row.value) if row.beyond == ">" else row.low
        high = max(row.high, row.value) if row.beyond == "<" else row.high
        if isnan(row.value):
            yield replace(said, reason="not finite")
        elif min(row.members, row.plain_members) < FEWEST:
            yield replace(said, reason="too few networks to tell how they scatter")
        elif row.beyond == ">" and row.value < claim <= row.high:
            yield replace(said, reason=f"the budgets end at a factor of {row.value:.2g}")
        else:
            verdict = judge(claim, row.value, low, high, inf)
            yield replace(said, low=low, high=high, verdict=verdict)


def _training_time(loaded: Loaded, number: Published) -> Iterator[Comparison]:
    """Compare seconds per gradient step with and without scores, on the same device."""
    fits = [f for f in loaded.results.fits if f.members and f.size == 1]
    pairs = [
        (plain, other)
        for other in fits
        for plain in fits
        if other.method == f"{plain.method}-sa"
        and other.configuration == plain.configuration
        and (other.task, other.budget, other.identity["training_data"])
        == (plain.task, plain.budget, plain.identity["training_data"])
    ]
    if not pairs:
        yield Comparison(number, reason="no method here is trained with and without scores")
    for plain, other in pairs:
        above, below = _step_seconds(other), _step_seconds(plain)
        devices = {r["environment"]["device"] for f in (plain, other) for r in f.members.values()}
        where = (
            f"{other.task}, seconds per gradient step, {other.budget:,} calls, "
            f"{len(above)} and {counted(len(below), 'network')}"
        )
        said = Comparison(number, f"{other.label} / {plain.label}", where)
        few = min(len(above), len(below)) < FEWEST
        if few or len(devices) > 1:
            scatter = "too few networks to tell how they scatter"
            yield replace(said, reason=scatter if few else "they trained on different devices")
            continue
        ratio = float(above.mean() / below.mean())
        parts = np.array([v.var(ddof=1) / len(v) / v.mean() ** 2 for v in (above, below)])
        error = ratio * sqrt(parts.sum())
        degrees = np.array([len(above) - 1, len(below) - 1])
        half = _quantile(parts, degrees, parts.sum(), degrees.sum()) * error
        low, high, claim = ratio - half, ratio + half, float(number.value)
        verdict: Verdict = "compatible" if high <= claim else "missed" if low > claim else "n/a"
        yield replace(
            said,
            ours=parenthesised(ratio, error),
            value=ratio,
            error=error,
            low=low,
            high=high,
            verdict=verdict,
            reason="" if verdict != "n/a" else "its interval holds the claimed bound",
        )


def _step_seconds(fit: SavedFit) -> Array:
    """Return the seconds per step of each member."""
    records = fit.members.values()
    seconds, steps = (np.array([of_training(r, n) for r in records]) for n in ("seconds", "steps"))
    found: Array = seconds[steps > 0] / steps[steps > 0]
    return found
