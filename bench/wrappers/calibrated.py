"""Calibration of the log-ratios of trained members by monotone maps."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bench.contracts import (
    Draw,
    FitContext,
    ReferenceKind,
    Settings,
    Surrogate,
    Task,
    Wrapped,
    Wrapper,
)
from bench.errors import NotApplicable, counted
from bench.nn.calibration import Calibration, CalibrationKind, pairwise

_SHARE = 10  # one in this many simulator calls is used for the calibration


class CalibratedConfig(Settings):
    """Configuration of calibrations.

    Args:
        kind: "platt" for a straight line, "isotonic" for any increasing function.
    """

    kind: CalibrationKind = "platt"


class Calibrated(Wrapper):
    """Monotone map of the log-ratios of every component, fitted with a tenth of the budget."""

    name = "calibrated"
    title = "Monotone maps of log-ratios, fitted to simulations that training has not seen"
    citation = "Cranmer, Pavez & Louppe (2015), arXiv:1506.02169"
    Config = CalibratedConfig
    config: CalibratedConfig

    def calls(self, budget: int) -> int:
        return budget // _SHARE

    def check(self, task: Task, calls: int) -> None:
        if calls < 2 * len(task.component_names):
            raise NotApplicable(
                f"its budget leaves {counted(calls, 'simulation')} for calibration: too few"
            )

    def draws(self, task: Task, calls: int, reference: ReferenceKind | None) -> list[Draw]:
        if reference is None:
            return []
        names = task.component_names
        n = calls // (len(names) + (reference == "fixed"))
        own = [Draw(name, n) for name in names]
        return [*own, Draw(None, n, reference=reference)] if reference == "fixed" else own

    def fit(self, surrogates: Sequence[Surrogate], fit_context: FitContext) -> Mapping[str, Tensor]:
        """Fit one map per component.

        Pairs of the evidence reference need no further simulations: they combine observations of
        all components, in equal numbers, with the contexts of others. A fixed reference takes as
        many simulations as a component.

        Raises:
            NotApplicable: if the log-ratios have no reference, or the budget is less than two
                simulations of every component.
        """
        (surrogate,), task, bank = surrogates, fit_context.task, fit_context.bank
        device, reference = fit_context.device, surrogate.reference
        if reference is None:
            raise NotApplicable(
                "calibration takes ratios to a reference, and this surrogate has none"
            )
        names = task.component_names
        n = self.draws(task, bank.budget, reference)[0].n
        if n < 2:
            raise NotApplicable(
                f"a budget of {counted(bank.budget, 'simulation')}: too few to calibrate "
                f"{counted(len(names), 'component')}"
            )

        @torch.no_grad()
        def log_ratio(x: Tensor, context: Tensor) -> Tensor:
            return surrogate.log_ratio(x.to(device), context.to(device))[0]

        drawn = [bank.draw(name, n, split="calibration") for name in names]
        # Components alternate, so that every block of pairs contains all of them.
        x, context = (
            torch.stack([getattr(own, what)[0] for own in drawn], 1).flatten(0, 1)
            for what in ("x", "context")
        )
        own, others = pairwise(log_ratio, x, context)
        if reference == "fixed":
            events = bank.reference(n, "fixed", split="calibration").x[0]
            rng = fit_context.generator(bank.members[0], "calibration")
            at = task.space.draw_context(n, rng)
            others = torch.cat([t.flatten(1) for t in pairwise(log_ratio, events, at)], 1)
        maps = [
            Calibration.fit(self.config.kind, own[k, k :: len(names)], others[k], n)
            for k in range(len(names))
        ]
        return Calibration.stack([Calibration.stack(maps)]).state()

    def restore(self, surrogates: Sequence[Surrogate], state: Mapping[str, Tensor]) -> Surrogate:
        return Wrapped(surrogates, Calibration(**state), state)
