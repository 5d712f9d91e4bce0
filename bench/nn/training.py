"""Training loop: batches are slices of a permuted epoch, and all members train together.

A DataLoader spends most of its time collating. Permuting a whole epoch once and slicing it is
three to seven times faster for small networks (docs/explanation/architecture.md).
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from bench.contracts import Settings, TrainingCurve
from bench.errors import BudgetExceeded, NonFiniteError
from bench.nn.steps import GradientSteps


class Training(Settings):
    """Settings of a network's training.

    Args:
        epochs: passes over the training data, at most.
        steps: gradient steps, at least: small training sets are passed over more often.
        batch_size: rows of a batch, at most. Small training sets get batches of 1/128 of the rows,
            but no fewer than 64, so that an epoch has enough steps.
        learning_rate: (peak) learning rate of Adam for batches of `batch_size`; it is scaled by the
            square root of the size for smaller ones (Malladi et al. 2022, arXiv:2205.10287).
        schedule: constant, or one cycle up to the peak and down to nearly zero.
        clip: largest norm of a member's gradient; 0 for no limit.
    """

    epochs: int = Field(default=20, ge=1)
    steps: int = Field(default=500, ge=0)
    batch_size: int = Field(default=4096, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    schedule: Literal["constant", "one-cycle"] = "one-cycle"
    clip: float = Field(default=0.0, ge=0)

    def batch_of(self, rows: int) -> int:
        """Return the rows of a batch, given the number of training rows."""
        return min(self.batch_size, max(rows // 128, 64), rows)

    def epochs_of(self, rows: int) -> int:
        """Return the passes over the training set, given its number of rows."""
        return max(self.epochs, math.ceil(self.steps / (rows // self.batch_of(rows))))

    def steps_of(self, rows: int) -> int:
        """Return the number of gradient steps, given the number of training rows."""
        return self.epochs_of(rows) * (rows // self.batch_of(rows))

    def rate_of(self, rows: int) -> float:
        """Return the (peak) learning rate, given the number of training rows."""
        return self.learning_rate * math.sqrt(self.batch_of(rows) / self.batch_size)


SEARCH = {
    "training.learning_rate": (1e-3, 3e-3, 1e-2, 3e-2),
    "training.schedule": ("constant", "one-cycle"),
    "training.batch_size": (1024, 4096),
}
"""Values that `bench tune` tries for every network's training.

See `bench.contracts.Method.search`.
"""


def train(
    parameters: Sequence[Tensor],
    loss: Callable[..., Tensor],
    data: Sequence[Tensor],
    validation: Sequence[Tensor],
    generators: Sequence[torch.Generator],
    settings: Training,
    report: Callable[..., None],
    *,
    refresh: Callable[[Sequence[Tensor]], None] | None = None,
    record: bool = True,
    label: str = "",
) -> list[TrainingCurve]:
    """Train a stack of networks and restore each member's best epoch.

    A member whose validation loss is never finite is left with NaN parameters.

    Losses are summed over members; clipping, best epochs and shuffles are per member, so nothing
    couples them.

    Args:
        parameters: tensors to train, members leading, on the data's device.
        loss: `loss(*batch)` returns the mean loss of each member, (members,).
        data: training tensors (members, n, …).
        validation: the same for validation.
        generators: one CPU generator per member, for shuffling.
        settings: how to train.
        report: shows progress, as in :class:`bench.contracts.FitContext`.
        refresh: called before every epoch with the data, to redraw what costs no simulation.
        record: whether a step may be recorded on CUDA, as in `GradientSteps`.
        label: shown with the progress.

    Raises:
        BudgetExceeded: if there are no rows.
        NonFiniteError: if every member's training loss is NaN or infinite.
    """
    members, rows = data[0].shape[:2]
    if not rows:
        raise BudgetExceeded("the budget leaves no simulation to train on")
    batch = settings.batch_of(rows)
    per_epoch = rows // batch
    epochs = settings.epochs_of(rows)
    step = GradientSteps(
        parameters,
        loss,
        settings.rate_of(rows),
        cycle=epochs * per_epoch if settings.schedule == "one-cycle" else 0,
        clip=settings.clip,
        record=record,
    )
    best = [p.detach().clone() for p in parameters]
    best_loss = torch.full((members,), torch.inf, device=data[0].device)
    history: list[tuple[Tensor, Tensor]] = []
    times: list[float] = []
    begin = time.perf_counter()
    for epoch in range(epochs):
        if refresh is not None:
            refresh(data)
        shuffled = _permute(data, generators)
        step.total.zero_()
        for start in range(0, per_epoch * batch, batch):
            step(*(tensor[:, start : start + batch] for tensor in shuffled))
        total = step.total.clone()
        held_out = _evaluate(loss, validation)
        history.append((total / per_epoch, held_out))
        better = held_out < best_loss
        best_loss = torch.where(better, held_out, best_loss)
        for kept, current in zip(best, parameters, strict=True):
            kept[better] = current.detach()[better]
        times.append(time.perf_counter() - begin)
        shown = float(held_out.mean())
        report(stage=label, epoch=epoch + 1, epochs=epochs, loss=shown, rows=rows * members)
        if not math.isfinite(float(total.nan_to_num(torch.inf, torch.inf).min())):
            raise NonFiniteError(
                f"the training loss of {label or 'the network'} became {float(total[0])} in "
                f"epoch {epoch + 1} of {epochs}; a lower learning_rate may help"
            )
    # A member that never had a finite loss must not count as trained.
    untrained = ~best_loss.isfinite()
    with torch.no_grad():
        for current, kept in zip(parameters, best, strict=True):
            current.copy_(kept)
            current[untrained] = torch.nan
    return _curves(history, times, epochs * per_epoch)


def _permute(data: Sequence[Tensor], generators: Sequence[torch.Generator]) -> list[Tensor]:
    """Shuffle the rows of every member, with its own generator."""
    rows = data[0].shape[1]
    orders = [torch.randperm(rows, generator=g).to(data[0].device) for g in generators]
    return [
        torch.stack([tensor[m].index_select(0, order) for m, order in enumerate(orders)])
        if len(orders) > 1
        else tensor[0].index_select(0, orders[0])[None]
        for tensor in data
    ]


def _evaluate(loss: Callable[..., Tensor], data: Sequence[Tensor], rows: int = 16384) -> Tensor:
    """Average the loss over the data in bounded memory, (members,)."""
    count = data[0].shape[1]
    with torch.no_grad():
        total = torch.stack(
            [
                loss(*(tensor[:, start : start + rows] for tensor in data))
                * min(rows, count - start)
                for start in range(0, count, rows)
            ]
        ).sum(0)
    return total / count


def _curves(
    history: Sequence[tuple[Tensor, Tensor]], times: Sequence[float], steps: int
) -> list[TrainingCurve]:
    training = torch.stack([t for t, _ in history]).T.tolist()
    validation = torch.stack([v for _, v in history]).T.tolist()
    curves = []
    for own, held_out in zip(training, validation, strict=True):
        finite = [i for i, value in enumerate(held_out) if math.isfinite(value)]
        best = min(finite, key=lambda i: held_out[i], default=-1)
        curves.append(TrainingCurve(own, held_out, best + 1, steps, times[-1], times[best]))
    return curves
