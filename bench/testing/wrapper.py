"""Conformance kit of wrappers.

A wrapper is put around known log-ratios of small tasks, of two parameters and of seven: those of
the exact likelihood, times a factor for every member.
"""

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from bench.contracts import (
    FitContext,
    FitLog,
    ReferenceKind,
    Surrogate,
    Task,
    Wrapper,
    log_ratio_paired,
)
from bench.errors import NotApplicable, PluginError
from bench.inference.likelihood import ExactLikelihood
from bench.registry.validate import check
from bench.seeds import generator
from bench.stages.simulate import features_of
from bench.storage.store import Store
from bench.testing.asymmetric import asymmetric
from bench.testing.fit_harness import WatchedBank
from bench.testing.four_components import four_components
from bench.testing.guard import guarded
from bench.testing.model import contexts
from bench.testing.report import (
    Check,
    ConformanceReport,
    Function,
    Result,
    Skipped,
    checks_of,
    expect,
    expect_tensor,
    run_checks,
)

DECLARED = "the wrapper's attributes"
FIT = "the wrapper's fit"
RESTORE = "the wrapper's restore"

_BUDGET = 4000  # simulator calls of a member
_OBSERVATIONS = 100  # of a dataset, so that the budget pays for some
_EVENTS = 12
_STEP = 1e-3  # of finite differences, unit coordinates
_SLOPE = 0.05  # largest error of most slopes, relative to their root mean square
_CPU = torch.device("cpu")


class _Known:
    """Exact log-ratios to the mean density of a few contexts, times a factor for every member.

    Args:
        task: task with densities.
        factors: factors of the members.
    """

    has_density = False
    reference: ReferenceKind = "evidence"

    def __init__(self, task: Task, factors: Sequence[float]) -> None:
        self.exact = ExactLikelihood(task)
        self.factors = torch.tensor(factors, dtype=torch.float64)[:, None, None]
        self.log = FitLog(0, [{} for _ in factors])
        self.at = task.space.draw_context(32, torch.Generator().manual_seed(0))

    def _mean(self, x: Tensor) -> Tensor:
        densities = self.exact.log_ratio(x, self.at)[0].double()  # (components, n, 32)
        count = densities.shape[0] * densities.shape[2]
        return densities.logsumexp((0, 2)) - torch.tensor(float(count)).log()

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        ratio = self.exact.log_ratio(x, context).double() - self._mean(x)[:, None]
        return self.factors[..., None] * ratio

    def log_ratio_paired(self, x: Tensor, context: Tensor) -> Tensor:
        every = context if context.dim() == 3 else context[None].expand(len(self.factors), -1, -1)
        found = [self.exact.log_ratio_paired(x, own)[0] for own in every]
        return self.factors * (torch.stack(found).double() - self._mean(x))

    def state(self) -> None:
        return None


