"""Checks of the training of a method.

Each check returns a note with its measurement, or raises `Failed`.
"""

import json
from typing import Any

import torch

from bench.contracts import FitLog
from bench.errors import BenchError, NotApplicable, counted
from bench.experiment.selection import configure
from bench.registry.validate import check as check_contract
from bench.registry.validate import one_line
from bench.seeds import canonical_json
from bench.testing.fit_harness import note
from bench.testing.guard import guarded
from bench.testing.method_under_test import ALONE, MEMBERS, MethodUnderTest, log_ratio, rng
from bench.testing.report import Failed, Skipped, expect
from bench.testing.toy_tasks import toy_tasks

FIT = "the method's fit or fit_component"
CONTRACT = "bench.contracts.Method and Surrogate"

_SMALL = (1, 2, 3, 10, 50)  # budgets
_SAME = 1e-3  # largest change of a member in another block, relative to the spread of members
_ROUNDING = 1e-4  # largest change by rounding, relative to the member's log-ratios


def contract(of: MethodUnderTest) -> None:
    """Check the registry's rules, the round trip of settings, and the surrogate's attributes."""
    try:
        check_contract("methods", of.type.name, of.type)
        for name in of.type.configurations:
            configure(of.type, name)
    except BenchError as error:
        raise Failed("a method that keeps the contract", str(error), CONTRACT) from error
    harness = of.harness
    settings = harness.method.settings(harness.task)
    try:
        config = of.type.Config.model_validate(json.loads(canonical_json(settings)))
        again = of.type(config).settings(harness.task)
    except (TypeError, ValueError) as error:
        expected = "settings(task) to be JSON that Config takes"
        raise Failed(expected, one_line(error), "the method's settings") from error
    expect(
        again == settings,
        "settings(task) to make the same method again",
        f"{again}, of {settings}",
        "the method's settings",
    )
    surrogate = of.surrogate
    attributes = ("log", "reference", "has_density", "log_ratio", "state")
    missing = ", ".join(name for name in attributes if not hasattr(surrogate, name))
    expect(not missing, "a surrogate", f"one that lacks {missing}", CONTRACT)
    reference, log = surrogate.reference, surrogate.log
    expect(
        reference in (None, "fixed", "evidence"),
        "a reference that is None, 'fixed' or 'evidence'",
        repr(reference),
        CONTRACT,
    )
    came = counted(len(log.curves), "curve") if isinstance(log, FitLog) else type(log).__name__
    expect(
        came in ("0 curves", counted(of.members, "curve")),
        f"a FitLog with curves of none or of {counted(of.members, 'member')}",
        came,
        CONTRACT,
    )


def kinds(of: MethodUnderTest) -> str:
    """Check that the method fits every kind of observation, or its `check` refuses it."""
    taken = []
    for task in toy_tasks():
        harness = of.on(task)
        kind = (
            f"a {task.observation} of shape {task.event_shape} in "
            f"{counted(len(task.space.context_index), 'context parameter')}"
        )
        try:
            harness.method.check(task)
        except NotApplicable:
            continue
        except Exception as error:
            expected = f"NotApplicable or nothing from check(task), on {kind}"
            raise Failed(expected, one_line(error), "the method's check") from error
        expected = f"NotApplicable from check(task), or a fit, on {kind}"
        try:
            surrogate = harness.fit((0,), of.budget(task)).surrogate
            node = task.nominal[None]
            parts = task.components("test").values()
            x = torch.cat([c.simulate(node.expand(4, -1), rng("kinds")) for c in parts])
            out = log_ratio(surrogate, x, node)
        except Exception as error:
            raise Failed(expected, one_line(error), f"the method's check, {FIT}") from error
        expect(
            not out.isnan().any(),
            expected,
            "log-ratios that are NaN",
            f"the method's check, {FIT}",
        )
        taken.append(task.name)
    return f"takes {', '.join(taken) or 'none of the toy tasks'}"


def small_budgets(of: MethodUnderTest) -> None:
    """Check that a budget that is too small raises an error of the suite."""
    _no_oracle(of)
    harness = of.harness
    for budget in _SMALL:
        try:
            harness.fit((0,), budget)
        except BenchError:
            continue
        except Exception as error:
            raise Failed(
                f"a fit, NotApplicable or BudgetExceeded at a budget of {budget}",
                one_line(error),
                f"{FIT}: raise bench.errors.NotApplicable, with the reason, if it is too small",
            ) from error


