"""What is said around a leaderboard's tables: its heading, and what a reader must know."""

from collections.abc import Mapping
from typing import Any

from bench.errors import counted
from bench.leaderboard.build import Leaderboard
from bench.leaderboard.columns import direction, others
from bench.leaderboard.units import FEWEST_BLOCKS
from bench.storage.simulations import PURPOSES


def heading(board: Leaderboard) -> str:
    """One line that says what a leaderboard compares."""
    data = {
        "fresh": "a new training set per member"
        if board.blocks is None
        else "training on finite observations",
        "shared": "one training set, on which errors are conditional",
        "bootstrap": "bootstraps of one training set",
    }.get(board.training_data, "no training")
    calls = counted(board.budget, "simulator call")
    return f"{board.task} · {calls} · {data} · {_plan(board.plan)}"


def _plan(plan: Mapping[str, Any]) -> str:
    if plan["kind"] == "independent":
        return (
            f"independent datasets: {plan['uniform']} with θ uniform, {plan['per_point']} at "
            "each point"
        )
    if plan["kind"] == "bootstrap":
        return (
            f"bootstrap plan: at each point {plan['sets']} × {plan['multiple']} M events, "
            f"each resampled {counted(plan['bootstraps'], 'time')}"
        )
    contexts = counted(plan["contexts"], "context")
    return f"held-out simulations at {contexts}, {plan['events']} at each"


def notes(board: Leaderboard, brief: bool = False) -> list[str]:
    """What a reader must know to read the numbers, and what is missing."""
    out = []
    if board.plan["kind"] != "heldout":
        out.append(
            f"68.27 % intervals; expected coverage of exact ones {100 * board.expected:.1f} %. "
            "0.652(14) means 0.652 ± 0.014 (one standard error)."
        )
    if board.plan["kind"] == "independent":
        out.append("Rank: the interval of ranks that 95 % simultaneous comparisons allow.")
    if board.plan["kind"] != "heldout":
        out.append(
            "A difference in coverage is established where its 95 % interval, widened for the "
            "number of methods and parameters (Bonferroni), excludes 0."
        )
    for metric, _ in () if brief else others(board):
        out.append(f"{metric.title}: {metric.description} {direction(metric)}".rstrip())
    if (
        not brief
        and board.plan["kind"] != "heldout"
        and any("calls_made" in r.cost for r in board.rows)
    ):
        out.append(
            "Calls count against the budget; calls made are those of the whole chunks that "
            "simulations come in, which methods share."
        )
    if board.simulated is not None:
        parts = ", ".join(f"{what} {board.simulated.get(what, 0):,}" for what in PURPOSES)
        out.append(
            f"All results of {board.task} in this folder took "
            f"{sum(board.simulated.values()):,} simulator calls: {parts}."
        )
    out += _finite(board)
    out += _fewer(board)
    if any(r.members == 1 and not r.fit.oracle for r in board.rows):
        out.append("With n = 1 errors hold for that one training set only.")
    if board.training_data == "fresh" and any(r.fit.size > 1 for r in board.rows):
        out.append(
            "ensemble(…, N) averages N members with training sets of their own: it costs N times "
            "the simulator calls of the others."
        )
    if any(r.fit.identity.get("calibration") for r in board.rows):
        out.append(
            "calibrated(…) spends a tenth of its simulator calls on calibrating; what it "
            "calibrates has the rest."
        )
    for row in board.rows:
        records = row.fit.members.values()
        if worse := sum(any(map(_ended_worse, r["curves"].values())) for r in records):
            out.append(
                f"{row.label}: {worse} of {counted(len(records), 'member')} ended a training with "
                "a higher validation loss than after its first epoch (it overfitted or diverged); "
                "the best epoch is kept."
            )
        for name, quantity in row.quantities.items():
            if name.startswith("not_finite/") and quantity.estimate and quantity.estimate.value > 0:
                share = f"{100 * quantity.estimate.value:.2g} %"
                out.append(
                    f"{row.label}: {share} of the held-out log-densities of "
                    f"{name.partition('/')[2]} are not finite; losses leave their contexts out."
                )
        for what, reason in row.failures.items():
            out.append(f"{row.label}: {what} failed: {reason}")
    out += [f"{label}: n/a, {reason}" for label, reason in board.absent.items()]
    if brief:
        return out
    reasons: dict[str, list[str]] = {}
    for row in board.rows:
        for name, quantity in row.quantities.items():
            if quantity.estimate is None:
                reasons.setdefault(f"{name}: {quantity.reason}", []).append(row.label)
    out += [f"n/a {what} ({', '.join(labels)})" for what, labels in reasons.items()]
    return out


def _ended_worse(curve: Mapping[str, Any]) -> bool:
    losses = curve.get("validation_loss", [])  # null where one is not finite
    if len(losses) < 2 or losses[0] is None:
        return False
    return losses[-1] is None or bool(losses[-1] > losses[0])


def _fewer(board: Leaderboard) -> list[str]:
    """Who has fewer members than others, because a run is not at its end or some failed."""
    trained = [r for r in board.rows if not r.fit.oracle and r.fit.size == 1]
    most = max((r.members for r in trained), default=0)
    fewer = [f"{r.label} {r.members}" for r in trained if 0 < r.members < most]
    return [f"Members: {', '.join(fewer)}, where others have {most}."] if fewer else []


def _finite(board: Leaderboard) -> list[str]:
    """What finite observations mean for a leaderboard."""
    if board.blocks is None:
        return []
    out = [
        "Observations are finite: members train on the same ones, each in an order and at contexts "
        "of its own, and errors hold for these training observations only."
    ]
    if board.plan["kind"] != "heldout":
        few = "" if board.blocks >= FEWEST_BLOCKS else f", and (?) with fewer than {FEWEST_BLOCKS}"
        out.append(
            f"Datasets are drawn from {counted(board.blocks, 'disjoint block')} of test "
            f"observations, the same at every θ; errors are over members and blocks{few}."
        )
    if board.asked is not None and _plan(board.asked) != _plan(board.plan):
        out.append(
            f"Too few test observations for what was asked, {_plan(board.asked)}: the plan shrank."
        )
    return out