@dataclass(frozen=True)
class _WrapperUnderTest:
    """Wrapper with what its checks share.

    Args:
        wrapper: the wrapper.
    """

    wrapper: Wrapper

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks on which it runs."""
        found, small = [], copy.copy(asymmetric)
        small.observations = _OBSERVATIONS
        for task in (small, four_components(_OBSERVATIONS)):
            try:
                self.wrapper.check(task, self.calls)
            except NotApplicable as error:
                last = str(error)
                continue
            found.append(task)
        if not found:
            raise Skipped(f"it does not run on the tasks of the checks: {last}")
        return tuple(found)

    @cached_property
    def calls(self) -> int:
        return self.wrapper.calls(_BUDGET)

    def taken(self, task: Task, members: Sequence[int]) -> list[Surrogate]:
        """Return the surrogates that it takes for some members."""
        count = self.wrapper.members
        every = [[0.8 + 0.07 * (m * count + i) for m in members] for i in range(count)]
        return [_Known(task, factors) for factors in every]

    def fit(self, task: Task, member: int) -> tuple[Mapping[str, Tensor], WatchedBank]:
        """Fit a member; return its state and the bank."""

        def random(number: int, purpose: str) -> torch.Generator:
            return generator(purpose, number)

        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder))
            bank = WatchedBank(task, store, self.calls, [member])
            features = features_of(task, store)
            context = FitContext(task, bank, features, _CPU, random, lambda **_: None)
            return self.wrapper.fit(self.taken(task, [member]), context), bank

    def restored(self, task: Task, members: Sequence[int]) -> Surrogate:
        """Return the wrapped surrogate of members: of one if it learns, else of any number."""
        state = self.fit(task, members[0])[0] if self.calls else {}
        return self.wrapper.restore(self.taken(task, members), state)

    def places(self, task: Task, count: int) -> tuple[Tensor, Tensor]:
        """Return observations and contexts of a task."""
        rng = torch.Generator().manual_seed(1)
        at = task.space.draw_context(_EVENTS, rng)
        parts = task.components("test").values()
        return torch.cat([part.simulate(at, rng) for part in parts]), at[:count]


def _table(surrogate: Surrogate, x: Tensor, context: Tensor) -> Tensor:
    with torch.no_grad(), guarded():
        return surrogate.log_ratio(x, context)


def _numbers(of: _WrapperUnderTest) -> str:
    """Take a possible number of members, and spend a possible number of calls."""
    members = of.wrapper.members
    expect(isinstance(members, int) and members >= 1, "members: 1 or more", members, DECLARED)
    for budget in (1, 10, _BUDGET, 10**6):
        own = of.wrapper.calls(budget)
        expect(
            isinstance(own, int) and 0 <= own <= budget,
            f"calls({budget}): an integer from 0 to {budget}",
            repr(own),
            DECLARED,
        )
    return f"takes {members} and {of.calls:,} of {_BUDGET:,} simulator calls"


def _state(of: _WrapperUnderTest) -> str:
    """Learn finite tensors of one member."""
    if not of.calls:
        raise Skipped("it learns nothing")
    said: list[str] = []
    for task in of.tasks:
        state, _ = of.fit(task, 0)
        for name, tensor in state.items():
            tensors = isinstance(name, str) and isinstance(tensor, Tensor)
            expect(tensors, "a tensor for every name", f"{name!r}: {type(tensor).__name__}", FIT)
            shape = tuple(tensor.shape)
            expect(
                tensor.dim() >= 1 and len(tensor) == 1,
                f"{name}: a leading axis of one member",
                f"shape {shape}",
                FIT,
            )
            finite = not tensor.is_floating_point() or bool(tensor.isfinite().all())
            expect(finite, f"{name}: finite numbers", "NaN or infinite ones", FIT)
            said += [] if name in said else [name]
    return f"state {', '.join(said)}"


def _budget(of: _WrapperUnderTest) -> str:
    """Spend the announced simulations, which training has not seen."""
    if not of.calls:
        raise Skipped("it learns nothing")
    for task in of.tasks:
        _, bank = of.fit(task, 0)
        wanted = 'draws with split="calibration"'
        expect(bank.splits <= {"calibration"}, wanted, sorted(bank.splits), FIT)
        announced = sum(draw.n for draw in of.wrapper.draws(task, of.calls, "evidence"))
        expect(
            bank.spent == announced,
            f"the simulations that draws announces, {announced:,}",
            f"{bank.spent:,}",
            "the wrapper's draws",
        )
    return f"{bank.spent:,} simulator calls"


def _shape(of: _WrapperUnderTest) -> None:
    """Return finite log-ratios of the right shape."""
    for task in of.tasks:
        members = [0] if of.calls else [0, 1, 2]
        x, context = of.places(task, 5)
        found = _table(of.restored(task, members), x, context)
        shape = (len(members), len(task.component_names), len(x), len(context))
        expect_tensor(found, shape, f"log_ratio on {task.name}", RESTORE)
        expect(found.is_floating_point(), "floating-point numbers", found.dtype, RESTORE)
        bad = bool(found.isnan().any() or (found == torch.inf).any())
        expect(not bad, "log-ratios below infinity", "NaN or +inf", RESTORE)


def _members(of: _WrapperUnderTest) -> None:
    """Keep members apart."""
    if of.calls:
        raise Skipped("what it learns is restored one member at a time")
    for task in of.tasks:
        x, context = of.places(task, 4)
        whole = _table(of.restored(task, [0, 1, 2]), x, context)
        alone = torch.cat([_table(of.restored(task, [m]), x, context) for m in (0, 1, 2)])
        expect(
            torch.allclose(whole, alone, rtol=1e-5, atol=1e-6),
            "the same log-ratios of a member with and without others",
            "others",
            RESTORE,
        )


def _deterministic(of: _WrapperUnderTest) -> None:
    """Return the same numbers twice."""
    for task in of.tasks:
        x, context = of.places(task, 4)
        first, second = (_table(of.restored(task, [0]), x, context) for _ in range(2))
        expect(
            torch.equal(first, second),
            "the same log-ratios if learned and evaluated again",
            "others; random numbers come from fit_context.generator",
            FIT if of.calls else RESTORE,
        )


def _pairs(of: _WrapperUnderTest) -> str:
    """Evaluate pairs as the table does, with their slopes."""
    worst = 0.0
    for task in of.tasks:
        surrogate = of.restored(task, [0])
        x, _ = of.places(task, 1)
        rng = torch.Generator().manual_seed(2)
        d = len(task.space.context_index)
        unit = 0.1 + 0.8 * torch.rand(len(x), d, generator=rng, dtype=torch.float64)
        context = contexts(task, unit)
        table = _table(surrogate, x, context).diagonal(dim1=2, dim2=3)
        at = context.clone().requires_grad_()
        found = log_ratio_paired(surrogate, x, at)
        expect_tensor(found, tuple(table.shape), f"log_ratio_paired on {task.name}", RESTORE)
        expect(
            torch.allclose(found.detach().to(table), table, rtol=1e-4, atol=1e-4),
            "pairs with the log-ratios of the table",
            "others",
            "log_ratio_paired",
        )
        expect(found.requires_grad, "log-ratios that are differentiable", "no gradient", RESTORE)
        (slopes,) = torch.autograd.grad(found.sum(), at, allow_unused=True)
        slopes = torch.zeros_like(at) if slopes is None else slopes

        def values(place: Tensor, surrogate: Surrogate = surrogate, x: Tensor = x) -> Tensor:
            with torch.no_grad():
                return log_ratio_paired(surrogate, x, place).double().sum((0, 1))

        steps = contexts(task, unit + _STEP) - context
        for j in range(d):
            moved = torch.zeros_like(context)
            moved[:, j] = steps[:, j]
            expected = (values(context + moved) - values(context - moved)) / (2 * steps[:, j])
            size = max(float(expected.square().mean().sqrt()), 1e-6)
            error = float((slopes[:, j] - expected).abs().quantile(0.75)) / size
            name = task.space.context[j].name
            expect(
                error < _SLOPE,
                f"slopes in {name} that agree with finite differences",
                f"off by {error:.2g} of their root mean square",
                "the function of the log-ratios: no detach, no no_grad",
            )
            worst = max(worst, error)
    return f"slopes within {worst:.1g} of finite differences"


def _inputs(of: _WrapperUnderTest) -> None:
    """Leave the wrapped surrogates and the process as they are."""
    for task in of.tasks:
        x, context = of.places(task, 3)
        taken = of.taken(task, [0])
        before = [_table(one, x, context) for one in taken]
        with guarded():
            np.random.random()  # noqa: NPY002 - so that a seed set earlier shows
            torch.rand(1)
            with guarded() as changed:
                state = of.fit(task, 0)[0] if of.calls else {}
                of.wrapper.restore(taken, state).log_ratio(x.clone(), context.clone())
        change = ", ".join(f"{what}: {how}" for what, how in changed.items())
        expect(not changed, "no change of the process's global state", change, RESTORE)
        after = [_table(one, x, context) for one in taken]
        same = all(map(torch.equal, before, after))
        expect(same, "the wrapped surrogates unchanged", "other log-ratios", RESTORE)


_CHECKS: dict[str, tuple[Function, str]] = {
    "numbers": (_numbers, DECLARED),
    "state": (_state, FIT),
    "budget": (_budget, FIT),
    "shape": (_shape, RESTORE),
    "members": (_members, RESTORE),
    "deterministic": (_deterministic, RESTORE),
    "pairs": (_pairs, RESTORE),
    "inputs": (_inputs, RESTORE),
}
WRAPPER_CHECKS = tuple(_CHECKS)
"""Names of the checks of a wrapper."""


def wrapper_checks(
    wrapper: type[Wrapper], settings: Mapping[str, object] | None = None
) -> list[Check]:
    """Return the checks of a wrapper, each a callable that raises AssertionError on failure.

    They are used in pytest as those of `bench.testing.method_checks`.

    Args:
        wrapper: the wrapper.
        settings: its settings; its `example` if None.

    Raises:
        PluginError: if it visibly breaks its contract.
    """
    check("wrappers", wrapper.name, wrapper)
    try:
        config = wrapper.Config.model_validate(wrapper.example if settings is None else settings)
    except ValidationError as error:
        raise PluginError(
            f"wrapper {wrapper.name}: settings without a default need values in `example`: "
            f"{error.errors()[0]['msg']}"
        ) from error
    subject = _WrapperUnderTest(wrapper(config))
    return checks_of(subject, f"wrapper {wrapper.name}", wrapper.__module__, _CHECKS)


def check_wrapper(
    wrapper: type[Wrapper],
    settings: Mapping[str, object] | None = None,
    *,
    report: Callable[[Result], None] | None = None,
) -> ConformanceReport:
    """Run the checks of a wrapper.

    Args:
        wrapper: the wrapper.
        settings: its settings; its `example` if None.
        report: called with every result as it comes.

    Raises:
        PluginError: if it visibly breaks its contract.
    """
    return run_checks(wrapper_checks(wrapper, settings), report)
