"""Calibrated fits: stored fits whose log-ratios are mapped to the odds of other simulations."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bench.contracts import Bank, Draw, FitLog, ReferenceKind, Surrogate, Task
from bench.errors import NotApplicable, counted
from bench.nn.calibration import Calibration, CalibrationKind, pairwise


class Calibrated:
    """One member of another surrogate, each component's log-ratios mapped by its own function.

    Args:
        surrogate: of one member, with a reference.
        calibration: a map per member and component.
    """

    has_density = False

    def __init__(self, surrogate: Surrogate, calibration: Calibration) -> None:
        self.surrogate = surrogate
        self.calibration = calibration
        self.log = FitLog()

    @property
    def reference(self) -> ReferenceKind | None:
        """The reference of what is calibrated."""
        return self.surrogate.reference

    def log_ratio(self, x: Tensor, context: Tensor) -> Tensor:
        """As Surrogate.log_ratio, with one member."""
        return self.calibration(self.surrogate.log_ratio(x, context))

    def state(self) -> Mapping[str, Tensor]:
        """The maps."""
        return self.calibration.state()


def draws(task: Task, calls: int, reference: ReferenceKind) -> list[Draw]:
    """Return what `calibrate` draws of a bank with so many calls, of its own split."""
    names = task.component_names
    n = calls // (len(names) + (reference == "fixed"))
    own = [Draw(name, n) for name in names]
    return [*own, Draw(None, n, reference=reference)] if reference == "fixed" else own


def calibrate(
    surrogate: Surrogate,
    task: Task,
    bank: Bank,
    kind: CalibrationKind,
    device: torch.device,
    generator: torch.Generator,
) -> Calibrated:
    """Fits a map per component to simulations that the surrogate has not seen: the bank's budget.

    Pairs of the evidence reference cost nothing: they are observations of all components, equally
    many, at contexts of others. A fixed reference takes as many simulations as a component.

    Args:
        surrogate: of one member.
        task: its task.
        bank: of one member, with the budget of the calibration.
        kind: of the map.
        device: where the surrogate works.
        generator: draws contexts for observations of a fixed reference.

    Raises:
        NotApplicable: if log-ratios have no reference to be calibrated against, or if the budget
            has no two simulations of every component.
    """
    reference = surrogate.reference
    if reference is None:
        raise NotApplicable("calibration takes ratios to a reference, and this surrogate has none")
    names = task.component_names
    n = draws(task, bank.budget, reference)[0].n
    if n < 2:
        raise NotApplicable(
            f"a budget of {counted(bank.budget, 'simulation')}: too few to calibrate "
            f"{counted(len(names), 'component')}"
        )

    def log_ratio(x: Tensor, context: Tensor) -> Tensor:
        return surrogate.log_ratio(x.to(device), context.to(device))[0]

    drawn = [bank.draw(name, n, split="calibration") for name in names]
    # In turns, so that every block of pairs is a fair mixture.
    x, context = (
        torch.stack([getattr(own, what)[0] for own in drawn], 1).flatten(0, 1)
        for what in ("x", "context")
    )
    own, others = pairwise(log_ratio, x, context)
    if reference == "fixed":
        events = bank.reference(n, "fixed", split="calibration").x[0]
        at = task.space.draw_context(n, generator)
        others = torch.cat([t.flatten(1) for t in pairwise(log_ratio, events, at)], 1)
    maps = [Calibration.fit(kind, own[k, k :: len(names)], others[k], n) for k in range(len(names))]
    return Calibrated(surrogate, Calibration.stack([Calibration.stack(maps)]))
