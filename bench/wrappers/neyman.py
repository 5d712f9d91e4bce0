"""Neyman construction: critical values from toys, so that intervals cover at every parameter."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from bench.contracts import (
    DatasetDraw,
    FitContext,
    IndependentPlan,
    ReferenceKind,
    Settings,
    StoredTask,
    Surrogate,
    Task,
    Wrapped,
    Wrapper,
    sample,
)
from bench.contracts.plan import evaluator_of, observations_of
from bench.errors import NotApplicable, counted
from bench.inference.critical import LEVELS, CriticalValues, QuantileFunction, position_in
from bench.inference.quantiles import Family, candidates, choose_family, fit_quantile
from bench.inference.toys import statistics_of_toys

_LEAST = 10  # toys
_PLACES = 200  # most parameters of toys where several datasets are evaluated together
_RESAMPLED = 20  # toys of a pool


class NeymanConfig(Settings):
    """Configuration of the construction.

    Args:
        share: share of the budget that toys take.
        family: quantiles as functions of the parameters; "chosen" takes the simplest family that
            predicts toys it has not seen about as well as the best.
        pool: size of a pool of observations, in units of M, from which toys are resampled; 0 for
            toys of separate observations.
    """

    share: float = Field(default=0.5, gt=0, lt=1)
    family: Literal[Family, "chosen"] = "chosen"
    pool: int = Field(default=0, ge=0, le=1000)


class Neyman(Wrapper):
    """Critical values of the profile statistics, as functions of the parameters.

    A toy is a dataset of M observations, and costs M simulator calls. Its parameters are drawn as
    those of test datasets are. The quantiles of its statistics replace those of Wilks's theorem.
    Log-ratios and estimates remain as they are.
    """

    name = "neyman"
    title = "Intervals at critical values from toys, which depend on the parameters"
    citation = "Feldman & Cousins (1998), arXiv:physics/9711021"
    outermost = True
    Config = NeymanConfig
    config: NeymanConfig

    def calls(self, budget: int) -> int:
        return int(self.config.share * budget)

    def check(self, task: Task, calls: int) -> None:
        if self.config.pool and (task.has_auxiliary or isinstance(task, StoredTask)):
            why = "constraints or a rate" if task.has_auxiliary else "stored simulations"
            raise NotApplicable(f"toys of a task with {why} are not resampled; use pool=0")
        (draw,) = self.draws(task, calls, None)
        recorded = observations_of(task, "calibration")
        if recorded is not None and not isinstance(task, StoredTask) and draw.size > recorded:
            raise NotApplicable(
                f"a toy takes {counted(draw.size, 'observation')}, and there are {recorded:,}"
            )
        if draw.sets * (1 if self.config.pool else draw.repeats) < _LEAST:
            each = task.observations * (self.config.pool or 1)
            what = "pools" if self.config.pool else "toys"
            raise NotApplicable(
                f"{counted(calls, 'simulation')} are fewer than {_LEAST} {what} of {each:,}"
            )

    def draws(
        self, task: Task, calls: int, reference: ReferenceKind | None
    ) -> Sequence[DatasetDraw]:
        size = task.observations
        if pool := self.config.pool:
            return [DatasetDraw(calls // (pool * size), size, _RESAMPLED, pool)]
        toys = calls // size
        separate = isinstance(task, StoredTask) or task.has_auxiliary
        if separate or evaluator_of(task, IndependentPlan()) != "lattice":
            return [DatasetDraw(toys, size)]
        repeats = -(-toys // _PLACES) or 1
        return [DatasetDraw(toys // repeats, size, repeats)]

    def fit(self, surrogates: Sequence[Surrogate], fit_context: FitContext) -> Mapping[str, Tensor]:
        """Fit the quantiles of the square roots of all statistics of toys."""
        (surrogate,), task, bank = surrogates, fit_context.task, fit_context.bank
        (draw,) = self.draws(task, bank.budget, surrogate.reference)
        drawn = bank.datasets(draw)
        if len(drawn) * draw.repeats < _LEAST:
            found = counted(len(drawn), "stored dataset")
            raise NotApplicable(f"{found} in the inner box; {_LEAST} toys are needed")
        allowed = candidates(len(drawn), len(task.space))
        if self.config.family not in ("chosen", *allowed):
            raise NotApplicable(
                f"toys at {counted(len(drawn), 'parameter point')} are too few for family "
                f"{self.config.family!r}; possible: {', '.join(allowed)}"
            )
        toys = statistics_of_toys(task, surrogate, drawn, fit_context.device)
        # A pool deviates from its parameters by as much as toys of its own size do.
        excess = 1 + 1 / draw.pool if draw.pool else 1.0
        position = position_in(task.space.box, toys.unit).numpy()

        def quantile(statistic: Tensor, level: float) -> QuantileFunction:
            root = (statistic / excess).clamp_min(0).sqrt().numpy()
            family = self.config.family
            if family == "chosen":
                family = choose_family(position, root, level, toys.group.numpy())
            return fit_quantile(position, root, level, family)

        intervals = {
            index: [quantile(statistic, level) for level in LEVELS]
            for index, statistic in zip(task.reported_index, toys.profile.T, strict=True)
        }
        region = quantile(toys.region, LEVELS[-1])
        return CriticalValues(task.space.box, intervals, region).state()

    def restore(self, surrogates: Sequence[Surrogate], state: Mapping[str, Tensor]) -> Surrogate:
        return NeymanSurrogate(surrogates, state)


class NeymanSurrogate(Wrapped):
    """Surrogate with critical values, whose log-ratios are those of the wrapped one.

    Args:
        surrogates: the wrapped surrogate, of one member.
        state: state of its critical values.
    """

    def __init__(self, surrogates: Sequence[Surrogate], state: Mapping[str, Tensor]) -> None:
        super().__init__(surrogates, lambda log_ratio: log_ratio, state)
        self.critical_values = [CriticalValues.of(state)]

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Draw observations from the wrapped surrogate, as `HasSamples`."""
        return sample(self.surrogates[0], context, generator)
