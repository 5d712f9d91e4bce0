"""Pairs of observations and contexts that training has not seen, for wrappers that fit to them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.contracts import Draw, FitContext, ReferenceKind, Surrogate, Task, Wrapper
from bench.errors import NotApplicable, counted
from bench.nn.calibration import ROWS, pairwise

_SHARE = 10  # one in this many simulator calls is held out


@dataclass(frozen=True)
class HeldOutPairs:
    """Log-ratios of one component at pairs of both classes.

    Args:
        together: at pairs that were simulated together, (surrogates, n).
        apart: at pairs of the reference, (surrogates, r).
        blocks_together: block of each pair, (n,); pairs of different blocks are independent.
        blocks_apart: block of each pair, (r,).
        simulations: number of simulations of the component.
    """

    together: Tensor
    apart: Tensor
    blocks_together: Tensor
    blocks_apart: Tensor
    simulations: int


class HeldOutWrapper(Wrapper):
    """Wrapper that learns from pairs of a tenth of the budget.

    Pairs of the evidence reference need no further simulations: they combine observations of all
    components, in equal numbers, with the contexts of others. A fixed reference takes as many
    simulations as a component.
    """

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

    def pairs(self, surrogates: Sequence[Surrogate], fit_context: FitContext) -> list[HeldOutPairs]:
        """Evaluate surrogates of one member each at pairs of the split "calibration".

        Returns:
            Pairs of every component.

        Raises:
            NotApplicable: if the log-ratios have no reference, or the budget is less than two
                simulations of every component.
        """
        task, bank, device = fit_context.task, fit_context.bank, fit_context.device
        reference, names = surrogates[0].reference, task.component_names
        if reference is None:
            raise NotApplicable(
                f"{self.name} takes ratios to a reference, and this surrogate has none"
            )
        n = self.draws(task, bank.budget, reference)[0].n
        if n < 2:
            raise NotApplicable(
                f"a budget of {counted(bank.budget, 'simulation')}: too few to calibrate "
                f"{counted(len(names), 'component')}"
            )

        @torch.no_grad()
        def log_ratio(x: Tensor, context: Tensor) -> Tensor:
            x, context = x.to(device), context.to(device)
            return torch.cat([own.log_ratio(x, context)[0] for own in surrogates])

        def by_component(values: Tensor) -> Tensor:
            return values.cpu().view(len(surrogates), len(names), -1)

        drawn = [bank.draw(name, n, split="calibration") for name in names]
        # Components alternate, so that every block of pairs contains all of them.
        x, context = (
            torch.stack([getattr(own, what)[0] for own in drawn], 1).flatten(0, 1)
            for what in ("x", "context")
        )
        own, others = map(by_component, pairwise(log_ratio, x, context))
        blocks, blocks_apart = _blocks(len(x))
        if reference == "fixed":
            events = bank.reference(n, "fixed", split="calibration").x[0]
            rng = fit_context.generator(bank.members[0], "calibration")
            at = task.space.draw_context(n, rng)
            others = torch.cat([*map(by_component, pairwise(log_ratio, events, at))], -1)
            blocks_apart = len(x) + torch.cat(_blocks(n))  # simulations of its own
        return [
            HeldOutPairs(
                own[:, k, k :: len(names)], others[:, k], blocks[k :: len(names)], blocks_apart, n
            )
            for k in range(len(names))
        ]


def _blocks(n: int) -> tuple[Tensor, Tensor]:
    """Return the blocks of n simulations, and of the pairs between them, as `pairwise` has them."""
    own = torch.arange(n) // ROWS
    return own, own.repeat_interleave(torch.bincount(own)[own] - 1)
