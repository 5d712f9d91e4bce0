"""Headings of leaderboards, and notes that explain their numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.boards.board import Leaderboard, Row
from bench.boards.columns import direction, others
from bench.boards.units import FEWEST_BLOCKS
from bench.errors import counted
from bench.storage.fit_spec import wrappings
from bench.storage.simulations import PURPOSES


def heading(board: Leaderboard) -> str:
    """Return a one-line heading with the task, budget, training data and plan."""
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
        size = f" of {plan['multiple']} M events" if plan.get("multiple", 1) > 1 else ""
        if plan.get("theta") == "stored":
            return f"independent datasets{size}: {plan['uniform']} with θ as stored"
        spread = "a Sobol sequence" if plan.get("theta") == "sobol" else "uniform"
        return (
            f"independent datasets{size}: {plan['uniform']} with θ {spread}, {plan['per_point']} "
            "at each point"
        )
    if plan["kind"] == "bootstrap":
        return (
            f"bootstrap plan: at each point {plan['sets']} × {plan['multiple']} M events, "
            f"each resampled {counted(plan['bootstraps'], 'time')}"
        )
    contexts = counted(plan["contexts"], "context")
    return f"held-out simulations at {contexts}, {plan['events']} at each"


def notes(board: Leaderboard, brief: bool = False) -> list[str]:
    """Return notes that explain the numbers and list missing ones."""
    kind, rows = board.plan["kind"], board.rows
    every = [
        (
            kind != "heldout",
            f"68.27 % intervals; expected coverage of exact ones {100 * board.expected:.1f} %. "
            "0.652(14) means 0.652 ± 0.014 (one standard error).",
        ),
        (
            kind == "independent" and not board.plain,
            "Coverage, width and score are expectations over the exact posterior, within the box "
            "of the datasets' parameters; `--plain` shows plain means.",
        ),
        (
            any(row.verdicts for row in rows),
            f"Coverage holds where the confidence interval of its gap to {_ideal(board)} lies "
            f"within ± {100 * board.tolerance:g} points, and fails where it lies outside; "
            f"{100 * board.level:g} % for all intervals together (Bonferroni).",
        ),
        (
            any("price" in row.quantities for row in rows),
            "Honest length: mean length of intervals whose threshold is moved until they cover "
            "68.27 %, relative to exact ones treated likewise; geometric mean over parameters.",
        ),
        (
            board.ranks,
            f"Rank: the interval of ranks that simultaneous comparisons at {100 * board.level:g} % "
            "allow.",
        ),
        *(
            (not brief, f"{metric.title}: {metric.description} {direction(metric)}".rstrip())
            for metric, _ in others(board)
        ),
        (
            not brief and kind != "heldout" and any("calls_made" in r.cost for r in rows),
            "Calls count against the budget; calls made are those of the whole chunks that "
            "simulations come in, which methods share.",
        ),
        _simulated(board),
        *_finite(board),
        _fewer(board),
        (
            any(r.members == 1 and not r.fit.oracle for r in rows),
            "With n = 1 errors hold for that one training set only.",
        ),
        (
            board.training_data == "fresh" and any(r.fit.size > 1 for r in rows),
            "Methods that take N members with training sets of their own, such as ensembles, cost "
            "N times the simulator calls of the others.",
        ),
        *_spending(rows),
    ]
    out = [text for holds, text in every if holds]
    for row in rows:
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
    for row in rows:
        for name, quantity in row.quantities.items():
            if quantity.estimate is None:
                reasons.setdefault(f"{name}: {quantity.reason}", []).append(row.label)
    out += [f"n/a {what} ({', '.join(labels)})" for what, labels in reasons.items()]
    return out


def _spending(rows: Sequence[Row]) -> Iterator[tuple[bool, str]]:
    """Yield notes on wrappers that spend simulator calls themselves."""
    spent = {(w.name, w.calls, r.fit.budget) for r in rows for w in wrappings(r.fit.identity)}
    for name, calls, budget in sorted(spent):
        yield (
            calls > 0,
            f"{name}(…) spends {calls:,} of its {budget:,} simulator calls on what it learns; the "
            "method inside has the rest.",
        )


def _ideal(board: Leaderboard) -> str:
    return "exact" if board.reference == "exact" else f"{100 * board.expected:.1f} %"


def _ended_worse(curve: Mapping[str, Any]) -> bool:
    losses = curve.get("validation_loss", [])  # None where a loss is not finite
    known = len(losses) > 1 and losses[0] is not None
    return known and (losses[-1] is None or losses[-1] > losses[0])


def _fewer(board: Leaderboard) -> tuple[bool, str]:
    """Return whether methods have fewer members than others, and a note that lists them."""
    trained = [r for r in board.rows if not r.fit.oracle and r.fit.size == 1]
    most = max((r.members for r in trained), default=0)
    fewer = [f"{r.label} {r.members}" for r in trained if 0 < r.members < most]
    return bool(fewer), f"Members: {', '.join(fewer)}, where others have {most}."


def _simulated(board: Leaderboard) -> tuple[bool, str]:
    """Return whether simulator calls are expensive, and a note with their number."""
    calls = board.simulated or {}
    parts = ", ".join(f"{what} {calls.get(what, 0):,}" for what in PURPOSES)
    return board.simulated is not None, (
        f"All results of {board.task} in this folder took {sum(calls.values()):,} simulator "
        f"calls: {parts}."
    )


def _finite(board: Leaderboard) -> list[tuple[bool, str]]:
    """Return notes on finite observations, each with whether it applies."""
    if board.blocks is None:
        asked = _plan(board.asked or board.plan)
        return [(board.asked is not None, f"Stored simulations took the place of {asked}.")]
    few = "" if board.blocks >= FEWEST_BLOCKS else f", and (?) with fewer than {FEWEST_BLOCKS}"
    asked = _plan(board.asked or board.plan)
    return [
        (
            True,
            "Observations are finite: members train on the same ones, each in an order and at "
            "contexts of its own, and errors hold for these training observations only.",
        ),
        (
            board.plan["kind"] != "heldout",
            f"Datasets are drawn from {counted(board.blocks, 'disjoint block')} of test "
            f"observations, the same at every θ; errors are over members and blocks{few}.",
        ),
        (
            asked != _plan(board.plan),
            f"Too few test observations for what was asked, {asked}: the plan shrank.",
        ),
    ]