def budget(of: MethodUnderTest) -> str:
    """Check that all simulations come from the bank and agree with the announced draws."""
    _no_oracle(of)
    fit, method, task = of.fit(), of.harness.method, of.harness.task
    expect(
        "simulate" not in fit.calls,
        "simulations from the bank, which counts them",
        "calls of a component's simulate",
        f"{FIT}: use bank.draw and bank.reference",
    )
    calls, drawn = of.budget(task), fit.bank.drawn
    announced = method.draws(task, calls)
    if announced is not None:
        wanted: dict[tuple[Any, ...], int] = {}
        for draw in announced:
            if draw.n > 0:
                note(wanted, draw)
        expect(
            wanted == drawn,
            f"draws(task, {calls}) to announce what fit draws, {_told(drawn)}",
            _told(wanted),
            "the method's draws",
        )
        kind, came = method.reference_kind(task), fit.surrogate.reference
        expect(
            kind == came,
            f"reference_kind(task) to be {came!r}, as the surrogate's reference is",
            repr(kind),
            "the method's reference_kind",
        )
    return f"{fit.bank.spent:,} of {calls:,} calls"


def _told(drawn: dict[tuple[Any, ...], int]) -> str:
    """Return the numbers of simulations and of their streams as a phrase."""
    return f"{sum(drawn.values()):,} simulations in {len(drawn)} streams"


def sources(of: MethodUnderTest) -> None:
    """Check that the method trains on the training split only, and not on the exact density."""
    _no_oracle(of)
    fit = of.fit()
    others, known = fit.bank.splits - {"train"}, fit.calls & {"log_prob", "score"}
    expect(
        not others,
        "training on the split 'train'",
        f"draws of {', '.join(sorted(others))}",
        f"{FIT}: the other splits are for evaluation",
    )
    expect(
        not known,
        "a surrogate that learns from simulations",
        f"calls of a component's {' and '.join(sorted(known))}",
        f"{FIT}: scores come with bank.draw(..., score=True); log_prob is for oracles",
    )


def determinism(of: MethodUnderTest) -> None:
    """Check that the same seed gives the same bits."""
    probe = of.probe()
    first, second = (log_ratio(of.fit([ALONE], again).surrogate, *probe) for again in (0, 1))
    expect(
        torch.equal(first, second),
        "the same bits from the same seed",
        f"a difference of {float((first - second).abs().max()):.2g}",
        f"{FIT}: random numbers come from fit_context.generator(member, purpose)",
    )


def independent(of: MethodUnderTest) -> str:
    """Check that a member trained alone equals the same member of a block."""
    _no_oracle(of)
    probe = of.probe()
    block = log_ratio(of.surrogate, *probe).double()
    alone = log_ratio(of.fit([ALONE]).surrogate, *probe).double()[0]
    member = block[MEMBERS.index(ALONE)]
    apart, spread = _rms(alone - member), _rms(block - block.mean(0))
    expect(
        apart <= _SAME * spread + _ROUNDING * _rms(member),
        f"member {ALONE} to be the same alone and in a block",
        f"a difference of {apart:.2g}, where members differ by {spread:.2g} (rms)",
        f"{FIT}: draw from fit_context.generator(member, purpose), sum losses over members",
    )
    return f"{apart:.1g} apart, members {spread:.1g}"


def distinct(of: MethodUnderTest) -> None:
    """Check that members differ: each has its own training set."""
    _no_oracle(of)
    block = log_ratio(of.surrogate, *of.probe())
    for i in range(1, len(block)):
        expect(
            not torch.equal(block[0], block[i]),
            "members that differ",
            f"members {MEMBERS[0]} and {MEMBERS[i]} alike to the last bit",
            f"{FIT}: bank.draw returns (members, n, …), a training set for each",
        )


def process(of: MethodUnderTest) -> None:
    """Check that the shared state of the process (random numbers, threads, …) is unchanged."""
    of.fit([ALONE])  # first imports may change the shared state
    fit, probe = of.fit([ALONE], again=1), of.probe()
    found = {"fit": fit.changed}
    with guarded() as found["log_ratio"]:
        log_ratio(fit.surrogate, *probe)
    state = of.harness.stored(fit.surrogate) or {}
    with guarded() as found["restore"]:
        of.harness.restore(state)
    for where, changed in found.items():
        for name, how in changed.items():
            raise Failed(
                f"{name} to be left alone",
                how,
                f"{where}: what needs it otherwise puts it back, as torch.random.fork_rng() does",
            )


def _no_oracle(of: MethodUnderTest) -> None:
    if of.type.oracle:
        raise Skipped("an oracle has one member and no budget")


def _rms(values: torch.Tensor) -> float:
    finite = values[values.isfinite()]
    return float(finite.square().mean().sqrt()) if len(finite) else 0.0
